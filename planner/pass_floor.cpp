#include "planner/pass_floor.h"

#include <algorithm>
#include <utility>

namespace steploom {
namespace {

constexpr auto kCompute = static_cast<std::uint16_t>(StreamKind::compute);
constexpr std::uint16_t kFloorStream = kStreamKinds;

bool is_pass(const BlockTemplate& block) {
  return std::any_of(block.infos.begin(), block.infos.end(), [](const OpInfo& info) {
    return info.work.phase != Phase::optimizer && info.layer >= 0;
  });
}

bool is_forward(const BlockTemplate& block) {
  return std::none_of(block.infos.begin(), block.infos.end(), [](const OpInfo& info) {
    return info.work.phase != Phase::forward || info.recompute;
  });
}

// The block with the floor behind its first kernel.
BlockTemplate with_floor(const BlockTemplate& old, PassFloor& floor) {
  BlockTemplate out;
  out.name = old.name;
  const auto place = [&](std::uint32_t op) { return op > floor.first ? op + 1 : op; };
  const auto add = [&](OpTemplate op, const OpInfo& info, const std::vector<std::uint32_t>& deps) {
    op.first_dep = static_cast<std::uint32_t>(out.deps.size());
    op.deps = static_cast<std::uint16_t>(deps.size());
    out.deps.insert(out.deps.end(), deps.begin(), deps.end());
    out.ops.push_back(op);
    out.infos.push_back(info);
  };
  OpInfo nothing;
  nothing.work.phase = Phase::optimizer;  // of no pass
  floor.op = floor.first + 1;
  std::vector<std::uint32_t> deps;
  for (std::uint32_t i = 0; i < old.ops.size(); ++i) {
    const OpTemplate& op = old.ops[i];
    deps.clear();
    for (std::uint32_t d = 0; d < op.deps; ++d) deps.push_back(place(old.deps[op.first_dep + d]));
    if (floor.forward && i == floor.last && floor.last != floor.first) deps.push_back(floor.op);
    add(op, old.infos[i], deps);
    if (i != floor.first) continue;
    OpTemplate floor_op;
    floor_op.stream = kFloorStream;
    add(floor_op, nothing, {floor.first});
  }
  if (!floor.forward) {
    OpTemplate end;
    end.stream = kCompute;
    add(end, nothing, {floor.op});
  }
  floor.last = place(floor.last);
  return out;
}

}  // namespace

std::vector<PassFloor> add_pass_floors(Program& p) {
  std::vector<PassFloor> floors(p.blocks.size());
  for (std::size_t b = 0; b < p.blocks.size(); ++b) {
    BlockTemplate& block = p.blocks[b];
    block.accesses.clear();
    if (!is_pass(block)) continue;
    PassFloor& floor = floors[b];
    bool any = false;
    for (std::uint32_t i = 0; i < block.ops.size(); ++i) {
      const OpTemplate& op = block.ops[i];
      if (op.stream != kCompute) continue;
      if (!any) floor.first = i;
      any = true;
      floor.last = i;
    }
    if (!any) continue;
    floor.forward = is_forward(block);
    block = with_floor(block, floor);
  }
  for (SlotEdge& edge : p.edges) {
    const auto move = [&](std::uint32_t slot, std::uint32_t& op) {
      const PassFloor& floor = floors[p.slots[slot].block];
      if (floor.op != 0 && op >= floor.op) ++op;
    };
    move(edge.from_slot, edge.from_op);
    move(edge.to_slot, edge.to_op);
  }
  for (Device& device : p.devices) device.streams = kFloorStream + 1;
  p.stream_names.emplace_back("floor");
  finalize(p);
  return floors;
}

}  // namespace steploom
