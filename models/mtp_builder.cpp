// Multi-token prediction (DeepSeek-V3, arXiv 2412.19437, section 2.2): module k predicts the token
// k + 1 ahead from the hidden state of module k - 1 and the embedding of the token k ahead.
//
// As Megatron-Core's MultiTokenPredictionLayer: a norm of each, the two side by side through a
// column-parallel projection to hidden, whose columns are gathered over tp, then a layer like the
// model's last and the model's own head behind a norm of the module's. The modules stand on the
// last stage; without the embedding there, its table has a copy there.
#include "models/chunk_parts.h"

namespace steploom {
namespace {

constexpr std::string_view kProjection = "mtp projection";

// `out.layer()` is the module's.
TensorId project(Emitter& out, MtpSaved& saved) {
  const BuildContext& c = out.c;
  const std::int64_t h = c.model.hidden;
  const TensorId token = out.norm("mtp token norm", c.shard, h, saved.token, saved.token_norm);
  const TensorId hidden = out.norm("mtp hidden norm", c.shard, h, saved.hidden, saved.hidden_norm);
  saved.both = out.stream("mtp inputs", OpKind::residual, Phase::forward, c.shard, 2 * h, 2 * h,
                          {token, hidden});
  const TensorId x = out.gather("mtp input gather", saved.both, 2 * h, Phase::forward);
  const TensorId y = out.linear(kProjection, x, c.tokens, h / c.layout.tp, 2 * h);
  if (c.layout.tp == 1) return y;
  // Of the whole rows only this rank's part of the sequence lives on.
  return out.collective("mtp projection gather", OpKind::all_gather, CommGroup::tp, StreamKind::tp,
                        Phase::forward, c.tokens * h * c.e, c.shard * h * c.e, y);
}

// The gradient of the hidden state; that of the embedding goes into the table's.
TensorId project_backward(Emitter& out, TensorId dy, const MtpSaved& saved, TensorId table) {
  const BuildContext& c = out.c;
  const std::int64_t h = c.model.hidden;
  const std::int64_t columns = h / c.layout.tp;
  const TensorId full = out.gather("mtp projection gradient gather", dy, h, Phase::data_grad);
  const TensorId x = out.gather("mtp input gather", saved.both, 2 * h, Phase::weight_grad);
  const TensorId dx = out.linear_data_grad(kProjection, full, c.tokens, columns, 2 * h);
  const TensorId d_both = out.reduce("mtp input gradient reduce", dx, 2 * h, Phase::data_grad);
  out.linear_weight_grad(kProjection, x, full, c.tokens, columns, 2 * h);
  const TensorId d_token =
      out.norm_backward("mtp token norm", c.shard, h, d_both, saved.token, saved.token_norm);
  lookup_backward(out, d_token, table);
  return out.norm_backward("mtp hidden norm", c.shard, h, d_both, saved.hidden, saved.hidden_norm);
}

}  // namespace

void mtp_forward(Emitter& out, TensorId x, std::vector<MtpSaved>& modules) {
  int layer = out.c.model.layers;
  for (MtpSaved& saved : modules) {
    out.set_layer(++layer);
    saved.hidden = x;
    saved.token = lookup_forward(out, 1);
    x = layer_forward(out, layer, project(out, saved), saved.layer);
    head_forward(out, x, saved.head);
  }
}

TensorId mtp_backward(Emitter& out, std::vector<MtpSaved>& modules, bool embedding_here) {
  const BuildContext& c = out.c;
  const std::int64_t h = c.model.hidden;
  TensorId dx = kNoTensor;
  for (std::size_t i = modules.size(); i-- > 0;) {
    MtpSaved& saved = modules[i];
    const int layer = c.model.layers + 1 + static_cast<int>(i);
    out.set_layer(layer);
    TensorId dy = head_backward(out, saved.head, embedding_here);
    if (dx != kNoTensor)
      dy = out.stream("prediction gradient sum", OpKind::residual, Phase::data_grad, c.shard, 2 * h,
                      h, {dy, dx});
    if (c.layout.recompute == Recompute::full) layer_again(out, layer, saved.layer);
    dy = layer_backward(out, layer, dy, saved.layer);
    const int table = embedding_here            ? -1
                      : c.model.tied_embeddings ? c.model.layers
                                                : c.model.layers + 1;
    dx = project_backward(out, dy, saved, out.dense_gradient_of(table));
  }
  return dx;
}

}  // namespace steploom
