#include "profiler/points.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "models/error.h"
#include "models/json_reader.h"

namespace steploom {
namespace {

using Line = nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr double kMostMicroseconds = 1e9;
constexpr std::int64_t kMostCount = std::int64_t{1} << 40;

constexpr std::array<std::string_view, 14> kHeaderKeys{"steploom_measurements",
                                                       "date",
                                                       "command",
                                                       "gpu",
                                                       "driver",
                                                       "cuda_runtime",
                                                       "cublas",
                                                       "cudnn",
                                                       "sms",
                                                       "memory",
                                                       "l2",
                                                       "memory_mhz",
                                                       "most_sm_mhz",
                                                       "method"};
constexpr std::array<std::string_view, 19> kPointKeys{"kind",
                                                      "phase",
                                                      "precision",
                                                      "m",
                                                      "n",
                                                      "k",
                                                      "groups",
                                                      "spread",
                                                      "provider",
                                                      "flops",
                                                      "bytes",
                                                      "q1_us",
                                                      "median_us",
                                                      "q3_us",
                                                      "samples",
                                                      "sm_mhz",
                                                      "watts",
                                                      "extrapolated_us",
                                                      "extrapolated_from"};
constexpr std::array<std::string_view, 20> kAttentionKeys{
    "kind",       "phase",    "precision",       "m",
    "n",          "heads",    "kv_heads",        "head_dim",
    "v_head_dim", "provider", "flops",           "bytes",
    "median_us",  "q1_us",    "q3_us",           "samples",
    "sm_mhz",     "watts",    "extrapolated_us", "extrapolated_from"};
constexpr std::array<std::string_view, 8> kOtherKeys{"what",  "bytes",   "median_us", "q1_us",
                                                     "q3_us", "samples", "sm_mhz",    "watts"};

double rounded(double x, double unit) {
  return std::round(x / unit) * unit;
}

// Text of a number with at most six digits, so that a line shows no noise.
Line short_number(double x) {
  return Line::parse(fmt::format("{:.6g}", x));
}

void put_stats(Line& line, const MeasuredStats& s, const std::string& note) {
  if (s.samples > 0) {
    line["median_us"] = short_number(s.median_us);
    line["q1_us"] = short_number(s.q1_us);
    line["q3_us"] = short_number(s.q3_us);
  }
  line["samples"] = s.samples;
  if (s.sm_mhz > 0) line["sm_mhz"] = static_cast<std::int64_t>(rounded(s.sm_mhz, 1));
  if (s.watts > 0) line["watts"] = static_cast<std::int64_t>(rounded(s.watts, 1));
  if (!note.empty()) line["note"] = note;
}

MeasuredStats stats_of(const Json& line) {
  MeasuredStats s;
  s.samples = line.at("samples").integer(0, kMostCount);
  if (const auto mhz = line.find("sm_mhz")) s.sm_mhz = mhz->number(0, 1e5);
  if (const auto watts = line.find("watts")) s.watts = watts->number(0, 1e5);
  if (s.samples == 0) {
    for (const char* key : {"median_us", "q1_us", "q3_us"}) {
      if (const auto given = line.find(key)) given->refuse("no time in a point without samples");
    }
    if (!line.has("note")) line.refuse("a note that says why there are no samples");
    return s;
  }
  s.q1_us = line.at("q1_us").number(0, kMostMicroseconds);
  s.median_us = line.at("median_us").number(0, kMostMicroseconds);
  s.q3_us = line.at("q3_us").number(0, kMostMicroseconds);
  if (s.median_us <= 0) line.at("median_us").refuse("a time above 0");
  if (s.q1_us > s.median_us || s.median_us > s.q3_us) {
    line.at("median_us").refuse("a median between the quartiles");
  }
  return s;
}

std::string note_of(const Json& line) {
  const auto note = line.find("note");
  return note ? note->text() : "";
}

template <std::size_t N>
void only_keys(const Json& line, const std::array<std::string_view, N>& keys) {
  std::vector<std::string_view> known(keys.begin(), keys.end());
  known.push_back("note");
  line.allow_only(known);
}

MeasuredOn header_of(const Json& line) {
  if (!line.has("steploom_measurements")) {
    line.refuse("the header of a file of measurements: \"steploom_measurements\"");
  }
  const Json version = line.at("steploom_measurements");
  if (version.integer() != kVersion) {
    version.refuse(fmt::format("version {}", kVersion), "measure again with `steploom profile`");
  }
  only_keys(line, kHeaderKeys);
  MeasuredOn on;
  on.date = line.at("date").text();
  on.command = line.at("command").text();
  on.gpu = line.at("gpu").text();
  on.driver = line.at("driver").text();
  on.cuda_runtime = line.at("cuda_runtime").text();
  on.cublas = line.at("cublas").text();
  if (const auto cudnn = line.find("cudnn")) on.cudnn = cudnn->text();
  on.sms = line.at("sms").small_integer(1, 10000);
  on.memory = line.at("memory").integer(1);
  on.l2 = line.at("l2").integer(0);
  on.memory_mhz = line.at("memory_mhz").number(0, 1e6);
  on.most_sm_mhz = line.at("most_sm_mhz").number(0, 1e6);
  on.method = line.at("method").text();
  return on;
}

Ask attention_of(const Json& line, Phase phase) {
  only_keys(line, kAttentionKeys);
  const auto small = [&](const char* key) { return line.at(key).small_integer(0, 1 << 20); };
  const AttentionShape shape{line.at("m").integer(0, kMostCount),
                             line.at("n").integer(0, kMostCount),
                             small("heads"),
                             small("kv_heads"),
                             small("head_dim"),
                             small("v_head_dim")};
  return make_attention_ask(phase, shape, line.at("provider").text(), line.reading());
}

Ask other_ask_of(const Json& line, OpKind kind, Phase phase) {
  only_keys(line, kPointKeys);
  const Json spread = line.at("spread");
  if (spread.text() != "even" && spread.text() != "uneven") spread.refuse("even or uneven");
  const auto size = [&](const char* key) { return line.at(key).integer(0, kMostCount); };
  return make_ask(kind, phase, size("m"), size("n"), size("k"), size("groups"),
                  spread.text() == "uneven", line.at("provider").text(), line.reading());
}

MeasuredPoint point_of(const Json& line) {
  const OpKind kind = kind_of(line.at("kind").text(), line.reading(), "/kind");
  const Phase phase = phase_of(line.at("phase").text(), line.reading(), "/phase");
  const Json precision = line.at("precision");
  if (precision.text() != name_of(Precision::bf16)) precision.refuse("bf16");
  MeasuredPoint p;
  p.ask = kind == OpKind::attention ? attention_of(line, phase) : other_ask_of(line, kind, phase);
  if (line.at("flops").number(0, 1e18) != p.ask.work.flops) {
    line.at("flops").refuse(fmt::format("{} for this shape", p.ask.work.flops));
  }
  if (line.at("bytes").integer(0) != p.ask.work.bytes) {
    line.at("bytes").refuse(fmt::format("{} for this shape", p.ask.work.bytes));
  }
  p.stats = stats_of(line);
  p.note = note_of(line);
  if (const auto us = line.find("extrapolated_us")) {
    if (p.stats.samples > 0) us->refuse("no extrapolation of a point with samples");
    p.extrapolated_us = us->number(0, kMostMicroseconds);
    if (p.extrapolated_us <= 0) us->refuse("a time above 0");
    p.extrapolated_from = line.at("extrapolated_from").text();
  } else if (const auto from = line.find("extrapolated_from")) {
    from->refuse("extrapolated_us beside it");
  }
  return p;
}

MeasuredOther other_of(const Json& line) {
  only_keys(line, kOtherKeys);
  return {line.at("what").text(), line.at("bytes").integer(0), stats_of(line), note_of(line)};
}

}  // namespace

std::string to_line(const MeasuredOn& on) {
  Line line;
  line["steploom_measurements"] = kVersion;
  line["date"] = on.date;
  line["command"] = on.command;
  line["gpu"] = on.gpu;
  line["driver"] = on.driver;
  line["cuda_runtime"] = on.cuda_runtime;
  line["cublas"] = on.cublas;
  if (!on.cudnn.empty()) line["cudnn"] = on.cudnn;
  line["sms"] = on.sms;
  line["memory"] = on.memory;
  line["l2"] = on.l2;
  line["memory_mhz"] = short_number(on.memory_mhz);
  line["most_sm_mhz"] = short_number(on.most_sm_mhz);
  line["method"] = on.method;
  return line.dump();
}

std::string to_line(const MeasuredPoint& p) {
  const Work& w = p.ask.work;
  Line line;
  line["kind"] = name_of(w.kind);
  line["phase"] = name_of(w.phase);
  line["precision"] = name_of(w.precision);
  line["m"] = w.m;
  line["n"] = w.n;
  if (w.kind == OpKind::attention) {
    line["heads"] = w.heads;
    line["kv_heads"] = w.kv_heads;
    line["head_dim"] = w.head_dim;
    line["v_head_dim"] = w.v_head_dim;
  } else {
    line["k"] = written_k(p.ask);
    line["groups"] = w.groups;
    line["spread"] = p.ask.uneven ? "uneven" : "even";
  }
  line["provider"] = p.ask.provider;
  line["flops"] = static_cast<std::int64_t>(w.flops);
  line["bytes"] = w.bytes;
  put_stats(line, p.stats, p.note);
  if (p.extrapolated_us > 0) {
    line["extrapolated_us"] = short_number(p.extrapolated_us);
    line["extrapolated_from"] = p.extrapolated_from;
  }
  return line.dump();
}

std::string to_line(const MeasuredOther& other) {
  Line line;
  line["what"] = other.what;
  line["bytes"] = other.bytes;
  put_stats(line, other.stats, other.note);
  return line.dump();
}

Measurements parse_points(std::string_view text, const std::string& reading) {
  Measurements all;
  all.reading = reading;
  int number = 0;
  while (!text.empty()) {
    const std::string place = fmt::format("line {}", ++number);
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) {
      throw Error({reading, place, "a newline at the end of every line", "a line cut short",
                   "the measuring was interrupted while it wrote: remove the last line"});
    }
    const Json line = Json::parse(text.substr(0, end), reading + " " + place);
    text.remove_prefix(end + 1);
    if (number == 1) {
      all.on = header_of(line);
    } else if (line.has("what")) {
      all.others.push_back(other_of(line));
    } else {
      all.points.push_back(point_of(line));
    }
  }
  if (number == 0) throw Error({reading, "", "a file of measurements", "an empty file", ""});
  return all;
}

Measurements read_points(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (!in || std::filesystem::is_directory(file) || !(text << in.rdbuf())) {
    throw Error({file.string(), "", "a file of measurements that can be read",
                 std::filesystem::exists(file) ? "no such content" : "no such file", ""});
  }
  return parse_points(text.str(), file.string());
}

}  // namespace steploom
