#include "models/dispatcher_rules.h"

#include <fmt/format.h>

#include <array>

#include "models/routing.h"
#include "models/rule_words.h"

namespace steploom {
namespace {

constexpr int kMostSms = 32;  // 4 to 24 were measured (docs/accuracy.md)

bool by_deepep(const RuleContext& c) {
  return c.layout.dispatcher == Dispatcher::deepep;
}

Broken needs_runtime(const RuleContext& c) {
  if (!by_deepep(c) || c.runtime == nullptr || c.runtime->deepep) return std::nullopt;
  return fmt::format("dispatcher=deepep, which the runtime {} cannot run; leave it out",
                     c.runtime->name);
}

Broken needs_exchange(const RuleContext& c) {
  if (!by_deepep(c) || (c.model.has_moe() && c.layout.ep > 1)) return std::nullopt;
  return fmt::format("dispatcher=deepep with ep={}, where experts exchange nothing; leave it out",
                     c.layout.ep);
}

Broken exchanges_whole(const RuleContext& c) {
  const Layout& l = c.layout;
  if (!by_deepep(c) || (l.etp == 1 && l.expert_parts() == 1 && !l.partition.cuts())) return std::nullopt;
  return fmt::format("dispatcher=deepep with etp={}, chunks={}{}; both must be 1, and nothing cut",
                     l.etp, l.expert_parts(),
                     l.partition.cuts() ? ", partition=" + to_text(l.partition) : "");
}

Broken fills_nodes(const RuleContext& c) {
  const int ep = c.layout.ep, node = c.devices_per_node;
  if (!by_deepep(c) || node == 0 || ep % node == 0 || node % ep == 0) return std::nullopt;
  return fmt::format(
      "dispatcher=deepep with ep={} on nodes of {} devices; ep must divide them or be a multiple",
      ep, node);
}

Broken needs_bf16(const RuleContext& c) {
  if (!by_deepep(c) || stored_precision(c.workload.precision) == Precision::bf16)
    return std::nullopt;
  return fmt::format("dispatcher=deepep with precision {}; its combine sums bf16",
                     name_of(c.workload.precision));
}

Broken needs_even_experts(const RuleContext& c) {
  const Routing& r = c.workload.routing;
  if (!by_deepep(c) || (r.law == RoutingLaw::balanced && r.capacity == 0)) return std::nullopt;
  return fmt::format(
      "dispatcher=deepep with routing {}; balanced routing alone, with or without a node limit, or "
      "leave the dispatcher out",
      to_text(r));
}

Broken takes_pairs_of_sms(const RuleContext& c) {
  const int sms = c.layout.ctas_of(CommGroup::ep);
  if (!by_deepep(c) || (sms % 2 == 0 && sms <= kMostSms)) return std::nullopt;
  return fmt::format("dispatcher=deepep with ctas.ep={}; an even number up to {}", sms, kMostSms);
}

constexpr std::array kRules{
    LayoutRule{"deepep needs a runtime that has it", "steploom: Runtime::deepep", needs_runtime},
    LayoutRule{"deepep needs an exchange",
               "Megatron-Core 0.20, moe/token_dispatcher.py, MoEFlexTokenDispatcher",
               needs_exchange},
    LayoutRule{"deepep exchanges whole rows at once",
               "steploom: rows in slices, over etp too, are not modelled", exchanges_whole},
    LayoutRule{"deepep fills nodes", "DeepEP, csrc/deep_ep.cpp, Buffer::Buffer", fills_nodes},
    LayoutRule{"deepep needs bf16", "DeepEP, csrc/kernels/internode.cu, combine", needs_bf16},
    LayoutRule{"deepep needs even experts",
               "steploom: which ranks uneven experts of a token share is not known",
               needs_even_experts},
    LayoutRule{"deepep takes pairs of SMs", "DeepEP, csrc/config.hpp; steploom: 24 were measured",
               takes_pairs_of_sms},
};

}  // namespace

std::span<const LayoutRule> dispatcher_rules() {
  return kRules;
}

}  // namespace steploom
