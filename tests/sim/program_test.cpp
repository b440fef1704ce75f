#include "sim/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/error.h"
#include "sim/program_text.h"

namespace steploom {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Program two_slots() {
  return parse_program(R"(
    device gpu
    slot gpu F 3
    op a on gpu one 1us
    op b on gpu two 1us after=a
    op c on gpu one 1us after=a,b
    slot gpu B 3
    op d on gpu one 1us after=b
    op e on gpu two 1us after=a,c
  )")
      .program;
}

std::string refusal(const Program& changed) {
  Program p = changed;
  try {
    finalize(p);
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::refused);
    return e.what();
  }
  return "accepted";
}

TEST(Program, NumbersOperators) {
  const Program p = two_slots();
  EXPECT_EQ(p.op_count, 5u);
  EXPECT_EQ(p.slots[1].first_op, 3u);
  EXPECT_EQ(slot_of_op(p, 2), 0u);
  EXPECT_EQ(slot_of_op(p, 3), 1u);
  EXPECT_EQ(describe_op(p, 3), "gpu · B 3 · d");
}

TEST(Program, Successors) {
  const Program p = two_slots();
  const Program::Adjacency& s = p.block_successors[0];
  EXPECT_THAT(s.first, ElementsAre(0, 2, 3, 3));
  EXPECT_THAT(s.items, ElementsAre(1, 2, 2));
}

TEST(Program, SlotEdgesBySourceAndTarget) {
  const Program p = two_slots();
  ASSERT_EQ(p.edges.size(), 3u);
  EXPECT_THAT(p.edges_into_slot.first, ElementsAre(0, 0, 3));
  EXPECT_THAT(p.edges_out_of_slot.first, ElementsAre(0, 3, 3));
  std::vector<std::uint32_t> targets, sources;
  for (const std::uint32_t e : p.edges_into_slot.items) targets.push_back(p.edges[e].to_op);
  for (const std::uint32_t e : p.edges_out_of_slot.items) sources.push_back(p.edges[e].from_op);
  EXPECT_THAT(targets, ElementsAre(0, 1, 1));
  EXPECT_THAT(sources, ElementsAre(0, 1, 2));
}

// The k-th operator of every member; gpu1 issues one fewer on x and is missing from the second.
TEST(Program, Rendezvous) {
  const Program p = parse_program(R"(
    device gpu0
    device gpu1
    comm x gpu0 gpu1
    comm y gpu1
    op a on gpu0 one 1us comm=x
    op k on gpu0 one 1us
    op b on gpu0 one 1us comm=x
    op c on gpu1 one 1us comm=y
    op d on gpu1 one 1us comm=x
  )")
                        .program;
  EXPECT_THAT(p.communicator_of_rendezvous, ElementsAre(0, 0, 1));
  EXPECT_THAT(p.rendezvous_ops.first, ElementsAre(0, 2, 3, 4));
  EXPECT_THAT(p.rendezvous_ops.items, ElementsAre(0, 4, 2, 3));
  EXPECT_THAT(p.first_comm_op, ElementsAre(0, 2, 4));
  EXPECT_THAT(p.rendezvous_of, ElementsAre(0, 1, 2, 0));
}

// Finalizing again changes nothing.
TEST(Program, FinalizeIsIdempotent) {
  Program p = two_slots();
  const Program once = p;
  finalize(p);
  EXPECT_EQ(p.op_count, once.op_count);
  EXPECT_EQ(p.edges_into_slot.items, once.edges_into_slot.items);
  EXPECT_EQ(p.rendezvous_ops.items, once.rendezvous_ops.items);
  EXPECT_EQ(p.first_comm_op, once.first_comm_op);
}

TEST(Program, StructuralFaultsAreRefused) {
  const Program sound = two_slots();
  const auto broken = [&sound](const auto& change) {
    Program p = sound;
    change(p);
    return refusal(p);
  };
  EXPECT_EQ(refusal(sound), "accepted");
  EXPECT_EQ(broken([](Program& p) { p.blocks[0].deps[0] = 1; }),
            "program: block F, operator 1 (b): expected dependencies on earlier operators only, "
            "found a dependency on operator 1");
  EXPECT_THAT(broken([](Program& p) { p.blocks[0].ops[1].deps = 100; }),
              HasSubstr("dependencies inside the block's list"));
  EXPECT_THAT(broken([](Program& p) { p.blocks[0].ops[1].stream = 2; }),
              HasSubstr("a stream below 2 of device gpu, found 2"));
  EXPECT_THAT(broken([](Program& p) { p.blocks[0].ops[1].role = 0; }),
              HasSubstr("a communicator role of device gpu"));
  EXPECT_THAT(broken([](Program& p) {
                p.blocks[0].ops[1].sms_wanted = 200;
                p.blocks[0].ops[1].sms_least = 133;
              }),
              HasSubstr("at most the 132 SMs of device gpu, found an operator that cannot start on "
                        "fewer than 133"));
  EXPECT_THAT(broken([](Program& p) { p.blocks[0].ops[1].duration = -1; }),
              HasSubstr("a duration of 0 to 2^46 ps, found -1"));
  EXPECT_THAT(broken([](Program& p) { p.blocks[0].ops[1].eager = true; }),
              HasSubstr("eager only on a communication operator"));
  EXPECT_THAT(broken([](Program& p) { p.blocks[0].infos.pop_back(); }), HasSubstr("3 infos"));
  EXPECT_THAT(broken([](Program& p) {
                p.blocks[0].accesses.push_back({0, 0, AccessMode::read});
              }),
              HasSubstr("a tensor of the table of device gpu"));
  EXPECT_THAT(broken([](Program& p) { p.slots[0].block = 2; }), HasSubstr("a block that exists"));
  EXPECT_THAT(broken([](Program& p) { p.devices[0].slot_count = 1; }), HasSubstr("slots"));
  EXPECT_THAT(broken([](Program& p) { p.devices[0].first_slot = 1; }),
              HasSubstr("its slots to begin where the last device's end"));
  EXPECT_THAT(broken([](Program& p) { p.edges[0].from_slot = 1; }),
              HasSubstr("from an earlier to a later slot"));
  EXPECT_THAT(broken([](Program& p) { p.edges[0].from_op = 3; }),
              HasSubstr("operators of its slots"));
  EXPECT_THAT(broken([](Program& p) {
                p.communicators.push_back({"x", {1}, {}});
              }),
              HasSubstr("members that exist"));
  EXPECT_THAT(broken([](Program& p) {
                p.communicators.push_back({"x", {0, 0}, {}});
              }),
              HasSubstr("each member once"));
  EXPECT_THAT(broken([](Program& p) {
                p.communicators.push_back({"x", {0}, {{0, 1}}});
              }),
              HasSubstr("links that exist"));
  EXPECT_THAT(broken([](Program& p) { p.devices[0].communicator_of_role = {0}; }),
              HasSubstr("communicators that exist"));
  EXPECT_THAT(broken([](Program& p) {
                p.devices[0].communicator_of_role = {0};
                p.communicators.push_back({"x", {}, {}});
              }),
              HasSubstr("roles in communicators that it is a member of"));
}

// No sum of times may leave 64 bits: 2^15 slots of 2^46 ps are 2^61 ps.
TEST(Program, TooLongAStepIsRefused) {
  Program p = parse_program("device gpu\n op a on gpu one 1us").program;
  p.blocks[0].ops[0].duration = (Picoseconds{1} << 46) - 1;
  p.slots.resize(40'000, p.slots[0]);
  p.devices[0].slot_count = 40'000;
  EXPECT_THAT(refusal(p), HasSubstr("at most 2^61 ps in all"));
}

TEST(Program, EagerMessagesGoFromOneToOne) {
  const auto message = [](const char* options) {
    try {
      parse_program(std::string(R"(
        device gpu0
        device gpu1
        comm pp gpu0 gpu1
        op s on gpu0 net 1us comm=pp eager send
        op r on gpu1 net 1us comm=pp )") +
                    options);
      return std::string("accepted");
    } catch (const Error& e) {
      return std::string(e.what());
    }
  };
  EXPECT_EQ(message("eager"), "accepted");
  EXPECT_THAT(message(""), HasSubstr("an eager message between one sender and one receiver"));
  EXPECT_THAT(message("eager send"), HasSubstr("2 sending"));
}

}  // namespace
}  // namespace steploom
