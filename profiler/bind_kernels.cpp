// Kernels of the layers: products, attention, norms, activations, embedding. bind_kernel() is the
// table of all kinds.
#include <array>

#include "profiler/bind_context.h"

namespace steploom {
namespace {

constexpr ElementType kValue = ElementType::bf16;
constexpr ElementType kStatistic = ElementType::fp32;

KernelCall product(BindContext& c, const Operator& op) {
  const Work& w = op.work();
  Linear call;
  call.phase = w.phase;
  const BoundParameter* bias = c.parameter(op.info, ParameterPart::bias);
  const bool replicated =
      bias != nullptr && c.list[bias->entry].bucket == ParameterBucket::replicated;
  switch (w.phase) {
    case Phase::forward:
      call.a = c.read(op, 0, kValue, w.m, w.k);
      call.b = c.value(op, ParameterPart::weight);
      call.result = c.write(op, 0, kValue, w.m, w.n);
      if (bias != nullptr && (!replicated || c.acts_here())) call.bias = bias->value;
      break;
    case Phase::data_grad:
      call.a = c.read(op, 0, kValue, w.m, w.k);
      call.b = c.value(op, ParameterPart::weight);
      call.result = c.write(op, 0, kValue, w.m, w.n);
      break;
    default:
      call.a = c.read(op, 0, kValue, w.k, w.m);
      call.b = c.read(op, 1, kValue, w.k, w.n);
      call.result = c.gradient(op, ParameterPart::weight);
      if (bias != nullptr && (!replicated || c.accumulates_here())) call.bias = bias->gradient;
  }
  if (call.bias) call.bias = call.bias.shaped(1, call.bias.elements());
  const std::int64_t outputs = w.phase == Phase::data_grad ? w.k : w.n;
  const std::int64_t inputs = w.phase == Phase::forward     ? w.k
                              : w.phase == Phase::data_grad ? w.n
                                                            : w.m;
  const TensorRef& weight = w.phase == Phase::weight_grad ? call.result : call.b;
  if (weight.rows != outputs || weight.width != inputs)
    c.refuse(op, "a weight of the product's shape",
             std::to_string(weight.rows) + " × " + std::to_string(weight.width));
  return call;
}

KernelCall grouped(BindContext& c, const Operator& op) {
  const Work& w = op.work();
  ExpertLinear call;
  call.phase = w.phase;
  call.experts = w.groups;
  if (w.phase == Phase::weight_grad) {
    call.a = c.read(op, 0, kValue, w.k, w.m);
    call.b = c.read(op, 1, kValue, w.k, w.n);
    call.result = c.gradient(op, ParameterPart::weight);
  } else {
    call.a = c.read(op, 0, kValue, w.m, w.k);
    call.b = c.value(op, ParameterPart::weight);
    call.result = c.write(op, 0, kValue, w.m, w.n);
  }
  return call;
}

KernelCall attention(BindContext& c, const Operator& op) {
  const Work& w = op.work();
  const AttentionSizes s{w.m, w.n, w.heads, w.kv_heads, w.head_dim, w.v_head_dim};
  const std::int64_t rows = w.m * w.n;
  const std::int64_t out = std::int64_t{w.heads} * w.v_head_dim;
  const std::int64_t qkv =
      std::int64_t{w.heads + w.kv_heads} * w.head_dim + std::int64_t{w.kv_heads} * w.v_head_dim;
  const std::int64_t sums = w.n * w.heads;
  if (w.phase == Phase::forward) {
    const TensorRef from = c.read(op, 0, kValue, rows, qkv);
    return Attention{c.write(op, 0, kValue, rows, out), c.write(op, 1, kStatistic, sums, w.m), from,
                     s};
  }
  AttentionBackward call;
  call.d_out = c.read(op, 0, kValue, rows, out);
  call.qkv = c.read(op, 1, kValue, rows, qkv);
  call.out = c.read(op, 2, kValue, rows, out);
  call.log_sum = c.read(op, 3, kStatistic, sums, w.m);
  call.d_qkv = c.write(op, 0, kValue, rows, qkv);
  call.sizes = s;
  return call;
}

KernelCall norm(BindContext& c, const Operator& op) {
  const Work& w = op.work();
  const bool layer_norm = c.in.model.norm_bias;
  if (w.phase == Phase::forward) {
    Norm call;
    call.x = c.read(op, 0, kValue, w.m, w.n);
    call.y = c.write(op, 0, kValue, w.m, w.n);
    call.scale = c.write(op, 1, kStatistic, w.m, 1);
    call.gain = c.value(op, ParameterPart::gain);
    call.epsilon = kNormEpsilon;
    if (layer_norm) {
      call.mean = c.write(op, 2, kStatistic, w.m, 1);
      call.bias = c.value(op, ParameterPart::bias);
    }
    return call;
  }
  NormBackward call;
  call.dy = c.read(op, 0, kValue, w.m, w.n);
  call.x = c.read(op, 1, kValue, w.m, w.n);
  call.scale = c.read(op, 2, kStatistic, w.m, 1);
  call.gain = c.value(op, ParameterPart::gain);
  call.d_gain = c.gradient(op, ParameterPart::gain);
  call.dx = c.write(op, 0, kValue, w.m, w.n);
  if (layer_norm) {
    call.mean = c.read(op, 3, kStatistic, w.m, 1);
    call.d_bias = c.gradient(op, ParameterPart::bias);
  }
  return call;
}

KernelCall rotary(BindContext& c, const Operator& op) {
  const Work& w = op.work();
  const AttentionSpec& a = c.in.model.attention;
  Rotary call;
  call.backward = w.phase != Phase::forward;
  call.x = c.read(op, 0, kValue, w.m, w.n);
  call.y = c.write(op, 0, kValue, w.m, w.n);
  call.table = c.out.rotary;
  call.heads = (a.heads + a.kv_heads) / c.in.layout.tp;
  call.head_dim = a.head_dim;
  call.positions = c.in.work.seq_length;
  return call;
}

KernelCall activation(BindContext& c, const Operator& op) {
  const Work& w = op.work();
  const std::size_t hidden = w.phase == Phase::forward ? 0 : 1;  // its place among the reads
  if (op.reads.size() <= hidden) c.refuse(op, "the hidden row", "none");
  const std::int64_t wide = c.tensor_bytes(op.reads[hidden]) / (w.m * 2);
  if (w.phase == Phase::forward)
    return Activation{wide == 2 * w.n, c.write(op, 0, kValue, w.m, w.n),
                      c.read(op, 0, kValue, w.m, wide)};
  const std::int64_t narrow = c.tensor_bytes(op.reads[0]) / (w.m * 2);
  return ActivationBackward{wide == 2 * narrow, c.write(op, 0, kValue, w.m, w.n),
                            c.read(op, 0, kValue, w.m, narrow), c.read(op, 1, kValue, w.m, wide)};
}

KernelCall residual(BindContext& c, const Operator& op) {
  const Work& w = op.work();
  const TensorRef a = c.read(op, 0, kValue, w.m, w.n);
  const TensorRef b = c.read(op, 1, kValue, w.m, w.n);
  return Add{c.write(op, 0, kValue, w.m, w.n), a, b};
}

KernelCall embedding(BindContext& c, const Operator& op) {
  const Work& w = op.work();
  const TensorRef ids = c.out.ids.slice(op.micro_batch * c.tokens, c.tokens);
  const std::int64_t rows = c.value(op, ParameterPart::weight).rows;
  const bool positions = c.in.model.learned_positions;
  if (w.phase == Phase::forward) {
    Embedding call{c.write(op, 0, kValue, w.m, w.n),
                   ids,
                   c.value(op, ParameterPart::weight),
                   {},
                   c.at.tp * rows,
                   c.in.work.seq_length};
    if (positions && c.acts_here()) call.positions = c.value(op, ParameterPart::positions);
    return call;
  }
  EmbeddingBackward call{c.gradient(op, ParameterPart::weight),
                         c.read(op, 0, kValue, w.m, w.n),
                         ids,
                         {},
                         c.at.tp * rows,
                         c.in.work.seq_length};
  if (positions && c.accumulates_here())
    call.d_positions = c.gradient(op, ParameterPart::positions);
  return call;
}

using Bind = KernelCall (*)(BindContext&, const Operator&);
struct Row {
  OpKind kind;
  Bind bind;
};
constexpr std::array kRows{
    Row{OpKind::matmul, product},
    Row{OpKind::grouped_matmul, grouped},
    Row{OpKind::attention, attention},
    Row{OpKind::embedding, embedding},
    Row{OpKind::norm, norm},
    Row{OpKind::rotary, rotary},
    Row{OpKind::residual, residual},
    Row{OpKind::activation, activation},
    Row{OpKind::router, bind_moe},
    Row{OpKind::permute, bind_moe},
    Row{OpKind::unpermute, bind_moe},
    Row{OpKind::cross_entropy, bind_loss},
    Row{OpKind::adam, bind_optimizer},
    Row{OpKind::grad_norm, bind_optimizer},
    Row{OpKind::zero_fill, bind_optimizer},
    Row{OpKind::all_reduce, bind_collective},
    Row{OpKind::all_gather, bind_collective},
    Row{OpKind::reduce_scatter, bind_collective},
    Row{OpKind::all_to_all, bind_collective},
    Row{OpKind::send_recv, bind_collective},
};

}  // namespace

KernelCall bind_kernel(BindContext& c, const Operator& op) {
  for (const Row& row : kRows)
    if (row.kind == op.work().kind) return row.bind(c, op);
  c.refuse(op, "a kind of operator that has a kernel", std::string(name_of(op.work().kind)));
}

}  // namespace steploom
