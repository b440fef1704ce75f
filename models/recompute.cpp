#include "models/recompute.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <system_error>
#include <vector>

#include "models/error.h"
#include "models/nearest.h"

namespace steploom {
namespace {

constexpr std::array<std::string_view, 3> kNames{"none", "full", "selective"};
constexpr std::array<std::string_view, kRecomputeModules> kModules{
    "core_attn", "layernorm", "mlp", "moe_act", "moe", "mla_up_proj", "shared_experts"};
constexpr std::array<std::string_view, 2> kMethods{"uniform", "block"};
constexpr int kMostLayers = 1'000'000;

[[noreturn]] void refuse(std::string expected, std::string_view found, std::string hint = "") {
  throw Error(
      {"layout", "recompute", std::move(expected), fmt::format("'{}'", found), std::move(hint)});
}

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = text.find(at);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::uint16_t modules_of(std::string_view list) {
  std::uint16_t modules = 0;
  for (const std::string_view name : split(list, '+')) {
    const auto found = std::find(kModules.begin(), kModules.end(), name);
    if (found == kModules.end())
      refuse(fmt::format("modules joined by '+': {}", fmt::join(kModules, ", ")), name,
             nearest_hint(name, kModules));
    const auto bit = static_cast<std::uint16_t>(1U << (found - kModules.begin()));
    if ((modules & bit) != 0) refuse("each module once", name);
    modules = static_cast<std::uint16_t>(modules | bit);
  }
  return modules;
}

}  // namespace

std::string_view name_of(Recompute r) {
  return kNames.at(static_cast<std::size_t>(r));
}

RecomputeDetail core_attention_only() {
  RecomputeDetail d;
  d.modules = 1U << static_cast<int>(RecomputeModule::core_attn);
  return d;
}

RecomputeChoice parse_recompute(std::string_view text) {
  constexpr std::string_view kExpected =
      "none, full, full:uniform:2, full:block:2, selective or selective:core_attn+layernorm";
  const std::vector<std::string_view> parts = split(text, ':');
  if (parts[0] == "none" && parts.size() == 1) return {};
  RecomputeChoice c;
  if (parts[0] == "selective" && parts.size() <= 2) {
    c.what = Recompute::selective;
    c.detail = core_attention_only();
    if (parts.size() == 2) c.detail.modules = modules_of(parts[1]);
    return c;
  }
  if (parts[0] != "full" || parts.size() == 2 || parts.size() > 3)
    refuse(std::string(kExpected), text);
  c.what = Recompute::full;
  if (parts.size() == 1) return c;
  const auto method = std::find(kMethods.begin(), kMethods.end(), parts[1]);
  if (method == kMethods.end()) refuse("uniform or block", parts[1]);
  c.detail.method = static_cast<RecomputeMethod>(method - kMethods.begin());
  const std::string_view n = parts[2];
  const auto [end, error] = std::from_chars(n.data(), n.data() + n.size(), c.detail.layers);
  if (error != std::errc{} || end != n.data() + n.size() || c.detail.layers < 1 ||
      c.detail.layers > kMostLayers)
    refuse(fmt::format("a number of layers from 1 to {}", kMostLayers), n);
  return c;
}

std::string to_text(Recompute what, const RecomputeDetail& d) {
  std::string text(name_of(what));
  if (what == Recompute::full && d != RecomputeDetail{})
    return fmt::format("{}:{}:{}", text, kMethods.at(static_cast<std::size_t>(d.method)), d.layers);
  if (what != Recompute::selective || d == core_attention_only()) return text;
  char before = ':';
  for (int i = 0; i < kRecomputeModules; ++i)
    if (d.has(static_cast<RecomputeModule>(i))) {
      text += before;
      text += kModules[static_cast<std::size_t>(i)];
      before = '+';
    }
  return text;
}

}  // namespace steploom
