#include "models/chunk_builder.h"

#include <cassert>
#include <limits>
#include <utility>

#include "models/added_gradients.h"
#include "models/chunk_parts.h"
#include "models/dropout.h"
#include "models/eager_kernels.h"
#include "models/emitter.h"
#include "models/graph_rewriter.h"
#include "models/offloaded_experts.h"
#include "models/operands.h"
#include "models/parameters.h"
#include "models/step_parts.h"

namespace steploom {

TensorId attention_part(Emitter& out, int layer, TensorId x, LayerSaved& saved) {
  out.set_layer(layer);
  saved.input = x;
  const TensorId attended = attention_forward(out, x, saved.attention);
  return add_branch(out, kAttentionSum, x, attended, saved.attention_mask);
}

TensorId ffn_part(Emitter& out, int layer, TensorId middle, LayerSaved& saved) {
  const BuildContext& c = out.c;
  out.set_layer(layer);
  saved.middle = middle;
  saved.normed = out.norm(kFeedForwardNorm, c.shard, c.model.hidden, middle, saved.norm);
  const TensorId y = c.model.is_moe(layer)
                         ? moe_forward(out, saved.normed, saved.moe)
                         : ffn_forward(out, "ffn", saved.normed, c.model.dense.width,
                                       c.model.dense.gated, saved.dense);
  return add_branch(out, "ffn residual", middle, y, saved.ffn_mask);
}

TensorId layer_forward(Emitter& out, int layer, TensorId x, LayerSaved& saved) {
  return ffn_part(out, layer, attention_part(out, layer, x, saved), saved);
}

void layer_again(Emitter& out, int layer, LayerSaved& saved) {
  out.set_recompute(true);
  const TensorId input = saved.input;
  saved = LayerSaved{};
  layer_forward(out, layer, input, saved);
  out.set_recompute(false);
}

TensorId ffn_part_backward(Emitter& out, int layer, TensorId dy, const LayerSaved& saved) {
  const BuildContext& c = out.c;
  const std::int64_t h = c.model.hidden;
  out.set_layer(layer);
  const TensorId d_branch = branch_gradient(out, "ffn dropout", dy, saved.ffn_mask);
  TensorId d = c.model.is_moe(layer) ? moe_backward(out, d_branch, saved.normed, saved.moe)
                                     : ffn_backward(out, "ffn", d_branch, c.model.dense.width,
                                                    c.model.dense.gated, saved.dense);
  d = out.norm_backward(kFeedForwardNorm, c.shard, h, d, saved.middle, saved.norm);
  return out.stream("ffn residual", OpKind::residual, Phase::data_grad, c.shard, 2 * h, h, {dy, d});
}

TensorId attention_part_backward(Emitter& out, int layer, TensorId d_middle,
                                 const LayerSaved& saved) {
  const BuildContext& c = out.c;
  const std::int64_t h = c.model.hidden;
  out.set_layer(layer);
  const TensorId d = attention_backward(
      out, branch_gradient(out, "attention dropout", d_middle, saved.attention_mask),
      saved.attention);
  return out.stream(kAttentionSum, OpKind::residual, Phase::data_grad, c.shard, 2 * h, h,
                    {d_middle, d});
}

TensorId layer_backward(Emitter& out, int layer, TensorId dy, const LayerSaved& saved) {
  return attention_part_backward(out, layer, ffn_part_backward(out, layer, dy, saved), saved);
}

namespace {

std::int64_t local_vocab(const BuildContext& c) {
  return padded_vocab(c.model.vocab, c.layout.tp) / c.layout.tp;
}

}  // namespace

TensorId lookup_forward(Emitter& out, int tables) {
  const BuildContext& c = out.c;
  const std::int64_t w = c.model.table_width();
  const TensorId x = out.tensor("embedding", c.tokens * w * c.e);
  out.op("embedding",
         streaming(OpKind::embedding, Phase::forward, c.work.precision, c.tokens, w,
                   c.tokens * w * c.e * (1 + tables)),
         {}, {x});
  return out.reduce("embedding reduce", x, w, Phase::forward);
}

void lookup_backward(Emitter& out, TensorId dy, TensorId gradient) {
  const BuildContext& c = out.c;
  const std::int64_t w = c.model.table_width();
  const TensorId full = out.gather("embedding gradient gather", dy, w, Phase::data_grad);
  // Scatter-add of every token's gradient into the fp32 table's gradient.
  out.op("embedding",
         streaming(OpKind::embedding, Phase::weight_grad, c.work.precision, c.tokens, w,
                   c.tokens * w * (c.e + 8)),
         {full}, {gradient});
}

namespace {

// A narrow table is looked up, projected to hidden, and only then positions are added (opt).
TensorId looked_up(Emitter& out, TensorId& narrow) {
  const BuildContext& c = out.c;
  const std::int64_t h = c.model.hidden;
  if (c.model.embedding_width == 0) return lookup_forward(out, c.model.learned_positions ? 2 : 1);
  narrow = lookup_forward(out, 1);
  const TensorId x =
      out.linear("embedding projection", narrow, c.shard, h, c.model.embedding_width);
  if (!c.model.learned_positions) return x;
  return out.stream("position sum", OpKind::residual, Phase::forward, c.shard, 2 * h, h, {x});
}

TensorId embedding_forward(Emitter& out, TensorId& narrow, TensorId& mask) {
  const TensorId x = looked_up(out, narrow);
  return dropout(out, "embedding dropout", out.c.shard, out.c.model.hidden, x, mask);
}

void embedding_backward(Emitter& out, TensorId dy, TensorId narrow, TensorId mask) {
  const BuildContext& c = out.c;
  dy = branch_gradient(out, "embedding dropout", dy, mask);
  if (c.model.embedding_width > 0) {
    const std::int64_t h = c.model.hidden;
    const std::int64_t w = c.model.embedding_width;
    const TensorId dx = out.linear_data_grad("embedding projection", dy, c.shard, h, w);
    out.linear_weight_grad("embedding projection", narrow, dy, c.shard, h, w);
    dy = dx;
  }
  lookup_backward(out, dy, out.dense_gradient());
}

// The loss of m rows of v logits; returns the logarithm of each row's sum. Over slices each rank
// sums against its own maximum, so that the logits are read once.
TensorId loss(Emitter& out, TensorId logits, std::int64_t v) {
  const BuildContext& c = out.c;
  const Bytes words = c.tokens * 4;
  const auto kernel = [&](std::string_view name, std::int64_t n, Bytes bytes, Emitter::Ids reads,
                          Emitter::Ids writes) {
    out.op(name,
           streaming(OpKind::cross_entropy, Phase::forward, c.work.precision, c.tokens, n, bytes),
           reads, writes);
  };
  const TensorId log_sum = out.tensor("logit log-sum", words);
  if (c.layout.tp == 1) {
    kernel(kLoss, v, c.tokens * v * c.e, {logits}, {log_sum});
    return log_sum;
  }
  const TensorId maximum = out.tensor(kLogitMaximum, words);
  const TensorId local = out.tensor("loss of the slice", 3 * words);
  const TensorId sums = out.tensor("loss sums", 2 * words);
  const auto all_reduce = [&](std::string_view name, Bytes bytes, TensorId t) {
    out.in_place(name, OpKind::all_reduce, CommGroup::tp, StreamKind::tp, Phase::forward, bytes, t);
  };
  kernel(kLossOfSlice, v, c.tokens * v * c.e, {logits}, {maximum, local});
  all_reduce(kLogitMaximum, words, maximum);
  kernel(kLossSums, 2, 6 * words, {local, maximum}, {sums});
  all_reduce("loss sums", 2 * words, sums);
  kernel(kLossEnd, 1, 5 * words, {maximum, sums}, {log_sum});
  return log_sum;
}

}  // namespace

// Vocabulary-parallel head and loss (Megatron-LM, arXiv 1909.08053, section 3): each rank holds a
// slice of the logits; the maximum, then the target logit and the sum, are reduced over tp.
void head_forward(Emitter& out, TensorId x, HeadSaved& saved) {
  const BuildContext& c = out.c;
  const std::int64_t h = c.model.hidden;
  const std::int64_t v = local_vocab(c);
  saved.input = x;
  const std::int64_t w = c.model.table_width();
  saved.normed = c.model.final_norm ? out.norm("final norm", c.shard, h, x, saved.norm) : x;
  saved.narrow = w == h ? saved.normed : out.linear("head projection", saved.normed, c.shard, w, h);
  const TensorId full = out.gather("head input gather", saved.narrow, w, Phase::forward);
  const TensorId logits = out.linear("head", full, c.tokens, v, w);
  if (c.runtime.complete_operands) {
    saved.logits = logits;
    saved.log_sum = loss(out, logits, v);
    return;
  }
  saved.softmax = out.tensor("softmax", c.tokens * v * 4);
  out.op("cross entropy",
         streaming(OpKind::cross_entropy, Phase::forward, c.work.precision, c.tokens, v,
                   c.tokens * v * (c.e + 4)),
         {logits}, {saved.softmax});
  if (c.layout.tp > 1)
    for (const auto& [name, words] : {std::pair{"logit maximum", 1}, std::pair{"loss sums", 2}})
      out.in_place(name, OpKind::all_reduce, CommGroup::tp, StreamKind::tp, Phase::forward,
                   c.tokens * 4 * words, saved.softmax);
}

TensorId head_backward(Emitter& out, const HeadSaved& saved, bool embedding_here) {
  const BuildContext& c = out.c;
  const std::int64_t h = c.model.hidden;
  const std::int64_t w = c.model.table_width();
  const std::int64_t v = local_vocab(c);
  const bool in_place = c.runtime.complete_operands;
  const TensorId d_logits =
      in_place ? saved.logits : out.tensor("logits gradient", c.tokens * v * c.e);
  const Bytes moved = c.tokens * v * (in_place ? 2 * c.e : 4 + c.e);
  const Work gradient =
      streaming(OpKind::cross_entropy, Phase::data_grad, c.work.precision, c.tokens, v, moved);
  if (in_place)
    out.op("cross entropy", gradient, {saved.logits, saved.log_sum}, {saved.logits});
  else
    out.op("cross entropy", gradient, {saved.softmax}, {d_logits});
  const TensorId full = out.gather("head input gather", saved.narrow, w, Phase::weight_grad);
  const TensorId dx = out.linear_data_grad("head", d_logits, c.tokens, v, w);
  TensorId reduced = out.reduce("head input gradient reduce", dx, w, Phase::data_grad);
  const bool of_embedding = in_place && c.model.tied_embeddings && embedding_here;
  out.op("head", product(Phase::weight_grad, c.kept(), c.tokens, v, w), {full, d_logits},
         {out.dense_gradient_of(of_embedding ? -1 : c.model.layers)});
  if (w != h) {
    const TensorId wide = out.linear_data_grad("head projection", reduced, c.shard, w, h);
    out.linear_weight_grad("head projection", saved.normed, reduced, c.shard, w, h);
    reduced = wide;
  }
  if (!c.model.final_norm) return reduced;
  return out.norm_backward("final norm", c.shard, h, reduced, saved.input, saved.norm);
}

namespace {

TensorId receive(Emitter& out, CommGroup group, Phase phase) {
  const BuildContext& c = out.c;
  OpNode node;
  const Bytes bytes = c.shard * c.model.hidden * c.e;
  node.name = phase == Phase::forward ? "receive activations" : "receive gradients";
  node.work = communication(OpKind::send_recv, phase, bytes);
  node.group = group;
  node.stream = StreamKind::pp_recv;
  const TensorId x = out.tensor(node.name, bytes);
  node.writes = {x};
  out.op(std::move(node));
  return x;
}

void send(Emitter& out, CommGroup group, Phase phase, TensorId x) {
  const BuildContext& c = out.c;
  OpNode node;
  node.name = phase == Phase::forward ? "send activations" : "send gradients";
  node.work = communication(OpKind::send_recv, phase, c.shard * c.model.hidden * c.e);
  node.group = group;
  node.stream = StreamKind::pp_send;
  node.reads = {x};
  out.op(std::move(node));
}

// Runs the layers of a backward pass once more where the layout says so, so that `saved` holds what
// their backward passes read.
class Recomputation {
 public:
  Recomputation(Emitter& out, const StageSpan& stage, std::vector<LayerSaved>& saved)
      : out_(out), stage_(stage), saved_(saved) {}

  // Before the backward pass of the stage's i-th layer; these come from the last to the first.
  void before(int i) {
    const Layout& l = out_.c.layout;
    if (l.recompute == Recompute::selective) {
      again([&] { modules(i); });
      return;
    }
    const RecomputeDetail& d = l.recompute_detail;
    if (l.recompute != Recompute::full ||
        (d.method == RecomputeMethod::block ? i >= d.layers : i >= done_))
      return;
    const int from = d.method == RecomputeMethod::block ? i : i / d.layers * d.layers;
    again([&] {
      TensorId x = at(from).input;
      for (int j = from; j <= i; ++j) {
        at(j) = LayerSaved{};
        x = layer_forward(out_, stage_.first_layer + j, x, at(j));
      }
    });
    done_ = from;
  }

 private:
  LayerSaved& at(int i) { return saved_[static_cast<std::size_t>(i)]; }

  template <class Emit>
  void again(const Emit& emit) {
    out_.set_recompute(true);
    emit();
    out_.set_recompute(false);
  }

  // Modules that are whole parts of a layer; core_attn and moe_act are run again inside theirs.
  void modules(int i) {
    const BuildContext& c = out_.c;
    const RecomputeDetail& d = c.layout.recompute_detail;
    const int layer = stage_.first_layer + i;
    const bool experts = c.model.is_moe(layer);
    LayerSaved& s = at(i);
    out_.set_layer(layer);
    if (d.has(RecomputeModule::layernorm)) {
      s.attention.normed =
          out_.norm("attention norm", c.shard, c.model.hidden, s.input, s.attention.norm);
      s.normed = out_.norm(kFeedForwardNorm, c.shard, c.model.hidden, s.middle, s.norm);
      s.dense.input = s.moe.shared.input = s.normed;
    }
    if (experts && d.has(RecomputeModule::moe)) {
      s.moe = {};
      moe_forward(out_, s.normed, s.moe);
    } else if (!experts && d.has(RecomputeModule::mlp)) {
      s.dense = {};
      ffn_forward(out_, "ffn", s.normed, c.model.dense.width, c.model.dense.gated, s.dense);
    }
  }

  Emitter& out_;
  const StageSpan& stage_;
  std::vector<LayerSaved>& saved_;
  int done_ = std::numeric_limits<int>::max();  // layers from here on have been run again
};

// The kernels that the runtime launches for both passes.
void as_launched(const BuildContext& c, Chunk& chunk) {
  if (c.runtime.kernels == Kernels::torch_eager) eager_kernels(c, chunk);
  if (c.runtime.adds_gradients) chunk.backward = with_fresh_gradients(chunk.backward);
}

// Forward and backward passes; `adds_gradients` to those of earlier micro-batches; `before` holds
// the tables of the rank's chunks so far.
Chunk build_passes(const BuildContext& c, const StageSpan& stage, const Chunk& before,
                   bool adds_gradients) {
  const ModelSpec& m = c.model;
  Chunk chunk;
  chunk.tensors = before.tensors;
  chunk.gradients = before.gradients;
  std::vector<LayerSaved> saved(static_cast<std::size_t>(stage.layers));
  const auto layer_at = [&](int i) { return stage.first_layer + i; };
  const auto saved_at = [&](int i) -> LayerSaved& { return saved[static_cast<std::size_t>(i)]; };
  HeadSaved head;
  TensorId narrow = kNoTensor;
  TensorId embedding_mask = kNoTensor;
  std::vector<MtpSaved> modules(stage.head ? static_cast<std::size_t>(m.mtp_modules) : 0);

  Emitter f(c, chunk, chunk.forward);
  TensorId x = stage.embedding ? embedding_forward(f, narrow, embedding_mask)
               : stage.handed  ? before.handed_on
                               : receive(f, CommGroup::pp_forward_in, Phase::forward);
  for (int i = 0; i < stage.layers; ++i) x = layer_forward(f, layer_at(i), x, saved_at(i));
  f.set_layer(m.layers);
  if (stage.head) {
    head_forward(f, x, head);
    mtp_forward(f, x, modules);
  }
  if (stage.sends) send(f, CommGroup::pp_forward_out, Phase::forward, x);
  if (stage.hands_on) chunk.handed_on = x;

  Emitter b(c, chunk, chunk.backward);
  const TensorId d_modules = mtp_backward(b, modules, stage.has_embedding_table());
  b.set_layer(m.layers);
  if (stage.hands_on)
    chunk.handed_back = b.tensor("gradient of what was handed on", c.shard * m.hidden * c.e);
  TensorId dy = stage.head       ? head_backward(b, head, stage.has_embedding_table())
                : stage.hands_on ? chunk.handed_back
                                 : receive(b, CommGroup::pp_backward_in, Phase::data_grad);
  if (d_modules != kNoTensor)
    dy = b.stream("prediction gradient sum", OpKind::residual, Phase::data_grad, c.shard,
                  2 * m.hidden, m.hidden, {dy, d_modules});
  Recomputation recomputation(b, stage, saved);
  for (int i = stage.layers - 1; i >= 0; --i) {
    recomputation.before(i);
    dy = layer_backward(b, layer_at(i), dy, saved_at(i));
  }
  b.set_layer(-1);
  if (stage.embedding) embedding_backward(b, dy, narrow, embedding_mask);
  if (stage.receives) send(b, CommGroup::pp_backward_out, Phase::data_grad, dy);
  if (stage.handed) chunk.backward = renamed(chunk.backward, dy, before.handed_back);

  as_launched(c, chunk);
  if (adds_gradients) chunk.backward = with_gradient_sums(c, chunk.backward);

  if (c.layout.zero == 3) gather_parameters(c, stage, chunk);
  if (c.layout.zero > 1)
    shard_gradients(c, stage, chunk);
  else
    chunk.last_backward = with_gradient_buckets(c, stage, chunk, chunk.backward);
  if (c.layout.offload == Offload::experts) offload_experts(c, stage, chunk);
  if (c.layout.zero != 3)
    chunk.first_forward = with_parameter_gathers(c, stage, chunk, chunk.forward);
  return chunk;
}

}  // namespace

namespace {

// What is not a product is computed and stored in another precision.
Workload stored_workload(Workload w) {
  w.precision = stored_precision(w.precision);
  return w;
}

BuildContext context(const ModelSpec& m, const Workload& w, const Workload& stored, const Layout& l,
                     const Runtime& r) {
  const std::int64_t tokens = tokens_of_rank(w, l);
  return {m,          stored, l, r, tokens, l.sp ? tokens / l.tp : tokens, bytes_of(w.precision),
          w.precision};
}

}  // namespace

std::int64_t tokens_of_rank(const Workload& w, const Layout& l) {
  return w.seq_length / l.cp * l.micro_batch;
}

namespace {

std::vector<Chunk> chunks_of(const BuildContext& c, const std::vector<StageSpan>& spans,
                             bool adds_gradients) {
  std::vector<Chunk> chunks;
  for (const StageSpan& span : spans)
    chunks.push_back(
        build_passes(c, span, chunks.empty() ? Chunk{} : chunks.back(), adds_gradients));
  chunks.back().optimizer = optimizer_graph(c, spans, chunks.back());
  if (c.runtime.kernels == Kernels::torch_eager) eager_optimizer(c, spans, chunks.back());
  return chunks;
}

}  // namespace

std::vector<Chunk> build_chunks(const ModelSpec& m, const Workload& w, const Layout& l,
                                const Runtime& r, const std::vector<StageSpan>& spans) {
  const Workload stored = stored_workload(w);
  return chunks_of(context(m, w, stored, l, r), spans,
                   r.adds_gradients && l.micro_batches(w.global_batch) > 1);
}

Chunk build_part(const ModelSpec& m, const Workload& w, const Layout& l, const Runtime& r,
                 int layer, LayerPart part) {
  const Workload stored = stored_workload(w);
  const BuildContext c = context(m, w, stored, l, r);
  const bool attention = part == LayerPart::attention;
  Chunk chunk;
  LayerSaved saved;
  Emitter f(c, chunk, chunk.forward);
  const TensorId x = receive(f, CommGroup::pp_forward_in, Phase::forward);
  send(f, CommGroup::pp_forward_out, Phase::forward,
       attention ? attention_part(f, layer, x, saved) : ffn_part(f, layer, x, saved));
  Emitter b(c, chunk, chunk.backward);
  const TensorId dy = receive(b, CommGroup::pp_backward_in, Phase::data_grad);
  send(b, CommGroup::pp_backward_out, Phase::data_grad,
       attention ? attention_part_backward(b, layer, dy, saved)
                 : ffn_part_backward(b, layer, dy, saved));
  as_launched(c, chunk);
  return chunk;
}

Chunk build_chunk(const ModelSpec& m, const Workload& w, const Layout& l, const Runtime& r,
                  const StageSpan& stage) {
  const Workload stored = stored_workload(w);
  return std::move(chunks_of(context(m, w, stored, l, r), {stage}, false).front());
}

}  // namespace steploom
