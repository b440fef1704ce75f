#include "models/to_megatron.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "models/error.h"
#include "models/megatron_rules.h"
#include "models/parameters.h"
#include "models/stages.h"

namespace steploom {
namespace {

// A benchmark's length; whoever trains writes their own.
constexpr int kSteps = 50;

class Writer {
 public:
  Writer(const ModelSpec& m, const Workload& w, const Layout& l, const Runtime& r)
      : m_(m), w_(w), l_(l), r_(r) {}

  MegatronExport write() {
    out_.args.reading = "megatron";
    model();
    if (m_.has_moe()) experts();
    model_items();
    batch();
    parallelism();
    pipeline();
    sharding();
    recompute();
    runtime_items();
    run();
    environment();
    return std::move(out_);
  }

 private:
  void flag(std::string name) { out_.args.args.push_back({std::move(name), {}, 0}); }
  template <class T>
  void flag(std::string name, const T& value) {
    out_.args.args.push_back({std::move(name), {fmt::format("{}", value)}, 0});
  }
  void item(std::string text) { out_.not_expressed.push_back(std::move(text)); }
  void item_if(bool is, std::string text) {
    if (is) item(std::move(text));
  }

  bool has_dense() const {
    return std::find(m_.layer_is_moe.begin(), m_.layer_is_moe.end(), false) !=
           m_.layer_is_moe.end();
  }
  // The feed-forward part that --swiglu and the biases are of.
  const FfnSpec& feed_forward() const { return has_dense() ? m_.dense : m_.moe->expert; }

  void model() {
    const AttentionSpec& a = m_.attention;
    flag("num-layers", m_.layers);
    flag("hidden-size", m_.hidden);
    // Dense layers or not, the model may have a width for them.
    flag("ffn-hidden-size", m_.dense.width > 0 ? m_.dense.width : feed_forward().width);
    flag("num-attention-heads", a.heads);
    if (a.kind == AttentionKind::latent) {
      flag("multi-latent-attention");
      if (a.q_lora_rank > 0) flag("q-lora-rank", a.q_lora_rank);
      flag("kv-lora-rank", a.kv_lora_rank);
      flag("qk-head-dim", a.qk_nope_head_dim);
      flag("qk-pos-emb-head-dim", a.qk_rope_head_dim);
      flag("v-head-dim", a.v_head_dim);
    } else {
      flag("kv-channels", a.head_dim);
      if (a.kv_heads != a.heads) {
        flag("group-query-attention");
        flag("num-query-groups", a.kv_heads);
      }
      if (!a.out_bias && a.qkv_bias) flag("add-qkv-bias");
    }
    // Of latent attention it puts norms on the latents.
    if (a.qk_norm || a.kind == AttentionKind::latent) flag("qk-layernorm");
    if (feed_forward().gated) flag("swiglu");
    flag("normalization", m_.norm_bias ? "LayerNorm" : "RMSNorm");
    if (!a.out_bias) flag("disable-bias-linear");
    flag("position-embedding-type",
         a.rotary ? "rope" : (m_.learned_positions ? "learned_absolute" : "none"));
    flag("max-position-embeddings", std::max(m_.max_positions, w_.seq_length));
    if (!m_.tied_embeddings) flag("untie-embeddings-and-output-weights");
    if (m_.mtp_modules > 0) flag("mtp-num-layers", m_.mtp_modules);
    flag("tokenizer-type", "NullTokenizer");
    flag("vocab-size", m_.vocab);
    flag("padded-vocab-size", padded_vocab(m_.vocab, l_.tp));
    flag("attention-dropout", r_.dropout ? "0.1" : "0.0");
    flag("hidden-dropout", r_.dropout ? "0.1" : "0.0");
  }

  void experts() {
    const MoeSpec& moe = *m_.moe;
    flag("num-experts", moe.experts);
    flag("moe-layer-freq", expert_layers_text(m_.layer_is_moe));
    flag("moe-ffn-hidden-size", moe.expert.width);
    if (moe.shared_width > 0) {
      flag("moe-shared-expert-intermediate-size", moe.shared_width);
      if (moe.shared_gate) flag("moe-shared-expert-gate");
    }
    flag("moe-router-topk", moe.top_k);
    if (moe.groups > 1) {
      flag("moe-router-num-groups", moe.groups);
      flag("moe-router-group-topk", moe.top_groups);
    }
    if (moe.correction_bias) {
      flag("moe-router-enable-expert-bias");
      flag("moe-router-score-function", "sigmoid");
    } else if (moe.top_k == 1) {
      flag("moe-router-pre-softmax");
    }
    const bool deepep = l_.dispatcher == Dispatcher::deepep;
    flag("moe-token-dispatcher-type", deepep ? "flex" : "alltoall");
    if (deepep) {
      flag("moe-flex-dispatcher-backend", "deepep");
      if (l_.ctas_of(CommGroup::ep) > 0) flag("moe-deepep-num-sms", l_.ctas_of(CommGroup::ep));
    }
    if (w_.precision != Precision::fp16) flag("moe-grouped-gemm");
  }

  void model_items() {
    const AttentionSpec& a = m_.attention;
    item_if(a.both_ways, "attention in both directions: Megatron's GPT is causal");
    item_if(a.window > 0, fmt::format("attention in {} of {} tokens: all layers see all tokens",
                                      a.chunked ? "chunks" : "windows", a.window));
    item_if(!a.global_rotary, "layers without rotary positions: all layers have them");
    item_if(a.sinks, "attention sinks (a learned logit a head): there are none");
    item_if(a.qk_norm && !a.qk_gain, "norms of queries and keys without a gain: they have one");
    item_if(a.kind == AttentionKind::grouped_query && a.v_head_dim != a.head_dim,
            fmt::format("values {} wide a head: as wide as keys, {}", a.v_head_dim, a.head_dim));
    item_if(a.out_bias && !a.qkv_bias && a.kind == AttentionKind::grouped_query,
            "no biases on queries, keys and values: there are");
    item_if(
        feed_forward().bias != a.out_bias,
        fmt::format("{} on the feed-forward part, {} on attention's output: both as attention",
                    feed_forward().bias ? "biases" : "no biases", a.out_bias ? "biases" : "none"));
    item_if(m_.embedding_width > 0 && m_.embedding_width != m_.hidden,
            fmt::format("embeddings {} wide, projected to {}: as wide as the model",
                        m_.embedding_width, m_.hidden));
    item_if(!m_.final_norm, "no norm before the head: there is one");
    item_if(m_.learned_positions && a.rotary, "learned positions beside rotary ones: rotary alone");
    item_if(m_.unused_positions > 0,
            fmt::format("{} unused rows in the table of positions: none", m_.unused_positions));
    item_if(m_.max_positions < w_.seq_length,
            fmt::format("at most {} positions with sequences of {}: as many as the sequence",
                        m_.max_positions, w_.seq_length));
    if (!m_.has_moe()) return;
    const MoeSpec& moe = *m_.moe;
    item_if(moe.router_bias, "biases of the router's logits: there are none");
    if (!has_dense()) return;
    item_if(moe.expert.gated != m_.dense.gated,
            "gated experts beside plain dense layers, or the other way: all as the dense ones");
    item_if(moe.expert.bias != m_.dense.bias,
            "biases on experts and dense layers that differ: all as the dense ones");
  }

  void batch() {
    flag("seq-length", w_.seq_length);
    flag("micro-batch-size", l_.micro_batch);
    flag("global-batch-size", w_.global_batch);
    switch (w_.precision) {
      case Precision::bf16:
        flag("bf16");
        break;
      case Precision::fp16:
        flag("fp16");
        break;
      case Precision::fp8:
      case Precision::fp8_block:
        flag("bf16");
        flag("fp8-format", w_.precision == Precision::fp8 ? "hybrid" : "e4m3");
        flag("fp8-recipe", w_.precision == Precision::fp8 ? "tensorwise" : "blockwise");
        break;
      case Precision::fp32:
      case Precision::tf32:
        throw Error({"megatron", "precision", "bf16, fp16, fp8 or fp8_block",
                     std::string(name_of(w_.precision)), "plan with --precision bf16"});
    }
    flag("optimizer", w_.optimizer == Optimizer::sgd ? "sgd" : "adam");
    item_if(w_.optimizer == Optimizer::adamw_foreach || w_.optimizer == Optimizer::adamw_fused,
            fmt::format("optimizer {}: Megatron's fused Adam", name_of(w_.optimizer)));
    item_if(w_.routing.uneven(), fmt::format("routing {}: tokens choose experts as the router says",
                                             to_text(w_.routing)));
    item_if(m_.has_moe() && !w_.routing.uneven(),
            "balanced routing: tokens choose experts as the router says; a benchmark of the plan "
            "adds --moe-router-force-load-balancing");
  }

  void parallelism() {
    flag("tensor-model-parallel-size", l_.tp);
    flag("pipeline-model-parallel-size", l_.pp);
    if (l_.cp > 1) {
      flag("context-parallel-size", l_.cp);
      static constexpr std::array<std::string_view, 3> kTypes{"p2p", "all_gather", "a2a"};
      flag("cp-comm-type", kTypes.at(static_cast<std::size_t>(l_.cp_comm)));
    }
    if (l_.sp) flag("sequence-parallel");
    if (l_.tp_overlap) flag("tp-comm-overlap");
    if (l_.weave) flag("overlap-moe-expert-parallel-comm");
    if (l_.bucket > 0) flag("ddp-bucket-size", l_.bucket);
    if (m_.has_moe()) {
      flag("expert-model-parallel-size", l_.ep);
      flag("expert-tensor-parallel-size", l_.etp);
    }
    item_if(l_.chunks > 1,
            fmt::format("chunks={}: an expert layer's rows are exchanged and computed at once, "
                        "which takes longer than planned",
                        l_.chunks));
    item_if(l_.pairwise > 1,
            fmt::format("pairwise={}: an expert layer's rows are exchanged at once", l_.pairwise));
    item_if(l_.offload != Offload::none,
            fmt::format("offload={}: experts stay in device memory", name_of(l_.offload)));
    item_if(
        l_.schedule != PipelineOrder::one_forward_one_backward,
        fmt::format("schedule={}: passes run as 1F1B, interleaved where there are several chunks",
                    name_of(l_.schedule)));
    item_if(l_.partition.cuts(),
            fmt::format("partition={}: the forward pass runs whole", to_text(l_.partition)));
    item_if(l_.dw != WeightPlacement::none,
            fmt::format("dw={}: weight gradients run where autograd issues them", name_of(l_.dw)));
    item_if(l_.grad_micro > 0,
            fmt::format("grad_micro={}: a gradient bucket is reduced at once", l_.grad_micro));
    item_if(l_.a2a_first, "a2a_first=1: gradients are reduced beside the experts' exchanges");
    std::string ctas;
    for (std::size_t g = 0; g < l_.ctas.size(); ++g)
      if (l_.ctas[g] > 0 &&
          (static_cast<CommGroup>(g) != CommGroup::ep || l_.dispatcher == Dispatcher::alltoall))
        ctas += fmt::format("{}{} {}", ctas.empty() ? "" : ", ", name_of(static_cast<CommGroup>(g)),
                            l_.ctas[g]);
    item_if(!ctas.empty(),
            fmt::format("CTAs of the groups' collectives ({}): NCCL chooses; "
                        "--nccl-communicator-config-path takes a file of max_ctas by group",
                        ctas));
  }

  void pipeline() {
    if (!l_.stages.empty()) {
      std::string text = stages_text(l_.stages);
      if (m_.mtp_modules > 0) {  // behind the last stage's layers
        text.pop_back();
        text += std::string(static_cast<std::size_t>(m_.mtp_modules), 'm') + "L";
      }
      flag("pipeline-model-parallel-layout", text);
    } else if (l_.vpp > 1) {
      flag("num-virtual-stages-per-pipeline-rank", l_.vpp);
    }
    if (l_.vpp_group > 0) flag("microbatch-group-size-per-virtual-pipeline-stage", l_.vpp_group);
  }

  void sharding() {
    if (l_.zero >= 2) {
      flag("use-megatron-fsdp");
      flag("data-parallel-sharding-strategy", l_.zero == 2 ? "optim_grads" : "optim_grads_params");
      flag("ckpt-format", "fsdp_dtensor");
    }
    if (l_.zero >= 1) flag("use-distributed-optimizer");
    if (l_.replicate > 1) flag("num-distributed-optimizer-instances", l_.replicate);
    if (r_.overlap_grad_reduce) flag("overlap-grad-reduce");
    if (r_.overlap_grad_reduce && r_.overlap_param_gather && l_.zero >= 1)
      flag("overlap-param-gather");
    item_if(!l_.reshard, "reshard=0: Megatron-FSDP gathers parameters again for the backward pass");
  }

  void recompute() {
    if (l_.recompute == Recompute::none) return;
    flag("recompute-granularity", name_of(l_.recompute));
    const RecomputeDetail& d = l_.recompute_detail;
    if (l_.recompute == Recompute::full) {
      flag("recompute-method", d.method == RecomputeMethod::block ? "block" : "uniform");
      flag("recompute-num-layers", d.layers);
      return;
    }
    // "selective:core_attn+mlp" names them; without a list it is core_attn.
    const std::string text = to_text(l_.recompute, d);
    const std::size_t colon = text.find(':');
    MegatronArg modules{"recompute-modules", {}, 0};
    std::string list = colon == text.npos ? "core_attn" : text.substr(colon + 1);
    for (std::size_t plus; (plus = list.find('+')) != list.npos; list.erase(0, plus + 1))
      modules.values.push_back(list.substr(0, plus));
    modules.values.push_back(list);
    out_.args.args.push_back(std::move(modules));
  }

  void runtime_items() {
    if (r_.name == "megatron-core") return;
    item(
        fmt::format("runtime {}: the planned step is that runtime's; plan with --runtime "
                    "megatron-core for Megatron's",
                    r_.name));
    if (!r_.fused_attention) flag("attention-backend", "unfused");
  }

  void run() {
    flag("mock-data");
    flag("train-iters", kSteps);
    flag("lr", "1e-4");
    flag("eval-iters", 0);
    flag("log-interval", 1);
    flag("log-throughput");
  }

  void environment() {
    constexpr const char* kConnections = "CUDA_DEVICE_MAX_CONNECTIONS";
    const bool many = l_.zero >= 2 || l_.weave;
    const bool needs_one = (l_.tp > 1 || l_.cp > 1) && !many;
    int connections = r_.hardware_connections;
    if (many) connections = std::max(connections, kManyConnections);
    if (needs_one) connections = 1;
    out_.args.environment.emplace_back(kConnections, std::to_string(connections));
    item_if(connections != r_.hardware_connections && !l_.weave,
            fmt::format("{}={} as planned: {}, as Megatron asks for with {}", kConnections,
                        r_.hardware_connections, connections, needs_one ? "tp or cp" : "its FSDP"));
  }

  static constexpr int kManyConnections = 32;  // CUDA's most

  const ModelSpec& m_;
  const Workload& w_;
  const Layout& l_;
  const Runtime& r_;
  MegatronExport out_;
};

}  // namespace

std::string expert_layers_text(const std::vector<bool>& is_moe) {
  if (std::find(is_moe.begin(), is_moe.end(), false) == is_moe.end()) return "1";
  std::string text;
  for (std::size_t i = 0; i < is_moe.size();) {
    std::size_t end = i;
    while (end < is_moe.size() && is_moe[end] == is_moe[i]) ++end;
    text += fmt::format("{}[{:d}]*{}", text.empty() ? "" : "+", is_moe[i] ? 1 : 0, end - i);
    i = end;
  }
  return "(" + text + ")";
}

MegatronExport to_megatron(const ModelSpec& model, const Workload& work, const Layout& layout,
                           const Runtime& runtime) {
  MegatronExport out = Writer(model, work, layout, runtime).write();
  const MegatronRunFacts facts{out.args, layout.devices()};
  if (const MegatronRule* rule = broken_megatron_rule(facts))
    throw Error({"megatron", std::string(rule->name),
                 fmt::format("a layout that Megatron-Core takes ({})", rule->source),
                 to_text(layout), "choose another row of the plan with --layout"});
  return out;
}

}  // namespace steploom
