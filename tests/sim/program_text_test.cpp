#include "sim/program_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/error.h"

namespace steploom {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string refusal(std::string_view text) {
  try {
    parse_program(text, "graph.txt");
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

TEST(ProgramText, EveryWord) {
  const ProgramText text = parse_program(R"(
    # a comment
    device gpu0 sms=100 connections=1 static=2K
    device gpu1
    comm ep gpu0 gpu1 link nvlink:0.5 nic:0.25   # two links
    class gemm
    class nccl
    tensor gpu0 x 1.5M
    tensor gpu0 w 3 step
    op a on gpu0 compute 10us sms=100 least=2 launch=2.5ns wave=1ms class=gemm alloc=1G writes=x
    op b on gpu0 comm 7ps comm=ep ctas=16 class=nccl prio=-3 link=0.5 persistent wait after=a reads=x,w
    op b on gpu1 comm 8ps comm=ep ctas=16 free=5
    slot gpu0 tail 7
    op c on gpu0 compute 0us after=b,a frees=x
    op d on gpu0 compute 1us after=c
  )");
  const Program& p = text.program;
  ASSERT_EQ(p.devices.size(), 2u);
  EXPECT_EQ(p.devices[0].sms, 100);
  EXPECT_EQ(p.devices[0].hardware_connections, 1);
  EXPECT_EQ(p.devices[0].static_bytes, 2048);
  EXPECT_EQ(p.devices[0].streams, 2);
  EXPECT_EQ(p.devices[1].sms, 132);
  EXPECT_EQ(p.devices[1].hardware_connections, 32);
  EXPECT_EQ(p.devices[1].streams, 2);
  EXPECT_THAT(p.stream_names, ElementsAre("compute", "comm"));
  EXPECT_EQ(p.links, 2u);
  ASSERT_EQ(p.communicators.size(), 1u);
  EXPECT_THAT(p.communicators[0].members, ElementsAre(0, 1));
  EXPECT_EQ(p.communicators[0].uses[0].share, 32768u);
  EXPECT_EQ(p.communicators[0].uses[1].share, 16384u);
  EXPECT_THAT(p.kernel_classes, ElementsAre("gemm", "nccl"));
  EXPECT_EQ(p.tensor_tables[0][0].bytes, 3 << 19);
  EXPECT_EQ(p.tensor_tables[0][0].scope, TensorScope::micro_batch);
  EXPECT_EQ(p.tensor_tables[0][1].scope, TensorScope::step);

  ASSERT_EQ(p.slots.size(), 3u);
  EXPECT_EQ(p.slots[1].micro_batch, 7);
  EXPECT_EQ(p.blocks[1].name, "tail");
  const OpTemplate& a = p.blocks[0].ops[0];
  EXPECT_EQ(a.duration, 10'000'000);
  EXPECT_EQ(a.launch, 2'500);
  EXPECT_EQ(a.wave, 1'000'000'000);
  EXPECT_EQ(a.alloc, 1 << 30);
  EXPECT_EQ(a.sms_wanted, 100);
  EXPECT_EQ(a.sms_least, 2);
  EXPECT_EQ(a.role, kNoRole);
  const OpTemplate& b = p.blocks[0].ops[1];
  EXPECT_EQ(b.duration, 7);
  EXPECT_EQ(b.role, 0);
  EXPECT_EQ(b.sms_wanted, 16);
  EXPECT_EQ(b.kernel_class, 1);
  EXPECT_EQ(b.priority, -3);
  EXPECT_EQ(b.link_share, 32768);
  EXPECT_TRUE(b.persistent);
  EXPECT_TRUE(b.host_waits);
  EXPECT_EQ(b.deps, 1);
  EXPECT_EQ(p.blocks[2].ops[0].free, 5);
  EXPECT_EQ(p.blocks[2].ops[0].link_share, 0xffff);
  EXPECT_EQ(p.edges.size(), 2u);
  EXPECT_EQ(p.blocks[1].deps, std::vector<std::uint32_t>{0});
  EXPECT_EQ(p.blocks[0].accesses.size(), 3u);
  EXPECT_EQ(operator_named(p, "gpu1", "b"), 4u);
  EXPECT_EQ(operator_named(p, "gpu0", "d"), 3u);
}

// Tables are linear between the points given and constant beyond them. CTA counts are those of all
// lines: at 12, between 8 (0.9) and 16 (0.7), a table that has only those two says 0.8.
TEST(ProgramText, Tables) {
  const ProgramText text = parse_program(R"(
    class gemm
    class nccl wave=2us
    share gemm 4:0.25 12:0.75
    beside gemm nccl 8:0.9 16:0.7
    beside nccl/4 gemm 132:0.25
    beside nccl/16 gemm 132:0.5
  )");
  ASSERT_TRUE(text.contention.has_value());
  const Contention& c = *text.contention;
  EXPECT_EQ(c.share[0][0], 16384u);
  EXPECT_EQ(c.share[0][8], 32768u);
  EXPECT_EQ(c.share[0][16], 49152u);
  EXPECT_EQ(c.share[1][0], kFullRate);
  EXPECT_THAT(c.beside[1].other, ElementsAre(8, 16));
  EXPECT_THAT(c.beside[1].rates, ElementsAre(58982, 45875));
  EXPECT_EQ(c.beside[1].at(132, 12), 52429u);
  EXPECT_THAT(c.beside[2].own, ElementsAre(4, 16));
  EXPECT_THAT(c.beside[2].rates, ElementsAre(16384, 32768));
  EXPECT_EQ(c.beside[2].at(8, 132), 21845u);
  EXPECT_TRUE(c.beside[0].rates.empty());
  EXPECT_THAT(c.priority_wave, ElementsAre(0, 2000000));
  EXPECT_FALSE(parse_program("device gpu").contention.has_value());
}

TEST(ProgramText, RefusalsNameTheLine) {
  EXPECT_EQ(refusal("device gpu\n\nopp a on gpu s 1us"),
            "graph.txt: line 3: expected a statement, found 'opp'; did you mean 'op'?");
  EXPECT_EQ(
      refusal("device gpu0\nop a on gpu9 s 1us"),
      "graph.txt: line 2: expected a device that is declared above, found 'gpu9'; did you mean "
      "'gpu0'?");
  EXPECT_THAT(
      refusal("device gpu\nop a on gpu s 5"),
      HasSubstr("line 2: expected a time with a unit (ps, ns, us, ms) such as 2.5us, found '5'"));
  EXPECT_THAT(refusal("device gpu\nop a on gpu s 1us lunch=1us"),
              HasSubstr("expected a known key, found 'lunch'; did you mean 'launch'?"));
  EXPECT_THAT(refusal("device gpu\nop a on gpu s 1us persistant"),
              HasSubstr("did you mean 'persistent'?"));
  EXPECT_THAT(refusal("device gpu\nop a on gpu s 1us\nop b on gpu s 1us after=c"),
              HasSubstr("line 3: expected an operator of this device that is declared above"));
  EXPECT_THAT(refusal("device gpu\nop a at gpu s 1us"), HasSubstr("expected 'on', found 'at'"));
  EXPECT_THAT(refusal("device gpu\nop a on gpu s"), HasSubstr("expected op NAME on DEVICE"));
  EXPECT_THAT(refusal("device gpu\ndevice gpu"), HasSubstr("expected a new device"));
  EXPECT_THAT(refusal("device gpu sms=1.5"), HasSubstr("expected a whole number"));
  EXPECT_THAT(refusal("device gpu sms=99999"), HasSubstr("a whole number up to 65534"));
  EXPECT_THAT(refusal("device gpu static=1T"), HasSubstr("a number of bytes such as 64K"));
  EXPECT_THAT(refusal("device gpu\ncomm x gpu link wire"), HasSubstr("expected LINK:SHARE"));
  EXPECT_THAT(refusal("class a\nshare a 8:1.5"), HasSubstr("at most 65536 of 65536"));
  EXPECT_THAT(refusal("class a\nbeside a/4 a 8:0.5\nbeside a/4 a 8:0.5"),
              HasSubstr("increasing CTA counts"));
  EXPECT_THAT(refusal("class a\nbeside a/4 a 8:0.5\nbeside a/8 a 9:0.5"),
              HasSubstr("the CTA counts of the statement before"));
  EXPECT_THAT(refusal("class a wave=2"), HasSubstr("a time with a unit"));
  EXPECT_THAT(refusal("class a\nshare a 8:0.5 8:0.6"), HasSubstr("increasing numbers"));
  EXPECT_THAT(refusal("device gpu\nop a on gpu s 99999999999999999999us"),
              HasSubstr("such as 2.5us, found '9999"));
  const Program p = parse_program("device gpu\nop fc1 on gpu s 1us").program;
  EXPECT_THROW(operator_named(p, "gpu", "fc2"), Error);
}

}  // namespace
}  // namespace steploom
