#include "planner/certificate.h"

#include <algorithm>
#include <array>

#include "sim/relax.h"

namespace steploom {
namespace {

bool of_gradients(const OpInfo& info) {
  return info.work.phase == Phase::weight_grad;
}

// The longest path with some operators free, and no kernel waiting for what is free alone.
template <class Free>
Picoseconds path_without(const Program& program, const Free& free) {
  Program copy = program;
  for (std::size_t b = 0; b < copy.blocks.size(); ++b) {
    BlockTemplate& block = copy.blocks[b];
    for (std::size_t i = 0; i < block.ops.size(); ++i) {
      if (!free(block.infos[i])) continue;
      OpTemplate& op = block.ops[i];
      op.duration = op.launch = 0;
      op.varies = kOneDuration;
      op.stream_gap = op.event_latency = 0;
      if (op.role == kNoRole) op.deps = 0;
    }
  }
  std::erase_if(copy.edges, [&](const SlotEdge& e) {
    const std::uint32_t b = copy.slots[e.to_slot].block;
    return copy.blocks[b].ops[e.to_op].role == kNoRole && free(copy.blocks[b].infos[e.to_op]);
  });
  finalize(copy);
  return relaxed_makespan(copy);
}

void add_loads(const Program& p, Certificate& out) {
  std::array<StepFloor, kStreamKinds> most;
  for (const Device& d : p.devices) {
    std::array<Picoseconds, kStreamKinds> load{};
    ExchangeFloor backward;
    for (std::uint32_t s = d.first_slot; s < d.first_slot + d.slot_count; ++s) {
      const BlockTemplate& b = p.blocks[p.slots[s].block];
      for (std::size_t i = 0; i < b.ops.size(); ++i) {
        const Picoseconds time = duration_in(p, p.slots[s], b.ops[i]);
        load[b.ops[i].stream] += time;
        if (p.slots[s].kind != SlotKind::backward) continue;
        if (b.infos[i].work.kind == OpKind::all_to_all && b.infos[i].group == CommGroup::ep)
          backward.busy += time;
        if (of_gradients(b.infos[i]) && b.ops[i].role == kNoRole) backward.beside += time;
      }
    }
    for (std::size_t k = 0; k < load.size(); ++k)
      if (load[k] > most[k].least)
        most[k] = {std::string(name_of(static_cast<StreamKind>(k))) + " of " + d.name, load[k],
                   true};
    if (backward.busy > out.backward.busy) out.backward = backward;
  }
  for (StepFloor& f : most)
    if (f.least > 0) out.floors.push_back(std::move(f));
}

}  // namespace

Certificate certify(const Program& p, Picoseconds step) {
  Certificate out;
  out.step = step;
  add_loads(p, out);
  for (const StepFloor& f : out.floors) out.placed = std::max(out.placed, f.least);
  const Picoseconds data = path_without(p, of_gradients);
  out.placed = std::max(out.placed, data);
  out.floors.push_back({"path without weight gradients and their reductions", data});
  out.floors.push_back({"path without communication", path_without(p, [](const OpInfo& info) {
                          return is_communication(info.work.kind);
                        })});
  out.floors.push_back({"path as issued", relaxed_makespan(p)});
  std::stable_sort(out.floors.begin(), out.floors.end(),
                   [](const StepFloor& a, const StepFloor& b) { return a.least > b.least; });
  return out;
}

}  // namespace steploom
