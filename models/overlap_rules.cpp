#include "models/overlap_rules.h"

#include <fmt/format.h>

#include <array>

#include "models/routing.h"
#include "models/rule_words.h"

namespace steploom {
namespace {

Broken chunks_need_exchange(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.chunks == 1) return std::nullopt;
  if (!c.model.has_moe())
    return fmt::format("chunks={}, but {} has no experts; chunks must be 1", l.chunks,
                       c.model.name);
  if (l.ep * l.etp > 1) return std::nullopt;
  return fmt::format(
      "chunks={} with ep=1 and etp=1, where experts exchange nothing; "
      "chunks must be 1, or ep or etp more",
      l.chunks);
}

Broken chunks_divide_expert_rows(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.chunks == 1 || !c.model.has_moe()) return std::nullopt;
  const std::int64_t tokens = c.workload.seq_length / l.cp * l.micro_batch / (l.sp ? l.tp : 1);
  const std::int64_t rows = tokens * c.model.moe->top_k, experts = c.model.moe->experts;
  if (rows % experts != 0)
    return fmt::format(
        "chunks={}, but {} routed rows of a rank are no equal shares for {} "
        "experts; chunks must be 1",
        l.chunks, rows, experts);
  return must_divide("chunks", l.chunks, "rows of a rank for an expert", rows / experts);
}

Broken pairwise_needs_runtime(const RuleContext& c) {
  if (c.layout.pairwise == 1 || c.runtime == nullptr || c.runtime->exchanges_in_steps)
    return std::nullopt;
  return fmt::format("pairwise={}, which the runtime {} cannot run; leave it out",
                     c.layout.pairwise, c.runtime->name);
}

Broken pairwise_needs_exchange(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.pairwise == 1) return std::nullopt;
  if (!c.model.has_moe() || l.ep == 1)
    return fmt::format("pairwise={} with ep={}, where experts exchange nothing; leave it out",
                       l.pairwise, l.ep);
  return must_divide("pairwise", l.pairwise, "ranks that share experts", l.ep);
}

// A step has an equal part of the rows of every expert of the group.
Broken pairwise_divides_rows(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.pairwise == 1 || !c.model.has_moe()) return std::nullopt;
  const std::int64_t tokens = c.workload.seq_length / l.cp * l.micro_batch / (l.sp ? l.tp : 1);
  return must_divide("pairwise", l.pairwise, "routed rows of a rank", tokens * c.model.moe->top_k);
}

Broken pairwise_excludes(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.pairwise == 1) return std::nullopt;
  if (l.chunks > 1 || l.partition.cuts() || l.weave)
    return fmt::format("pairwise={} with chunks, partition or weave; leave these out", l.pairwise);
  if (l.ctas_of(CommGroup::ep) > 0)
    return fmt::format("pairwise={} with ctas of ep; steps were not measured by CTAs", l.pairwise);
  if (c.workload.routing.uneven())
    return fmt::format("pairwise={} with routing {}; it must be balanced", l.pairwise,
                       to_text(c.workload.routing));
  return std::nullopt;
}

Broken partition_needs_runtime(const RuleContext& c) {
  if (!c.layout.partition.cuts() || c.runtime == nullptr || c.runtime->cuts_ranges)
    return std::nullopt;
  return fmt::format("partition={}, which the runtime {} cannot run; leave it out",
                     to_text(c.layout.partition), c.runtime->name);
}

Broken partition_needs_exchange(const RuleContext& c) {
  const Layout& l = c.layout;
  if (!l.partition.cuts() || (c.model.has_moe() && l.ep > 1)) return std::nullopt;
  return fmt::format("partition={} with ep={}, where experts exchange nothing; leave it out",
                     to_text(l.partition), l.ep);
}

Broken partition_excludes(const RuleContext& c) {
  const Layout& l = c.layout;
  if (!l.partition.cuts() || (l.chunks == 1 && l.cp == 1 && l.tp == 1)) return std::nullopt;
  return fmt::format("partition={} with chunks={}, tp={} and cp={}; all three must be 1",
                     to_text(l.partition), l.chunks, l.tp, l.cp);
}

Broken partition_needs_gate(const RuleContext& c) {
  const Partition& p = c.layout.partition;
  const bool cuts_gate = p.from == PartFrom::gate || p.from == PartFrom::attention;
  if (!p.cuts() || p.program || !cuts_gate || decides_on_parts(c.workload.routing.gate))
    return std::nullopt;
  return fmt::format(
      "partition={} with {}, whose gate sees all tokens; begin at permute or dispatch", to_text(p),
      to_text(c.workload.routing));
}

Broken partition_divides(const RuleContext& c) {
  const Layout& l = c.layout;
  const Partition& p = l.partition;
  if (!p.cuts() || p.program) return std::nullopt;
  const std::int64_t tokens = c.workload.seq_length * l.micro_batch;
  if (p.cuts_capacity()) {
    const std::int64_t rows = tokens * c.model.moe->top_k, experts = c.model.moe->experts;
    if (rows % experts != 0)
      return fmt::format(
          "partition={}, but {} routed rows of a rank are no equal shares for {} experts",
          to_text(p), rows, experts);
    return must_divide("parts", p.parts, "rows of a rank for an expert", rows / experts);
  }
  if (p.from == PartFrom::attention || p.to == PartTo::attention)
    return must_divide("parts", p.parts,
                       "sequences of a micro-batch, which attention is cut between", l.micro_batch);
  return must_divide("parts", p.parts, "tokens of a micro-batch", tokens);
}

Broken dw_needs_exchange(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.dw == WeightPlacement::none || (c.model.has_moe() && l.ep > 1)) return std::nullopt;
  return fmt::format(
      "dw={} without an all-to-all of experts to hide; leave it out or choose ep > 1",
      name_of(l.dw));
}

// What is said of gradient collectives, by the first key that says something; "" if none does.
std::string gradient_choice(const Layout& l) {
  if (l.grad_micro != 0) return fmt::format("grad_micro={}", l.grad_micro);
  if (l.a2a_first) return "a2a_first=1";
  return l.bucket != 0 ? fmt::format("bucket={}", l.bucket) : "";
}

Broken gradients_need_replicas(const RuleContext& c) {
  const std::string choice = gradient_choice(c.layout);
  const bool experts = c.model.has_moe() && c.layout.expert_dp() > 1;
  if (choice.empty() || c.layout.dp_cp() > 1 || experts) return std::nullopt;
  return choice + " without data parallelism, where no gradient is communicated; leave it out";
}

Broken gradients_need_buckets(const RuleContext& c) {
  const std::string choice = gradient_choice(c.layout);
  if (choice.empty() || c.layout.zero < 2) return std::nullopt;
  return fmt::format("{} with zero={}, which reduces layer by layer; choose zero=0 or 1", choice,
                     c.layout.zero);
}

// Weight gradients and what reduces them are in blocks of their own there.
Broken order_excludes_placement(const RuleContext& c) {
  const Layout& l = c.layout;
  if (!splits_backward(l.schedule) || (l.dw == WeightPlacement::none && !l.a2a_first))
    return std::nullopt;
  return fmt::format(
      "{} with schedule={}, whose weight gradients are passes of their own; leave it out",
      l.a2a_first ? "a2a_first=1" : fmt::format("dw={}", name_of(l.dw)), name_of(l.schedule));
}

Broken placement_excludes_tp_overlap(const RuleContext& c) {
  const Layout& l = c.layout;
  if (!l.tp_overlap || l.dw == WeightPlacement::none) return std::nullopt;
  return fmt::format("dw={} with tp_overlap=1; leave one of them out", name_of(l.dw));
}

Broken a2a_first_needs_exchange(const RuleContext& c) {
  if (!c.layout.a2a_first || (c.model.has_moe() && c.layout.ep > 1)) return std::nullopt;
  return "a2a_first=1 without an all-to-all of experts; leave it out or choose ep > 1";
}

// What Megatron-Core asks of its overlap, and what is not modelled beside it.
Broken weave_needs_exchange(const RuleContext& c) {
  if (!c.layout.weave || (c.model.has_moe() && c.layout.ep > 1)) return std::nullopt;
  return "weave=1 without an all-to-all of experts to hide; leave it out or choose ep > 1";
}

Broken weave_needs_runtime(const RuleContext& c) {
  const Layout& l = c.layout;
  if (!l.weave || c.runtime == nullptr || c.runtime->weaves == Weaves::any) return std::nullopt;
  if (c.runtime->weaves == Weaves::no)
    return fmt::format("weave=1, which the runtime {} cannot run; leave it out", c.runtime->name);
  if (l.pp == 1 || l.vpp > 1) return std::nullopt;
  return fmt::format("weave=1 with pp={} and vpp=1 and the runtime {}; choose vpp > 1 or pp=1",
                     l.pp, c.runtime->name);
}

Broken weave_needs_pairs(const RuleContext& c) {
  const PipelineOrder order = c.layout.schedule;
  if (!c.layout.weave || order == PipelineOrder::one_forward_one_backward ||
      order == PipelineOrder::dualpipe_v)
    return std::nullopt;
  return fmt::format(
      "weave=1 with schedule={}, which has no forward beside a backward pass; choose 1f1b or "
      "dualpipe-v",
      name_of(order));
}

Broken weave_excludes(const RuleContext& c) {
  const Layout& l = c.layout;
  if (!l.weave) return std::nullopt;
  if (l.recompute == Recompute::full || l.recompute_detail.has(RecomputeModule::moe))
    return fmt::format("weave=1 with recompute={}; experts must not run again",
                       to_text(l.recompute, l.recompute_detail));
  if (l.chunks > 1 || l.partition.cuts() || l.dw != WeightPlacement::none || l.a2a_first)
    return "weave=1 with chunks, partition, dw or a2a_first; leave these out";
  if (l.zero > 1) return fmt::format("weave=1 with zero={}; choose zero=0 or 1", l.zero);
  return std::nullopt;
}

Broken weave_needs_even_work(const RuleContext& c) {
  if (!c.layout.weave) return std::nullopt;
  if (c.workload.routing.uneven())
    return fmt::format("weave=1 with routing {}; it must be balanced", to_text(c.workload.routing));
  if (c.workload.precision == Precision::fp32) return "weave=1 in fp32; choose 16 bits or fewer";
  if (c.model.mtp_modules <= 1) return std::nullopt;
  return fmt::format("weave=1, but {} has {} prediction modules; there may be one", c.model.name,
                     c.model.mtp_modules);
}

Broken offload_needs_runtime(const RuleContext& c) {
  if (c.layout.offload == Offload::none || c.runtime == nullptr || c.runtime->offloads_experts)
    return std::nullopt;
  return fmt::format("offload={}, which the runtime {} cannot run; leave it out",
                     name_of(c.layout.offload), c.runtime->name);
}

Broken offload_needs_experts(const RuleContext& c) {
  if (c.layout.offload == Offload::none || c.model.has_moe()) return std::nullopt;
  return fmt::format("offload=experts, but {} has no experts; leave it out", c.model.name);
}

Broken offload_excludes(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.offload == Offload::none) return std::nullopt;
  if (l.partition.cuts() || l.weave || l.dw != WeightPlacement::none)
    return "offload=experts with partition, weave or dw; leave these out";
  if (splits_backward(l.schedule))
    return fmt::format(
        "offload=experts with schedule={}, whose weight gradients are passes of their own",
        name_of(l.schedule));
  if (operand_bytes(c.workload.precision) == 1)
    return fmt::format("offload=experts in {}; choose 16 bits or more",
                       name_of(c.workload.precision));
  return std::nullopt;
}

// Updated shards would have to be gathered on the device.
Broken offload_needs_whole_experts(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.offload == Offload::none || l.zero == 0 || (l.zero == 1 && l.expert_dp() == 1))
    return std::nullopt;
  return fmt::format("offload=experts with zero={} and expert_dp={}; choose zero=0", l.zero,
                     l.expert_dp());
}

constexpr std::array kRules{
    LayoutRule{"chunks need an exchange",
               "Tutel (arXiv 2206.03382): the all-to-all is what its pipelining hides",
               chunks_need_exchange},
    LayoutRule{"chunks divide the rows of an expert",
               "Tutel (arXiv 2206.03382): the capacity dimension is cut in equal parts",
               chunks_divide_expert_rows},
    LayoutRule{"pairwise needs a runtime that has it", "steploom: Runtime::exchanges_in_steps",
               pairwise_needs_runtime},
    LayoutRule{"pairwise needs an exchange between groups",
               "FasterMoE (PPoPP'22), smart schedule: the all-to-all is what it cuts",
               pairwise_needs_exchange},
    LayoutRule{"pairwise divides the rows of a rank", "steploom: steps are equal",
               pairwise_divides_rows},
    LayoutRule{"pairwise excludes chunks, partition, weave, CTAs and uneven routing",
               "steploom: not modelled beside it", pairwise_excludes},
    LayoutRule{"partition needs a runtime that has it", "steploom: Runtime::cuts_ranges",
               partition_needs_runtime},
    LayoutRule{"partition needs an exchange",
               "Lancet (arXiv 2404.19429): the all-to-all is what its pipelining hides",
               partition_needs_exchange},
    LayoutRule{"partition excludes chunks, tp and cp",
               "steploom: parts of tokens that other ranks share are not modelled",
               partition_excludes},
    LayoutRule{"partition needs a gate that decides on parts",
               "Lancet (arXiv 2404.19429), section 2.3", partition_needs_gate},
    LayoutRule{"partition divides tokens", "steploom: parts are equal", partition_divides},
    LayoutRule{"dw needs an all-to-all", "Lancet (arXiv 2404.19429), section 4", dw_needs_exchange},
    LayoutRule{"gradient collectives need replicas",
               "steploom: without replicas nothing is communicated", gradients_need_replicas},
    LayoutRule{"gradient buckets need zero 0 or 1",
               "steploom: ZeRO-2 and 3 reduce unit by unit (sharded_parameters.cpp)",
               gradients_need_buckets},
    LayoutRule{"dw and a2a_first need whole backward passes",
               "steploom: a pass moves weight gradients inside a backward pass",
               order_excludes_placement},
    LayoutRule{"dw excludes tp_overlap",
               "Transformer Engine 2, pytorch/module/linear.py: delayed weight gradients are not "
               "supported with userbuffers",
               placement_excludes_tp_overlap},
    LayoutRule{"a2a_first needs an all-to-all", "Lina (arXiv 2210.17223), section 5",
               a2a_first_needs_exchange},
    LayoutRule{"offload needs a runtime that has it", "steploom: Runtime::offloads_experts",
               offload_needs_runtime},
    LayoutRule{"offload needs experts", "Lina (arXiv 2210.17223), expert packing",
               offload_needs_experts},
    LayoutRule{"offload excludes partition, weave, dw, split passes and fp8",
               "steploom: not modelled beside it", offload_excludes},
    LayoutRule{"offload needs whole experts",
               "steploom: shards of offloaded experts are not modelled",
               offload_needs_whole_experts},
    LayoutRule{"weave needs an all-to-all",
               "Megatron-Core 0.20, transformer_config.py (overlap_moe_expert_parallel_comm)",
               weave_needs_exchange},
    LayoutRule{"weave needs a runtime that has it",
               "steploom: Runtime::weaves; Megatron-Core 0.20, transformer_config.py: with pp, vpp",
               weave_needs_runtime},
    LayoutRule{"weave needs pairs of passes", "steploom: planner/pipeline_schedule.h",
               weave_needs_pairs},
    LayoutRule{"weave excludes full recomputation and other overlap of the experts",
               "Megatron-Core 0.20, transformer_config.py; the latter: steploom models none",
               weave_excludes},
    LayoutRule{"weave needs even work of 16 bits or fewer",
               "Megatron-Core 0.20, transformer_config.py; uneven routing: steploom models none",
               weave_needs_even_work},
};

}  // namespace

std::span<const LayoutRule> overlap_rules() {
  return kRules;
}

}  // namespace steploom
