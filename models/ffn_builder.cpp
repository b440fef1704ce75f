// A dense feed-forward part (also a shared expert), forward and backward.
#include <string>

#include "models/emitter.h"

namespace steploom {

TensorId ffn_forward(Emitter& out, std::string_view name, TensorId normed, std::int64_t width,
                     bool gated, FfnSaved& saved) {
  const BuildContext& c = out.c;
  const std::string n(name);
  const std::int64_t h = c.model.hidden;
  const std::int64_t f = width / c.layout.tp;
  const std::int64_t wide = gated ? 2 * f : f;
  saved.input = normed;
  const TensorId x = out.gather(n + " input gather", normed, h, Phase::forward);
  saved.hidden = out.linear(n + " up", x, c.tokens, wide, h);
  saved.activated = out.stream(n + " activation", OpKind::activation, Phase::forward, c.tokens,
                               wide, f, {saved.hidden});
  const TensorId y = out.linear(n + " down", saved.activated, c.tokens, h, f);
  return out.reduce(n + " reduce", y, h, Phase::forward);
}

TensorId ffn_backward(Emitter& out, std::string_view name, TensorId dy, std::int64_t width,
                      bool gated, const FfnSaved& saved) {
  const BuildContext& c = out.c;
  const std::string n(name);
  const std::int64_t h = c.model.hidden;
  const std::int64_t f = width / c.layout.tp;
  const std::int64_t wide = gated ? 2 * f : f;
  const TensorId full = out.gather(n + " gradient gather", dy, h, Phase::data_grad);
  const TensorId d_act = out.linear_data_grad(n + " down", full, c.tokens, h, f);
  out.linear_weight_grad(n + " down", saved.activated, full, c.tokens, h, f);
  const TensorId d_hidden = out.stream(n + " activation", OpKind::activation, Phase::data_grad,
                                       c.tokens, wide + f, wide, {d_act, saved.hidden});
  const TensorId x = out.gather(n + " input gather", saved.input, h, Phase::weight_grad);
  const TensorId dx = out.linear_data_grad(n + " up", d_hidden, c.tokens, wide, h);
  const TensorId reduced = out.reduce(n + " input gradient reduce", dx, h, Phase::data_grad);
  out.linear_weight_grad(n + " up", x, d_hidden, c.tokens, wide, h);
  return reduced;
}

}  // namespace steploom
