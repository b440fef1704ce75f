#include "planner/mesh_bound.h"

#include <algorithm>

#include "models/shapes.h"
#include "sim/step_clock.h"

namespace steploom {
namespace {

constexpr auto kCompute = static_cast<std::uint16_t>(StreamKind::compute);
constexpr auto kReceive = static_cast<std::uint16_t>(StreamKind::pp_recv);
constexpr auto kSend = static_cast<std::uint16_t>(StreamKind::pp_send);

void issue_at_once(OpTemplate& op) {
  op.launch = 0;
  op.stream_gap = 0;
  op.host_waits = false;
}

void free_of_time(OpTemplate& op) {
  issue_at_once(op);
  op.duration = 0;
  op.event_latency = 0;
}

}  // namespace

Layout mesh_of(const Layout& layout) {
  Layout mesh = layout;
  mesh.partition = {};
  mesh.dw = WeightPlacement::none;
  mesh.grad_micro = 0;
  mesh.a2a_first = false;
  return mesh;
}

MeshBound::MeshBound(const Setting& setting, const Layout& mesh, CostCache& costs,
                     BlockCache& blocks)
    : s_(setting), costs_(costs), lowered_(lower(setting, mesh, costs, blocks)) {
  const Program& p = lowered_.program;
  for (const BlockTemplate& block : p.blocks) ops_.push_back(block.ops);
  type_.resize(p.blocks.size());
  for (const Device& device : p.devices)
    for (std::uint32_t i = 0; i < device.slot_count; ++i)
      type_[p.slots[device.first_slot + i].block] = device.type;
  clock_ = p.clock;
  clock_of_type_ = p.clock_of_type;
}

void MeshBound::restore() {
  Program& p = lowered_.program;
  for (std::size_t b = 0; b < ops_.size(); ++b) p.blocks[b].ops = ops_[b];
  for (Device& device : p.devices) device.mhz = 0;
  p.clock = clock_;
  p.clock_of_type = clock_of_type_;
}

// Under one hardware connection what waits in line holds up others. What is drawn in parts, at
// which clock, is not known; nor in which order the scheduler has the variant's passes.
bool MeshBound::knows(const Setting& s, const Layout& variant) {
  return !s.work.routing.uneven() && s.runtime.hardware_connections != 1 &&
         !is_searched(variant.schedule) && !(variant.partition.cuts() && s.knows_clocks());
}

bool MeshBound::may_beat(const Layout& variant, Picoseconds step) {
  restore();
  if (variant.partition.cuts()) cut_forward(variant);
  if (variant.dw != WeightPlacement::none) free_weight_gradients();
  if (variant.grad_micro > 0) free_gathers();
  return ClockedProgram(lowered_.program).may_beat(step);
}

// Kernels keep their order in the mesh; a cut range has the same in another, all between the same
// two. Only the first may wait for what arrives.
void MeshBound::cut_forward(const Layout& variant) {
  const int most = variant.partition.parts;
  for (std::size_t b = 0; b < lowered_.program.blocks.size(); ++b) {
    BlockTemplate& block = lowered_.program.blocks[b];
    const Setting view = s_.of_type(type_[b]);
    CostCache& costs = costs_.of(view.costs);
    for (std::size_t i = 0; i < block.ops.size(); ++i) {
      const OpInfo& info = block.infos[i];
      OpTemplate& op = block.ops[i];
      if (info.work.phase != Phase::forward || info.recompute) continue;
      if (op.stream == kReceive || op.stream == kSend) continue;
      if (op.stream != kCompute) {
        free_of_time(op);
        continue;
      }
      issue_at_once(op);
      bool receives = false;
      for (std::uint32_t d = 0; d < op.deps; ++d)
        receives = receives || block.ops[block.deps[op.first_dep + d]].stream == kReceive;
      if (!receives) op.event_latency = 0;
      for (int k = variant.partition.program ? 2 : most; k <= most; ++k)
        if (rows_to_cut(info.work) % k == 0)
          op.duration = std::min(
              op.duration,
              k * costs.cost({part_of(info.work, k), GroupShape{}, variant.ctas_of(info.group), k})
                      .time);
    }
  }
}

// Nor do those behind them in the stream wait for what they read.
void MeshBound::free_weight_gradients() {
  for (BlockTemplate& block : lowered_.program.blocks)
    for (std::size_t i = 0; i < block.ops.size(); ++i) {
      if (block.infos[i].work.phase != Phase::weight_grad) continue;
      OpTemplate& op = block.ops[i];
      if (op.stream == kCompute && op.role == kNoRole)
        free_of_time(op), op.deps = 0;
      else
        op.launch = 0;
    }
}

// Parameters that are gathered in the parts in which their gradients were reduced.
void MeshBound::free_gathers() {
  for (BlockTemplate& block : lowered_.program.blocks)
    for (std::size_t i = 0; i < block.ops.size(); ++i) {
      const OpInfo& info = block.infos[i];
      if (info.work.phase != Phase::weight_grad &&
          (info.group == CommGroup::dp || info.group == CommGroup::expert_dp))
        free_of_time(block.ops[i]);
    }
}

}  // namespace steploom
