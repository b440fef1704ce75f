#include "sim/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "models/error.h"
#include "sim/program_text.h"
#include "tests/sim/pipeline_programs.h"
#include "tests/sim/random_programs.h"

namespace steploom {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> faults(std::string_view text) {
  return check(parse_program(text).program);
}

TEST(Check, SoundPrograms) {
  EXPECT_THAT(check(testing::simple_pipeline({})), IsEmpty());
  EXPECT_THAT(faults(R"(
    device gpu
    tensor gpu x 1K
    tensor gpu weight 1K step
    op make on gpu one 1us writes=x
    op use on gpu two 1us reads=x,weight after=make
    op drop on gpu one 1us frees=x after=use
  )"),
              IsEmpty());
}

// A slice is there once it or its whole is written, a whole once all of its slices are; a slice's
// reader waits for no other slice's writer, the free of the whole for every use of a slice.
TEST(Check, SlicesAndTheirWhole) {
  const std::string head = R"(
    device gpu
    tensor gpu x 1K
    slice gpu x0 x 512
    slice gpu x1 x 512 )";
  EXPECT_THAT(faults(head + R"(
    op make0 on gpu one 1us writes=x0
    op make1 on gpu one 1us writes=x1
    op use0 on gpu two 1us reads=x0 after=make0
    op use on gpu three 1us reads=x after=make1
    op drop on gpu one 1us frees=x after=use0,use)"),
              IsEmpty());
  EXPECT_THAT(faults(head + R"(
    op make on gpu one 1us writes=x
    op use on gpu one 1us reads=x1)"),
              IsEmpty());
  EXPECT_THAT(faults(head + R"(
    op make0 on gpu one 1us writes=x0
    op use on gpu one 1us reads=x)"),
              ElementsAre("'gpu · step 0 · use' reads 'x', which nothing has written before"));
  EXPECT_THAT(faults(head + R"(
    op make0 on gpu one 1us writes=x0
    op make1 on gpu one 1us writes=x1
    op use on gpu two 1us reads=x after=make0)"),
              ElementsAre("'gpu · step 0 · use' reads 'x', but 'gpu · step 0 · make1' may not have "
                          "written it yet"));
  EXPECT_THAT(faults(head + R"(
    op make on gpu one 1us writes=x
    op use on gpu two 1us reads=x1)"),
              ElementsAre("'gpu · step 0 · use' reads 'x1', but 'gpu · step 0 · make' may not have "
                          "written it yet"));
  EXPECT_THAT(faults(head + R"(
    op make on gpu one 1us writes=x
    op use on gpu two 1us reads=x1 after=make
    op drop on gpu one 1us frees=x)"),
              ElementsAre("'gpu · step 0 · drop' frees 'x', which 'gpu · step 0 · use' may still "
                          "use"));
  EXPECT_THAT(faults(head + R"(
    op make on gpu one 1us writes=x
    op drop on gpu one 1us frees=x
    op use on gpu one 1us reads=x0)"),
              ElementsAre("'gpu · step 0 · use' reads 'x0', which 'gpu · step 0 · drop' has "
                          "freed"));
}

TEST(Check, SlicesLieInTheirWhole) {
  EXPECT_THROW(parse_program("device gpu\n tensor gpu x 1K\n slice gpu y x 2K"), Error);
  EXPECT_THROW(parse_program("device gpu\n tensor gpu x 1K\n slice gpu y x 600\n"
                             "slice gpu z x 600"),
               Error);
  EXPECT_THROW(parse_program("device gpu\n tensor gpu x 1K\n tensor gpu w 1K\n"
                             "slice gpu y x 600"),
               Error);
}

// Streams run side by side: without a dependency the read may come before the write.
TEST(Check, AReadThatIsNotOrderedAfterItsWrite) {
  EXPECT_THAT(faults(R"(
    device gpu
    tensor gpu x 1K
    op make on gpu one 1us writes=x
    op use on gpu two 1us reads=x
  )"),
              ElementsAre("'gpu · step 0 · use' reads 'x', but 'gpu · step 0 · make' may not have "
                          "written it yet"));
}

// Orders that count: stream order, a dependency of a dependency, a slot edge, the host's wait.
TEST(Check, OrdersThatCount) {
  const std::string head = R"(
    device gpu
    tensor gpu x 1K
    slot gpu F 0
    op make on gpu one 1us writes=x )";
  EXPECT_THAT(faults(head + "\n op use on gpu one 1us reads=x"), IsEmpty());
  EXPECT_THAT(faults(head + "\n op between on gpu three 1us after=make"
                            "\n op use on gpu two 1us reads=x after=between"),
              IsEmpty());
  EXPECT_THAT(faults(head + "\n slot gpu B 0\n op use on gpu two 1us reads=x after=make"),
              IsEmpty());
  EXPECT_THAT(faults(head + "wait\n op use on gpu two 1us reads=x"), IsEmpty());
}

// With one hardware connection `use` starts after `between` has, and so after `make` has ended.
TEST(Check, OneConnectionOrdersStarts) {
  const std::string body = R"(
    tensor gpu x 1K
    op make on gpu one 1us writes=x
    op between on gpu three 1us after=make
    op use on gpu two 1us reads=x
  )";
  EXPECT_THAT(faults("device gpu connections=1" + body), IsEmpty());
  EXPECT_THAT(faults("device gpu connections=32" + body), ElementsAre(HasSubstr("'x'")));
}

TEST(Check, AFreeThatIsNotOrderedAfterAUse) {
  EXPECT_THAT(
      faults(R"(
    device gpu
    tensor gpu x 1K
    op make on gpu one 1us writes=x
    op use on gpu two 1us reads=x after=make
    op drop on gpu one 1us frees=x
  )"),
      ElementsAre("'gpu · step 0 · drop' frees 'x', which 'gpu · step 0 · use' may still use"));
}

TEST(Check, UsesOfWhatIsNotThere) {
  EXPECT_THAT(
      faults(R"(
    device gpu
    tensor gpu x 1K
    op early on gpu one 1us reads=x
    op make on gpu one 1us writes=x
    op drop on gpu one 1us frees=x
    op late on gpu one 1us reads=x
    op again on gpu one 1us frees=x
  )"),
      ElementsAre("'gpu · step 0 · early' reads 'x', which nothing has written before",
                  "'gpu · step 0 · late' reads 'x', which 'gpu · step 0 · drop' has freed",
                  "'gpu · step 0 · again' frees 'x', which 'gpu · step 0 · drop' has freed"));
}

// Every micro-batch has its own copy of a tensor.
TEST(Check, MicroBatchesHaveTheirOwnCopies) {
  const char* const text = R"(
    device gpu
    tensor gpu x 1K
    slot gpu F 0
    op make on gpu one 1us writes=x
    slot gpu B 1
    op use on gpu one 1us reads=x
  )";
  EXPECT_THAT(faults(text), ElementsAre(HasSubstr("'gpu · B 1 · use' reads 'x', which nothing")));
}

TEST(Check, MembersThatIssueDifferently) {
  Program p = parse_program(R"(
    device gpu0
    device gpu1
    comm ep gpu0 gpu1
    op a on gpu0 comm 1us comm=ep
    op a on gpu1 comm 1us comm=ep
  )")
                  .program;
  p.blocks[1].infos[0].work.kind = OpKind::all_to_all;
  EXPECT_THAT(check(p), ElementsAre(HasSubstr("meets 'gpu1 · step 0 · a' of another kind")));
  p.blocks[0].infos[0].work.kind = OpKind::all_to_all;
  p.blocks[0].infos[0].work.bytes = 7;
  EXPECT_THAT(check(p), ElementsAre(HasSubstr("of another size")));
  p.blocks[1].infos[0].work = p.blocks[0].infos[0].work;
  EXPECT_THAT(check(p), IsEmpty());
  for (BlockTemplate& block : p.blocks) block.infos[0].work.kind = OpKind::send_recv;
  EXPECT_THAT(check(p), ElementsAre(HasSubstr("both receive")));
}

TEST(Check, AMemberThatNeverComes) {
  EXPECT_THAT(faults(R"(
    device gpu0
    device gpu1
    comm ep gpu0 gpu1
    op a on gpu0 comm 1us comm=ep
  )"),
              ElementsAre(HasSubstr("waits for device 'gpu1'"), HasSubstr("deadlock")));
}

// Collectives in opposite order on two streams: no cycle of rendezvous, but one for SMs.
TEST(Check, CircularWaits) {
  const auto program = [](int ctas) {
    return R"(
      device gpu sms=20
      device peer sms=20
      comm x gpu peer
      comm y gpu peer
      op x on gpu one 1us comm=x ctas=16
      op y on gpu two 1us comm=y ctas=16
      op y on peer two 1us comm=y ctas=16
      op x on peer one 1us comm=x ctas=)" +
           std::to_string(ctas);
  };
  EXPECT_THAT(faults(program(4)), IsEmpty());
  EXPECT_THAT(faults(program(16)), ElementsAre(HasSubstr("holds the SMs")));
}

// A dependency on a later operator never gets past finalize; check says so of what was changed.
TEST(Check, StructuralFaults) {
  Program p = parse_program(R"(
    device gpu
    op a on gpu one 1us
    op b on gpu two 1us after=a
  )")
                  .program;
  p.blocks[0].deps[0] = 1;
  EXPECT_THAT(check(p), ElementsAre(HasSubstr("expected dependencies on earlier operators only")));
}

// Is `from` known to have ended when `to` starts? By walking all paths backwards, which owes
// nothing to check's clocks. Both of one device; ids.
bool ordered(const Program& p, std::uint32_t from, std::uint32_t to) {
  const std::uint32_t d = p.device_of_slot[slot_of_op(p, to)];
  const Device& device = p.devices[d];
  const std::uint32_t first = p.slots[device.first_slot].first_op;
  // reached[i][k]: start (k = 0) or end (k = 1) of operator first + i comes before `to` starts.
  std::vector<std::array<bool, 2>> reached(to - first + 1, {false, false});
  reached[to - first][0] = true;
  for (std::uint32_t id = to + 1; id-- > first;) {
    const Slot& slot = p.slots[slot_of_op(p, id)];
    const BlockTemplate& block = p.blocks[slot.block];
    const OpTemplate& op = block.ops[id - slot.first_op];
    if (reached[id - first][1]) reached[id - first][0] = true;
    if (!reached[id - first][0]) continue;
    const auto end = [&](std::uint32_t before) { reached[before - first][1] = true; };
    for (std::uint32_t k = op.first_dep; k < op.first_dep + op.deps; ++k)
      end(slot.first_op + block.deps[k]);
    for (const SlotEdge& e : p.edges)
      if (p.slots[e.to_slot].first_op + e.to_op == id)
        end(p.slots[e.from_slot].first_op + e.from_op);
    for (std::uint32_t before = first; before < id; ++before) {
      const Slot& s = p.slots[slot_of_op(p, before)];
      const OpTemplate& other = p.blocks[s.block].ops[before - s.first_op];
      if (other.stream == op.stream || other.host_waits)
        end(before);
      else if (device.hardware_connections == 1)
        reached[before - first][0] = true;
    }
  }
  return reached[from - first][1];
}

// Random sound Programs whose every dependency carries a tensor: nothing to report. Take a
// dependency away: the read it held back is reported, unless other paths order it still.
TEST(CheckProperty, EveryMissingDependencyIsFound) {
  int removed = 0;
  for (std::uint64_t seed = 0; removed < 100; ++seed) {
    ASSERT_LT(seed, 1000u);
    testing::RandomShape shape;
    shape.tensors = true;
    Program p = testing::random_program(seed, shape);
    ASSERT_THAT(check(p), IsEmpty()) << "seed " << seed;
    testing::Random random(seed);
    for (int attempt = 0; attempt < 20; ++attempt) {
      Program cut = p;
      std::uint32_t from = 0, to = 0;
      if (random.chance(50) && !cut.edges.empty()) {
        const auto e =
            cut.edges.begin() + random.below(static_cast<std::uint32_t>(cut.edges.size()));
        from = cut.slots[e->from_slot].first_op + e->from_op;
        to = cut.slots[e->to_slot].first_op + e->to_op;
        std::erase_if(cut.edges, [&](const SlotEdge& other) {
          return cut.slots[other.from_slot].first_op + other.from_op == from &&
                 cut.slots[other.to_slot].first_op + other.to_op == to;
        });
      } else {
        const Slot& slot = cut.slots[random.below(static_cast<std::uint32_t>(cut.slots.size()))];
        BlockTemplate& block = cut.blocks[slot.block];
        if (block.ops.empty()) continue;
        const std::uint32_t i = random.below(static_cast<std::uint32_t>(block.ops.size()));
        OpTemplate& op = block.ops[i];
        // One dependency that is listed once.
        if (op.deps == 0) continue;
        if (op.deps == 2 && block.deps[op.first_dep] == block.deps[op.first_dep + 1]) continue;
        --op.deps;
        from = slot.first_op + block.deps[op.first_dep + op.deps];
        to = slot.first_op + i;
      }
      finalize(cut);
      if (ordered(cut, from, to)) continue;
      ++removed;
      EXPECT_THAT(check(cut), ::testing::Contains(::testing::AllOf(
                                  HasSubstr("'" + describe_op(p, to) + "' reads"),
                                  HasSubstr("'" + describe_op(p, from) + "' may not have"))))
          << "seed " << seed;
      break;
    }
  }
  EXPECT_EQ(removed, 100);
}

}  // namespace
}  // namespace steploom
