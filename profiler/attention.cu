#include "profiler/attention.h"

#include <cuda_runtime.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "profiler/cudnn_graph.cuh"

namespace steploom {
namespace {

// Tested with 9.14 and 9.19. Backward kernels take sequences that are no multiple of 128 without
// padding tensors since 9.16 (cudnn-frontend, padding workaround of sdpa_backward).
constexpr std::size_t kLeastVersion = 91400;
constexpr std::size_t kOddSequences = 91600;
constexpr std::int64_t kWholeTile = 128;  // tokens

using Tensor = DnnGraph::Tensor;
using Heads = AttentionLayout::Heads;

// Sizes as cuDNN wants them: sequences, heads, tokens of a sequence, width.
struct Sizes {
  std::int64_t b, h, kv, s, d, dv;
  explicit Sizes(const AttentionShape& a)
      : b(a.sequences),
        h(a.heads),
        kv(a.kv_heads),
        s(a.sequence),
        d(a.head_dim),
        dv(a.v_head_dim) {}
};

Dimensions strides_of(const Sizes& n, const Heads& at) {
  return {n.s * at.row, at.head, at.row, 1};
}

Dimensions transposed(const Dimensions& x) {
  return {x[0], x[1], x[3], x[2]};
}

Tensor bf16(DnnGraph& g, const Dimensions& sizes, const Dimensions& strides) {
  return g.tensor(CUDNN_DATA_BFLOAT16, sizes, strides);
}

Tensor fp32(DnnGraph& g, const Dimensions& sizes) {
  return g.tensor(CUDNN_DATA_FLOAT, sizes, dense_strides(sizes));
}

float scale_of(const Sizes& n) {
  return static_cast<float>(1 / std::sqrt(static_cast<double>(n.d)));
}

// Caller's tensors in order: q, k, v, out, lse.
DnnGraph forward_graph(const Sizes& n, const AttentionLayout& at) {
  DnnGraph g;
  const Tensor q = bf16(g, {n.b, n.h, n.s, n.d}, strides_of(n, at.q));
  const Tensor kt = bf16(g, {n.b, n.kv, n.d, n.s}, transposed(strides_of(n, at.k)));
  const Tensor v = bf16(g, {n.b, n.kv, n.s, n.dv}, strides_of(n, at.v));
  const Tensor out = bf16(g, {n.b, n.h, n.s, n.dv}, strides_of(n, at.out));
  const Tensor lse = fp32(g, {n.b, n.h, n.s, 1});

  const Dimensions rows{n.b, n.h, n.s, 1};
  const Tensor products = g.inner({n.b, n.h, n.s, n.s});
  g.product(q, kt, products);
  const Tensor scaled = g.pointwise(CUDNN_POINTWISE_MUL, products, g.constant(scale_of(n)));
  const Tensor scores =
      g.causal_select(scaled, g.constant(-std::numeric_limits<float>::infinity()));
  const Tensor most = g.inner(rows);
  g.reduce(CUDNN_REDUCE_TENSOR_MAX, scores, most);
  const Tensor powers =
      g.pointwise(CUDNN_POINTWISE_EXP, g.pointwise(CUDNN_POINTWISE_SUB, scores, most));
  const Tensor sum = g.inner(rows);
  g.reduce(CUDNN_REDUCE_TENSOR_ADD, powers, sum);
  g.pointwise_into(lse, CUDNN_POINTWISE_ADD, most, g.pointwise(CUDNN_POINTWISE_LOG, sum));
  const Tensor p = g.inner(products.sizes, dense_strides(products.sizes), CUDNN_DATA_BFLOAT16);
  g.pointwise_into(p, CUDNN_POINTWISE_DIV, powers, sum);
  g.product(p, v, out);
  return g;
}

// A product into the gradient of keys or values, whose heads are summed over each group.
void into_kv(DnnGraph& g, const Tensor& a, const Tensor& b, const Tensor& result, std::int64_t h) {
  if (result.sizes[1] == h) return g.product(a, b, result);
  const Dimensions sizes{result.sizes[0], h, result.sizes[2], result.sizes[3]};
  const Tensor all = g.inner(sizes, dense_strides(sizes), CUDNN_DATA_BFLOAT16);
  g.product(a, b, all);
  g.reduce(CUDNN_REDUCE_TENSOR_ADD, all, result);
}

// The transposed of queries × keys, in bf16 for the tensor cores.
Tensor flipped(DnnGraph& g, const Tensor& x) {
  const Tensor result =
      g.inner(transposed(x.sizes), transposed(dense_strides(x.sizes)), CUDNN_DATA_BFLOAT16);
  g.reshape(x, result);
  return result;
}

// Caller's tensors in order: q, k, v, out, lse, d_out, dq, dk, dv, the sums over out·d_out of each
// row, and, if the order is free, dq's sums.
DnnGraph backward_graph(const Sizes& n, const AttentionLayout& at, AttentionOrder order) {
  DnnGraph g;
  const Tensor q = bf16(g, {n.b, n.h, n.s, n.d}, strides_of(n, at.q));
  const Tensor kt = bf16(g, {n.b, n.kv, n.d, n.s}, transposed(strides_of(n, at.k)));
  const Tensor vt = bf16(g, {n.b, n.kv, n.dv, n.s}, transposed(strides_of(n, at.v)));
  const Tensor out = bf16(g, {n.b, n.h, n.s, n.dv}, strides_of(n, at.out));
  const Tensor lse = fp32(g, {n.b, n.h, n.s, 1});
  const Tensor d_out = bf16(g, out.sizes, strides_of(n, at.out));
  const Tensor dq = bf16(g, q.sizes, strides_of(n, at.q));
  const Tensor dk = bf16(g, {n.b, n.kv, n.s, n.d}, strides_of(n, at.k));
  const Tensor dv = bf16(g, {n.b, n.kv, n.s, n.dv}, strides_of(n, at.v));
  const Tensor row_sums = fp32(g, {n.b, n.h, n.s, 1});

  const Tensor unscaled = g.inner(row_sums.sizes);
  g.reduce(CUDNN_REDUCE_TENSOR_ADD, g.pointwise(CUDNN_POINTWISE_MUL, d_out, out), unscaled);
  g.pointwise_into(row_sums, CUDNN_POINTWISE_MUL, unscaled, g.constant(1));

  // Probabilities once more, and dv = pᵀ·d_out.
  const Tensor scale = g.constant(scale_of(n));
  const Tensor products = g.inner({n.b, n.h, n.s, n.s});
  g.product(q, kt, products);
  const Tensor scaled = g.pointwise(CUDNN_POINTWISE_MUL, products, scale);
  const Tensor logarithms = g.pointwise(CUDNN_POINTWISE_SUB, scaled, lse);
  const Tensor p =
      g.pointwise(CUDNN_POINTWISE_EXP,
                  g.causal_select(logarithms, g.constant(-std::numeric_limits<float>::infinity())));
  into_kv(g, flipped(g, p), d_out, dv, n.h);

  // ds = p·(d_out·vᵀ − row sum), dk = dsᵀ·q, dq = ds·k.
  const Tensor dp = g.inner(products.sizes);
  g.product(d_out, vt, dp);
  const Tensor centred = g.pointwise(CUDNN_POINTWISE_SUB, dp, row_sums);
  const Tensor ds =
      g.pointwise(CUDNN_POINTWISE_MUL, g.pointwise(CUDNN_POINTWISE_MUL, centred, p), scale);
  into_kv(g, flipped(g, ds), q, dk, n.h);
  const Tensor k = g.inner({n.b, n.kv, n.s, n.d}, strides_of(n, at.k), CUDNN_DATA_BFLOAT16);
  g.reshape(kt, k);
  if (order == AttentionOrder::deterministic) {
    g.product(ds, k, dq);
  } else {
    const Tensor sums = fp32(g, dq.sizes);
    g.product(ds, k, sums);
    g.pointwise_into(dq, CUDNN_POINTWISE_IDENTITY, sums);
  }
  return g;
}

std::int64_t whole_lines(std::int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

std::string name_of(Phase phase, const AttentionShape& a) {
  return "attention " + std::string(name_of(phase)) + " of " + std::to_string(a.sequences) + " x " +
         std::to_string(a.sequence) + " tokens, " + std::to_string(a.heads) + " heads, " +
         std::to_string(a.kv_heads) + " key-value heads, widths " + std::to_string(a.head_dim) +
         " and " + std::to_string(a.v_head_dim);
}

void refuse_nonsense(Phase phase, const AttentionShape& a) {
  const bool sizes = a.sequence > 0 && a.sequences > 0 && a.heads > 0 && a.kv_heads > 0 &&
                     a.head_dim > 0 && a.v_head_dim > 0;
  if (!sizes || a.heads % a.kv_heads != 0 ||
      (phase != Phase::forward && phase != Phase::data_grad)) {
    throw DeviceError(name_of(phase, a) + ": no such attention");
  }
  if (phase != Phase::forward && a.sequence % kWholeTile != 0 &&
      cudnnGetVersion() < kOddSequences) {
    throw DeviceError(name_of(phase, a) +
                      ": backward of such a sequence needs cuDNN 9.16 or newer, found version " +
                      std::to_string(cudnnGetVersion()));
  }
}

}  // namespace

struct Dnn::Handles {
  cudnnHandle_t dnn = nullptr;
};

Dnn::Dnn() : handles_(std::make_unique<Handles>()) {
  if (cudnnGetVersion() < kLeastVersion) {
    throw DeviceError("cuDNN 9.14 or newer is needed, found version " +
                      std::to_string(cudnnGetVersion()));
  }
  check(cudnnCreate(&handles_->dnn), "cudnnCreate");
}

Dnn::~Dnn() {
  cudnnDestroy(handles_->dnn);
}

int Dnn::version() {
  return static_cast<int>(cudnnGetVersion());
}

struct AttentionPlan::Plan {
  const Dnn* dnn;
  bool forward;
  DnnPlan plan;
  std::int64_t row_sums_at = 0, dq_sums_at = 0, bytes = 0;  // in the workspace

  Plan(const Dnn& of, Phase phase, const AttentionShape& shape, const AttentionLayout& layout,
       AttentionOrder order)
      : dnn(&of),
        forward(phase == Phase::forward),
        plan(forward ? forward_graph(Sizes(shape), layout)
                     : backward_graph(Sizes(shape), layout, order),
             name_of(phase, shape)) {
    bytes = whole_lines(plan.workspace_bytes());
    if (forward) return;
    const Sizes n(shape);
    row_sums_at = bytes;
    dq_sums_at = row_sums_at + whole_lines(n.b * n.h * n.s * 4);
    bytes = dq_sums_at;
    if (order == AttentionOrder::any) bytes += whole_lines(n.b * n.h * n.s * n.d * 4);
  }
};

AttentionPlan::AttentionPlan(const Dnn& dnn, Phase phase, const AttentionShape& shape,
                             const AttentionLayout& layout, AttentionOrder order) {
  refuse_nonsense(phase, shape);
  plan_ = std::make_unique<Plan>(dnn, phase, shape, layout, order);
}
AttentionPlan::~AttentionPlan() = default;
AttentionPlan::AttentionPlan(AttentionPlan&&) noexcept = default;
AttentionPlan& AttentionPlan::operator=(AttentionPlan&&) noexcept = default;

std::int64_t AttentionPlan::workspace_bytes() const {
  return plan_->bytes;
}

void AttentionPlan::run(const AttentionTensors& t, void* workspace, Stream stream) const {
  const auto raw = [](const Bf16* x) { return const_cast<Bf16*>(x); };
  std::vector<void*> tensors{raw(t.q), raw(t.k), raw(t.v), t.out, t.lse};
  if (!plan_->forward) {
    char* const own = static_cast<char*>(workspace);
    for (void* x :
         std::initializer_list<void*>{raw(t.d_out), t.dq, t.dk, t.dv, own + plan_->row_sums_at}) {
      tensors.push_back(x);
    }
    if (plan_->bytes > plan_->dq_sums_at) tensors.push_back(own + plan_->dq_sums_at);
  }
  plan_->plan.run(plan_->dnn->handles().dnn, tensors, workspace, stream);
}

}  // namespace steploom
