#include "profiler/collective_points.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <sstream>

#include "models/error.h"
#include "models/json_reader.h"
#include "sim/cluster.h"
#include "sim/collective_model.h"

namespace steploom {
namespace {

constexpr int kVersion = 1;
constexpr double kLongestUs = 1e9;
constexpr std::array<std::string_view, 6> kCollectives{
    "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "all_to_all_uneven", "send_recv"};
constexpr std::array<std::string_view, 3> kFabrics{"nvlink", "host", "sockets"};

std::string one_of(const Json& json, std::span<const std::string_view> known) {
  const std::string text = json.text();
  if (std::find(known.begin(), known.end(), text) == known.end()) {
    std::string all;
    for (const std::string_view name : known) all += (all.empty() ? "" : ", ") + std::string(name);
    json.refuse("one of " + all);
  }
  return text;
}

std::string collective(const Json& json) {
  return one_of(json, kCollectives);
}
std::string kernel(const Json& json) {
  return one_of(json, kSideKernels);
}
Bytes bytes(const Json& json) {
  return json.integer(1, Bytes{1} << 40);
}
int grid(const Json& json) {
  return json.small_integer(1, 1 << 16);
}

Quartiles quartiles(const Json& json) {
  if (!json.is_array() || json.size() != 3) json.refuse("first quartile, median, third quartile");
  const auto at = [&](std::size_t i) { return json.at(i).number(0, kLongestUs); };
  const Quartiles q{at(0), at(1), at(2)};
  if (!(q.first <= q.median && q.median <= q.third)) json.refuse("numbers that do not fall");
  return q;
}

// Results were checked against what they had to be; a file with wrong ones measures nothing.
void refuse_wrong(const Json& line) {
  if (line.at("wrong").integer(0) != 0) {
    line.at("wrong").refuse("0", "the run's results were wrong: measure again");
  }
}

template <std::size_t n>
void keys(const Json& line, const std::string_view (&known)[n]) {
  line.allow_only(known);
}

CollectivePoint collective_point(const Json& line) {
  keys(line, {"table", "collective", "bytes", "asked", "grid", "us", "samples", "shots",
              "kernel_us", "kernel_shots", "wrong", "skipped", "about_us"});
  CollectivePoint p;
  p.collective = collective(line.at("collective"));
  p.bytes = bytes(line.at("bytes"));
  const Json asked = line.at("asked");
  for (std::size_t i = 0; i < asked.size(); ++i) p.asked.push_back(grid(asked.at(i)));
  if (p.asked.empty()) asked.refuse("a CTA setting");
  if (const auto skipped = line.find("skipped")) {
    p.skipped = skipped->text();
    if (p.skipped.empty()) skipped->refuse("a reason");
    return p;
  }
  p.grid = grid(line.at("grid"));
  p.us = quartiles(line.at("us"));
  p.kernel_us = line.at("kernel_us").number(0, kLongestUs);
  p.samples = line.at("samples").small_integer(1, 1 << 20);
  line.at("shots").integer(1);
  line.at("kernel_shots").integer(1);
  refuse_wrong(line);
  return p;
}

SharePoint share_point(const Json& line) {
  keys(line, {"table", "kernel", "wanted", "held", "us", "samples", "error"});
  SharePoint p;
  p.kernel = kernel(line.at("kernel"));
  p.wanted = grid(line.at("wanted"));
  p.held = line.at("held").small_integer(1, p.wanted);
  p.us = quartiles(line.at("us"));
  line.at("samples").integer(1);
  line.at("error").number(0, 0.01);
  return p;
}

BesidePoint beside_point(const Json& line) {
  keys(line, {"table", "kernel", "collective", "bytes", "grid", "kernel_us", "kernel_alone_us",
              "collective_us", "collective_alone_us", "window_ms", "samples", "wrong"});
  BesidePoint p;
  p.kernel = kernel(line.at("kernel"));
  p.collective = collective(line.at("collective"));
  p.bytes = bytes(line.at("bytes"));
  p.grid = grid(line.at("grid"));
  p.kernel_us = quartiles(line.at("kernel_us"));
  p.kernel_alone_us = quartiles(line.at("kernel_alone_us"));
  p.collective_us = quartiles(line.at("collective_us"));
  p.collective_alone_us = quartiles(line.at("collective_alone_us"));
  p.window_ms = line.at("window_ms").number(0, kLongestUs);
  line.at("samples").integer(1);
  refuse_wrong(line);
  return p;
}

PairPoint pair_point(const Json& line) {
  keys(line, {"table", "collective", "bytes", "grid", "other", "other_bytes", "other_grid", "us",
              "alone_us", "other_us", "other_alone_us", "window_ms", "samples", "wrong"});
  PairPoint p;
  p.collective = collective(line.at("collective"));
  p.other = collective(line.at("other"));
  p.bytes = bytes(line.at("bytes"));
  p.other_bytes = bytes(line.at("other_bytes"));
  p.grid = grid(line.at("grid"));
  p.other_grid = grid(line.at("other_grid"));
  p.us = quartiles(line.at("us"));
  p.alone_us = quartiles(line.at("alone_us"));
  p.other_us = quartiles(line.at("other_us"));
  p.other_alone_us = quartiles(line.at("other_alone_us"));
  p.window_ms = line.at("window_ms").number(0, kLongestUs);
  line.at("samples").integer(1);
  refuse_wrong(line);
  return p;
}

AdmissionPoint admission_point(const Json& line) {
  keys(line, {"table", "collective", "bytes", "grid", "behind", "priority", "wait_us", "run_us",
              "samples"});
  AdmissionPoint p;
  p.collective = collective(line.at("collective"));
  p.bytes = bytes(line.at("bytes"));
  p.grid = grid(line.at("grid"));
  p.behind = line.at("behind").text() == "nothing" ? "nothing" : kernel(line.at("behind"));
  constexpr std::array<std::string_view, 2> priorities{"default", "high"};
  p.high_priority = one_of(line.at("priority"), priorities) == "high";
  p.wait_us = quartiles(line.at("wait_us"));
  p.run_us = quartiles(line.at("run_us"));
  line.at("samples").integer(1);
  return p;
}

std::string copy(const Json& json) {
  return one_of(json, kSideCopies);
}

CopyPoint copy_point(const Json& line) {
  keys(line, {"table", "copy", "bytes", "us", "samples", "needs_sms", "us_without_sms", "wrong"});
  CopyPoint p;
  p.copy = copy(line.at("copy"));
  p.bytes = bytes(line.at("bytes"));
  p.us = quartiles(line.at("us"));
  p.needs_sms = line.at("needs_sms").boolean();
  p.us_without_sms = line.at("us_without_sms").number(0, kLongestUs);
  line.at("samples").integer(1);
  refuse_wrong(line);
  return p;
}

CopyBesidePoint copy_beside_point(const Json& line) {
  keys(line, {"table", "kernel", "copy", "bytes", "kernel_us", "kernel_alone_us", "copy_us",
              "copy_alone_us", "window_ms", "samples", "wrong"});
  CopyBesidePoint p;
  p.kernel = kernel(line.at("kernel"));
  p.copy = copy(line.at("copy"));
  p.bytes = bytes(line.at("bytes"));
  p.kernel_us = quartiles(line.at("kernel_us"));
  p.kernel_alone_us = quartiles(line.at("kernel_alone_us"));
  p.copy_us = quartiles(line.at("copy_us"));
  p.copy_alone_us = quartiles(line.at("copy_alone_us"));
  p.window_ms = line.at("window_ms").number(0, kLongestUs);
  line.at("samples").integer(1);
  refuse_wrong(line);
  return p;
}

void read_header(CollectivePoints& points, const Json& line) {
  if (!line.is_object() || !line.has("steploom_collective_points")) {
    line.refuse("the header of a file of collectives that steploom profile wrote");
  }
  const Json version = line.at("steploom_collective_points");
  if (version.integer() != kVersion) {
    version.refuse("version " + std::to_string(kVersion), "measure again with this steploom");
  }
  keys(line,
       {"steploom_collective_points", "date", "command", "fabric", "ranks", "gpu", "sms", "driver",
        "cuda_driver", "cuda_runtime", "nccl", "cublas", "cudnn", "environment", "precision"});
  points.date = line.at("date").text();
  points.command = line.at("command").text();
  points.fabric = one_of(line.at("fabric"), kFabrics);
  points.ranks = line.at("ranks").small_integer(2, 1024);
  points.gpu = line.at("gpu").text();
  points.sms = grid(line.at("sms"));
  points.driver = line.at("driver").text();
  points.cuda_driver = line.at("cuda_driver").text();
  points.cuda_runtime = line.at("cuda_runtime").text();
  points.nccl = line.at("nccl").text();
  points.cublas = line.at("cublas").text();
  if (const auto cudnn = line.find("cudnn")) points.cudnn = cudnn->text();
  const Json environment = line.at("environment");
  for (std::size_t i = 0; i < environment.size(); ++i) {
    points.environment.push_back(environment.at(i).text());
  }
  constexpr std::array<std::string_view, 1> precisions{"bf16"};
  one_of(line.at("precision"), precisions);
}

// True if the line is the file's end.
bool read_line(CollectivePoints& points, const Json& line) {
  constexpr std::array<std::string_view, 8> tables{"collective", "share", "beside",      "pair",
                                                   "admission",  "copy",  "copy_beside", "end"};
  const std::string table = one_of(line.at("table"), tables);
  if (table == "collective") points.collectives.push_back(collective_point(line));
  if (table == "share") points.shares.push_back(share_point(line));
  if (table == "beside") points.besides.push_back(beside_point(line));
  if (table == "pair") points.pairs.push_back(pair_point(line));
  if (table == "admission") points.admissions.push_back(admission_point(line));
  if (table == "copy") points.copies.push_back(copy_point(line));
  if (table == "copy_beside") points.copy_besides.push_back(copy_beside_point(line));
  if (table != "end") return false;
  keys(line, {"table", "seconds", "complete"});
  line.at("seconds").number(0, kLongestUs);
  points.complete = line.at("complete").boolean();
  return true;
}

double percentile(std::vector<double> values, double part) {
  std::sort(values.begin(), values.end());
  const double place = part * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

}  // namespace

CollectivePoints parse_collective_points(std::string_view text, std::string reading) {
  CollectivePoints points;
  points.reading = reading;
  bool ended = false;
  int number = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string place = reading + ", line " + std::to_string(++number);
    // The last line of a run that was killed may be cut off, the others end in a line feed.
    if (end == std::string_view::npos) {
      throw Error({place, "", "a whole line", "the file ends inside it", "measure again"});
    }
    const Json line = Json::parse(text.substr(0, end), place);
    text.remove_prefix(end + 1);
    if (ended) line.refuse("nothing after the end of the file");
    if (number == 1) {
      read_header(points, line);
    } else {
      ended = read_line(points, line);
    }
  }
  if (number == 0) throw Error({reading, "", "a header", "an empty file", ""});
  return points;
}

CollectivePoints load_collective_points(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) {
    throw Error({file.string(), "", "a readable file", "none", ""});
  }
  return parse_collective_points(text.str(), file.string());
}

double duration_us(const CollectivePoint& point) {
  return point.kernel_us < kHostBoundUs ? point.kernel_us : point.us.median;
}

std::optional<CollectivePoint> fastest(const CollectivePoints& points, std::string_view collective,
                                       Bytes bytes) {
  std::optional<CollectivePoint> best;
  for (const CollectivePoint& p : points.collectives) {
    if (p.collective != collective || p.bytes != bytes || !p.skipped.empty()) continue;
    if (!best || duration_us(p) < duration_us(*best)) best = p;
  }
  return best;
}

std::vector<CollectiveError> collective_errors(const CollectivePoints& points,
                                               const Profile& profile, Bytes least_bytes) {
  const Cluster cluster = load_cluster(profile.name, 1);
  const CollectiveModel model(profile, cluster);
  const GroupShape group{points.ranks, 1, points.ranks};
  std::vector<CollectiveError> all;
  for (const OpKind kind : {OpKind::all_reduce, OpKind::all_gather, OpKind::reduce_scatter,
                            OpKind::all_to_all, OpKind::send_recv}) {
    std::vector<Bytes> seen;
    for (const CollectivePoint& p : points.collectives) {
      if (p.collective != name_of(kind) || p.bytes < least_bytes) continue;
      if (std::find(seen.begin(), seen.end(), p.bytes) != seen.end()) continue;
      seen.push_back(p.bytes);
      const auto best = fastest(points, p.collective, p.bytes);
      if (!best) continue;
      const double predicted_us = model.time(kind, p.bytes, group).seconds * 1e6;
      all.push_back({kind, p.bytes, predicted_us / duration_us(*best) - 1});
    }
  }
  return all;
}

std::vector<CollectiveComparison> compare_with_profile(const CollectivePoints& points,
                                                       const Profile& profile, Bytes least_bytes) {
  const std::vector<CollectiveError> all = collective_errors(points, profile, least_bytes);
  std::vector<CollectiveComparison> table;
  for (auto first = all.begin(); first != all.end();) {
    const OpKind kind = first->kind;
    const auto last =
        std::find_if(first, all.end(), [&](const CollectiveError& e) { return e.kind != kind; });
    std::vector<double> errors, sizes;
    for (; first != last; ++first) {
      errors.push_back(first->error);
      sizes.push_back(std::abs(first->error));
    }
    table.push_back({std::string(name_of(kind)), static_cast<int>(errors.size()),
                     percentile(sizes, 0.5), percentile(sizes, 0.95), percentile(errors, 0.5)});
  }
  return table;
}

}  // namespace steploom
