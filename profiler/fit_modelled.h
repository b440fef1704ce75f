// Parts of a profile that no table has a row of its GPU for.
//
// Such a part is either taken over from a GPU that was measured, as efficiency over the roofline of
// each (the same grid over other peaks), or given one stated efficiency at every shape. Collectives
// that nothing measured are rings with NCCL's own constants. The profile names these parts
// (Profile::modelled), and what is predicted from them is never called fitted.
#pragma once

#include <string_view>

#include "profiler/fit_table.h"
#include "sim/cluster.h"
#include "sim/profile.h"

namespace steploom {

// One efficiency at every shape: FLOP/s over the device's peak, bytes over its links' bandwidth.
struct RooflineShares {
  // cuBLAS reaches 83 of 125 TFLOP/s on a V100 (Markidis et al., arXiv 1803.04014).
  double matmul = 83.0 / 125;
  double grouped_matmul = 83.0 / 125;  // assumed: as one dense product
  double attention = 83.0 / 250;       // assumed: half of that
  // NCCL counts 20 GB/s for a 25 GB/s NVLink of Volta and Ampere (src/graph/topo.h).
  double nvlink = 20.0 / 25;
};

// Is there a row of the GPU (and of the routing, where one is named)?
bool has_rows(const MeasuredTable& table, std::string_view gpu, std::string_view routing = "");

// Sets the part and marks it as modelled. The profile's device must be set.
void take_over(Profile& profile, ModelledPart part, const Profile& like);
void model_roofline(Profile& profile, ModelledPart part, const Cluster& cluster,
                    const RooflineShares& shares = {});

}  // namespace steploom
