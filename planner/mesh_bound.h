// What the variants of a layout cannot beat, from one Program: that of the layout as the runtime
// issues it, its *mesh*. A variant has weight gradients placed (Layout::dw), ranges of the forward
// pass in parts (Layout::partition), or both. For each the mesh's Program is relaxed anew, with
//
//   * weight gradients that are placed free: what a backward pass's other kernels wait for stays.
//     A reduction waits for what its weight gradients read, and the pass takes no less than all of
//     its kernels, one after another;
//   * the forward pass of a variant in parts as the time of its kernels, one after another, whole
//     or in parts, whichever is less, its exchanges free; and no less than cut_time.h says where
//     the variant names its ranges.
//
// The bubble, messages and reductions of gradients stay in it, with what links allow, and nothing
// is built for a variant. Not under uneven routing, where durations are those of slots.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "models/layout.h"
#include "planner/lower.h"
#include "planner/pass_floor.h"
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
  // False only if no replay takes less of the variant with gradients reduced in whatever way.
  bool may_beat_reduced(const Layout& variant, Picoseconds step);

 private:
  // What of a variant a bound depends on.
  struct Asked {
    bool placed = false;   // weight gradients
    bool gathers = false;  // parameters in parts
    bool reduced = false;  // in whatever way
    int parts = 1;
    bool program = false;
    auto operator<=>(const Asked&) const = default;
  };
  bool may_beat(const Layout& variant, Asked asked, Picoseconds step);
  void restore();
  void cut_forward(const Layout& variant, const std::vector<Picoseconds>& least);
  void free_weight_gradients();
  void free_gathers();
  void free_reductions();
  std::vector<Picoseconds> forward_times(const Layout& variant);
  // Of one of an operator's equal parts; by how many parts, block and operator.
  const std::vector<std::vector<Picoseconds>>& part_times(const Layout& variant, int parts);

  const Setting& s_;
  CostCache& costs_;
  Lowered lowered_;
  std::vector<BlockTemplate> whole_;               // forward passes, as lowered; others are empty
  std::vector<PassFloor> floors_;                  // by block
  std::vector<std::vector<OpTemplate>> ops_;       // by block, as lowered
  std::vector<std::vector<std::uint32_t>> waits_;  // by block: reductions that wait for what their
                                                   // weight gradients read, named last
  std::map<int, std::vector<std::vector<Picoseconds>>> part_times_;
  std::map<Partition, std::vector<Picoseconds>> forward_times_;
  // Where no clock is to be found: passes that take longer make no step shorter.
  struct Relaxed {
    std::vector<Picoseconds> forward;  // by block: no less
    Picoseconds makespan = 0;
  };
  std::map<Asked, std::vector<Relaxed>> relaxed_;
};

}  // namespace steploom
