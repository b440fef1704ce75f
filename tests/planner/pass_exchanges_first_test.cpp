// Gradient collectives between all-to-alls: by hand, and in Programs.
#include "planner/pass_exchanges_first.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "planner/lower.h"
#include "sim/engine.h"
#include "tests/planner/planning.h"
#include "tests/planner/small_backward.h"

namespace steploom {
namespace {

// An all-to-all from 2 to 10, a kernel from 10 to 19 and, to 21, the one whose result the next
// all-to-all sends, 21 to 27. Three parts of a reduction, 5 each, there at 4. They may start from
// 10 to 19: two do, at 10 and 15; the third waits for the second all-to-all.
TEST(ExchangesFirst, PartsBetweenAllToAlls) {
  SmallBackward g;
  const OpId first = g.kernel(2, {});
  const OpId weight = g.weight(2, {first});
  std::vector<OpId> parts;
  for (int i = 0; i < 3; ++i) parts.push_back(g.reduce(5, {weight}));
  const OpId one = g.exchange(8, {first});
  const OpId kernel = g.kernel(9, {one});
  const OpId two = g.exchange(6, {g.kernel(2, {kernel})});
  const OpId last = g.kernel(1, {two});
  const OrderTimes before = times_of(g.times, g.as_issued());
  EXPECT_EQ(before.start[parts[0]], 4);  // beside the first all-to-all
  EXPECT_EQ(before.start[two], 21);

  const DeferredGradients d = defer_gradients(g.graph, g.times);
  EXPECT_TRUE(legal(d.times, d.order));
  EXPECT_EQ(d.order, (std::vector<OpId>{first, weight, one, parts[0], parts[1], kernel, kernel + 1,
                                        two, parts[2], last}));
  const OrderTimes t = times_of(d.times, d.order);
  EXPECT_EQ(t.start[parts[0]], 10);
  EXPECT_EQ(t.start[parts[1]], 15);
  EXPECT_EQ(t.start[parts[2]], 27);
  EXPECT_EQ(t.end[last], before.end[last]);  // nothing else moves
}

// A reduction that is there in time waits for nothing.
TEST(ExchangesFirst, WhatIsThereBetweenThemStartsAtOnce) {
  SmallBackward g;
  const OpId home = g.exchange(8, {g.kernel(2, {})});
  const OpId weight = g.weight(1, {g.kernel(4, {home})});
  const OpId reduced = g.reduce(3, {weight});
  const DeferredGradients d = defer_gradients(g.graph, g.times);
  EXPECT_EQ(d.order, g.as_issued());
  EXPECT_EQ(times_of(d.times, d.order).start[reduced], 15);
}

struct Busy {
  Picoseconds start = 0, end = 0;
  std::string name;
};

// What a device's last backward pass reduces and exchanges.
void collect(const Program& p, const Replay& r, std::vector<Busy>& reduced,
             std::vector<Busy>& exchanged) {
  const Device& d = p.devices[0];
  for (std::uint32_t s = d.first_slot; s < d.first_slot + d.slot_count; ++s) {
    const BlockTemplate& b = p.blocks[p.slots[s].block];
    for (std::size_t i = 0; i < b.ops.size(); ++i) {
      const OpInfo& info = b.infos[i];
      const std::size_t id = p.slots[s].first_op + i;
      const Busy busy{r.start[id], r.end[id], info.name};
      if (p.slots[s].kind != SlotKind::backward) continue;
      if (info.work.phase == Phase::weight_grad &&
          (info.group == CommGroup::dp || info.group == CommGroup::expert_dp))
        reduced.push_back(busy);
      if (info.work.kind == OpKind::all_to_all) exchanged.push_back(busy);
    }
  }
}

Lowered without_host(const World& world, const std::string& text, CostCache& cache) {
  Lowered lowered = lower(world.setting, world.layout(text), cache);
  lowered.program.clock = {};
  for (BlockTemplate& b : lowered.program.blocks)
    for (OpTemplate& op : b.ops) op.launch = 0;
  return lowered;
}

// In a Program: no reduction starts while an all-to-all runs, as they do without.
TEST(ExchangesFirst, NoneStartsWhileAnAllToAllRuns) {
  World world(small_moe(8), 1, 4096, 8, "steploom");
  for (const char* text : {"ep=4,bucket=1000000,grad_micro=2000000",
                           "ep=8,zero=0,bucket=1000000,grad_micro=1000000"}) {
    std::array<int, 2> beside{};
    for (const bool first : {false, true}) {
      const Lowered lowered =
          without_host(world, text + std::string(first ? ",a2a_first=1" : ""), world.cache);
      std::vector<Busy> reduced, exchanged;
      collect(lowered.program, replay(lowered.program), reduced, exchanged);
      ASSERT_GT(reduced.size(), 5U);
      for (const Busy& r : reduced)
        for (const Busy& x : exchanged)
          if (x.start <= r.start && r.start < x.end) ++beside[first ? 1 : 0];
    }
    EXPECT_GT(beside[0], 0) << text;
    EXPECT_EQ(beside[1], 0) << text;
  }
}

// Parts are equal, no larger than asked, and what they move is what the whole moves.
TEST(GradientParts, AddUpToTheBucket) {
  World world(small_moe(), 1, 1024, 8, "steploom");
  for (const char* zero : {"ep=4,zero=0", "ep=4,zero=1"}) {
    const std::string whole_text = zero + std::string(",bucket=4000000");
    const auto bytes = [&](const std::string& text) {
      std::map<std::string, std::pair<Bytes, int>> out;  // by bucket: bytes, parts
      const Lowered lowered = lower(world.setting, world.layout(text), world.cache);
      for (const BlockTemplate& b : lowered.program.blocks)
        for (const OpInfo& info : b.infos) {
          const std::size_t at = info.name.find(" gradient bucket ");
          if (at == std::string::npos) continue;
          auto& [sum, parts] = out[info.name.substr(0, info.name.find(" part "))];
          sum += info.work.bytes;
          ++parts;
          EXPECT_EQ(info.parts == 1 ? 0 : parts - 1, info.part);
          EXPECT_TRUE(info.parts == 1 || info.work.bytes <= 3'000'000);
        }
      return out;
    };
    const auto whole = bytes(whole_text), cut = bytes(whole_text + ",grad_micro=3000000");
    ASSERT_EQ(whole.size(), cut.size());
    int most = 0;
    for (const auto& [name, sum] : whole) {
      EXPECT_EQ(sum.first, cut.at(name).first) << name;
      EXPECT_EQ(sum.second, 1);
      most = std::max(most, cut.at(name).second);
    }
    EXPECT_GT(most, 4);
    EXPECT_GT(whole.size(), bytes(zero).size());  // smaller buckets are more
  }
}

TEST(GradientParts, AreEqualShares) {
  Layout l;
  EXPECT_EQ(l.gradient_parts(1000, 4, 4), 1);
  l.grad_micro = 1000;
  EXPECT_EQ(l.gradient_parts(250, 4, 4), 1);   // 1000 bytes
  EXPECT_EQ(l.gradient_parts(1000, 4, 4), 5);  // 4000: four parts of 250 are no shares for 4 ranks
  EXPECT_EQ(l.gradient_parts(1000, 3, 4), 4);  // no shares anyway
  EXPECT_EQ(l.gradient_parts(1009, 1, 4), 1);  // a prime
}

}  // namespace
}  // namespace steploom
