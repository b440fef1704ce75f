// Periods that recur, found and skipped, without a picosecond's difference.
#include "sim/steady_state.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "sim/contention.h"
#include "sim/engine.h"
#include "tests/sim/pipeline_programs.h"
#include "tests/sim/random_programs.h"

namespace steploom {
namespace {

using testing::PipelineShape;
using testing::Random;

Replay replayed(const Program& program, const Contention& tables, bool skip_periods) {
  ReplayOptions options;
  options.contention = &tables;
  options.skip_periods = skip_periods;
  return replay(program, options);
}

SteadyState only_group(const Program& program) {
  const std::vector<SteadyState> groups = find_steady_states(FlatProgram(program));
  EXPECT_EQ(groups.size(), 1U);
  return groups.empty() ? SteadyState{} : groups.front();
}

TEST(SteadyState, OneForwardOneBackwardRepeatsEveryTwoSlots) {
  const Program program = testing::simple_pipeline({3, 20});
  const SteadyState steady = only_group(program);
  ASSERT_EQ(steady.devices.size(), 3U);
  for (std::size_t d = 0; d < 3; ++d) EXPECT_EQ(steady.devices[d].period, 2U);
  // Stage 0: two forwards of warm-up, 18 pairs, two backwards; each pair but the first recurs.
  EXPECT_EQ(steady.devices[0].first, program.devices[0].first_slot + 2);
  EXPECT_EQ(steady.devices[0].last, program.devices[0].first_slot + 2 + 36);
  EXPECT_EQ(steady.devices[2].first, program.devices[2].first_slot);
  EXPECT_EQ(steady.devices[2].last, program.devices[2].first_slot + 40);
  int joints = 0;
  for (const auto& [communicator, operators] : steady.issued) {
    if (program.communicators[communicator].members.size() != 2) continue;
    ++joints;
    EXPECT_EQ(operators, 1U) << program.communicators[communicator].name;
  }
  EXPECT_EQ(joints, 4);  // two ways between three stages
}

TEST(SteadyState, TooFewMicroBatchesHaveNone) {
  EXPECT_TRUE(find_steady_states(FlatProgram(testing::simple_pipeline({4, 6}))).empty());
}

TEST(SteadyState, AnOddEdgeEndsIt) {
  Program program = testing::simple_pipeline({1, 40});
  program.edges.push_back({20, 1, 23, 1});
  finalize(program);
  const SteadyState steady = only_group(program);
  ASSERT_EQ(steady.devices.size(), 1U);
  // Around the middle, slot 40: slots from 24 on have the same edges as two slots later.
  EXPECT_EQ(steady.devices[0].first, 24U);
  EXPECT_EQ(steady.devices[0].last, 80U);
}

// Two chunks in groups of four micro-batches: every two slots are alike within a group, but what
// recurs to the end is a group on both chunks.
TEST(SteadyState, AnInterleavedPipelineRepeatsEveryGroup) {
  Program program = testing::simple_pipeline({1, 52});
  const BlockTemplate forward = program.blocks[0], backward = program.blocks[1];
  program.blocks.push_back(forward);
  program.blocks.push_back(backward);
  for (std::uint32_t s = 0; s < 104; ++s) {
    const std::uint32_t chunk = s / 8 % 2;
    program.slots[s].block = s % 2 == 0 ? 2 * chunk : 1 + 2 * (1 - chunk);
    program.slots[s].micro_batch = static_cast<std::int32_t>(s / 16 * 4 + s / 2 % 4);
  }
  finalize(program);
  const SteadyState steady = only_group(program);
  ASSERT_EQ(steady.devices.size(), 1U);
  EXPECT_EQ(steady.devices[0].period, 16U);
  EXPECT_EQ(steady.devices[0].first, 0U);
  EXPECT_EQ(steady.devices[0].last, 104U);
}

TEST(SteadyState, SkipsMostOfALongPipeline) {
  const Program program = testing::simple_pipeline({4, 500, 1000, 2000, 100});
  const Contention tables = neutral_contention(1);
  const Replay all = replayed(program, tables, false), skipping = replayed(program, tables, true);
  EXPECT_EQ(all.skipped, 0U);
  EXPECT_GT(skipping.skipped, program.op_count * 9 / 10);
  EXPECT_EQ(all.start, skipping.start);
  EXPECT_EQ(all.end, skipping.end);
}

// Stages of their own speeds; kernels beside each other, short of SMs; hosts that are slow, or
// wait.
Program random_pipeline(Random& random) {
  PipelineShape shape;
  shape.stages = 1 + random.below(5);
  shape.micro_batches = 40 + random.below(60);
  shape.message = random.below(400);
  Program p = testing::simple_pipeline(shape);
  const std::vector<BlockTemplate> blocks = p.blocks;
  p.blocks.clear();
  p.kernel_classes.assign(testing::kRandomClasses, "class");
  p.links = 2;
  const bool slow_hosts = random.chance(20), hosts_wait = random.chance(30);
  for (Device& device : p.devices) {
    const auto first = static_cast<std::uint32_t>(p.blocks.size());
    device.hardware_connections = random.chance(25) ? 1 : 32;
    for (BlockTemplate block : blocks) {
      OpTemplate side = block.ops[1];  // a second kernel, on a stream of its own
      side.stream = 5;
      side.deps = 0;
      block.ops.insert(block.ops.begin() + 1, side);
      block.deps = {0, 2};
      block.infos.resize(4);
      block.ops[2].first_dep = 0;
      block.ops[3].first_dep = 1;
      for (OpTemplate& op : block.ops) {
        op.launch = slow_hosts ? random.below(900) : random.below(50);
        op.stream_gap = random.below(20);
        op.event_latency = random.below(50);
        if (op.role != kNoRole) {
          op.sms_wanted = static_cast<std::uint16_t>(random.below(20));
          op.priority = static_cast<std::int8_t>(random.chance(50) ? -1 : 0);
          op.link_share = static_cast<std::uint16_t>(random.below(65536));
          continue;
        }
        op.duration = 200 + random.below(2000);
        op.kernel_class = static_cast<std::uint16_t>(random.below(testing::kRandomClasses));
        op.sms_wanted = static_cast<std::uint16_t>(1 + random.below(device.sms));
        op.persistent = random.chance(50);
        op.wave = op.duration / (1 + random.below(5));
      }
      block.ops[2].host_waits = hosts_wait && random.chance(50);
      p.blocks.push_back(block);
    }
    device.streams = 6;
    for (std::uint32_t s = device.first_slot; s < device.first_slot + device.slot_count; ++s)
      p.slots[s].block += first;
  }
  for (Communicator& c : p.communicators)
    if (random.chance(70)) c.uses.push_back({random.below(2), 1 + random.below(kFullRate)});
  finalize(p);
  return p;
}

// The same stages without messages, which meet once, when all is done.
Program apart(Program p) {
  for (BlockTemplate& block : p.blocks)
    for (OpTemplate& op : block.ops) {
      op.role = kNoRole;
      op.eager = op.sender = false;
    }
  Communicator all{"all", {}, {}};
  OpTemplate meet;
  meet.duration = 500;
  meet.role = 0;
  BlockTemplate last;
  last.name = "last";
  last.ops = {meet};
  last.infos.resize(1);
  p.blocks.push_back(last);
  std::vector<Slot> slots;
  for (std::uint32_t d = 0; d < p.devices.size(); ++d) {
    Device& device = p.devices[d];
    const auto own = p.slots.begin() + device.first_slot;
    device.first_slot = static_cast<std::uint32_t>(slots.size());
    slots.insert(slots.end(), own, own + device.slot_count++);
    slots.push_back({static_cast<std::uint32_t>(p.blocks.size() - 1), -1, SlotKind::optimizer, 0});
    device.communicator_of_role = {0};
    all.members.push_back(d);
  }
  if (p.links > 0) all.uses.push_back({0, kFullRate});
  p.slots = std::move(slots);
  p.edges.clear();
  p.communicators = {all};
  finalize(p);
  return p;
}

TEST(SteadyState, StagesApartRepeatEachByItself) {
  const Program program = apart(testing::simple_pipeline({4, 100, 1000, 2000}));
  const std::vector<SteadyState> groups = find_steady_states(FlatProgram(program));
  ASSERT_EQ(groups.size(), 4U);
  for (std::uint32_t d = 0; d < 4; ++d) {
    ASSERT_EQ(groups[d].devices.size(), 1U);
    EXPECT_EQ(groups[d].devices[0].device, d);
    EXPECT_TRUE(groups[d].issued.empty());
  }
}

// What is used once keeps devices together only where it may draw on a link that others use again
// and again.
TEST(SteadyState, ALinkJoinsWhoeverDrawsOnIt) {
  Program program = apart(testing::simple_pipeline({3, 100, 1000, 2000}));
  program.links = 1;
  program.communicators.push_back({"tp of stage 0", {0}, {{0, kFullRate}}});
  program.devices[0].communicator_of_role.push_back(1);
  program.blocks[0].ops[2].role = 1;  // of the forward pass that all stages run
  for (std::uint32_t d = 1; d < 3; ++d) {
    program.communicators.push_back({"tp of stage " + std::to_string(d), {d}, {}});
    program.devices[d].communicator_of_role.push_back(1 + d);
  }
  finalize(program);
  EXPECT_EQ(find_steady_states(FlatProgram(program)).size(), 3U);
  program.communicators[3].uses.push_back({0, kFullRate});  // stage 2, all the time
  EXPECT_EQ(find_steady_states(FlatProgram(program)).size(), 2U);
  program.communicators[3].uses.clear();
  program.communicators.push_back({"sum", {1, 2}, {{0, kFullRate}}});  // once a step
  for (const std::uint32_t d : {1U, 2U}) program.devices[d].communicator_of_role.push_back(4);
  program.devices[0].communicator_of_role.push_back(1);
  program.blocks.back().ops.push_back(program.blocks.back().ops[0]);
  program.blocks.back().infos.resize(2);
  program.blocks.back().ops[1].role = 2;
  finalize(program);
  EXPECT_EQ(find_steady_states(FlatProgram(program)).size(), 1U);
}

TEST(SteadyState, SkippingStagesApartChangesNoTime) {
  int skipped = 0;
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    Random random(seed);
    const Program program = apart(random_pipeline(random));
    const Contention tables = testing::random_contention(seed);
    const Replay all = replayed(program, tables, false), skipping = replayed(program, tables, true);
    ASSERT_EQ(all.start, skipping.start) << "seed " << seed;
    ASSERT_EQ(all.end, skipping.end) << "seed " << seed;
    ReplayOptions options;
    options.contention = &tables;
    ASSERT_EQ(makespan(program, options), all.makespan) << "seed " << seed;
    skipped += skipping.skipped > 0;
  }
  EXPECT_GT(skipped, 100);
}

TEST(SteadyState, SkippingChangesNoTime) {
  int skipped = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const Program program = random_pipeline(random);
    const Contention tables = testing::random_contention(seed);
    const Replay all = replayed(program, tables, false), skipping = replayed(program, tables, true);
    ASSERT_EQ(all.start, skipping.start) << "seed " << seed;
    ASSERT_EQ(all.end, skipping.end) << "seed " << seed;
    ASSERT_EQ(all.peak_memory, skipping.peak_memory);
    ReplayOptions options;
    options.contention = &tables;
    ASSERT_EQ(makespan(program, options), all.makespan) << "seed " << seed;
    skipped += skipping.skipped > 0;
  }
  EXPECT_GT(skipped, 200);
}

}  // namespace
}  // namespace steploom
