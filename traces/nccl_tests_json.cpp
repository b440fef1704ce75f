// nccl-tests -J. Keys that later versions add are passed over: the file is not ours.
#include <fmt/format.h>

#include <cstdlib>
#include <optional>
#include <utility>

#include "models/json_reader.h"
#include "traces/nccl_tests_run.h"

namespace steploom {
namespace {

constexpr int kLatestVersion = 3;

// 0 where the half is null or missing.
double half(const Json& row, const char* key) {
  const std::optional<Json> half = row.find(key);
  if (!half) return 0;
  if (half->has("cpu_time")) half->at("cpu_time").refuse("times of the device: run without -C");
  const std::optional<Json> wrong = half->find("nwrong");  // null: not checked
  if (wrong && wrong->number(0, 1e18) != 0) wrong->refuse("right results, 0 wrong elements");
  return half->at("time").number(0, 1e12);
}

void read_devices(const Json& config, NcclTestsParts& parts) {
  const Json devices = config.at("devices");
  for (std::size_t i = 0; i < devices.size(); ++i) {
    const Json d = devices.at(i);
    const std::string name = d.at("device_info").text();
    if (d.at("rank").integer() != static_cast<std::int64_t>(i))
      d.at("rank").refuse(fmt::format("{}: one entry a rank, in order", i));
    if (!parts.device.empty() && parts.device != name)
      d.at("device_info").refuse("'" + parts.device + "', ranks on one type of device");
    parts.device = name;
    parts.hosts.push_back(d.at("hostname").text());
  }
}

}  // namespace

std::vector<NcclTestsRun> parse_nccl_tests_json(std::string_view text, const std::string& reading,
                                                std::string_view collective) {
  const Json in = Json::parse(text, reading);
  if (!in.has("results") || !in.has("nccl_version"))
    in.refuse("a file that nccl-tests wrote with -J");
  const Json version = in.at("version");
  if (version.integer() < 1 || version.integer() > kLatestVersion)
    version.refuse(fmt::format("version 1 to {}", kLatestVersion));
  if (!in.has("out_of_bounds"))
    in.refuse("out_of_bounds, which ends the results", "the test was interrupted");
  if (in.at("out_of_bounds").at("okay").text() != "true")
    in.at("out_of_bounds").at("okay").refuse("right results, \"true\"");
  NcclTestsParts parts;
  parts.place = "/config";
  parts.collective = collective;
  parts.nccl = nccl_version(static_cast<long>(in.at("nccl_version").integer(0, 1 << 30)));
  if (in.at("args").size() > 0) parts.program = in.at("args").at(0).text();
  read_devices(in.at("config"), parts);
  const Json results = in.at("results");
  for (std::size_t i = 0; i < results.size(); ++i) {
    const Json row = results.at(i);
    NcclTestsLine line{row.pointer(),         row.at("size").integer(0, std::int64_t{1} << 50),
                       row.at("type").text(), row.at("redop").text(),
                       row.at("root").text(), half(row, "out_of_place"),
                       half(row, "in_place")};
    if (line.bytes > 0 && line.out_of_place == 0 && line.in_place == 0)
      row.refuse("a time above 0");
    parts.lines.push_back(std::move(line));
  }
  return {make_run(parts, reading)};
}

}  // namespace steploom
