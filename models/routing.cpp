#include "models/routing.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>
#include <filesystem>

#include "models/error.h"
#include "models/nearest.h"
#include "models/routing_file.h"

namespace steploom {
namespace {

constexpr double kMostParameter = 10;
constexpr double kMostCapacity = 1024;
constexpr std::array<std::string_view, 3> kLaws{"balanced", "power-law", "log-normal"};
constexpr std::array<std::string_view, 3> kLimits{"capacity", "nodes", "gate"};
constexpr std::array<std::string_view, 5> kGates{"top-k", "switch", "random", "batch-prioritised",
                                                 "expert-choice"};

[[noreturn]] void refuse(const std::string& reading, std::string_view place, std::string expected,
                         std::string found, std::string hint = "") {
  throw Error(
      {reading, std::string(place), std::move(expected), std::move(found), std::move(hint)});
}

double number(std::string_view text, std::string_view place, double most,
              const std::string& reading) {
  double value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc{} || end != text.data() + text.size() || !(value > 0) || value > most)
    refuse(reading, place, fmt::format("a number above 0 and up to {}", most),
           fmt::format("'{}'", text));
  return value;
}

void read_law(std::string_view text, Routing& out, const std::string& reading) {
  if (text == kLaws[0]) return;
  const std::size_t colon = text.find(':');
  const std::string_view word = text.substr(0, colon);
  for (const RoutingLaw law : {RoutingLaw::power_law, RoutingLaw::log_normal}) {
    if (word != kLaws[static_cast<std::size_t>(law)]) continue;
    if (colon == std::string_view::npos)
      refuse(reading, word, fmt::format("'{}:' and a number", word), fmt::format("'{}'", text));
    out.law = law;
    out.parameter = number(text.substr(colon + 1), word, kMostParameter, reading);
    return;
  }
  const std::filesystem::path file(text);
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(file, ignored))
    refuse(reading, "", "balanced, power-law:ALPHA, log-normal:SIGMA or a file",
           fmt::format("'{}'", text), nearest_hint(word, kLaws));
  out.law = RoutingLaw::recorded;
  out.name = file.filename().string();
  out.recorded = load_recorded_routing(file);
}

void read_limit(std::string_view text, Routing& out, const std::string& reading) {
  const std::size_t equals = text.find('=');
  const std::string_view key = text.substr(0, equals);
  if (equals == std::string_view::npos ||
      std::find(kLimits.begin(), kLimits.end(), key) == kLimits.end())
    refuse(reading, "", "capacity=FACTOR, nodes=COUNT or gate=NAME", fmt::format("'{}'", text),
           nearest_hint(key, kLimits));
  if (key == kLimits[2]) {
    const std::string_view name = text.substr(equals + 1);
    const auto at = std::find(kGates.begin(), kGates.end(), name);
    if (at == kGates.end())
      refuse(reading, key, fmt::format("{}", fmt::join(kGates, ", ")), fmt::format("'{}'", name),
             nearest_hint(name, kGates));
    out.gate = static_cast<Gate>(at - kGates.begin());
    return;
  }
  const double value = number(text.substr(equals + 1), key, kMostCapacity, reading);
  if (key == kLimits[0]) {
    out.capacity = value;
    return;
  }
  out.nodes = static_cast<int>(value);
  if (out.nodes != value || out.nodes < 1)
    refuse(reading, key, "a whole number of nodes", fmt::format("'{}'", text.substr(equals + 1)));
}

}  // namespace

const std::vector<std::int64_t>& Routing::tokens_of(int layer, std::int64_t micro_batch) const {
  assert(!recorded.empty());
  auto it = std::find_if(recorded.begin(), recorded.end(),
                         [layer](const RecordedLayer& l) { return l.layer == layer; });
  if (it == recorded.end()) it = std::prev(recorded.end());
  return it->tokens[static_cast<std::size_t>(micro_batch) % it->tokens.size()];
}

Routing parse_routing(std::string_view text, const std::string& reading) {
  Routing out;
  const std::size_t comma = text.find(',');
  read_law(text.substr(0, comma), out, reading);
  while (!text.empty()) {
    const std::size_t end = text.find(',');
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
    read_limit(text.substr(0, text.find(',')), out, reading);
  }
  return out;
}

std::string to_text(const Routing& r) {
  std::string text =
      r.law == RoutingLaw::recorded ? r.name : std::string(kLaws[static_cast<std::size_t>(r.law)]);
  if (r.random()) text += fmt::format(":{}", r.parameter);
  if (r.capacity > 0) text += fmt::format(",{}={}", kLimits[0], r.capacity);
  if (r.nodes > 0) text += fmt::format(",{}={}", kLimits[1], r.nodes);
  if (r.gate != Gate::top_k)
    text += fmt::format(",{}={}", kLimits[2], kGates[static_cast<std::size_t>(r.gate)]);
  return text;
}

void check_routing(const Routing& r, const ModelSpec& m, const std::string& reading) {
  if (!r.uneven() && r.gate == Gate::top_k) return;
  if (!m.has_moe())
    refuse(reading, "", "a model with experts", m.name + ", which has none", "leave --routing out");
  if (r.gate == Gate::switch_gate && m.moe->top_k != 1)
    refuse(reading, kLimits[2], "a model whose tokens choose one expert for switch",
           fmt::format("{}, whose tokens choose {}", m.name, m.moe->top_k), "choose gate=top-k");
  if (r.samples < 1 || r.quantile <= 0 || r.quantile > 1)
    refuse(reading, "", "at least one sample and a quantile above 0 and up to 1",
           fmt::format("{} and {}", r.samples, r.quantile));
  if (r.law != RoutingLaw::recorded) return;
  const auto experts = static_cast<std::size_t>(m.moe->experts);
  for (int layer = 0; layer < m.layers; ++layer) {
    if (!m.is_moe(layer)) continue;
    const auto it = std::find_if(r.recorded.begin(), r.recorded.end(),
                                 [layer](const RecordedLayer& l) { return l.layer == layer; });
    if (it == r.recorded.end())
      refuse(reading, r.name, fmt::format("layer {}, which has experts in {}", layer, m.name),
             fmt::format("{} layer(s) without it", r.recorded.size()));
  }
  for (const RecordedLayer& l : r.recorded) {
    if (l.layer >= m.layers || !m.is_moe(l.layer))
      refuse(reading, r.name, fmt::format("layers with experts of {}", m.name),
             fmt::format("layer {}", l.layer));
    for (const auto& tokens : l.tokens)
      if (tokens.size() != experts)
        refuse(reading, fmt::format("{}, layer {}", r.name, l.layer),
               fmt::format("{} experts, as {} has", experts, m.name),
               fmt::format("{}", tokens.size()));
  }
}

}  // namespace steploom
