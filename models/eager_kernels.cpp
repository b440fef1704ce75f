#include "models/eager_kernels.h"

#include <map>
#include <string>
#include <utility>

#include "models/eager_costs.h"

namespace steploom {
namespace {

using Tensors = std::vector<TensorId>;

constexpr Bytes kFp32 = 4, kIndex = 8;
constexpr int kSortKernels = 24;            // of an embedding's backward
constexpr std::int64_t kFewIndices = 3072;  // up to here without sorting (Embedding.cu)

class EagerKernels {
 public:
  EagerKernels(const BuildContext& c, Chunk& chunk) : c_(c), chunk_(chunk) {}

  void rewrite(OpGraph& graph) {
    const OpGraph old = std::exchange(graph, OpGraph());
    Emitter out(c_, chunk_, graph);
    out_ = &out;
    for (OpId op = 0; op < old.size(); ++op) {
      const OpNode& node = old.node(op);
      out.set_layer(node.layer);
      out.set_recompute(node.recompute);
      one(node);
    }
  }

 private:
  // Rows and width of a tensor and what they take in the activations' precision.
  struct Shape {
    std::int64_t m = 0, n = 0;
  };
  Bytes bytes(const Shape& s) const { return s.m * s.n * c_.e; }

  void one(const OpNode& node) {
    const bool forward = node.work.phase == Phase::forward;
    switch (node.work.kind) {
      case OpKind::matmul:
        return forward                               ? product(node)
               : node.work.phase == Phase::data_grad ? input_gradient(node)
                                                     : weight_gradient(node);
      case OpKind::norm:
        if (node.name == "qk norm") return forward ? head_norms(node) : head_norms_backward(node);
        return forward ? norm(node) : norm_backward(node);
      case OpKind::rotary:
        return forward ? turn(node) : turn_back(node);
      case OpKind::attention:
        return forward ? attention(node) : attention_backward(node);
      case OpKind::activation:
        return forward ? activation(node) : activation_backward(node);
      case OpKind::cross_entropy:
        return forward ? loss(node) : loss_backward(node);
      case OpKind::embedding:
        return forward ? lookup(node) : lookup_backward(node);
      default:
        return as_it_is(node);
    }
  }

  // One launch. `of`: the operator that it is part of.
  void kernel(const OpNode& of, std::string_view what, Bytes moved, double slow, double us,
              Tensors reads, Tensors writes) {
    OpNode node;
    node.name = what.empty() ? of.name : of.name + " · " + std::string(what);
    node.work = of.work;
    node.work.bytes = moved;
    node.work.elementwise = slow;
    node.launches = us / host::kMean;
    node.reads = std::move(reads);
    node.writes = std::move(writes);
    out_->op(std::move(node));
  }

  // The same with an output of its own.
  TensorId into_new(const OpNode& of, std::string_view what, Bytes moved, double slow, double us,
                    Tensors reads, Bytes out) {
    const TensorId y = out_->tensor(of.name + " · " + std::string(what), out);
    kernel(of, what, moved, slow, us, std::move(reads), {y});
    return y;
  }

  // What an operand of the graph has become: itself, or several tensors side by side.
  Tensors now(TensorId t) const {
    const auto at = now_.find(t);
    return at == now_.end() ? Tensors{t} : at->second;
  }
  Tensors now(const Tensors& all) const {
    Tensors out;
    for (const TensorId t : all)
      for (const TensorId each : now(t)) out.push_back(each);
    return out;
  }

  // What autograd keeps of an operator's forward pass beside the operands that the graph names.
  Tensors& kept(const OpNode& node) { return kept_[{node.layer, node.name}]; }

  void as_it_is(OpNode node) {
    node.reads = now(node.reads);
    const bool sends = node.work.kind == OpKind::send_recv;
    if (sends) node.launches = host::kMessage;
    if (!is_communication(node.work.kind))
      node.launches =
          (node.work.phase == Phase::forward ? host::kSum : host::kSumBackward) / host::kMean;
    out_->op(std::move(node));
  }

  bool three_projections() const { return c_.model.attention.rotary; }

  // The Linears that a product of the graph is: names and widths of their outputs.
  std::vector<std::pair<std::string, std::int64_t>> linears(const OpNode& node,
                                                            std::int64_t outputs) const {
    const AttentionSpec& a = c_.model.attention;
    if (node.name == "qkv" && three_projections())
      return {{"q", std::int64_t{a.heads} * a.head_dim},
              {"k", std::int64_t{a.kv_heads} * a.head_dim},
              {"v", std::int64_t{a.kv_heads} * a.v_head_dim}};
    if (node.name == "ffn up" && c_.model.dense.gated)
      return {{"ffn gate", outputs / 2}, {"ffn up", outputs / 2}};
    return {{node.name, outputs}};
  }

  bool has_bias(const std::string& name) const {
    const AttentionSpec& a = c_.model.attention;
    if (name == "qkv") return a.qkv_bias;
    if (name == "attention out") return a.out_bias;
    return (name == "ffn up" || name == "ffn down") && c_.model.dense.bias;
  }

  OpId launch(std::string name, const Work& work, double us, Tensors reads, Tensors writes) {
    OpNode node;
    node.name = std::move(name);
    node.work = work;
    node.launches = us / host::kMean;
    node.reads = std::move(reads);
    node.writes = std::move(writes);
    return out_->op(std::move(node));
  }

  void product(const OpNode& node) {
    const Work& w = node.work;
    const auto parts = linears(node, w.n);
    Tensors outputs;
    for (const auto& [name, n] : parts) {
      const TensorId y = parts.size() == 1 ? node.writes[0] : out_->tensor(name, w.m * n * c_.e);
      launch(name, steploom::product(Phase::forward, w.precision, w.m, n, w.k), host::kLinear,
             now(node.reads), {y});
      outputs.push_back(y);
    }
    now_[node.writes[0]] = std::move(outputs);
  }

  // A data gradient carries k, n of the forward product as n, k.
  void input_gradient(const OpNode& node) {
    const Work& w = node.work;
    const std::int64_t inputs = w.n;
    const auto parts = linears(node, w.k);
    const Tensors dy = now(node.reads);
    TensorId sum = kNoTensor;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const auto& [name, n] = parts[i];
      const TensorId dx = parts.size() == 1
                              ? node.writes[0]
                              : out_->tensor(name + " input gradient", w.m * inputs * c_.e);
      launch(name, steploom::product(Phase::data_grad, w.precision, w.m, n, inputs),
             host::kLinearBackward, parts.size() == dy.size() ? Tensors{dy[i]} : dy, {dx});
      if (i == 0) {
        sum = dx;
        continue;
      }
      const Shape x{w.m, inputs};
      const TensorId to = i + 1 == parts.size()
                              ? node.writes[0]
                              : out_->tensor(name + " input gradient sum", bytes(x));
      OpNode add;
      add.name = name + " input gradient sum";
      add.work = streaming(OpKind::residual, Phase::data_grad, c_.work.precision, w.m, inputs, 0);
      kernel(add, "", 3 * bytes(x), slow::kNone, host::kSumBackward, {sum, dx}, {to});
      sum = to;
    }
  }

  // Part of an operator that makes the gradient of a weight of m × n, no product.
  OpNode weight_of(const OpNode& node, std::string name, std::int64_t m, std::int64_t n) const {
    OpNode part = node;
    part.name = std::move(name);
    part.work = streaming(node.work.kind == OpKind::matmul ? OpKind::residual : node.work.kind,
                          Phase::weight_grad, c_.work.precision, m, n, 0);
    part.work.fresh = true;
    return part;
  }

  // A weight gradient carries m=k, n=n, k=m of the forward product.
  void weight_gradient(const OpNode& node) {
    const Work& w = node.work;
    const std::int64_t rows = w.k, inputs = w.m;
    const auto parts = linears(node, w.n);
    const TensorId x = node.reads[0];
    const Tensors dy = now(node.reads[1]);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const auto& [name, n] = parts[i];
      const TensorId of_y = parts.size() == dy.size() ? dy[i] : dy[0];
      launch(name, as_fresh(steploom::product(Phase::weight_grad, w.precision, rows, n, inputs)),
             host::kLinearBackward, {x, of_y}, node.writes);
      if (has_bias(node.name)) {
        OpNode bias = weight_of(node, name + " bias", 1, n);
        kernel(bias, "", rows * n * c_.e, slow::kColumnSum, host::kBiasGradient, {of_y},
               node.writes);
      }
    }
    head_here_ |= node.name == "head";
  }

  void norm(const OpNode& node) {
    const Work& w = node.work;
    const int statistics = c_.model.norm_bias ? 2 : 1;
    const TensorId rows = out_->tensor(node.name + " statistics", w.m * kFp32 * statistics);
    Tensors writes = node.writes;
    writes.push_back(rows);
    kernel(node, "", w.bytes, c_.model.norm_bias ? slow::kLayerNorm : slow::kNorm, host::kNorm,
           now(node.reads), writes);
    kept(node) = {rows};
  }

  // From dy and x; kept are the statistics.
  void norm_backward(const OpNode& node) {
    const Work& w = node.work;
    Tensors reads = now(node.reads);
    for (const TensorId t : kept(node)) reads.push_back(t);
    norm_gradients(node, {w.m, w.n}, reads, node.writes[0]);
  }

  void norm_gradients(const OpNode& node, const Shape& s, const Tensors& reads, TensorId dx) {
    kernel(node, "input", 3 * bytes(s), slow::kNormInput, host::kNormBackward, reads, {dx});
    kernel(weight_of(node, node.name + " weights", 1, s.n), "", 2 * bytes(s),
           c_.model.norm_bias ? slow::kLayerNormWeights : slow::kNormWeights, host::kNormBackward,
           reads, {out_->dense_gradient()});
  }

  // q and k, each with a norm over its heads' widths; v passes.
  void head_norms(const OpNode& node) {
    Tensors parts = now(node.reads[0]);
    Tensors saved;
    for (std::size_t i = 0; i < 2; ++i) {
      const Bytes size = chunk_.tensors[parts[i]].bytes;
      const std::int64_t rows = size / c_.e / c_.model.attention.head_dim;
      const TensorId statistics = out_->tensor(node.name + " statistics", rows * kFp32);
      const TensorId y = out_->tensor(node.name, size);
      kernel(node, "", 2 * size, slow::kNorm, host::kNorm, {parts[i]}, {y, statistics});
      saved.insert(saved.end(), {parts[i], statistics});
      parts[i] = y;
    }
    kept(node) = std::move(saved);
    now_[node.writes[0]] = std::move(parts);
  }

  void head_norms_backward(const OpNode& node) {
    Tensors gradients = now(node.reads[0]);
    const Tensors saved = kept(node);
    const std::int64_t d = c_.model.attention.head_dim;
    for (std::size_t i = 0; i < 2; ++i) {
      const Bytes size = chunk_.tensors[gradients[i]].bytes;
      const TensorId dx = out_->tensor(node.name + " gradient", size);
      norm_gradients(node, {size / c_.e / d, d}, {gradients[i], saved[2 * i], saved[2 * i + 1]},
                     dx);
      gradients[i] = dx;
    }
    now_[node.writes[0]] = std::move(gradients);
  }

  // x·cos + cat(−second half, first half)·sin, of q and of k.
  void turn(const OpNode& node) {
    Tensors parts = now(node.reads[0]);
    for (std::size_t i = 0; i < 2; ++i) {
      const TensorId x = parts[i];
      const Bytes size = chunk_.tensors[x].bytes;
      const auto step = [&](std::string_view what, Bytes moved, double times, Tensors reads,
                            Bytes out) {
        return into_new(node, what, moved, times, host::kRotary, std::move(reads), out);
      };
      const TensorId negated = step("neg", size, slow::kNegate, {x}, size / 2);
      const TensorId halves = step("cat", 2 * size, slow::kCatenate, {negated, x}, size);
      const TensorId cosine = step("mul", 2 * size, slow::kTimesCos, {x}, size);
      const TensorId sine = step("mul", 2 * size, slow::kTimesSin, {halves}, size);
      parts[i] = step("add", 3 * size, slow::kTurnSum, {cosine, sine}, size);
    }
    now_[node.writes[0]] = std::move(parts);
  }

  // Each half comes back as a whole tensor that is zero elsewhere, and is added.
  void turn_back(const OpNode& node) {
    Tensors gradients = now(node.reads[0]);
    for (std::size_t i = 0; i < 2; ++i) {
      const TensorId dy = gradients[i];
      const Bytes size = chunk_.tensors[dy].bytes;
      const auto step = [&](std::string_view what, Bytes moved, double times, Tensors reads,
                            Bytes out) {
        return into_new(node, what, moved, times, host::kRotaryBackward, std::move(reads), out);
      };
      const TensorId halves = step("mul", 2 * size, slow::kTurnBack, {dy}, size);
      TensorId sum = step("mul", 2 * size, slow::kTurnBack, {dy}, size);
      TensorId half = halves;
      for (const bool negated : {false, true}) {
        if (negated) half = step("neg", size, slow::kNegateBack, {halves}, size / 2);
        const TensorId whole = step("fill", size, slow::kFill, {}, size);
        kernel(node, "copy", size, slow::kHalfCopy, host::kRotaryBackward, {half, whole}, {whole});
        kernel(node, "add", 3 * size, slow::kTurnBackSum, host::kRotaryBackward, {sum, whole},
               {sum});
      }
      gradients[i] = sum;
    }
    now_[node.writes[0]] = std::move(gradients);
  }

  void attention(const OpNode& node) {
    const Work& w = node.work;
    const TensorId sums = out_->tensor("attention log-sum", w.m * w.n * w.heads * kFp32);
    launch(node.name, w, host::kAttention + (three_projections() ? 0 : host::kSplit),
           now(node.reads), {node.writes[0], sums});
    kept(node) = {sums};
  }

  // Reads the output's gradient, q, k, v and the output.
  void attention_backward(const OpNode& node) {
    const Work& w = node.work;
    Tensors reads = now(node.reads);
    for (const TensorId t : kept(node)) reads.push_back(t);
    const std::int64_t tokens = w.m * w.n;
    Tensors gradients;
    for (const std::int64_t width :
         {std::int64_t{w.heads} * w.head_dim, std::int64_t{w.kv_heads} * w.head_dim,
          std::int64_t{w.kv_heads} * w.v_head_dim})
      gradients.push_back(out_->tensor("attention gradient", tokens * width * c_.e));
    launch(node.name, w, host::kAttentionBackward, reads, gradients);
    if (three_projections()) {
      now_[node.writes[0]] = std::move(gradients);
      return;
    }
    const Bytes size = chunk_.tensors[node.writes[0]].bytes;
    OpNode cat;
    cat.name = node.name + " · cat";
    cat.work = streaming(OpKind::residual, Phase::data_grad, c_.work.precision, tokens,
                         size / c_.e / tokens, 0);
    kernel(cat, "", 2 * size, slow::kSplit, host::kSplitBackward, gradients, node.writes);
  }

  void activation(const OpNode& node) {
    const Shape s{node.work.m, node.work.n};
    const Tensors x = now(node.reads[0]);
    if (!c_.model.dense.gated) {
      kernel(node, "", 2 * bytes(s), slow::kGelu, host::kActivation * 1.2, x, node.writes);
      return;
    }
    const TensorId gate =
        into_new(node, "silu", 2 * bytes(s), slow::kSilu, host::kActivation, {x[0]}, bytes(s));
    kernel(node, "mul", 3 * bytes(s), slow::kNone, host::kActivation, {gate, x[1]}, node.writes);
    kept(node) = {gate};
  }

  // From the result's gradient and what it was made of.
  void activation_backward(const OpNode& node) {
    const TensorId dy = now(node.reads[0])[0];
    const Tensors x = now(node.reads[1]);
    if (!c_.model.dense.gated) {
      const Shape s{node.work.m, node.work.n};
      kernel(node, "", 3 * bytes(s), slow::kGeluBackward, 2 * host::kActivation, {dy, x[0]},
             node.writes);
      return;
    }
    const Shape s{node.work.m, node.work.n / 2};
    const TensorId gate = kept(node)[0];
    const auto step = [&](std::string_view what, double times, Tensors reads) {
      return into_new(node, what, 3 * bytes(s), times, host::kActivationBackward, std::move(reads),
                      bytes(s));
    };
    const TensorId d_up = step("mul", slow::kNone, {dy, gate});
    const TensorId d_silu = step("mul", slow::kNone, {dy, x[1]});
    now_[node.writes[0]] = {step("silu", slow::kSiluBackward, {d_silu, x[0]}), d_up};
  }

  // logits.float(), log_softmax, nll_loss. The caller of the model holds the logits.
  void loss(const OpNode& node) {
    const Work& w = node.work;
    const std::int64_t elements = w.m * w.n;
    const TensorId logits = node.reads[0];
    const TensorId wide = into_new(node, "float", elements * (c_.e + kFp32), slow::kWiden,
                                   host::kLoss, {logits}, elements * kFp32);
    kernel(node, "log_softmax", 2 * elements * kFp32, slow::kLogSoftmax, host::kLoss, {wide},
           node.writes);
    const TensorId value = out_->tensor("loss", kFp32);
    const Bytes picked = w.m * (kFp32 + kIndex);
    kernel(node, "nll_loss", picked, slow::kLossBytes / static_cast<double>(picked), host::kLoss,
           node.writes, {value});
    kept(node) = {logits};
  }

  void loss_backward(const OpNode& node) {
    const Work& w = node.work;
    const std::int64_t elements = w.m * w.n;
    const TensorId softmax = node.reads[0];
    const TensorId picked = into_new(node, "fill", elements * kFp32, slow::kWideFill,
                                     host::kLossBackward, {}, elements * kFp32);
    const Bytes touched = w.m * (kFp32 + kIndex);
    kernel(node, "nll_loss", touched, slow::kLossBackwardBytes / static_cast<double>(touched),
           host::kLossBackward, {picked}, {picked});
    const TensorId wide =
        into_new(node, "log_softmax", 3 * elements * kFp32, slow::kLogSoftmaxBackward,
                 host::kLossBackward, {picked, softmax}, elements * kFp32);
    Tensors reads = kept(node);
    reads.push_back(wide);
    kernel(node, "narrow", elements * (c_.e + kFp32), slow::kNone, host::kLossBackward, reads,
           node.writes);
  }

  // The head's gradient of the same table is in this block.
  bool with_head() const { return c_.model.tied_embeddings && head_here_; }

  bool adds_positions() const { return c_.model.learned_positions; }

  void lookup(const OpNode& node) {
    const Shape s{node.work.m, node.work.n};
    if (!adds_positions()) {
      kernel(node, "", 2 * bytes(s), slow::kGather, host::kEmbedding, {}, node.writes);
      return;
    }
    const Shape places{c_.work.seq_length, s.n};
    const TensorId x =
        into_new(node, "", 2 * bytes(s), slow::kGather, host::kEmbedding, {}, bytes(s));
    const TensorId at = into_new(node, "positions", 2 * bytes(places), slow::kGather,
                                 host::kEmbedding, {}, bytes(places));
    kernel(node, "add", 2 * bytes(s) + bytes(places), slow::kPositionSum, host::kSum, {x, at},
           node.writes);
  }

  void lookup_backward(const OpNode& node) {
    const Shape s{node.work.m, node.work.n};
    const TensorId dy = now(node.reads[0])[0];
    if (adds_positions()) {
      const Shape places{c_.work.seq_length, s.n};
      const TensorId sum = into_new(node, "positions sum", bytes(s) + bytes(places), slow::kSplit,
                                    host::kBiasGradient, {dy}, bytes(places));
      table_gradient(node, "positions ", places, c_.model.position_rows(), sum);
    }
    table_gradient(node, "", s, c_.model.vocab, dy);
    if (!with_head()) return;
    // To the head's gradient of the same table.
    const Shape table{c_.model.vocab, s.n};
    kernel(node, "add", 3 * bytes(table), slow::kNone, host::kSumBackward, node.writes,
           node.writes);
  }

  // Rows of `s` added up in a table: by sorting what they are for, but few.
  void table_gradient(const OpNode& node, const std::string& of, const Shape& s, std::int64_t rows,
                      TensorId dy) {
    const bool few = s.m <= kFewIndices;
    const int kernels = few ? 2 : kSortKernels + 3;
    const double us = host::kEmbeddingBackward / kernels;
    const auto last = [&](const char* what) {
      OpNode part = weight_of(node, node.name + " · " + of + what, rows, s.n);
      part.work.fresh = !(of.empty() && with_head());  // else what the head's gradient is added to
      return part;
    };
    kernel(node, of + "fill", rows * s.n * c_.e, slow::kFill, us, {}, node.writes);
    if (few) {
      const double times = slow::kIndexBytes / static_cast<double>(2 * s.n * c_.e);
      kernel(last("rows"), "", 2 * bytes(s), times, us, {dy}, node.writes);
      return;
    }
    for (int i = 0; i < kSortKernels; ++i)
      kernel(node, of + "sort", 3 * s.m * kIndex, slow::kNone, us, {}, node.writes);
    kernel(node, of + "partial sums", 2 * bytes(s), slow::kRows, us, {dy}, node.writes);
    kernel(last("sums"), "", 2 * bytes(s), slow::kRows, us, {dy}, node.writes);
  }

  const BuildContext& c_;
  Chunk& chunk_;
  Emitter* out_ = nullptr;
  std::map<TensorId, Tensors> now_;
  std::map<std::pair<int, std::string>, Tensors> kept_;
  bool head_here_ = false;  // its weight gradient is in this block
};

}  // namespace

void eager_kernels(const BuildContext& c, Chunk& chunk) {
  EagerKernels kernels(c, chunk);
  kernels.rewrite(chunk.forward);
  kernels.rewrite(chunk.backward);
}

}  // namespace steploom
