// Random sound Programs: drawn in one global order in which they can be run, so never deadlocked.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "sim/contention.h"
#include "sim/program.h"

namespace steploom::testing {

// xorshift64*: the same numbers with every standard library.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 0x1234567u) {}
  std::uint32_t below(std::uint32_t n) {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<std::uint32_t>(((state_ * 0x2545f4914f6cdd1du) >> 33) % n);
  }
  bool chance(std::uint32_t percent) { return below(100) < percent; }

 private:
  std::uint64_t state_;
};

inline constexpr std::uint16_t kRandomClasses = 4;

struct RandomShape {
  std::uint32_t operators = 120;     // kernels and members of collectives, about
  bool tensors = false;              // every dependency carries one
  std::vector<std::uint32_t> place;  // device i of the draw becomes number place[i]; empty: i
};

// Streams 0 and 1 compute, 2 and 3 communicate.
inline Program random_program(std::uint64_t seed, const RandomShape& shape = {}) {
  Random random(seed);
  const std::uint32_t devices = 1 + random.below(5);
  std::vector<std::uint32_t> place = shape.place;
  if (place.empty()) {
    place.resize(devices);
    std::iota(place.begin(), place.end(), 0u);
  }
  struct Draft {
    Device device;
    std::vector<BlockTemplate> slots;
    std::vector<SlotEdge> edges;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> ops;  // slot, index
    std::vector<ProgramTensor> tensors;
  };
  std::vector<Draft> drafts(devices);
  for (std::uint32_t d = 0; d < devices; ++d) {
    drafts[d].device.name = "gpu" + std::to_string(d);
    drafts[d].device.streams = 4;
    drafts[d].device.sms = static_cast<std::uint16_t>(64 + random.below(80));
    drafts[d].device.hardware_connections = random.chance(25) ? 1 : 32;
    drafts[d].slots.resize(1);
  }
  Program p;
  p.links = 3;
  p.kernel_classes.assign(kRandomClasses, "class");
  const std::uint32_t communicators = 1 + random.below(6);
  for (std::uint32_t c = 0; c < communicators; ++c) {
    Communicator communicator;
    communicator.name = "comm" + std::to_string(c);
    for (std::uint32_t d = 0; d < devices; ++d)
      if (random.chance(60)) communicator.members.push_back(d);
    if (communicator.members.empty()) communicator.members.push_back(random.below(devices));
    for (const std::uint32_t d : communicator.members)
      drafts[d].device.communicator_of_role.resize(communicators, communicators);
    for (std::uint32_t link = 0; link < p.links; ++link)
      if (random.chance(30)) communicator.uses.push_back({link, 1 + random.below(kFullRate)});
    p.communicators.push_back(communicator);
  }

  const auto add = [&](std::uint32_t d, OpTemplate op, std::string name) {
    Draft& draft = drafts[d];
    if (random.chance(10)) draft.slots.emplace_back();
    const auto slot = static_cast<std::uint32_t>(draft.slots.size() - 1);
    BlockTemplate& block = draft.slots.back();
    const auto index = static_cast<std::uint32_t>(block.ops.size());
    op.launch = random.chance(50) ? random.below(2000) : 0;
    op.host_waits = random.chance(4);
    op.kernel_class = static_cast<std::uint16_t>(random.below(kRandomClasses));
    op.priority = static_cast<std::int8_t>(random.below(3));
    op.alloc = random.below(100);
    op.free = random.below(100);
    op.first_dep = static_cast<std::uint32_t>(block.deps.size());
    for (std::uint32_t k = random.below(3); k > 0 && !draft.ops.empty(); --k) {
      const std::uint32_t back =
          random.below(std::min<std::uint32_t>(8, static_cast<std::uint32_t>(draft.ops.size())));
      const auto [from_slot, from] = draft.ops[draft.ops.size() - 1 - back];
      if (from_slot == slot)
        block.deps.push_back(from);
      else
        draft.edges.push_back({from_slot, from, slot, index});
      if (!shape.tensors) continue;
      // A tensor of its own, written by the one and read by the other.
      const auto tensor = static_cast<std::uint32_t>(draft.tensors.size());
      draft.tensors.push_back({"t" + std::to_string(tensor), 1, TensorScope::micro_batch});
      draft.slots[from_slot].accesses.push_back({from, tensor, AccessMode::write});
      block.accesses.push_back({index, tensor, AccessMode::read});
    }
    op.deps = static_cast<std::uint16_t>(block.deps.size() - op.first_dep);
    draft.ops.emplace_back(slot, index);
    block.ops.push_back(op);
    block.infos.emplace_back().name = std::move(name);
  };
  for (std::uint32_t i = 0; i < shape.operators; ++i) {
    OpTemplate op;
    op.duration = random.chance(10) ? 0 : random.below(20'000);
    op.wave = random.below(3000);
    if (random.chance(65)) {
      op.stream = static_cast<std::uint16_t>(random.below(2));
      op.sms_wanted = static_cast<std::uint16_t>(random.below(200));
      op.sms_least = static_cast<std::uint16_t>(1 + random.below(3));
      op.persistent = random.chance(20);
      add(random.below(devices), op, "k" + std::to_string(i));
      continue;
    }
    const std::uint32_t c = random.below(communicators);
    const std::vector<std::uint32_t>& members = p.communicators[c].members;
    op.role = static_cast<std::uint16_t>(c);
    op.stream = static_cast<std::uint16_t>(2 + random.below(2));
    op.sms_wanted = static_cast<std::uint16_t>(1 + random.below(16));
    op.persistent = true;
    op.link_share = static_cast<std::uint16_t>(random.below(0xffff));
    op.eager = members.size() == 2 && random.chance(50);
    const std::uint32_t sender = random.below(2);
    for (std::uint32_t m = 0; m < members.size(); ++m) {
      op.sender = op.eager && m == sender;
      op.duration += random.below(100);
      add(members[m], op, "c" + std::to_string(i));
    }
  }

  // Number the devices, and their slots after them.
  std::vector<std::uint32_t> drawn(devices);
  for (std::uint32_t d = 0; d < devices; ++d) drawn[place[d]] = d;
  for (Communicator& c : p.communicators)
    for (std::uint32_t& member : c.members) member = place[member];
  for (const std::uint32_t d : drawn) {
    Draft& draft = drafts[d];
    // Roles must name communicators that the device is in: the others' are never used.
    std::uint32_t own = 0;
    for (std::uint32_t c = 0; c < communicators; ++c) {
      const auto& members = p.communicators[c].members;
      if (std::find(members.begin(), members.end(), place[d]) == members.end()) continue;
      own = c;
      draft.device.communicator_of_role[c] = c;
    }
    for (std::uint32_t& c : draft.device.communicator_of_role)
      if (c == communicators) c = own;
    draft.device.tensor_table = static_cast<std::uint32_t>(p.tensor_tables.size());
    p.tensor_tables.push_back(std::move(draft.tensors));
    draft.device.first_slot = static_cast<std::uint32_t>(p.slots.size());
    draft.device.slot_count = static_cast<std::uint32_t>(draft.slots.size());
    for (SlotEdge edge : draft.edges) {
      edge.from_slot += draft.device.first_slot;
      edge.to_slot += draft.device.first_slot;
      p.edges.push_back(edge);
    }
    for (BlockTemplate& block : draft.slots) {
      std::stable_sort(block.accesses.begin(), block.accesses.end(),
                       [](const Access& a, const Access& b) { return a.op < b.op; });
      Slot slot;
      slot.block = static_cast<std::uint32_t>(p.blocks.size());
      p.slots.push_back(slot);
      block.name = "S";
      p.blocks.push_back(std::move(block));
    }
    p.devices.push_back(std::move(draft.device));
  }
  finalize(p);
  return p;
}

inline std::uint32_t random_device_count(std::uint64_t seed) {
  return 1 + Random(seed).below(5);
}

inline Contention random_contention(std::uint64_t seed) {
  Random random(seed + 77);
  Contention c = neutral_contention(kRandomClasses);
  for (Contention::ShareCurve& curve : c.share)
    for (std::uint32_t i = 0; i <= 16; ++i)
      curve[i] = 1 + (kFullRate - 1) * i / 16 * (80 + random.below(21)) / 100;
  for (PairRates& pair : c.beside) {
    if (random.below(2) == 0) pair.own = {2, 12};
    pair.other = {4, 8, 16};
    for (std::size_t i = 0; i < (pair.own.empty() ? 3U : 6U); ++i)
      pair.rates.push_back(20'000 + random.below(kFullRate - 20'000 + 1));
  }
  for (Picoseconds& wave : c.priority_wave) wave = random.below(3);
  return c;
}

}  // namespace steploom::testing
