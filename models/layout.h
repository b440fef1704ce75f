// Every decision about how a model is laid over the devices, and its text form.
//
// Text form: "tp=4,pp=2,ep=8,etp=1,mbs=1,sp=1,zero=1,recompute=none", any order, each key at most
// once; keys left out keep their defaults. "vpp=2" interleaves two model chunks a pipeline rank
// (virtual stage s on rank s mod pp; with "schedule=zb-v" and others in a V), "vpp_group=8" with so
// many micro-batches in turn on each (0: pp); "stages=Ett|tt|tL" says which layers a stage holds
// (models/stages.h), "recompute=selective" what is run again (models/recompute.h). "schedule=zb-h1"
// orders the passes otherwise than 1F1B. "chunks=4" cuts the expert part of every layer into as
// many chunks, so that one is exchanged while another is computed. "ctas=8" gives every group's
// collectives at most 8 CTAs, "ctas.tp=4" those of one group (tp, cp, ep, etp, dp, expert_dp,
// dp_outer, pp, embedding, world). "cp=2" cuts every sequence in two (context parallelism),
// "cp_comm=a2a" says how the parts attend to each other. "zero=3,reshard=0" keeps gathered
// parameters from the forward to the backward pass, "replicate=2" has two copies of what is
// sharded. "partition=4:gate:layer" runs what lies around every exchange in parts
// (models/partition.h), "dw=solved" moves weight gradients beside the backward all-to-alls,
// "bucket=10000000" says how many elements a gradient bucket has at least, "grad_micro=31457280"
// cuts one into parts of at most so many bytes, "a2a_first=1" starts none while an all-to-all runs.
// "tp_overlap=1" cuts products beside the communication of tensor parallelism, "weave=1" runs
// forward and backward passes of two micro-batches beside each other. "pairwise=4" exchanges
// experts' rows in four steps between pairs of groups of ranks, each computed when it has come;
// "offload=experts" keeps experts' parameters, gradients and optimizer state in host memory.
// "dispatcher=deepep,ctas.ep=20" exchanges experts' rows by DeepEP's kernels, on so many SMs. dp
// follows from the number of devices. Expert parallelism is folded over tp·cp·dp as
// Megatron-Core 0.20 does: it does not multiply the devices. Rank order is Megatron's
// tp-cp-ep-dp-pp: tensor parallelism innermost, pipeline outermost.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/op_graph.h"
#include "models/partition.h"
#include "models/recompute.h"

namespace steploom {

// How context-parallel ranks attend to each other's tokens (Megatron's --cp-comm-type).
enum class ContextComm : std::uint8_t {
  p2p,        // keys and values go round in a ring, a step beside the attention of the one before
  allgather,  // keys and values of all ranks are gathered before
  a2a,        // each rank gets all tokens of some heads (DeepSpeed-Ulysses)
};
std::string_view name_of(ContextComm c);  // "allgather"

// How rows go to the experts of other ranks (Megatron's --moe-token-dispatcher-type).
enum class Dispatcher : std::uint8_t {
  alltoall,  // permuted, then a row for each expert of a token, through NCCL
  deepep,    // DeepEP's kernels: a row for each rank of a token (ExpertExchange), permuted there
};
std::string_view name_of(Dispatcher d);  // "deepep"

// What lies in host memory and is copied in for its use (models/offloaded_experts.h).
enum class Offload : std::uint8_t {
  none,
  experts,  // parameters, gradients and optimizer state of the routed experts
};
std::string_view name_of(Offload o);  // "experts"

// Where the weight gradients of a backward pass run (planner/pass_weight_gradients.h).
enum class WeightPlacement : std::uint8_t {
  none,    // where autograd issues them
  lancet,  // beside the all-to-alls, by the greedy best fit of Lancet (arXiv 2404.19429)
  solved,  // by a solver that also counts gradients that come later and memory held longer
};
std::string_view name_of(WeightPlacement w);  // "solved"

// In which order a pipeline rank runs its passes (planner/pipeline_schedule.h).
enum class PipelineOrder : std::uint8_t {
  one_forward_one_backward,  // interleaved where there are several chunks a rank
  gpipe,
  looped_bfs,
  zb_h1,
  zb_h2,
  interleaved_zb,
  searched,  // the scheduler's, for the times of these stages and the device's memory
  zb_v,      // from here on stages lie in a V
  v_half,
  v_min,
  dualpipe_v,
  searched_v
};
inline constexpr int kPipelineOrders = static_cast<int>(PipelineOrder::searched_v) + 1;
std::string_view name_of(PipelineOrder o);  // "zb-h1"
// Runs weight gradients as passes of their own.
constexpr bool splits_backward(PipelineOrder o) {
  return o >= PipelineOrder::zb_h1;
}
// Of backward passes some are whole and some in two parts, or may be: what is searched may be any
// named schedule.
constexpr bool mixes_backward(PipelineOrder o) {
  return o == PipelineOrder::dualpipe_v || o == PipelineOrder::searched ||
         o == PipelineOrder::searched_v;
}
// Stages go down the ranks and up again, two a rank: rank r of p has stages r and 2p − 1 − r, so
// the first and the last are on one rank, and stages p − 1 and p too.
constexpr bool in_a_v(PipelineOrder o) {
  return o >= PipelineOrder::zb_v;
}
constexpr bool is_searched(PipelineOrder o) {
  return o == PipelineOrder::searched || o == PipelineOrder::searched_v;
}
// Of one chunk a rank; the others need several, 1F1B takes both.
constexpr bool of_one_chunk(PipelineOrder o) {
  return o == PipelineOrder::gpipe || o == PipelineOrder::zb_h1 || o == PipelineOrder::zb_h2 ||
         o == PipelineOrder::searched;
}

// Parts of a product whose output is reduce-scattered part by part (Layout::tp_overlap): the
// default of Transformer Engine 2 (pytorch/module/base.py, initialize_ub: num_splits of a
// pipeline).
inline constexpr int kOverlapSplits = 4;

struct Layout {
  int tp = 1;   // tensor parallel
  int pp = 1;   // pipeline parallel (stages)
  int ep = 1;   // expert parallel
  int etp = 1;  // expert tensor parallel; parse_layout: tp if there are experts
  int dp = 1;   // data parallel = devices / (tp·cp·pp)
  // What is sharded over the replicas of a parameter: 0: nothing; 1: optimizer state (ZeRO-1); 2:
  // gradients too, reduced as they come; 3: parameters too, gathered for each use (FSDP).
  int zero = 1;
  bool sp = false;  // sequence parallel: norms and residuals split over tp along the sequence
  std::int64_t micro_batch = 1;           // sequences a micro-batch
  Recompute recompute = Recompute::none;  // full: keep only each layer's input, run it again
  int chunks = 1;  // parts that an expert layer's rows are exchanged and computed in
  // By CommGroup: the most CTAs (SMs) that its collectives take; 0: the fastest number, measured.
  // A pipeline stage's four groups have one setting.
  std::array<int, kCommGroups> ctas{};
  int vpp = 1;                         // virtual pipeline: model chunks a pipeline rank
  int vpp_group = 0;                   // micro-batches in turn on a chunk (Megatron's
                                       // microbatch-group-size-per-virtual-pipeline-stage); 0: pp
  std::vector<int> stages{};           // layers of each virtual stage; empty: all hold the same
  RecomputeDetail recompute_detail{};  // of what `recompute` says
  int cp = 1;                          // context parallel: ranks that share a sequence
  ContextComm cp_comm = ContextComm::p2p;
  bool reshard = true;  // zero=3: parameters are gathered again for the backward pass, not kept
  // Copies of what is sharded, each over neighbouring ranks (PyTorch's hybrid sharding, Megatron's
  // num-distributed-optimizer-instances): gradients are all-reduced between them.
  int replicate = 1;
  Partition partition{};  // of the forward pass around expert layers
  WeightPlacement dw = WeightPlacement::none;
  std::int64_t bucket = 0;  // least gradient bucket, elements; 0: the runtime's own
  Bytes grad_micro = 0;     // most bytes of a gradient collective; 0: a bucket is one
  bool a2a_first = false;   // no gradient collective starts while an all-to-all runs or is due
  PipelineOrder schedule = PipelineOrder::one_forward_one_backward;
  // Products of attention and dense feed-forward parts are cut, so that a part computes while
  // another's input is gathered or its output reduced (Megatron's --tp-comm-overlap).
  bool tp_overlap = false;
  Dispatcher dispatcher = Dispatcher::alltoall;
  // A forward and a backward pass of two micro-batches run as one, so that the experts' exchanges
  // of each lie beside what the other computes (planner/weave.h).
  bool weave = false;
  // Steps of an exchange of experts' rows between pairs of groups of ranks (FasterMoE, PPoPP'22,
  // smart schedule); 1: an all-to-all. What a step brings is computed as it comes, as a chunk is.
  int pairwise = 1;
  Offload offload = Offload::none;

  int expert_parts() const { return chunks * pairwise; }  // that are computed one after the other
  int virtual_stages() const { return pp * vpp; }
  int devices() const { return tp * cp * pp * dp; }
  int dp_cp() const { return dp * cp; }  // replicas of a dense parameter
  int dp_shards() const { return dp_cp() / replicate; }
  int expert_shards() const { return expert_dp() / replicate; }
  int expert_dp() const { return devices() / (etp * ep * pp); }  // replicas of an expert
  std::int64_t micro_batches(std::int64_t global_batch) const {
    return global_batch / (micro_batch * dp);
  }
  // Equal parts of a gradient bucket, none larger than grad_micro and each in equal shares for the
  // ranks that the bucket has equal shares for; 1 where there is no such number near.
  int gradient_parts(std::int64_t elements, int ranks, Bytes each) const;
  int ctas_of(CommGroup group) const { return ctas[static_cast<std::size_t>(group)]; }
  auto operator<=>(const Layout&) const = default;  // canonical order of the search
};

// `devices` gives dp. Throws Error on an unknown key (naming the nearest), a bad value, a key given
// twice, or when devices is no multiple of tp·cp·pp. Other rules: layout_rules.h.
Layout parse_layout(std::string_view text, int devices, bool has_moe);

// "tp=1,pp=4,ep=8,etp=1,mbs=1,sp=0,zero=1,recompute=none"; parse_layout reads it back.
std::string to_text(const Layout& l);

// "tp1 pp4 ep8 dp16 zero1 sp": for people; degrees of 1 other than tp and pp are left out, as are
// CTA counts of 0, micro-batch and recompute, which tables show beside it. Uneven stages follow in
// their text form.
std::string short_name(const Layout& l);

}  // namespace steploom
