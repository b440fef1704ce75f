#include "planner/differences.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "models/error.h"
#include "models/layout_rules.h"
#include "planner/search.h"

namespace steploom {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

Pairs pairs_of(const Layout& layout) {
  Pairs pairs;
  const std::string text = to_text(layout);
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    const std::size_t equals = item.find('=');
    pairs.emplace_back(item.substr(0, equals), item.substr(equals + 1));
    rest = comma == rest.npos ? std::string_view{} : rest.substr(comma + 1);
  }
  return pairs;
}

std::string value_of(const Pairs& pairs, std::string_view key) {
  for (const auto& [k, v] : pairs)
    if (k == key) return v;
  return "";
}

// The text form with one key set to another value, or taken out where that is empty.
std::string with(const Pairs& pairs, std::string_view key, std::string_view value) {
  std::string text;
  bool set = false;
  const auto put = [&](std::string_view k, std::string_view v) {
    if (!v.empty()) text.append(text.empty() ? "" : ",").append(k).append("=").append(v);
  };
  for (const auto& [k, v] : pairs) {
    put(k, k == key ? value : std::string_view(v));
    set |= k == key;
  }
  if (!set) put(key, value);
  return text;
}

void try_out(const Setting& s, const Layout& layout, CostCache& costs, Difference& d) {
  if (const auto refusal = refuse(
          {s.model, s.work, layout, s.cluster.devices(), &s.runtime, s.cluster.devices_per_node})) {
    d.refusal = refusal->rule;
    return;
  }
  const Candidate c = evaluate(s, layout, costs);
  d.step = c.step;
  d.fits = c.fits();
}

struct Habit {
  const char* name;
  bool Runtime::*member;
};
constexpr std::array<Habit, 2> kHabits{{{"overlap-grad-reduce", &Runtime::overlap_grad_reduce},
                                        {"overlap-param-gather", &Runtime::overlap_param_gather}}};

}  // namespace

std::vector<Difference> differences(const Way& now, const Way& then, CostCache& costs) {
  std::vector<Difference> list;
  const Setting& s = now.setting;
  const Pairs a = pairs_of(now.layout);
  const Pairs b = pairs_of(then.layout);
  std::vector<std::string> keys;
  for (const Pairs* side : {&a, &b})
    for (const auto& [key, value] : *side)
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  for (const std::string& key : keys) {
    Difference d{key, value_of(a, key), value_of(b, key), {}, true, ""};
    if (d.now == d.then) continue;
    try {
      const Layout changed =
          parse_layout(with(a, key, d.then), s.cluster.devices(), s.model.has_moe());
      try_out(s, changed, costs, d);
    } catch (const Error& e) {  // devices that are no multiple of tp · cp · pp
      d.refusal = e.where().expected;
    }
    list.push_back(std::move(d));
  }
  for (const Habit& habit : kHabits) {
    const bool before = s.runtime.*habit.member;
    const bool after = then.setting.runtime.*habit.member;
    if (before == after) continue;
    Difference d{habit.name, before ? "on" : "off", after ? "on" : "off", {}, true, ""};
    Runtime runtime = s.runtime;
    runtime.*habit.member = after;
    try_out(s.with_runtime(runtime), now.layout, costs, d);
    list.push_back(std::move(d));
  }
  return list;
}

}  // namespace steploom
