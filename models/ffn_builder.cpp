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
  const bool norm_before =
      !c.model.is_moe(out.layer());  // a shared expert's is the routed ones' too
  const std::string up = n + " up", up_gather = n + " input gather";
  saved.hidden = gathered_linear(out, {up, up_gather, wide, h}, normed, norm_before);
  saved.activated = out.stream(n + " activation", OpKind::activation, Phase::forward, c.tokens,
                               wide, f, {saved.hidden});
  const std::string down = n + " down", reduce = n + " reduce";
  return linear_reduced(out, {down, reduce, h, f}, saved.activated);
}

TensorId ffn_backward(Emitter& out, std::string_view name, TensorId dy, std::int64_t width,
                      bool gated, const FfnSaved& saved) {
  const BuildContext& c = out.c;
  const std::string n(name);
  const std::int64_t h = c.model.hidden;
  const std::int64_t f = width / c.layout.tp;
  const std::int64_t wide = gated ? 2 * f : f;
  const std::string up = n + " up", up_gather = n + " input gather";
  const std::string down = n + " down", down_gather = n + " gradient gather";
  TensorId full = kNoTensor;
  const TensorId d_act = gathered_data_grad(out, {down, down_gather, h, f}, dy, full);
  out.linear_weight_grad(down, saved.activated, full, c.tokens, h, f);
  const TensorId d_hidden = out.stream(n + " activation", OpKind::activation, Phase::data_grad,
                                       c.tokens, wide + f, wide, {d_act, saved.hidden});
  return gathered_backward(out, {up, up_gather, wide, h}, n + " input gradient reduce", saved.input,
                           d_hidden);
}

}  // namespace steploom
