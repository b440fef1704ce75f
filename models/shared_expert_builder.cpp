// The expert that every token visits, beside the routed ones; in some models (qwen2_moe) a sigmoid
// gate of the token scales its output.
#include "models/emitter.h"

namespace steploom {
namespace {

constexpr std::string_view kGate = "shared expert gate";
constexpr std::string_view kGated = "gated shared expert";

}  // namespace

TensorId shared_expert_forward(Emitter& out, TensorId normed, MoeSaved& saved) {
  const BuildContext& c = out.c;
  const MoeSpec& moe = *c.model.moe;
  const std::int64_t h = c.model.hidden;
  const TensorId y =
      ffn_forward(out, "shared expert", normed, moe.shared_width, moe.expert.gated, saved.shared);
  if (!moe.shared_gate) return y;
  saved.shared_out = y;
  saved.shared_gate = out.linear(kGate, normed, c.shard, 1, h);
  return out.stream(kGated, OpKind::residual, Phase::forward, c.shard, h + 1, h,
                    {y, saved.shared_gate});
}

TensorId shared_expert_backward(Emitter& out, TensorId dy, TensorId normed, MoeSaved saved) {
  const BuildContext& c = out.c;
  // From its input (Megatron-Core, moe/moe_layer.py, shared_experts_recompute).
  if (c.layout.recompute == Recompute::selective &&
      c.layout.recompute_detail.has(RecomputeModule::shared_experts)) {
    out.set_recompute(true);
    shared_expert_forward(out, normed, saved);
    out.set_recompute(false);
  }
  const MoeSpec& moe = *c.model.moe;
  const std::int64_t h = c.model.hidden;
  if (!moe.shared_gate)
    return ffn_backward(out, "shared expert", dy, moe.shared_width, moe.expert.gated, saved.shared);
  // The output's gradient is scaled by the gate, the gate's is its product with the output.
  const TensorId d_out = out.tensor("gated shared expert gradient", c.shard * h * c.e);
  const TensorId d_gate = out.tensor("shared expert gate gradient", c.shard * c.e);
  out.op(kGated,
         streaming(OpKind::residual, Phase::data_grad, c.work.precision, c.shard, h,
                   c.shard * (3 * h + 2) * c.e),
         {dy, saved.shared_out, saved.shared_gate}, {d_out, d_gate});
  const TensorId dx_gate = out.linear_data_grad(kGate, d_gate, c.shard, 1, h);
  out.linear_weight_grad(kGate, normed, d_gate, c.shard, 1, h);
  const TensorId dx =
      ffn_backward(out, "shared expert", d_out, moe.shared_width, moe.expert.gated, saved.shared);
  return out.stream("shared expert gate sum", OpKind::residual, Phase::data_grad, c.shard, 2 * h, h,
                    {dx, dx_gate});
}

}  // namespace steploom
