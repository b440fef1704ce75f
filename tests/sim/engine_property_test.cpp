// What must hold of every Program, on random ones.
#include <gtest/gtest.h>

#include <algorithm>

#include "models/error.h"
#include "sim/contention.h"
#include "sim/engine.h"
#include "sim/relax.h"
#include "tests/sim/random_programs.h"

namespace steploom {
namespace {

// Tables only slow down: the longest path is a lower bound of every replay.
TEST(EngineProperty, TheLongestPathIsALowerBound) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const Program program = testing::random_program(seed);
    const Contention tables = testing::random_contention(seed);
    ReplayOptions options;
    options.contention = &tables;
    const Replay slowed = replay(program, options);
    const Relaxation relaxed = relax(program);
    for (std::uint32_t op = 0; op < program.op_count; ++op)
      ASSERT_GE(slowed.end[op], relaxed.end[op]) << "seed " << seed << ", operator " << op;
  }
}

// With neutral tables, SMs and links in plenty, the event engine must find what the data-flow
// evaluation finds.
TEST(EngineProperty, WithoutShortageBothEnginesAgree) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Program program = testing::random_program(seed);
    for (BlockTemplate& block : program.blocks)
      for (OpTemplate& op : block.ops) op.sms_wanted = 0;
    for (Communicator& c : program.communicators) c.uses.clear();
    finalize(program);
    const Contention neutral = neutral_contention(testing::kRandomClasses);
    ReplayOptions options;
    options.contention = &neutral;
    const Replay by_events = replay(program, options), plain = replay(program);
    ASSERT_EQ(by_events.start, plain.start) << "seed " << seed;
    ASSERT_EQ(by_events.end, plain.end) << "seed " << seed;
    EXPECT_EQ(by_events.peak_memory, plain.peak_memory);
  }
}

// No stream works faster than its operators' durations, no host issues faster than its launches.
TEST(EngineProperty, LoadIsALowerBound) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const Program program = testing::random_program(seed);
    const Contention tables = testing::random_contention(seed);
    ReplayOptions options;
    options.contention = &tables;
    const Picoseconds makespan = replay(program, options).makespan;
    for (const Device& device : program.devices) {
      std::vector<Picoseconds> load(device.streams, 0);
      Picoseconds host = 0;
      for (std::uint32_t s = 0; s < device.slot_count; ++s)
        for (const OpTemplate& op :
             program.blocks[program.slots[device.first_slot + s].block].ops) {
          if (!op.eager) load[op.stream] += op.duration;
          host += op.launch;
        }
      EXPECT_LE(host, makespan);
      for (const Picoseconds sum : load) EXPECT_LE(sum, makespan);
    }
  }
}

// Links carry no more than they can: the work drawn on each fits into the makespan.
TEST(EngineProperty, LinksAreALowerBound) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const Program p = testing::random_program(seed);
    const Contention tables = testing::random_contention(seed);
    ReplayOptions options;
    options.contention = &tables;
    const Picoseconds makespan = replay(p, options).makespan;
    std::vector<double> load(p.links, 0);
    for (std::size_t k = 0; k < p.communicator_of_rendezvous.size(); ++k) {
      double work = 0, share = 0;  // the longest member's, the largest member's
      for (std::uint32_t i = p.rendezvous_ops.first[k]; i < p.rendezvous_ops.first[k + 1]; ++i) {
        const Slot& slot = p.slots[slot_of_op(p, p.rendezvous_ops.items[i])];
        const OpTemplate& op = p.blocks[slot.block].ops[p.rendezvous_ops.items[i] - slot.first_op];
        if (op.eager && !op.sender) continue;
        work = std::max(work, static_cast<double>(op.duration));
        share = std::max(share, op.link_share / 65535.0);
      }
      for (const LinkUse& use : p.communicators[p.communicator_of_rendezvous[k]].uses)
        load[use.link] += work * share * use.share / kFullRate;
    }
    // Every operator's weight is rounded down, by less than one in 65536 of the link.
    for (const double sum : load)
      EXPECT_LE(sum, static_cast<double>(makespan) * 1.001 + 1000) << "seed " << seed;
  }
}

// At no instant do the operators that run on a device need more SMs than it has.
TEST(EngineProperty, SmsAreNeverOversold) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const Program p = testing::random_program(seed);
    const Contention tables = testing::random_contention(seed);
    ReplayOptions options;
    options.contention = &tables;
    const Replay r = replay(p, options);
    for (const Device& device : p.devices) {
      std::vector<std::pair<Picoseconds, int>> changes;  // frees sort before takes
      for (std::uint32_t s = device.first_slot; s < device.first_slot + device.slot_count; ++s)
        for (std::uint32_t i = 0; i < p.blocks[p.slots[s].block].ops.size(); ++i) {
          const OpTemplate& op = p.blocks[p.slots[s].block].ops[i];
          const int least =
              op.role != kNoRole ? op.sms_wanted : std::min(op.sms_least, op.sms_wanted);
          const std::uint32_t id = p.slots[s].first_op + i;
          if (r.start[id] == r.end[id]) continue;
          changes.emplace_back(r.start[id], least);
          changes.emplace_back(r.end[id], -least);
        }
      std::sort(changes.begin(), changes.end());
      int held = 0;
      for (const auto& [time, sms] : changes) {
        held += sms;
        ASSERT_LE(held, device.sms) << "seed " << seed;
      }
    }
  }
}

// Programs whose members enter collectives in any order, with CTAs that may not fit side by side:
// each ends or is refused with a chain of operators that wait, and all evaluations agree on which
// (with SMs more may deadlock).
TEST(EngineProperty, EveryProgramEndsOrIsExplained) {
  const auto outcome = [](const auto& evaluate) {
    try {
      evaluate();
      return std::string();
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::negative);
      EXPECT_NE(e.where().found.find("waits for"), std::string::npos) << e.what();
      return std::string(e.what());
    }
  };
  int ended = 0, stuck = 0, stuck_for_sms = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Program p = testing::random_program(seed);
    testing::Random random(seed);
    std::vector<OpTemplate*> communicating;  // of one device
    const Device& device = p.devices[random.below(static_cast<std::uint32_t>(p.devices.size()))];
    for (std::uint32_t s = 0; s < device.slot_count; ++s)
      for (OpTemplate& op : p.blocks[p.slots[device.first_slot + s].block].ops)
        if (op.role != kNoRole) communicating.push_back(&op);
    for (BlockTemplate& block : p.blocks)
      for (OpTemplate& op : block.ops) {
        op.eager = op.sender = false;
        if (op.role != kNoRole) op.sms_wanted = static_cast<std::uint16_t>(op.sms_wanted * 3);
      }
    for (std::uint32_t swaps = random.below(3); swaps > 0 && communicating.size() > 1; --swaps) {
      const std::uint32_t i = random.below(static_cast<std::uint32_t>(communicating.size() - 1));
      std::swap(communicating[i]->role, communicating[i + 1]->role);
    }
    finalize(p);
    const Contention tables = testing::random_contention(seed);
    ReplayOptions options;
    options.contention = &tables;
    const std::string plain = outcome([&] { replay(p); });
    EXPECT_EQ(outcome([&] { relax(p); }), plain) << "seed " << seed;
    const std::string contended = outcome([&] { replay(p, options); });
    EXPECT_TRUE(plain.empty() || !contended.empty());
    ++(!plain.empty() ? stuck : !contended.empty() ? stuck_for_sms : ended);
  }
  EXPECT_GT(ended, 30);
  EXPECT_GT(stuck, 30);
  EXPECT_GT(stuck_for_sms, 3);
}

// Every operator starts after what it depends on has ended, streams run one operator at a time, and
// the members of a rendezvous end together (an eager receiver no earlier than its sender).
void expect_consistent(const Program& p, const Replay& r, std::uint64_t seed) {
  for (const SlotEdge& edge : p.edges)
    ASSERT_GE(r.start[p.slots[edge.to_slot].first_op + edge.to_op],
              r.end[p.slots[edge.from_slot].first_op + edge.from_op])
        << seed;
  for (const Device& device : p.devices) {
    std::vector<Picoseconds> free_at(device.streams, 0);
    Picoseconds issued = 0, last_start = 0;
    for (std::uint32_t s = device.first_slot; s < device.first_slot + device.slot_count; ++s) {
      const BlockTemplate& block = p.blocks[p.slots[s].block];
      for (std::uint32_t i = 0; i < block.ops.size(); ++i) {
        const OpTemplate& op = block.ops[i];
        const std::uint32_t id = p.slots[s].first_op + i;
        issued += op.launch;
        ASSERT_GE(r.start[id], issued) << seed;
        ASSERT_GE(r.start[id], free_at[op.stream]) << seed;
        ASSERT_GE(r.end[id], r.start[id]) << seed;
        ASSERT_GE(r.start[id], device.hardware_connections == 1 ? last_start : 0) << seed;
        last_start = r.start[id];
        for (std::uint32_t d = op.first_dep; d < op.first_dep + op.deps; ++d)
          ASSERT_GE(r.start[id], r.end[p.slots[s].first_op + block.deps[d]]) << seed;
        free_at[op.stream] = r.end[id];
        if (op.host_waits) issued = std::max(issued, r.end[id]);
      }
    }
  }
  for (std::size_t k = 0; k < p.communicator_of_rendezvous.size(); ++k) {
    const std::uint32_t first = p.rendezvous_ops.first[k], last = p.rendezvous_ops.first[k + 1];
    for (std::uint32_t i = first; i < last; ++i) {
      const std::uint32_t a = p.rendezvous_ops.items[first], b = p.rendezvous_ops.items[i];
      const Slot& slot = p.slots[slot_of_op(p, b)];
      if (p.blocks[slot.block].ops[b - slot.first_op].eager) continue;
      ASSERT_EQ(r.end[a], r.end[b]) << seed;
      ASSERT_GE(r.end[a], r.start[b] + p.blocks[slot.block].ops[b - slot.first_op].duration);
    }
  }
}

TEST(EngineProperty, TimesKeepEveryOrder) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const Program program = testing::random_program(seed);
    const Contention tables = testing::random_contention(seed);
    ReplayOptions options;
    options.contention = &tables;
    expect_consistent(program, replay(program), seed);
    expect_consistent(program, replay(program, options), seed);
  }
}

TEST(EngineProperty, TheSameOnEveryRun) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const Program program = testing::random_program(seed);
    const Contention tables = testing::random_contention(seed);
    ReplayOptions options;
    options.contention = &tables;
    const Replay once = replay(program, options), again = replay(program, options);
    EXPECT_EQ(once.start, again.start);
    EXPECT_EQ(once.end, again.end);
  }
}

// The numbers of the devices mean nothing: every operator keeps its times when they are permuted.
TEST(EngineProperty, DeviceNumbersMeanNothing) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const Program program = testing::random_program(seed);
    testing::RandomShape reversed;
    const std::uint32_t devices = testing::random_device_count(seed);
    for (std::uint32_t d = 0; d < devices; ++d) reversed.place.push_back(devices - 1 - d);
    const Program other = testing::random_program(seed, reversed);
    const Contention tables = testing::random_contention(seed);
    for (const Contention* contention : {static_cast<const Contention*>(nullptr), &tables}) {
      ReplayOptions options;
      options.contention = contention;
      const Replay a = replay(program, options), b = replay(other, options);
      for (std::uint32_t d = 0; d < devices; ++d) {
        const Device& here = program.devices[d];
        const Device& there = other.devices[reversed.place[d]];
        ASSERT_EQ(here.name, there.name);
        const std::uint32_t x = program.slots[here.first_slot].first_op;
        const std::uint32_t y = other.slots[there.first_slot].first_op;
        const std::uint32_t end = here.first_slot + here.slot_count;
        const std::uint32_t count =
            (end < program.slots.size() ? program.slots[end].first_op : program.op_count) - x;
        for (std::uint32_t i = 0; i < count; ++i) {
          ASSERT_EQ(a.start[x + i], b.start[y + i]) << "seed " << seed;
          ASSERT_EQ(a.end[x + i], b.end[y + i]) << "seed " << seed;
        }
      }
    }
  }
}

}  // namespace
}  // namespace steploom
