#include "profiler/gap_points.h"

#include <array>
#include <fstream>
#include <sstream>
#include <utility>

#include "models/error.h"
#include "models/json_reader.h"

namespace steploom {
namespace {

constexpr int kVersion = 1;
constexpr double kLongestUs = 1e9;
constexpr Bytes kMostBytes = Bytes{1} << 40;
constexpr std::string_view kTraced = "traced_";

Quartiles quartiles(const Json& json) {
  if (!json.is_array() || json.size() != 3) json.refuse("first quartile, median, third quartile");
  const auto at = [&](std::size_t i) { return json.at(i).number(0, kLongestUs); };
  return {at(0), at(1), at(2)};
}

template <std::size_t n>
void keys(const Json& line, const std::string_view (&known)[n]) {
  line.allow_only(known);
}

void read_header(GapPoints& points, const Json& line) {
  const Json version = line.at("steploom_gaps");
  if (version.integer() != kVersion)
    version.refuse("version " + std::to_string(kVersion), "measure again: steploom profile gaps");
  keys(line, {"steploom_gaps", "date", "command", "fabric", "ranks", "gpu", "sms", "driver",
              "cuda_driver", "cuda_runtime", "nccl", "cublas", "cudnn", "environment", "precision"});
  points.date = line.at("date").text();
  points.command = line.at("command").text();
  points.fabric = line.at("fabric").text();
  points.gpu = line.at("gpu").text();
  points.driver = line.at("driver").text();
  points.cuda = line.at("cuda_runtime").text();
  points.nccl = line.at("nccl").text();
  points.ranks = line.at("ranks").small_integer(2, 1 << 20);
  points.sms = line.at("sms").small_integer(1, 4096);
}

ChainPoint chain_point(const Json& line) {
  ChainPoint p;
  p.chain = line.at("chain").text();
  p.kernel = line.at("kernel").text();
  p.collective = line.at("collective").text();
  p.bytes = line.at("bytes").integer(0, kMostBytes);
  p.ctas = line.at("ctas").small_integer(0, 1 << 16);
  p.us = quartiles(line.at("us"));
  line.at("samples").integer(1);
  constexpr std::array<std::string_view, 8> kKnown{"table", "chain", "kernel", "collective",
                                                   "bytes", "ctas",  "us",     "samples"};
  std::vector<std::string> all(kKnown.begin(), kKnown.end());
  for (const std::string& key : line.keys()) {
    if (!key.starts_with(kTraced)) continue;
    p.traced[key.substr(kTraced.size())] = line.at(key).number(-kLongestUs, kLongestUs);
    all.push_back(key);
  }
  const std::vector<std::string_view> known(all.begin(), all.end());
  line.allow_only(known);
  return p;
}

MemoryStep memory_step(const Json& line) {
  keys(line, {"table", "communicator", "ctas", "step", "bytes", "taken"});
  return {line.at("communicator").small_integer(0, 1 << 16),
          line.at("ctas").small_integer(0, 1 << 16), line.at("step").text(),
          line.at("bytes").integer(0, kMostBytes),
          line.at("taken").integer(-kMostBytes, kMostBytes)};
}

HostPoint host_point(const Json& line) {
  keys(line, {"table", "call", "us", "samples"});
  line.at("samples").integer(1);
  return {line.at("call").text(), quartiles(line.at("us"))};
}

void read_line(GapPoints& points, const Json& line) {
  const Json table = line.at("table");
  const std::string name = table.text();
  if (name == "chain") {
    points.chains.push_back(chain_point(line));
  } else if (name == "host") {
    points.host.push_back(host_point(line));
  } else if (name == "memory") {
    points.memory.push_back(memory_step(line));
  } else if (name == "end") {
    keys(line, {"table", "seconds"});
    line.at("seconds").number(0, kLongestUs);
    points.complete = true;
  } else {
    table.refuse("chain, host, memory or end");
  }
}

}  // namespace

double ChainPoint::traced_us(const std::string& what) const {
  const auto found = traced.find(what);
  return found == traced.end() ? 0 : found->second;
}

GapPoints parse_gap_points(std::string_view text, std::string reading) {
  GapPoints points;
  points.reading = std::move(reading);
  int number = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string place = points.reading + ", line " + std::to_string(++number);
    if (end == std::string_view::npos)
      throw Error({place, "", "a whole line", "the file ends inside it", "measure again"});
    const Json line = Json::parse(text.substr(0, end), place);
    text.remove_prefix(end + 1);
    if (points.complete) line.refuse("nothing after the end of the file");
    if (number == 1) {
      read_header(points, line);
    } else {
      read_line(points, line);
    }
  }
  if (number == 0) throw Error({points.reading, "", "a header", "an empty file", ""});
  return points;
}

GapPoints load_gap_points(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) throw Error({file.string(), "", "a readable file", "none", ""});
  return parse_gap_points(text.str(), file.string());
}

}  // namespace steploom
