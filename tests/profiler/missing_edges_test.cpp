// What a missing edge does: check() names it, and an adversarial order shows it in the numbers.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <utility>

#include "profiler/check_arena.h"
#include "profiler/dropped_edges.h"
#include "sim/check.h"
#include "tests/profiler/executing.h"

namespace steploom {
namespace {

// An edge that can be taken out: a dependency inside a block, or a slot edge.
struct Cut {
  std::uint32_t block = 0, op = 0, dep = 0;  // dep: which of the operator's
  std::int64_t edge = -1;                    // into Program::edges; -1: a dependency
};

// Flow control of messages: such an edge carries no tensor, it lets buffers be used again.
bool for_room(const Program& p, const SlotEdge& e) {
  const auto stream = [&p](std::uint32_t slot, std::uint32_t op) {
    return static_cast<StreamKind>(p.blocks[p.slots[slot].block].ops[op].stream);
  };
  return stream(e.to_slot, e.to_op) == StreamKind::pp_recv ||
         stream(e.from_slot, e.from_op) == StreamKind::pp_send;
}

std::vector<Cut> cuts_of(const Program& p) {
  std::vector<Cut> out;
  for (std::uint32_t b = 0; b < p.blocks.size(); ++b)
    for (std::uint32_t i = 0; i < p.blocks[b].ops.size(); ++i)
      for (std::uint32_t d = 0; d < p.blocks[b].ops[i].deps; ++d) out.push_back({b, i, d, -1});
  for (std::size_t e = 0; e < p.edges.size(); ++e)
    if (!for_room(p, p.edges[e])) out.push_back({0, 0, 0, static_cast<std::int64_t>(e)});
  return out;
}

using Edge = std::pair<std::uint32_t, std::uint32_t>;  // operators: producer, and what waits for it

struct Removed {
  Program program;
  std::vector<std::uint32_t> producers;  // operators that nothing waits for any more, one a slot
  std::vector<Edge> edges;               // likewise
};

Removed without(const Program& whole, const Cut& cut) {
  Removed out{whole, {}, {}};
  Program& p = out.program;
  if (cut.edge >= 0) {
    const SlotEdge& e = whole.edges[static_cast<std::size_t>(cut.edge)];
    out.producers.push_back(whole.slots[e.from_slot].first_op + e.from_op);
    out.edges.push_back({out.producers.back(), whole.slots[e.to_slot].first_op + e.to_op});
    p.edges.erase(p.edges.begin() + cut.edge);
  } else {
    BlockTemplate& block = p.blocks[cut.block];
    const std::uint32_t at = block.ops[cut.op].first_dep + cut.dep;
    for (const Slot& s : whole.slots) {
      if (s.block != cut.block) continue;
      out.producers.push_back(s.first_op + block.deps[at]);
      out.edges.push_back({out.producers.back(), s.first_op + cut.op});
    }
    block.deps.erase(block.deps.begin() + at);
    --block.ops[cut.op].deps;
    for (OpTemplate& op : block.ops)
      if (op.first_dep > at) --op.first_dep;
  }
  p.block_successors.clear();
  finalize(p);
  return out;
}

// Does some order of the damaged Program give other numbers, NaNs, or a read of poison?
struct Numbers {
  StepResult step;
  Tensors parameters;
  bool operator==(const Numbers& o) const {
    return step.loss == o.step.loss && step.gradients == o.step.gradients &&
           parameters == o.parameters;
  }
};

Numbers numbers(const BindInput& input, const ReferenceOrder& order = {}) {
  ReferenceRun run(input);
  Numbers n;
  n.step = run.step(order);
  n.parameters = run.parameters();
  return n;
}

bool shows(const Lowering& l, const Removed& r, const Numbers& expected) {
  const BindInput whole = l.input();
  const BindInput input{whole.model, whole.work, whole.layout, whole.runtime, r.program};
  for (const std::uint32_t producer : r.producers) {
    try {
      if (!(numbers(input, {.seed = 1, .delayed = producer}) == expected)) return true;
    } catch (const std::exception&) {
      return true;
    }
  }
  return false;
}

// needed_edges() of all ranks, by operators.
std::set<Edge> needed(const Lowering& l) {
  std::set<Edge> out;
  for (std::size_t rank = 0; rank < l.lowered.program.devices.size(); ++rank) {
    const Execution e = bind(l.input(), static_cast<int>(rank));
    for (const CrossEdge& edge : needed_edges(l.lowered.program, e))
      out.insert({e.calls[edge.from].op, e.calls[edge.to].op});
  }
  return out;
}

struct Case {
  ModelSpec (*model)();
  const char* layout;
};
class MissingEdges : public testing::TestWithParam<Case> {};

TEST_P(MissingEdges, AreFoundByCheckAndByANumber) {
  const Lowering l(GetParam().model(), GetParam().layout, 4);
  const Program& whole = l.lowered.program;
  ASSERT_TRUE(check(whole).empty());
  const Numbers expected = numbers(l.input());
  const std::vector<Cut> cuts = cuts_of(whole);
  ASSERT_GT(cuts.size(), 100U);
  std::mt19937_64 random(1);
  constexpr int kTries = 50;
  const std::set<Edge> needs = needed(l);
  int shown = 0;
  for (int i = 0; i < kTries; ++i) {
    const Cut& cut = cuts[random() % cuts.size()];
    const Removed r = without(whole, cut);
    EXPECT_FALSE(check(r.program).empty()) << describe_op(whole, r.producers[0]);
    const bool is_shown = shows(l, r, expected);
    shown += is_shown;
    const bool is_needed = std::any_of(r.edges.begin(), r.edges.end(),
                                       [&](const Edge& e) { return needs.contains(e); });
    EXPECT_TRUE(is_shown || !is_needed) << describe_op(whole, r.producers[0]);
  }
  // What stays hidden is not needed: a collective over a layer's gradients waits for all of them,
  // moves only some.
  EXPECT_GE(shown, kTries * 9 / 10);
}

// Without flow control tensors are as sound as before, but the arena is not: its plan rests on it.
TEST_P(MissingEdges, OfFlowControlAreFoundInTheArena) {
  const Lowering l(GetParam().model(), GetParam().layout, 4, 24);
  Program without = l.lowered.program;
  std::erase_if(without.edges, [&](const SlotEdge& e) { return for_room(l.lowered.program, e); });
  EXPECT_LT(without.edges.size(), l.lowered.program.edges.size());
  finalize(without);
  EXPECT_TRUE(check(without).empty());
  std::size_t faults = 0;
  for (int rank = 0; rank < 4; ++rank) {
    const Execution e = bind(l.input(), rank);
    EXPECT_TRUE(check_arena(l.lowered.program, e).empty());
    faults += check_arena(without, e).size();
  }
  EXPECT_GT(faults, 0U);
}

INSTANTIATE_TEST_SUITE_P(
    Execution, MissingEdges,
    testing::Values(Case{tiny_dense, "tp=2,sp=1,pp=2,zero=0"},
                    Case{tiny_deepseek, "tp=2,sp=1,etp=1,ep=2,mbs=2,pp=2,zero=0"},
                    Case{tiny_deepseek, "tp=2,sp=1,etp=1,ep=2,mbs=2,pp=2,zero=0,chunks=3"}));

}  // namespace
}  // namespace steploom
