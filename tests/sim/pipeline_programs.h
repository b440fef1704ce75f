// Pipelines with one-forward-one-backward (1F1B) order, for tests and benchmarks.
//
// Stage s runs min(p - 1 - s, m) forwards, then one forward and one backward in turn, then the
// remaining backwards. Every stage has four templates' worth of roles: receive and send
// activations, receive and send gradients, each on its own communicator and stream.
#pragma once

#include <string>
#include <vector>

#include "sim/program.h"

namespace steploom::testing {

struct PipelineShape {
  std::uint32_t stages = 2, micro_batches = 2;
  Picoseconds forward = 1000, backward = 2000;  // one block, its messages excluded
  Picoseconds message = 0;                      // one send
};

// Slots of a stage in 1F1B order: (block, micro-batch) pairs, block 0 = forward, 1 = backward.
inline std::vector<Slot> one_f_one_b(std::uint32_t p, std::uint32_t m, std::uint32_t stage) {
  std::vector<Slot> slots;
  const auto add = [&slots](SlotKind kind, std::uint32_t micro_batch) {
    Slot slot;
    slot.block = kind == SlotKind::forward ? 0 : 1;
    slot.kind = kind;
    slot.micro_batch = static_cast<std::int32_t>(micro_batch);
    slots.push_back(slot);
  };
  const std::uint32_t warm_up = std::min(p - 1 - stage, m);
  for (std::uint32_t f = 0; f < warm_up; ++f) add(SlotKind::forward, f);
  for (std::uint32_t b = 0; b < m; ++b) {
    if (warm_up + b < m) add(SlotKind::forward, warm_up + b);
    add(SlotKind::backward, b);
  }
  return slots;
}

enum PipelineRole : std::uint16_t { kForwardIn, kForwardOut, kBackwardIn, kBackwardOut };

// Devices and communicators of a pipeline; at its two ends a stage talks to nobody, on a
// communicator of its own. `blocks` holds forward and backward; the caller finalizes.
inline Program pipeline(std::uint32_t p, std::uint32_t m, std::vector<BlockTemplate> blocks,
                        std::uint16_t streams) {
  Program program;
  program.blocks = std::move(blocks);
  for (std::uint32_t s = 0; s < p; ++s) {
    Device device;
    device.name = "stage " + std::to_string(s);
    device.stage = static_cast<std::int32_t>(s);
    device.streams = streams;
    device.first_slot = static_cast<std::uint32_t>(program.slots.size());
    const std::vector<Slot> slots = one_f_one_b(p, m, s);
    device.slot_count = static_cast<std::uint32_t>(slots.size());
    program.slots.insert(program.slots.end(), slots.begin(), slots.end());
    program.devices.push_back(device);
  }
  const auto communicator = [&program](std::string name, std::vector<std::uint32_t> members) {
    program.communicators.push_back({std::move(name), std::move(members), {}});
    return static_cast<std::uint32_t>(program.communicators.size() - 1);
  };
  for (Device& device : program.devices) device.communicator_of_role.resize(4);
  for (std::uint32_t s = 0; s < p; ++s) {
    std::vector<std::uint32_t>& role = program.devices[s].communicator_of_role;
    if (s == 0) {
      role[kForwardIn] = communicator("nothing before", {s});
      role[kBackwardOut] = role[kForwardIn];
    }
    if (s + 1 == p) {
      role[kForwardOut] = communicator("nothing after", {s});
      role[kBackwardIn] = role[kForwardOut];
      continue;
    }
    std::vector<std::uint32_t>& next = program.devices[s + 1].communicator_of_role;
    role[kForwardOut] = next[kForwardIn] = communicator("activations", {s, s + 1});
    role[kBackwardIn] = next[kBackwardOut] = communicator("gradients", {s, s + 1});
  }
  return program;
}

// Blocks of three operators: receive, compute, send; eager sends that cost the sender nothing.
inline Program simple_pipeline(const PipelineShape& shape) {
  const auto block = [&shape](const char* name, Picoseconds compute, PipelineRole in,
                              PipelineRole out) {
    BlockTemplate b;
    b.name = name;
    OpTemplate receive, work, send;
    receive.role = in;
    receive.stream = static_cast<std::uint16_t>(1 + in);
    work.duration = compute;
    work.deps = 1;
    send.role = out;
    send.stream = static_cast<std::uint16_t>(1 + out);
    send.duration = shape.message;
    send.deps = 1;
    send.first_dep = 1;
    receive.eager = send.eager = send.sender = true;
    receive.sender = false;
    b.ops = {receive, work, send};
    b.deps = {0, 1};
    b.infos.resize(3);
    b.infos[0].name = "receive";
    b.infos[1].name = name;
    b.infos[2].name = "send";
    return b;
  };
  Program program = pipeline(shape.stages, shape.micro_batches,
                             {block("F", shape.forward, kForwardIn, kForwardOut),
                              block("B", shape.backward, kBackwardIn, kBackwardOut)},
                             5);
  finalize(program);
  return program;
}

}  // namespace steploom::testing
