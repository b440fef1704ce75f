#include "profiler/fit_clock.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <string>

#include "models/error.h"
#include "models/json_reader.h"
#include "profiler/spread.h"

namespace steploom {
namespace {

constexpr double kLight = 0.95;   // of the limit: below it nothing is held back
constexpr double kCutOff = 0.85;  // of the most clock: above it that may be what ends the reach
constexpr double kPull = 1.1;     // least reach that an exponent can be told from
constexpr double kLeastUs = 15;   // shorter kernels' clocks are their predecessors'
constexpr double kWindow = 0.1;   // of the share of peak
constexpr std::size_t kLeastPoints = 5;

struct PowerLine {
  std::string kernel;
  bool alone = false, beside_nothing = false, collective = false;
  double us = 0, watts = 0, duty = 1, mhz = 0, flops = 0, bytes = 0;
};

struct PowerLines {
  std::string reading, gpu, date, torch, driver;
  double limit = 0;
  int most_mhz = 0, least_mhz = 0;
  std::vector<PowerLine> lines;
};

double number_or(const Json& json, std::string_view key, double otherwise) {
  const auto found = json.find(key);
  return found ? found->number(0, 1e18) : otherwise;
}

PowerLines read_power(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) throw Error({file.string(), "", "readable lines of torch_power.py", "none", ""});
  PowerLines out;
  out.reading = file.string();
  std::string text;
  for (int number = 1; std::getline(in, text); ++number) {
    const Json line = Json::parse(text, fmt::format("{}, line {}", file.string(), number));
    if (line.find("steploom_power")) {
      out.gpu = line.at("gpu").text();
      out.date = line.at("date").text();
      out.torch = line.at("torch").text();
      out.driver = line.at("driver").text();
      out.limit = line.at("limit_watts").number(1, 1e5);
      out.most_mhz = line.at("most_sm_mhz").small_integer(1, 20000);
      out.least_mhz = line.at("least_sm_mhz").small_integer(1, out.most_mhz);
      continue;
    }
    if (line.find("failed")) continue;
    PowerLine p;
    p.kernel = line.at("kernel").text();
    p.watts = line.at("watts").number(1, 1e5);
    p.us = number_or(line, "us", 0);
    p.duty = number_or(line, "duty", 1);
    p.mhz = number_or(line, "nvml_mhz", 0);
    p.flops = number_or(line, "flops", 0);
    p.bytes = number_or(line, "bytes", 0);
    p.collective = line.find("fabric").has_value();
    p.alone = number_or(line, "ratio", 0) == 0;
    const auto beside = line.find("beside");
    p.beside_nothing = !beside || beside->text() == "nothing";
    out.lines.push_back(p);
  }
  if (out.limit == 0)
    throw Error(
        {file.string(), "", "a first line that begins with \"steploom_power\"", "none", ""});
  return out;
}

double median(const PowerLines& from, std::vector<double> values, const char* what) {
  if (values.empty()) throw Error({from.reading, "", std::string("lines of ") + what, "none", ""});
  return spread_of(std::move(values)).median;
}

double rounded(double value, double places) {
  return std::round(value * places) / places;
}

double idle_watts(const PowerLines& from) {
  std::vector<double> idle;
  for (const PowerLine& p : from.lines)
    if (p.kernel == "none" || p.kernel == "sleep") idle.push_back(p.watts);
  return rounded(median(from, std::move(idle), "the kernels none and sleep"), 10);
}

void fit_law(const PowerLines& from, ClockLaw& law) {
  struct Kernel {
    std::vector<double> alone_us, alone_mhz, alone_watts, least_us, watts;
  };
  std::map<std::string, Kernel> kernels;
  for (const PowerLine& p : from.lines) {
    if (p.flops == 0 || !p.beside_nothing) continue;
    Kernel& k = kernels[p.kernel];
    if (p.alone) {
      k.alone_us.push_back(p.us);
      k.alone_mhz.push_back(p.mhz);
      k.alone_watts.push_back(p.watts);
    } else if (p.watts < kLight * law.limit_watts) {
      k.least_us.push_back(p.us);
      k.watts.push_back((p.watts - law.idle_watts) / p.duty);  // above idle
    }
  }
  std::vector<double> reaches, exponents;
  for (const auto& [name, k] : kernels) {
    if (k.alone_us.empty() || k.least_us.empty() ||
        spread_of(k.alone_watts).median < kLight * law.limit_watts)
      continue;
    const double reach = spread_of(k.alone_us).median / spread_of(k.least_us).median;
    if (spread_of(k.alone_mhz).median < kCutOff * law.most_mhz) reaches.push_back(reach);
    if (reach > kPull)
      exponents.push_back(std::log(spread_of(k.watts).median / law.budget_watts()) /
                          std::log(reach));
  }
  law.reach = rounded(median(from, std::move(reaches), "kernels that are at the limit"), 1000);
  law.exponent = rounded(median(from, std::move(exponents), "kernels that are at the limit"), 100);
}

// Nanojoules above idle by byte, the median of lines.
template <class Which>
double nanojoules(const PowerLines& from, double idle, const char* what, const Which& which) {
  std::vector<double> found;
  for (const PowerLine& p : from.lines)
    if (p.alone && p.bytes > 0 && p.flops == 0 && which(p))
      found.push_back(std::max(0.0, (p.watts - idle) * p.us * 1e3 / p.bytes));
  return rounded(median(from, std::move(found), what), 1000);
}

MeasuredClock clock_of(OpClass kernels, const Profile& profile,
                       const std::vector<Measurements>& files) {
  std::map<int, std::vector<double>> windows;
  for (const Measurements& file : files)
    for (const MeasuredPoint& p : file.points) {
      if (class_of(p.ask.work.kind) != kernels || p.stats.samples == 0 || p.stats.sm_mhz == 0 ||
          p.stats.median_us < kLeastUs)
        continue;
      const double share =
          p.ask.work.flops / (p.stats.median_us * 1e-6) / profile.device.peak_flops;
      windows[static_cast<int>(share / kWindow)].push_back(p.stats.sm_mhz);
    }
  MeasuredClock out;
  out.kernels = kernels;
  for (const auto& [window, mhz] : windows) {
    if (mhz.size() < kLeastPoints) continue;
    out.share_of_peak.push_back(rounded((window + 0.5) * kWindow, 100));
    out.mhz.push_back(spread_of(mhz).median);
  }
  if (out.mhz.empty())
    throw Error({"fit_profile", "--points",
                 fmt::format("points of {} with their clocks", name_of(kernels)), "none", ""});
  return out;
}

}  // namespace

void add_clock(Profile& profile, const std::filesystem::path& power,
               const std::vector<Measurements>& points) {
  const PowerLines from = read_power(power);
  ProfiledClock clock;
  clock.law.most_mhz = from.most_mhz;
  clock.law.least_mhz = from.least_mhz;
  clock.law.limit_watts = from.limit;
  clock.law.idle_watts = idle_watts(from);
  fit_law(from, clock.law);
  const double idle = clock.law.idle_watts;
  clock.memory_nanojoules = nanojoules(from, idle, "kernels that move bytes",
                                       [](const PowerLine& p) { return !p.collective; });
  clock.optimizer_nanojoules = nanojoules(from, idle, "copies", [](const PowerLine& p) {
    return p.kernel == "copy" || p.kernel == "add";
  });
  clock.collective_nanojoules =
      nanojoules(from, idle, "collectives", [](const PowerLine& p) { return p.collective; });
  for (const OpClass kernels : {OpClass::matmul, OpClass::grouped_matmul, OpClass::attention})
    clock.measured.push_back(clock_of(kernels, profile, points));
  clock.source = fmt::format("profiler/torch_power.py, {}; {}, driver {}, PyTorch {}", from.date,
                             from.gpu, from.driver, from.torch);
  profile.clock = clock;
}

}  // namespace steploom
