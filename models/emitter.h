// Writing a block of a Chunk operator by operator: the builder's pen.
//
// An Emitter appends to one OpGraph and shares the chunk's tensor table with its siblings. Reading
// a tensor that the same graph wrote makes an edge; reading one of another graph (a saved
// activation) makes none: order between blocks is the lowering's affair. Sizes are on one rank.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "models/chunk_builder.h"
#include "models/shapes.h"

namespace steploom {

// One fp32 number a row that the backward pass needs; kNoTensor without complete operands.
struct NormSaved {
  TensorId scale = kNoTensor;
  TensorId mean = kNoTensor;  // LayerNorm only
};

// What every part of the builder needs to know.
struct BuildContext {
  const ModelSpec& model;
  const Workload& work;
  const Layout& layout;
  const Runtime& runtime;
  std::int64_t tokens = 0;  // of a micro-batch on a context-parallel rank: all of it / cp
  std::int64_t shard = 0;   // tokens in the sequence-parallel region: tokens / tp, or tokens
  Bytes e = 2;              // bytes an activation element
  Precision products = Precision::bf16;  // work.precision is that of everything else

  // Of attention, routers and heads, which stay out of fp8, as in Megatron-Core: experts are routed
  // in the activations' precision or above, and the output layer is none of Transformer Engine's.
  Precision kept() const { return products == Precision::tf32 ? products : work.precision; }
};

class Emitter {
 public:
  using Ids = std::initializer_list<TensorId>;

  Emitter(const BuildContext& context, Chunk& chunk, OpGraph& graph, bool recompute = false)
      : c(context), chunk_(chunk), graph_(graph), recompute_(recompute) {}

  const BuildContext& c;

  void set_layer(int layer) { layer_ = layer; }
  int layer() const { return layer_; }
  void set_recompute(bool again) { recompute_ = again; }
  // Operators from here on are one of so many equal parts of a whole.
  void set_parts(int parts) { parts_ = parts; }
  // Communication from here on is direct, as OpNode has it.
  void set_direct(bool direct) { direct_ = direct; }
  // Operators and tensors from here on have as many rows as routing brings to this rank.
  void set_routed(bool routed) { routed_ = routed; }
  // But this tensor: its rows have come home, one for every choice of the rank's own tokens.
  void at_home(TensorId t) { chunk_.tensors[owner_of(chunk_.tensors, t)].routed = -1; }

  TensorId tensor(std::string_view name, Bytes bytes, TensorScope scope = TensorScope::micro_batch);
  // The same as `parts` equal slices, each a tensor too; returns the whole.
  TensorId sliced(std::string_view name, Bytes bytes, int parts,
                  TensorScope scope = TensorScope::micro_batch);
  OpId op(std::string_view name, const Work& work, Ids reads, Ids writes);
  OpId op(OpNode node);  // fills layer and recompute, adds edges; kNoTensor is left out
  // A tensor that only complete operands name; kNoTensor for other runtimes.
  TensorId side(std::string_view name, Bytes bytes);

  // Kernels with one output, which is returned. Products are named after their weight.
  TensorId linear(std::string_view name, TensorId x, std::int64_t m, std::int64_t n,
                  std::int64_t k);
  TensorId linear_data_grad(std::string_view name, TensorId dy, std::int64_t m, std::int64_t n,
                            std::int64_t k);
  // In fp8 the operand of a product, m rows of width n, is first cast, both as it is and transposed
  // for the backward pass; in other precisions it is the tensor itself.
  TensorId narrowed(std::string_view product, Phase phase, TensorId x, std::int64_t m,
                    std::int64_t n);
  // Where the gradients of the current layer accumulate.
  TensorId dense_gradient() { return gradient(layer_, false); }
  TensorId expert_gradient() { return gradient(layer_, true); }
  TensorId dense_gradient_of(int layer) { return gradient(layer, false); }

  void linear_weight_grad(std::string_view name, TensorId x, TensorId dy, std::int64_t m,
                          std::int64_t n, std::int64_t k);
  // LayerNorm or RMSNorm of m rows of n, as the model has it, and its backward pass.
  TensorId norm(std::string_view name, std::int64_t m, std::int64_t n, TensorId x,
                NormSaved& saved);
  TensorId norm_backward(std::string_view name, std::int64_t m, std::int64_t n, TensorId dy,
                         TensorId x, const NormSaved& saved);
  // `m` rows; reads and writes these many elements a row in all.
  TensorId stream(std::string_view name, OpKind kind, Phase phase, std::int64_t m,
                  std::int64_t read_width, std::int64_t write_width, Ids reads);

  // Tensor-parallel regions (Megatron-LM, arXiv 2205.05198, section 4.2.2). `width` elements a row.
  // With sp: all-gather the sequence shards, or reduce-scatter partial sums; without: nothing, or
  // all-reduce in place. tp = 1: nothing.
  TensorId gather(std::string_view name, TensorId shard, std::int64_t width, Phase phase);
  TensorId reduce(std::string_view name, TensorId full, std::int64_t width, Phase phase);

  // A collective with a fresh output of `out` bytes; `bytes` as nccl-tests counts.
  TensorId collective(std::string_view name, OpKind kind, CommGroup group, StreamKind stream,
                      Phase phase, Bytes bytes, Bytes out, TensorId input);
  // The same into `output`.
  void collective_into(TensorId output, std::string_view name, OpKind kind, CommGroup group,
                       StreamKind stream, Phase phase, Bytes bytes, TensorId input);
  // In place: the tensor is its own output.
  void in_place(std::string_view name, OpKind kind, CommGroup group, StreamKind stream, Phase phase,
                Bytes bytes, TensorId tensor);

 private:
  TensorId gradient(int layer, bool experts);
  Precision product_precision(std::string_view name) const;

  Chunk& chunk_;
  OpGraph& graph_;
  std::vector<std::int64_t> producer_;  // by tensor: last writer in this graph, or -1
  int layer_ = -1;
  bool recompute_ = false;
  int parts_ = 1;
  bool routed_ = false;
  bool direct_ = false;
};

// Tensors that a part's forward pass leaves for its backward pass; kNoTensor where unused.
struct AttentionSaved {
  TensorId input = kNoTensor, normed = kNoTensor, qkv = kNoTensor, out = kNoTensor;
  TensorId log_sum = kNoTensor;
  TensorId heads_qkv = kNoTensor, heads_out = kNoTensor;  // all tokens of some heads, exchanged
  TensorId softmax = kNoTensor, dropped = kNoTensor, dropout_mask = kNoTensor;  // unfused
  NormSaved norm;
  TensorId q_down = kNoTensor, q_latent = kNoTensor;    // MLA: before and after the latent's norm
  TensorId kv_down = kNoTensor, kv_latent = kNoTensor;  // MLA: likewise, gathered over tp
};
struct FfnSaved {
  TensorId input = kNoTensor, hidden = kNoTensor, activated = kNoTensor;
};
// Rows at the experts, chunk by chunk.
struct ExpertRows {
  TensorId rows = kNoTensor, hidden = kNoTensor, activated = kNoTensor;
};
struct MoeSaved {
  TensorId scores = kNoTensor;  // without complete operands
  TensorId chosen = kNoTensor, weight = kNoTensor, position = kNoTensor, source = kNoTensor;
  TensorId wide = kNoTensor, mask = kNoTensor, places = kNoTensor;  // capacity_experts.cpp
  std::vector<ExpertRows> chunks;
  TensorId back = kNoTensor;  // the experts' outputs, home again
  FfnSaved shared;
  TensorId shared_out = kNoTensor, shared_gate = kNoTensor;  // before the gate; its logit
};
struct LayerSaved {
  TensorId input = kNoTensor;  // x
  AttentionSaved attention;
  TensorId middle = kNoTensor;  // x + attention
  NormSaved norm;
  TensorId normed = kNoTensor;  // input of the feed-forward part, after its norm
  FfnSaved dense;
  MoeSaved moe;
  TensorId attention_mask = kNoTensor, ffn_mask = kNoTensor;  // of their dropout
};

// Forward: input and output lie in the sequence-parallel region, `shard` rows of hidden.
TensorId attention_forward(Emitter& out, TensorId x, AttentionSaved& saved);
TensorId ffn_forward(Emitter& out, std::string_view name, TensorId normed, std::int64_t width,
                     bool gated, FfnSaved& saved);
TensorId shared_expert_forward(Emitter& out, TensorId normed, MoeSaved& saved);
TensorId moe_forward(Emitter& out, TensorId normed, MoeSaved& saved);

// Backward: gradient of the output in, gradient of the (normed) input out.
TensorId attention_backward(Emitter& out, TensorId dy, AttentionSaved saved);
TensorId ffn_backward(Emitter& out, std::string_view name, TensorId dy, std::int64_t width,
                      bool gated, const FfnSaved& saved);
TensorId shared_expert_backward(Emitter& out, TensorId dy, TensorId normed, MoeSaved saved);
TensorId moe_backward(Emitter& out, TensorId dy, TensorId normed, const MoeSaved& saved);

// A product of the weight `product`, k inputs and n outputs wide, and the communication over tp of
// its input or output (tp_overlap_builder.cpp). With Layout::tp_overlap a part of one is beside a
// part of the other, else they follow each other.
struct Projection {
  std::string_view product, communication;
  std::int64_t n, k;
};
// Of the gathered input; `made_in_place`: a norm wrote the shard where it is sent from.
TensorId gathered_linear(Emitter& out, const Projection& p, TensorId shard, bool made_in_place);
// Its output reduced to this rank's rows.
TensorId linear_reduced(Emitter& out, const Projection& p, TensorId x);
// Backward of the latter: the data gradient, and in `full` the gathered gradient of the output.
TensorId gathered_data_grad(Emitter& out, const Projection& p, TensorId dy, TensorId& full);
// Backward of the former: data and weight gradients from the input's shard; the input is gathered
// beside one product, the input's gradient reduced beside the other. Returns the latter.
TensorId gathered_backward(Emitter& out, const Projection& p, std::string_view reduction,
                           TensorId shard, TensorId dy);

// From saved.qkv to saved.out, and back to the gradient of q, k, v (core_attention.cpp).
void core_attention_forward(Emitter& out, const AttentionShape& shape, AttentionSaved& saved);
TensorId core_attention_backward(Emitter& out, const AttentionShape& shape, TensorId d_out,
                                 AttentionSaved saved);

// The same over context-parallel ranks, from the rank's own tokens (context_parallel_builder.cpp);
// `shape` is that of the whole sequence.
void context_attention_forward(Emitter& out, const AttentionShape& shape, AttentionSaved& saved);
TensorId context_attention_backward(Emitter& out, const AttentionShape& shape, TensorId d_out,
                                    const AttentionSaved& saved);

// Gradients and parameters over the data-parallel groups, and the optimizer (step_builder.cpp).
OpGraph with_gradient_buckets(const BuildContext& c, const StageSpan& stage, Chunk& chunk,
                              const OpGraph& backward);
OpGraph with_parameter_gathers(const BuildContext& c, const StageSpan& stage, Chunk& chunk,
                               const OpGraph& forward);
// Of all chunks of a rank; `chunk` is the last.
OpGraph optimizer_graph(const BuildContext& c, const std::vector<StageSpan>& spans, Chunk& chunk);

}  // namespace steploom
