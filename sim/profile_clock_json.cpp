#include "sim/profile_clock_json.h"

#include <fmt/format.h>

#include <array>

#include "sim/json_text.h"
#include "sim/profile_json_parts.h"

namespace steploom {
namespace {

constexpr int kMostMhz = 20000;
constexpr double kMostWatts = 1e5;
constexpr std::array kClocked{OpClass::matmul, OpClass::grouped_matmul, OpClass::attention};

ClockLaw read_law(const Json& json) {
  ClockLaw law;
  law.most_mhz = json.at("most_mhz").small_integer(1, kMostMhz);
  law.least_mhz = json.at("least_mhz").small_integer(1, law.most_mhz);
  law.limit_watts = json.at("limit_watts").number(1, kMostWatts);
  law.idle_watts = json.at("idle_watts").number(0, kMostWatts);
  if (law.idle_watts >= law.limit_watts) json.at("idle_watts").refuse("less than limit_watts");
  law.reach = json.at("reach").number(1, 10);
  law.exponent = json.at("exponent").number(1, 10);
  return law;
}

MeasuredClock read_measured(const Json& json, OpClass kernels, int most_mhz) {
  json.allow_only(std::array<std::string_view, 3>{"class", "share_of_peak", "mhz"});
  if (json.at("class").text() != name_of(kernels))
    json.at("class").refuse("the classes matmul, grouped_matmul, attention in this order");
  MeasuredClock m;
  m.kernels = kernels;
  const Json shares = json.at("share_of_peak"), mhz = json.at("mhz");
  for (std::size_t i = 0; i < shares.size(); ++i) {
    m.share_of_peak.push_back(shares.at(i).number(0, 1));
    if (i > 0 && m.share_of_peak[i] <= m.share_of_peak[i - 1])
      shares.at(i).refuse("a share above the one before");
  }
  if (shares.size() == 0 || mhz.size() != shares.size()) mhz.refuse("one clock a share");
  for (std::size_t i = 0; i < mhz.size(); ++i) m.mhz.push_back(mhz.at(i).number(1, most_mhz));
  return m;
}

}  // namespace

ProfiledClock read_clock(const Json& json) {
  json.allow_only(std::array<std::string_view, 9>{"most_mhz", "least_mhz", "limit_watts",
                                                  "idle_watts", "reach", "exponent", "measured",
                                                  "nanojoules_a_byte", "source"});
  constexpr double kMostNanojoules = 1000;
  ProfiledClock clock;
  clock.law = read_law(json);
  const Json measured = json.at("measured");
  if (measured.size() != kClocked.size())
    measured.refuse("the classes matmul, grouped_matmul, attention in this order");
  for (std::size_t i = 0; i < kClocked.size(); ++i)
    clock.measured.push_back(read_measured(measured.at(i), kClocked[i], clock.law.most_mhz));
  const Json bytes = json.at("nanojoules_a_byte");
  bytes.allow_only(std::array<std::string_view, 3>{"memory", "optimizer", "communication"});
  clock.memory_nanojoules = bytes.at("memory").number(0, kMostNanojoules);
  clock.optimizer_nanojoules = bytes.at("optimizer").number(0, kMostNanojoules);
  clock.collective_nanojoules = bytes.at("communication").number(0, kMostNanojoules);
  clock.source = json.at("source").text();
  return clock;
}

std::string to_json(const ProfiledClock& c) {
  std::string measured;
  for (const MeasuredClock& m : c.measured)
    measured += fmt::format("{}{{\"class\": {}, \"share_of_peak\": {}, \"mhz\": {}}}",
                            measured.empty() ? "" : ",\n", json_string(name_of(m.kernels)),
                            json_list(m.share_of_peak), json_list(m.mhz));
  return fmt::format(
      "{{\"most_mhz\": {}, \"least_mhz\": {}, \"limit_watts\": {}, \"idle_watts\": {}, "
      "\"reach\": {}, \"exponent\": {},\n\"measured\": [{}],\n\"nanojoules_a_byte\": "
      "{{\"memory\": {}, \"optimizer\": {}, \"communication\": {}}},\n\"source\": {}}}",
      c.law.most_mhz, c.law.least_mhz, c.law.limit_watts, c.law.idle_watts, c.law.reach,
      c.law.exponent, measured, c.memory_nanojoules, c.optimizer_nanojoules,
      c.collective_nanojoules, json_string(c.source));
}

}  // namespace steploom
