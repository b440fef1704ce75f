// Fitting a single grouped product to measurements of a whole fused expert layer.
//
// The table times the layer as an inference engine runs it, on one rank: copy every token's row to
// its experts (expand), grouped product to twice the expert width with the gated activation in its
// epilogue, grouped product back, and the weighted sum into token order (finalize). With T tokens
// in all, top_k choices and E experts over ep ranks, a rank has E/ep experts with T·top_k/E rows
// each when routing is balanced, and expert width F/tp:
//
//   layer = product(rows, 2F/tp, hidden) + product(rows, hidden, F/tp) + moving
//   moving = constant + bytes / (0.8 · memory bandwidth)
//   bytes  = 2·(3·rows·experts·hidden + T·hidden)
//
// where expand reads and writes a row, and finalize reads a row and writes tokens. `moving` is
// physics with no fitted part; both products come from one surface, so a layer is one equation in
// the surface's values at two places. It is not linear in them (the logarithm of a sum), so the fit
// is Gauss-Newton: linearise, solve, repeat. The activation is taken to be in the epilogue because
// with its own pass over memory the products would have to run at 92 % of peak, which no dense
// product does.
//
// Some layer shapes run at several times the roofline at any size, presumably on a kernel that was
// not tuned for them. They say nothing of a grouped product as training libraries run it, and whole
// shapes are left out if any of their points is beyond kFellBack times its base.
#pragma once

#include <cstdint>
#include <vector>

#include "profiler/fit_score.h"
#include "profiler/fit_surface.h"
#include "profiler/fit_table.h"
#include "sim/kernel_model.h"
#include "sim/profile.h"

namespace steploom {

inline constexpr double kFellBack = 2;

// One measured layer.
struct ExpertLayer {
  ProductShape up;       // tokens to gate and up projection
  ProductShape down;     // back to the hidden width
  double moving_us = 0;  // everything that is not a product
  double us = 0;         // measured
};

ExpertLayer expert_layer(const ProfiledDevice& device, double tokens, double hidden,
                         double expert_ffn, double top_k, double experts, double tp, double ep);

// Did a layer measured at `us` run on a slow kernel?
bool fell_back(const ProfiledDevice& device, const ExpertLayer& layer, double us);

// Predicted time of a layer, in microseconds.
double layer_us(const Profile& profile, const ExpertLayer& layer);

// Sets profile.grouped_matmul from all layers but those of fold `without` (none: from all).
void fit_layers(Profile& profile, const std::vector<ExpertLayer>& layers, const Folds& folds = {},
                int without = -1);

// Reads the balanced rows of the profile's device, fits, and adds the leave-out errors.
void fit_grouped(Profile& profile, const MeasuredTable& table);

}  // namespace steploom
