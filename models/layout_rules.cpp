#include "models/layout_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "models/dispatcher_rules.h"
#include "models/overlap_rules.h"
#include "models/rule_words.h"
#include "models/stages.h"

namespace steploom {
namespace {

bool any_layer(const ModelSpec& m, bool moe) {
  return std::find(m.layer_is_moe.begin(), m.layer_is_moe.end(), moe) != m.layer_is_moe.end();
}

Broken mesh_fills_devices(const RuleContext& c) {
  const Layout& l = c.layout;
  const std::int64_t replica = std::int64_t{l.tp} * l.cp * l.pp;
  if (c.devices % replica != 0) {
    return fmt::format("tp·cp·pp={} does not divide {} devices; tp·cp·pp may be {}", replica,
                       c.devices, divisors_of(c.devices));
  }
  if (replica * l.dp == c.devices) return std::nullopt;
  return fmt::format("tp·cp·pp·dp={} of {} devices; dp must be {}", replica * l.dp, c.devices,
                     c.devices / replica);
}

Broken expert_mesh_divides_devices(const RuleContext& c) {
  const Layout& l = c.layout;
  const std::int64_t mesh = std::int64_t{l.etp} * l.ep * l.pp;
  if (c.devices % mesh == 0) return std::nullopt;
  return fmt::format("etp·ep·pp={} does not divide {} devices; etp·ep must divide {}", mesh,
                     c.devices, c.devices / l.pp);
}

Broken ep_needs_experts(const RuleContext& c) {
  if (c.layout.ep == 1 || c.model.has_moe()) return std::nullopt;
  return fmt::format("ep={}, but {} has no experts; ep must be 1", c.layout.ep, c.model.name);
}

Broken etp_needs_experts(const RuleContext& c) {
  if (c.layout.etp == 1 || c.model.has_moe()) return std::nullopt;
  return fmt::format("etp={}, but {} has no experts; etp must be 1", c.layout.etp, c.model.name);
}

Broken ep_divides_experts(const RuleContext& c) {
  if (!c.model.has_moe()) return std::nullopt;
  return must_divide("ep", c.layout.ep, "experts", c.model.moe->experts);
}

Broken tp_divides_heads(const RuleContext& c) {
  return must_divide("tp", c.layout.tp, "attention heads", c.model.attention.heads);
}

Broken tp_divides_kv_heads(const RuleContext& c) {
  return must_divide("tp", c.layout.tp, "key-value heads", c.model.attention.kv_heads);
}

Broken tp_divides_ffn(const RuleContext& c) {
  if (!any_layer(c.model, false)) return std::nullopt;
  return must_divide("tp", c.layout.tp, "columns of the feed-forward part", c.model.dense.width);
}

Broken tp_divides_shared_expert(const RuleContext& c) {
  if (!c.model.has_moe()) return std::nullopt;
  return must_divide("tp", c.layout.tp, "columns of the shared expert", c.model.moe->shared_width);
}

Broken tp_divides_prediction(const RuleContext& c) {
  if (c.model.mtp_modules == 0) return std::nullopt;
  return must_divide("tp", c.layout.tp, "columns of a prediction module's projection",
                     c.model.hidden);
}

Broken etp_divides_expert(const RuleContext& c) {
  if (!c.model.has_moe()) return std::nullopt;
  return must_divide("etp", c.layout.etp, "columns of an expert", c.model.moe->expert.width);
}

Broken etp_excludes_expert_bias(const RuleContext& c) {
  if (!c.model.has_moe() || !c.model.moe->expert.bias || c.layout.etp == 1) return std::nullopt;
  return fmt::format("etp={}, but the experts of {} have biases; etp must be 1", c.layout.etp,
                     c.model.name);
}

Broken sp_needs_tp(const RuleContext& c) {
  if (!c.layout.sp || c.layout.tp > 1) return std::nullopt;
  return "sp=1 with tp=1; choose sp=0 or tp > 1";
}

Broken moe_with_tp_needs_sp(const RuleContext& c) {
  if (c.layout.tp == 1 || c.layout.sp || !c.model.has_moe()) return std::nullopt;
  return fmt::format("{} has experts and tp={} without sequence parallelism; choose sp=1 or tp=1",
                     c.model.name, c.layout.tp);
}

Broken tp_divides_sequence(const RuleContext& c) {
  if (!c.layout.sp) return std::nullopt;
  return must_divide("tp", c.layout.tp, "tokens of a sequence on a context-parallel rank",
                     c.workload.seq_length / c.layout.cp);
}

Broken cp_needs_runtime(const RuleContext& c) {
  if (c.layout.cp == 1 || c.runtime == nullptr || c.runtime->context_parallel) return std::nullopt;
  return fmt::format("cp={}, which the runtime {} cannot run; cp must be 1", c.layout.cp,
                     c.runtime->name);
}

// Chunks i and 2·cp − 1 − i of a causal sequence lie on rank i, so that all have equal work.
Broken cp_divides_sequence(const RuleContext& c) {
  const std::int64_t cp = c.layout.cp;
  if (cp == 1 || c.workload.seq_length % (2 * cp) == 0) return std::nullopt;
  return fmt::format("cp={} with {} tokens a sequence, which 2·cp={} does not divide; cp may be {}",
                     cp, c.workload.seq_length, 2 * cp, divisors_of(c.workload.seq_length / 2));
}

Broken cp_comm_needs_cp(const RuleContext& c) {
  if (c.layout.cp > 1 || c.layout.cp_comm == ContextComm::p2p) return std::nullopt;
  return fmt::format("cp_comm={} with cp=1; leave it out or choose cp > 1",
                     name_of(c.layout.cp_comm));
}

Broken exchanged_heads_divide(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.cp == 1 || l.cp_comm != ContextComm::a2a) return std::nullopt;
  const int kv_heads = c.model.attention.kv_heads;
  if (c.model.attention.heads % (l.tp * l.cp) == 0 && kv_heads % (l.tp * l.cp) == 0)
    return std::nullopt;
  return fmt::format(
      "cp_comm=a2a with tp·cp={}·{}, which does not divide {} key-value heads; tp·cp may be {}, or "
      "choose cp_comm=p2p",
      l.tp, l.cp, kv_heads, divisors_of(kv_heads));
}

Broken windows_need_all_keys(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.cp == 1 || l.cp_comm != ContextComm::p2p || c.model.attention.window == 0)
    return std::nullopt;
  return fmt::format(
      "cp={} with cp_comm=p2p, but {} has layers whose queries see a window; choose "
      "cp_comm=allgather or a2a",
      l.cp, c.model.name);
}

Broken latent_attention_needs_ring(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.cp == 1 || l.cp_comm == ContextComm::p2p || c.model.attention.kind != AttentionKind::latent)
    return std::nullopt;
  return fmt::format("cp_comm={}, but {} has latent attention; choose cp_comm=p2p",
                     name_of(l.cp_comm), c.model.name);
}

Broken pp_divides_layers(const RuleContext& c) {
  const Layout& l = c.layout;
  if (!l.stages.empty() || c.model.layers % l.virtual_stages() == 0) return std::nullopt;
  const std::string uneven = "; or say with stages=Ett|...|tL which stage holds which layers";
  if (l.vpp == 1) return *must_divide("pp", l.pp, "layers", c.model.layers) + uneven;
  return *must_divide("pp·vpp", l.virtual_stages(), "layers", c.model.layers) + uneven;
}

Broken vpp_needs_runtime(const RuleContext& c) {
  if (c.layout.vpp == 1 || c.runtime == nullptr || c.runtime->interleaves) return std::nullopt;
  return fmt::format("vpp={}, which the runtime {} cannot run; vpp must be 1", c.layout.vpp,
                     c.runtime->name);
}

// Experts of fixed capacity are whole, and computed in one go.
Broken capacity_is_whole(const RuleContext& c) {
  const Layout& l = c.layout;
  if (c.runtime == nullptr || c.runtime->capacity_factor == 0 || !c.model.has_moe())
    return std::nullopt;
  if (l.etp == 1 && l.chunks == 1 && !l.recompute_detail.has(RecomputeModule::moe_act))
    return std::nullopt;
  return fmt::format(
      "etp={}, chunks={}, recompute={}, but the runtime {} has experts whole; "
      "choose etp=1, chunks=1 and recompute not their activation alone",
      l.etp, l.chunks, to_text(l.recompute, l.recompute_detail), c.runtime->name);
}

Broken vpp_needs_pp(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.vpp > 1 && l.pp == 1) return fmt::format("vpp={} with pp=1; choose vpp=1 or pp > 1", l.vpp);
  if (l.vpp == 1 && l.vpp_group != 0)
    return fmt::format("vpp_group={} with vpp=1; leave it out or choose vpp > 1", l.vpp_group);
  return std::nullopt;
}

Broken schedule_needs_runtime(const RuleContext& c) {
  const PipelineOrder order = c.layout.schedule;
  if (order == PipelineOrder::one_forward_one_backward || c.runtime == nullptr) return std::nullopt;
  if (!c.runtime->pipeline_orders)
    return fmt::format("schedule={}, which the runtime {} cannot run; schedule must be 1f1b",
                       name_of(order), c.runtime->name);
  // Ranks would wait for each other's sends.
  if (of_one_chunk(order) || in_a_v(order) || c.runtime->receive_ahead == 0) return std::nullopt;
  return fmt::format(
      "schedule={}, for whose messages the runtime {} has too few buffers; choose vpp=1 and "
      "gpipe, zb-h1, zb-h2 or searched, or vpp=2 and zb-v, v-half, v-min, dualpipe-v or searched-v",
      name_of(order), c.runtime->name);
}

Broken schedule_fits_chunks(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.schedule == PipelineOrder::one_forward_one_backward) return std::nullopt;
  if (l.pp == 1)
    return fmt::format("schedule={} with pp=1; leave it out or choose pp > 1", name_of(l.schedule));
  if (in_a_v(l.schedule) ? l.vpp == 2 : of_one_chunk(l.schedule) == (l.vpp == 1))
    return std::nullopt;
  return fmt::format("schedule={} with vpp={}; vpp must be {}", name_of(l.schedule), l.vpp,
                     of_one_chunk(l.schedule) ? "1"
                     : in_a_v(l.schedule)     ? "2"
                                              : "2 or more");
}

Broken stages_hold_the_layers(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.stages.empty()) return std::nullopt;
  if (static_cast<int>(l.stages.size()) != l.virtual_stages())
    return fmt::format("stages={} has {} stages, pp·vpp={}·{}; it must have {}",
                       stages_text(l.stages), l.stages.size(), l.pp, l.vpp, l.virtual_stages());
  const int held = std::accumulate(l.stages.begin(), l.stages.end(), 0);
  if (held == c.model.layers) return std::nullopt;
  return fmt::format("stages={} hold {} layers, {} has {}; they must hold {}",
                     stages_text(l.stages), held, c.model.name, c.model.layers, c.model.layers);
}

// Each rank runs a group of micro-batches through its first chunk, then through the next; the next
// chunk's input must be there by then.
Broken micro_batches_fill_vpp(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.vpp == 1 || l.schedule == PipelineOrder::looped_bfs) return std::nullopt;
  const std::int64_t m = l.micro_batches(c.workload.global_batch);
  if (in_a_v(l.schedule)) {
    if (l.vpp_group != 0)
      return fmt::format("vpp_group={} with schedule={}, which has no groups; leave it out",
                         l.vpp_group, name_of(l.schedule));
    if (l.schedule != PipelineOrder::dualpipe_v || m >= 2 * l.pp) return std::nullopt;
    return fmt::format("{} micro-batches with schedule={} and pp={}; there must be 2·pp={} or more",
                       m, name_of(l.schedule), l.pp, 2 * l.pp);
  }
  const std::int64_t group = l.vpp_group == 0 ? l.pp : l.vpp_group;
  if (l.vpp_group == 0 && m % l.pp != 0)
    return fmt::format(
        "{} micro-batches with vpp={} and pp={}; pp must divide them, or choose a "
        "vpp_group",
        m, l.vpp, l.pp);
  if (group < l.pp || group > m)
    return fmt::format("vpp_group={}; it may be from pp={} to the {} micro-batches", group, l.pp,
                       m);
  if (m % group == 0 || m % group >= l.pp) return std::nullopt;
  return fmt::format(
      "{} micro-batches in groups of {} leave {}; none or at least pp={} may be left", m, group,
      m % group, l.pp);
}

Broken recomputed_parts_exist(const RuleContext& c) {
  const RecomputeDetail& d = c.layout.recompute_detail;
  if (!c.model.has_moe() && (d.has(RecomputeModule::moe) || d.has(RecomputeModule::moe_act)))
    return fmt::format("recompute={}, but {} has no experts; leave moe and moe_act out",
                       to_text(c.layout.recompute, d), c.model.name);
  if (d.has(RecomputeModule::shared_experts) &&
      (!c.model.has_moe() || c.model.moe->shared_width == 0))
    return fmt::format("recompute={}, but {} has no shared expert; leave shared_experts out",
                       to_text(c.layout.recompute, d), c.model.name);
  if (!any_layer(c.model, false) && d.has(RecomputeModule::mlp))
    return fmt::format("recompute={}, but {} has no dense layers; leave mlp out",
                       to_text(c.layout.recompute, d), c.model.name);
  if (d.layers <= c.model.layers) return std::nullopt;
  return fmt::format("recompute={}, but {} has {} layers; choose at most that many",
                     to_text(c.layout.recompute, d), c.model.name, c.model.layers);
}

Broken up_projections_are_latent(const RuleContext& c) {
  const RecomputeDetail& d = c.layout.recompute_detail;
  if (!d.has(RecomputeModule::mla_up_proj) || c.model.attention.kind == AttentionKind::latent)
    return std::nullopt;
  return fmt::format("recompute={}, but {} has no latent attention; leave mla_up_proj out",
                     to_text(c.layout.recompute, d), c.model.name);
}

Broken batch_divides(const RuleContext& c) {
  const std::int64_t together = c.layout.micro_batch * c.layout.dp;
  if (c.workload.global_batch % together == 0) return std::nullopt;
  return fmt::format("mbs·dp={}·{} does not divide the global batch {}; mbs·dp may be {}",
                     c.layout.micro_batch, c.layout.dp, c.workload.global_batch,
                     divisors_of(c.workload.global_batch));
}

Broken positions_cover_sequence(const RuleContext& c) {
  if (!c.model.learned_positions || c.workload.seq_length <= c.model.max_positions) {
    return std::nullopt;
  }
  return fmt::format("sequences of {} tokens, but {} has {} learned positions; choose at most {}",
                     c.workload.seq_length, c.model.name, c.model.max_positions,
                     c.model.max_positions);
}

// Without replicas ZeRO-1 is ZeRO-0.
Broken zero_needs_runtime(const RuleContext& c) {
  const Layout& l = c.layout;
  if (c.runtime == nullptr || c.runtime->zero[static_cast<std::size_t>(l.zero)] ||
      (l.zero == 1 && l.dp_cp() == 1))
    return std::nullopt;
  std::string can;
  for (std::size_t stage = 0; stage < c.runtime->zero.size(); ++stage)
    if (c.runtime->zero[stage]) can += fmt::format("{}{}", can.empty() ? "" : ", ", stage);
  return fmt::format("zero={}, which the runtime {} cannot run; zero may be {}", l.zero,
                     c.runtime->name, can);
}

Broken tp_needs_runtime(const RuleContext& c) {
  if (c.layout.tp == 1 || c.runtime == nullptr || c.runtime->tensor_parallel) return std::nullopt;
  return fmt::format("tp={}, which the runtime {} cannot run; tp must be 1", c.layout.tp,
                     c.runtime->name);
}

Broken sp_needs_runtime(const RuleContext& c) {
  if (!c.layout.sp || c.runtime == nullptr || c.runtime->sequence_parallel) return std::nullopt;
  return fmt::format("sp=1, which the runtime {} cannot run; sp must be 0", c.runtime->name);
}

Broken model_needs_runtime(const RuleContext& c) {
  if (c.runtime == nullptr) return std::nullopt;
  const bool eager = c.runtime->kernels == Kernels::torch_eager;
  const AttentionSpec& a = c.model.attention;
  const char* lacks = nullptr;
  if (c.model.has_moe() && !c.runtime->experts) lacks = "experts";
  if (eager && a.kind == AttentionKind::latent) lacks = "latent attention";
  if (eager && (a.window > 0 || a.sinks || a.both_ways))
    lacks = "attention that is not plain and causal";
  if (eager && c.model.mtp_modules > 0) lacks = "multi-token prediction";
  if (eager && c.model.embedding_width > 0) lacks = "a narrow embedding";
  if (eager && bytes_of(c.workload.precision) != operand_bytes(c.workload.precision))
    lacks = "8-bit products";
  if (lacks == nullptr) return std::nullopt;
  return fmt::format("{} has {}, which the runtime {} cannot run", c.model.name, lacks,
                     c.runtime->name);
}

// torch.distributed.pipelining alone (messages_apart) runs stages that FSDP2 has sharded. Gradients
// wait there for the last micro-batch: without sharded parameters that is ZeRO-1.
Broken sharding_needs_one_stage(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.zero < 2 || l.pp == 1) return std::nullopt;
  const bool runs = c.runtime == nullptr || (c.runtime->messages_apart && c.runtime->zero[3]);
  if (l.zero == 3 && runs) return std::nullopt;
  return fmt::format("zero={} with pp={}{}; choose zero={}, or pp=1", l.zero, l.pp,
                     runs ? "" : " and the runtime " + c.runtime->name,
                     runs ? "3 (reshard=0 keeps parameters)" : "0 or 1");
}

Broken sharding_needs_replicas(const RuleContext& c) {
  if (c.layout.zero < 2 || c.layout.dp_cp() > 1) return std::nullopt;
  return fmt::format("zero={} with dp·cp=1, where there is nothing to share; choose zero=0 or 1",
                     c.layout.zero);
}

Broken kept_parameters_need_sharding(const RuleContext& c) {
  if (c.layout.reshard || c.layout.zero == 3) return std::nullopt;
  return fmt::format("reshard=0 with zero={}; leave it out or choose zero=3", c.layout.zero);
}

Broken replicate_needs_sharding(const RuleContext& c) {
  if (c.layout.replicate == 1 || c.layout.zero > 0) return std::nullopt;
  return fmt::format("replicate={} with zero=0; leave it out or choose zero=1 to 3",
                     c.layout.replicate);
}

Broken replicate_needs_runtime(const RuleContext& c) {
  if (c.layout.replicate == 1 || c.runtime == nullptr || c.runtime->replicates_shards)
    return std::nullopt;
  return fmt::format("replicate={}, which the runtime {} cannot run; replicate must be 1",
                     c.layout.replicate, c.runtime->name);
}

// A copy of the dense part is sharded: replicate = dp·cp would be zero=0.
Broken replicate_divides(const RuleContext& c) {
  const Layout& l = c.layout;
  if (l.replicate == 1) return std::nullopt;
  if (l.dp_cp() % l.replicate != 0 || l.dp_cp() == l.replicate)
    return fmt::format("replicate={} of dp·cp={} ranks; it must divide them and leave several",
                       l.replicate, l.dp_cp());
  if (!c.model.has_moe()) return std::nullopt;
  return must_divide("replicate", l.replicate, "replicas of an expert", l.expert_dp());
}

Broken ctas_are_measured_settings(const RuleContext& c) {
  constexpr int kMost = 32;
  for (std::size_t g = 0; g < c.layout.ctas.size(); ++g) {
    if (static_cast<CommGroup>(g) == CommGroup::ep && c.layout.dispatcher == Dispatcher::deepep)
      continue;  // no NCCL there (dispatcher_rules.cpp)
    const int ctas = c.layout.ctas[g];
    const bool power_of_two = (ctas & (ctas - 1)) == 0;
    if (ctas == 0 || (power_of_two && ctas > 0 && ctas <= kMost)) continue;
    return fmt::format("ctas={} for {}; CTAs may be 1, 2, 4, 8, 16, 32", ctas,
                       name_of(static_cast<CommGroup>(g)));
  }
  return std::nullopt;
}

Broken tp_overlap_needs_sp(const RuleContext& c) {
  if (!c.layout.tp_overlap || c.layout.sp) return std::nullopt;
  return "tp_overlap=1 with sp=0; choose sp=1, or leave tp_overlap out";
}

Broken tp_overlap_needs_runtime(const RuleContext& c) {
  if (!c.layout.tp_overlap || c.runtime == nullptr || c.runtime->overlaps_tp) return std::nullopt;
  return fmt::format("tp_overlap=1, which the runtime {} cannot run; leave it out",
                     c.runtime->name);
}

Broken tp_overlap_needs_one_node(const RuleContext& c) {
  if (!c.layout.tp_overlap || c.devices_per_node == 0 || c.devices_per_node % c.layout.tp == 0)
    return std::nullopt;
  return fmt::format(
      "tp_overlap=1 with tp={} on nodes of {} devices; tp must divide them, or leave tp_overlap "
      "out",
      c.layout.tp, c.devices_per_node);
}

// Its projections from and to the latents have no buffers, and Megatron-Core then turns the overlap
// off for all that is built afterwards.
Broken tp_overlap_excludes_latent_attention(const RuleContext& c) {
  if (!c.layout.tp_overlap || c.model.attention.kind != AttentionKind::latent) return std::nullopt;
  return fmt::format("tp_overlap=1, but {} has latent attention; leave it out", c.model.name);
}

Broken tp_overlap_cuts_rows(const RuleContext& c) {
  if (!c.layout.tp_overlap) return std::nullopt;
  const std::int64_t rows = c.workload.seq_length / c.layout.cp * c.layout.micro_batch;
  if (rows % kOverlapSplits == 0) return std::nullopt;
  return fmt::format(
      "tp_overlap=1 with {} tokens of a micro-batch on a rank, of which there are {} parts; leave "
      "it out",
      rows, kOverlapSplits);
}

constexpr std::array kRules{
    LayoutRule{"tp·cp·pp divides devices",
               "Megatron-Core 0.20, megatron/training/arguments.py, validate_args",
               mesh_fills_devices, true},
    LayoutRule{"ep needs experts",
               "Megatron-Core 0.20, transformer_config.py, TransformerConfig.__post_init__",
               ep_needs_experts, true},
    LayoutRule{"etp needs experts", "steploom: Megatron-Core ignores etp in dense models",
               etp_needs_experts, true},
    LayoutRule{"etp·ep·pp divides devices",
               "Megatron-Core 0.20, parallel_state.py, initialize_model_parallel",
               expert_mesh_divides_devices, true},
    LayoutRule{"ep divides experts",
               "Megatron-Core 0.20, megatron/training/arguments.py, validate_args",
               ep_divides_experts, true},
    LayoutRule{"tp divides heads",
               "Megatron-Core 0.20, transformer_config.py, TransformerConfig.__post_init__",
               tp_divides_heads, true},
    LayoutRule{"tp divides key-value heads",
               "Megatron-Core 0.20, transformer_config.py, TransformerConfig.__post_init__",
               tp_divides_kv_heads, true},
    LayoutRule{"tp divides feed-forward width",
               "Megatron-Core 0.20, tensor_parallel/layers.py, ColumnParallelLinear",
               tp_divides_ffn, true},
    LayoutRule{"tp divides shared expert width",
               "Megatron-Core 0.20, tensor_parallel/layers.py, ColumnParallelLinear",
               tp_divides_shared_expert, true},
    LayoutRule{"tp divides prediction width",
               "Megatron-Core 0.20, tensor_parallel/layers.py, ColumnParallelLinear",
               tp_divides_prediction, true},
    LayoutRule{"etp divides expert width",
               "Megatron-Core 0.20, tensor_parallel/layers.py, ColumnParallelLinear",
               etp_divides_expert, true},
    LayoutRule{"expert biases need etp 1",
               "Megatron-Core 0.20, transformer_config.py, TransformerConfig.__post_init__",
               etp_excludes_expert_bias, true},
    LayoutRule{"sp needs tp",
               "Megatron-Core 0.20, model_parallel_config.py, ModelParallelConfig.__post_init__",
               sp_needs_tp, true},
    LayoutRule{"experts with tp need sp",
               "Megatron-Core 0.20, transformer/moe/moe_layer.py, MoELayer.forward",
               moe_with_tp_needs_sp, true},
    LayoutRule{"tp divides sequence",
               "Megatron-Core 0.20, tensor_parallel/mappings.py, _split_along_first_dim",
               tp_divides_sequence, true},
    LayoutRule{"model needs a runtime that has it", "steploom: Runtime::kernels, experts",
               model_needs_runtime, true},
    LayoutRule{"tp needs a runtime that has it", "steploom: Runtime::tensor_parallel",
               tp_needs_runtime, true},
    LayoutRule{"sp needs a runtime that has it", "steploom: Runtime::sequence_parallel",
               sp_needs_runtime, true},
    LayoutRule{"cp needs a runtime that has it", "steploom: Runtime::context_parallel",
               cp_needs_runtime, true},
    LayoutRule{"2·cp divides sequence",
               "Megatron-Core 0.20, megatron/training/arguments.py, validate_args",
               cp_divides_sequence, true},
    LayoutRule{"cp_comm needs cp", "steploom: without cp nothing is communicated", cp_comm_needs_cp,
               true},
    LayoutRule{"tp·cp divides heads for a2a",
               "Transformer Engine 2, attention/dot_product_attention/context_parallel.py, "
               "AttnFuncWithCPAndQKVOA2A",
               exchanged_heads_divide, true},
    LayoutRule{"windows need allgather or a2a",
               "Transformer Engine 2, attention/dot_product_attention/context_parallel.py, "
               "attn_forward_func_with_cp",
               windows_need_all_keys, true},
    LayoutRule{"latent attention needs p2p",
               "Transformer Engine 2, attention/dot_product_attention/context_parallel.py, "
               "attn_forward_func_with_cp",
               latent_attention_needs_ring, true},
    LayoutRule{"pp divides layers",
               "Megatron-Core 0.20, transformer_block.py, get_num_layers_to_build",
               pp_divides_layers},
    LayoutRule{"vpp needs pp", "Megatron-Core 0.20, megatron/training/arguments.py, validate_args",
               vpp_needs_pp},
    LayoutRule{"vpp needs a runtime that has it", "steploom: Runtime::interleaves",
               vpp_needs_runtime},
    LayoutRule{"experts of fixed capacity are whole", "steploom: models/capacity_experts.h",
               capacity_is_whole},
    LayoutRule{"schedule needs a runtime that has it", "steploom: Runtime::pipeline_orders",
               schedule_needs_runtime},
    LayoutRule{"schedule fits the chunks", "steploom: planner/pipeline_schedule.h",
               schedule_fits_chunks},
    LayoutRule{"stages hold the layers",
               "Megatron-Core 0.20, pipeline_parallel_layer_layout.py, validate_layer_layout",
               stages_hold_the_layers},
    LayoutRule{"mbs·dp divides global batch",
               "Megatron-Core 0.20, num_microbatches_calculator.py, ConstantNumMicroBatches",
               batch_divides},
    LayoutRule{"micro-batches fill the virtual pipeline",
               "Megatron-Core 0.20, pipeline_parallel/schedules.py, "
               "forward_backward_pipelining_with_interleaving",
               micro_batches_fill_vpp},
    LayoutRule{"learned positions cover sequence",
               "Megatron-Core 0.20, megatron/training/arguments.py, validate_args",
               positions_cover_sequence},
    LayoutRule{"recomputed parts exist",
               "steploom: Megatron-Core ignores modules that a model has not",
               recomputed_parts_exist},
    LayoutRule{"mla_up_proj needs latent attention",
               "Megatron-Core 0.20, transformer/transformer_config.py, __post_init__",
               up_projections_are_latent},
    LayoutRule{"zero needs a runtime that has it", "steploom: Runtime::zero", zero_needs_runtime},
    LayoutRule{"zero 2 and 3 need pp 1",
               "Megatron-Core 0.20, megatron/training/arguments.py, validate_args (torch FSDP2); "
               "DeepSpeed, runtime/pipe/engine.py (ZeRO-2 and 3); allowed by PyTorch, "
               "distributed/pipelining/stage.py, backward_maybe_with_nosync (FSDP2)",
               sharding_needs_one_stage},
    LayoutRule{"zero 2 and 3 need replicas", "steploom: one replica shards nothing",
               sharding_needs_replicas},
    LayoutRule{"reshard needs zero 3", "steploom: only gathered parameters can be kept",
               kept_parameters_need_sharding},
    LayoutRule{"replicate needs zero", "steploom: without shards there is nothing to copy",
               replicate_needs_sharding},
    LayoutRule{"replicate needs a runtime that has it", "steploom: Runtime::replicates_shards",
               replicate_needs_runtime},
    LayoutRule{"replicate divides replicas",
               "Megatron-Core 0.20, parallel_state.py, initialize_model_parallel",
               replicate_divides},
    LayoutRule{
        "ctas is a power of two up to 32",
        "steploom: the settings that profiles hold; NCCL 2.28 takes minCTAs and maxCTAs up to "
        "64 (ncclConfig_t)",
        ctas_are_measured_settings},
    LayoutRule{"tp_overlap needs sp",
               "Megatron-Core 0.20, megatron/training/arguments.py, validate_args",
               tp_overlap_needs_sp},
    LayoutRule{"tp_overlap needs a runtime that has it", "steploom: Runtime::overlaps_tp",
               tp_overlap_needs_runtime},
    LayoutRule{"tp_overlap needs tp in a node",
               "Transformer Engine 2, pytorch/module/base.py, initialize_ub: one NVLink domain",
               tp_overlap_needs_one_node},
    LayoutRule{"tp_overlap excludes latent attention",
               "Megatron-Core 0.20, extensions/transformer_engine.py, TELinear.__init__",
               tp_overlap_excludes_latent_attention},
    LayoutRule{"tp_overlap cuts the rows in 4",
               "Transformer Engine 2, pytorch/module/base.py, initialize_ub: num_splits",
               tp_overlap_cuts_rows},
};

}  // namespace

std::span<const LayoutRule> layout_rules() {
  static const std::vector<LayoutRule> all = [] {
    std::vector<LayoutRule> rules(kRules.begin(), kRules.end());
    for (const std::span<const LayoutRule> more : {overlap_rules(), dispatcher_rules()})
      rules.insert(rules.end(), more.begin(), more.end());
    return rules;
  }();
  return all;
}

std::optional<Refusal> refuse_mesh(const RuleContext& context) {
  for (const LayoutRule& rule : kRules) {
    if (!rule.of_mesh) break;
    if (auto message = rule.broken(context)) return Refusal{rule.name, *std::move(message)};
  }
  return std::nullopt;
}

std::optional<Refusal> refuse(const RuleContext& context) {
  for (const LayoutRule& rule : layout_rules()) {
    if (auto message = rule.broken(context)) return Refusal{rule.name, *std::move(message)};
  }
  return std::nullopt;
}

}  // namespace steploom
