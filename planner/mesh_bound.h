// What the variants of a layout cannot beat, from one Program: that of the layout as the runtime
// issues it, its *mesh*. A variant has weight gradients placed (Layout::dw), ranges of the forward
// pass in parts (Layout::partition), or both. For each the mesh's Program is relaxed anew, with
//
//   * weight gradients that are placed free: what a backward pass's other kernels wait for stays;
//   * the forward pass of a variant in parts as the time of its kernels, one after another, whole
//     or in parts, whichever is less; its exchanges are free.
//
// The bubble, messages and reductions of gradients stay in it, and nothing is built for a variant.
// Not under uneven routing, where durations are those of slots.
#pragma once

#include <vector>

#include "models/layout.h"
#include "planner/lower.h"
#include "planner/setting.h"
#include "sim/cost_cache.h"

namespace steploom {

// One layout's mesh: itself with nothing cut, placed or put off. Reductions in parts, and those
// that wait for all-to-alls, take no less than whole ones at once.
Layout mesh_of(const Layout& layout);

class MeshBound {
 public:
  // `mesh`: mesh_of() of all that it is asked about.
  MeshBound(const Setting& setting, const Layout& mesh, CostCache& costs, BlockCache& blocks);

  // Is there a bound of such a variant?
  static bool knows(const Setting& setting, const Layout& variant);
  // False only if no replay of the variant takes less.
  bool may_beat(const Layout& variant, Picoseconds step);

 private:
  void restore();
  void cut_forward(const Layout& variant);
  void free_weight_gradients();
  void free_gathers();

  const Setting& s_;
  CostCache& costs_;
  Lowered lowered_;
  ClockLaw clock_;  // as lowered
  std::vector<ClockLaw> clock_of_type_;
  std::vector<std::size_t> type_;             // by block, of the device that runs it
  std::vector<std::vector<OpTemplate>> ops_;  // by block, as lowered
};

}  // namespace steploom
