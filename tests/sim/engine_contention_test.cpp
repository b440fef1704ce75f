#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/error.h"
#include "sim/contention.h"
#include "sim/engine.h"
#include "sim/program_text.h"
#include "tests/sim/random_programs.h"

namespace steploom {
namespace {

constexpr Picoseconds kMicrosecond = 1'000'000;

struct Span {
  Picoseconds start, end;
  bool operator==(const Span&) const = default;
};
void PrintTo(const Span& s, std::ostream* out) {
  *out << s.start << " to " << s.end;
}

// Whole microseconds, or -1.
Picoseconds whole_us(Picoseconds t) {
  return t % kMicrosecond == 0 ? t / kMicrosecond : -1;
}

// Replays with the tables of the text, or neutral ones; times in picoseconds or microseconds.
struct Contended {
  explicit Contended(std::string_view text) {
    ProgramText parsed = parse_program(text);
    program = std::move(parsed.program);
    const Contention tables = parsed.contention.value_or(neutral_contention(1));
    ReplayOptions options;
    options.contention = &tables;
    result = replay(program, options);
  }
  Span ps(std::string_view device, std::string_view op) const {
    const std::uint32_t id = operator_named(program, device, op);
    return {result.start[id], result.end[id]};
  }
  Span us(std::string_view op) const {
    const Span s = ps("gpu", op);
    return {whole_us(s.start), whole_us(s.end)};
  }
  Program program;
  Replay result;
};

// Two kernels that want the whole device: the second starts when the first ends.
TEST(Contention, SmsAreNotPreempted) {
  const Contended at(R"(
    device gpu sms=100
    op a on gpu one 10us sms=100
    op b on gpu two 5us sms=100
  )");
  EXPECT_EQ(at.us("a"), (Span{0, 10}));
  EXPECT_EQ(at.us("b"), (Span{10, 15}));
}

// A kernel starts on what is free and takes the rest as it frees. With a share curve in proportion:
// b works at half speed on 50 of 100 SMs for 10 us, which is 5 us of its work; the other 5 us run
// at full speed. Ends at 15 us.
TEST(Contention, AKernelStartsOnWhatIsFree) {
  const Contended at(R"(
    class k
    share k 1:0.0625 16:1
    device gpu sms=100
    op a on gpu one 10us sms=50
    op b on gpu two 10us sms=100
  )");
  EXPECT_EQ(at.us("a"), (Span{0, 10}));
  EXPECT_EQ(at.us("b"), (Span{0, 15}));
}

// ... but on no fewer than `least`.
TEST(Contention, AKernelWaitsForTheFewestItCanStartOn) {
  const Contended at(R"(
    device gpu sms=100
    op a on gpu one 10us sms=50
    op b on gpu two 10us sms=100 least=51
  )");
  EXPECT_EQ(at.us("b"), (Span{10, 20}));
}

// A collective needs its whole CTA count. The holder's blocks retire in waves of 3 us from its
// start at 0; the collective is ready at 4 us, so it gets its SMs at the next boundary, 6 us.
// Meanwhile the holder has 84 of 100 SMs and works at 84/100 = 55050/65536 of full speed from 6 to
// 11 us; it then takes the SMs back. Work left at 6 us: 14 us; done by 11 us: 5e6 x 55050/65536 =
// 4199981 (rounded down), so it ends at 11 us + 9800019 ps.
TEST(Contention, ACollectiveWaitsForTheNextWave) {
  const Contended at(R"(
    class gemm
    class nccl
    share gemm 1:0.0625 16:1
    device gpu sms=100
    comm self gpu
    op gemm on gpu compute 20us sms=100 wave=3us class=gemm
    op before on gpu comm 4us
    op a2a on gpu comm 5us comm=self ctas=16 class=nccl
  )");
  EXPECT_EQ(at.us("a2a"), (Span{6, 11}));
  // g at 84/100 lies between 13/16 (53248) and 14/16 (57344): 53248 + 4096 x 44/100 = 55050.
  EXPECT_EQ(at.ps("gpu", "gemm").end, 11 * kMicrosecond + 9'800'019);
}

// Ready together, the product first: its first wave must be over before the collective comes in.
TEST(Contention, TheFirstWaveRunsToItsEnd) {
  const Contended at(R"(
    device gpu sms=100
    comm self gpu
    op gemm on gpu compute 20us sms=100 wave=3us
    op a2a on gpu comm 5us comm=self ctas=16
  )");
  EXPECT_EQ(at.us("a2a"), (Span{3, 8}));
}

// wave=0 hands over at once; a persistent holder not before its end.
TEST(Contention, HoldersThatHandOverAtOnceOrNever) {
  const char* const graph = R"(
    device gpu sms=100
    comm self gpu
    op before on gpu comm 4us
    op a2a on gpu comm 5us comm=self ctas=16
    op gemm on gpu compute 20us sms=100 )";
  EXPECT_EQ(Contended(graph).us("a2a"), (Span{4, 9}));
  EXPECT_EQ(Contended(graph + std::string("wave=3us persistent")).us("a2a"), (Span{20, 25}));
}

// Blocks of a class that persist for others retire in waves before a collective of higher priority
// (lower number): ready at 4 us, it comes in at the wave boundary of 6 us; at equal priority at the
// kernel's end.
TEST(Contention, HigherPriorityGetsInAtAWave) {
  const std::string graph = R"(
    class memory wave=3us
    device gpu sms=100
    comm self gpu
    op before on gpu comm 4us
    op kernel on gpu compute 20us sms=100 persistent class=memory
    op a2a on gpu comm 5us comm=self ctas=16 prio=)";
  EXPECT_EQ(Contended(graph + "-1").us("a2a"), (Span{6, 11}));
  EXPECT_EQ(Contended(graph + "0").us("a2a"), (Span{20, 25}));
}

// A collective hands nothing over: its CTAs talk to each other to the end.
TEST(Contention, CollectivesHandNothingOver) {
  const Contended at(R"(
    device gpu sms=20
    comm self gpu
    op first on gpu one 10us comm=self ctas=16
    op second on gpu two 5us comm=self ctas=16
  )");
  EXPECT_EQ(at.us("second"), (Span{10, 15}));
}

// SMs of several holders are handed over together, when enough have come to a boundary: 30 CTAs
// need both kernels' (25 SMs to spare each, since a kernel keeps one): boundaries at 4 and 6 us.
TEST(Contention, SeveralHoldersHandOverTogether) {
  const Contended at(R"(
    device gpu sms=52
    comm self gpu
    op a on gpu one 20us sms=26 wave=2us
    op b on gpu two 20us sms=26 wave=6us
    op before on gpu comm 3us
    op a2a on gpu comm 5us comm=self ctas=30
  )");
  EXPECT_EQ(at.us("a2a"), (Span{6, 11}));
}

// SMs that lie free wait for nobody.
TEST(Contention, FreeSmsNeedNoWave) {
  const Contended at(R"(
    device gpu sms=132
    comm self gpu
    op gemm on gpu compute 20us sms=100 persistent
    op a2a on gpu comm 5us comm=self ctas=16
  )");
  EXPECT_EQ(at.us("a2a"), (Span{0, 5}));
}

// Admission goes by priority, then ready time, then issue order. All want the whole device; `first`
// holds it until 10 us. `low` is ready at 0, `late` at 2 us, `high` at 4 us with priority -1.
TEST(Contention, AdmissionOrder) {
  const Contended at(R"(
    device gpu sms=100
    op first on gpu a 10us sms=100
    op wait2 on gpu b 2us
    op late on gpu b 1us sms=100
    op low on gpu c 1us sms=100
    op wait4 on gpu d 4us
    op high on gpu d 1us sms=100 prio=-1
  )");
  EXPECT_EQ(at.us("high"), (Span{10, 11}));
  EXPECT_EQ(at.us("low"), (Span{11, 12}));
  EXPECT_EQ(at.us("late"), (Span{12, 13}));
}

// Who cannot start keeps those behind it waiting, though their SMs are free: `small` is ready after
// `large`. What needs no SMs (a copy engine's work) never waits.
TEST(Contention, TheHeadOfTheLineBlocks) {
  const Contended at(R"(
    device gpu sms=100
    op first on gpu a 10us sms=60
    op wait1 on gpu b 1us
    op large on gpu b 5us sms=50 least=50
    op wait2 on gpu c 2us
    op small on gpu c 1us sms=10
    op wait3 on gpu d 3us
    op copy on gpu d 1us
  )");
  EXPECT_EQ(at.us("large"), (Span{10, 15}));
  EXPECT_EQ(at.us("small"), (Span{10, 11}));
  EXPECT_EQ(at.us("copy"), (Span{3, 4}));
}

// A member that has started holds its SMs while it waits: gpu's collective starts at 0, its peer
// comes at 8 us; a kernel that needs the whole device waits until both have ended.
TEST(Contention, AWaitingMemberHoldsItsSms) {
  const Contended at(R"(
    device gpu sms=100
    device peer
    comm ep gpu peer
    op a2a on gpu comm 5us comm=ep ctas=16
    op gemm on gpu compute 1us sms=100 least=90
    op late on peer comm 8us
    op a2a on peer comm 5us comm=ep ctas=16
  )");
  EXPECT_EQ(at.us("a2a"), (Span{0, 13}));
  EXPECT_EQ(at.us("gemm"), (Span{13, 14}));
}

// h: beside a collective of 12 CTAs, half way between 8 (0.5) and 16 (0.25), the product works at
// 0.375 = 24576/65536; the collective at 0.5 beside the product. The collective's 4 us take 8 us;
// by then 3 us of the product's 10 are done, and it ends at 15 us.
TEST(Contention, KernelsSlowEachOther) {
  const Contended at(R"(
    class gemm
    class nccl
    beside gemm nccl 8:0.5 16:0.25
    beside nccl gemm 1:0.5
    device gpu sms=132
    comm self gpu
    op gemm on gpu compute 10us sms=100 class=gemm
    op a2a on gpu comm 4us comm=self ctas=12 class=nccl
  )");
  EXPECT_EQ(at.us("a2a"), (Span{0, 8}));
  EXPECT_EQ(at.us("gemm"), (Span{0, 15}));
}

// What a collective suffers depends on its own CTAs: beside the product 0.5 with 4, 0.25 with 2,
// half way between with 3 (0.375). Its 3 us take 6, 12 and 8 us.
TEST(Contention, SlowDownsDependOnOnesOwnCtas) {
  const auto end = [](const std::string& ctas) {
    const Contended at(R"(
      class gemm
      class nccl
      beside nccl/2 gemm 1:0.25
      beside nccl/4 gemm 1:0.5
      device gpu sms=132
      comm self gpu
      op gemm on gpu compute 1ms sms=100 class=gemm
      op a2a on gpu comm 3us comm=self class=nccl ctas=)" +
                       ctas);
    return at.us("a2a").end;
  };
  EXPECT_EQ(end("4"), 6);
  EXPECT_EQ(end("3"), 8);
  EXPECT_EQ(end("2"), 12);
  EXPECT_EQ(end("1"), 12);
}

// Ends round up. At rate 0.3 = 19660/65536 (rounded down), 1 us takes 1e6 x 65536 / 19660 =
// 3333468.97 ps: 3333469.
TEST(Contention, EndsRoundUp) {
  const Contended at(R"(
    class a
    class b
    beside a b 1:0.3
    device gpu
    op x on gpu one 1us sms=1 class=a
    op y on gpu two 1ms sms=1 class=b
  )");
  EXPECT_EQ(at.ps("gpu", "x").end, 3'333'469);
}

// Three residents: the pairwise product. x beside y (0.5) and z (0.5) works at 0.25.
TEST(Contention, SlowDownsMultiply) {
  const Contended at(R"(
    class a
    class b
    beside a b 1:0.5
    device gpu
    op x on gpu one 1us sms=1 class=a
    op y on gpu two 1ms sms=1 class=b
    op z on gpu three 1ms sms=1 class=b
  )");
  EXPECT_EQ(at.us("x").end, 4);
}

// A collective is as slow as its slowest member: gpu1's member works at half speed beside a product
// for 4 us (2 us of the work), then the remaining 3 us run at full speed everywhere.
TEST(Contention, ACollectiveIsAsSlowAsItsSlowestMember) {
  const Contended at(R"(
    class gemm
    class nccl
    beside nccl gemm 1:0.5
    device gpu
    device peer
    comm ep gpu peer
    op a2a on gpu comm 5us comm=ep ctas=16 class=nccl
    op a2a on peer comm 5us comm=ep ctas=16 class=nccl
    op gemm on peer compute 4us sms=100 class=gemm
  )");
  EXPECT_EQ(at.us("a2a"), (Span{0, 7}));
}

// Eager messages with SMs: the sender works by itself; a receiver holds its SMs until it arrives.
TEST(Contention, EagerMessages) {
  const Contended at(R"(
    device gpu
    device peer
    comm pp gpu peer
    op late on gpu comm 3us
    op send on gpu comm 2us comm=pp ctas=4 eager send
    op send2 on gpu comm 2us comm=pp ctas=4 eager send
    op receive on peer comm 2us comm=pp ctas=4 eager
    op work on peer comm 9us
    op receive2 on peer comm 2us comm=pp ctas=4 eager
  )");
  EXPECT_EQ(at.us("send"), (Span{3, 5}));
  EXPECT_EQ(at.ps("peer", "receive"), (Span{0, 5 * kMicrosecond}));
  EXPECT_EQ(at.ps("peer", "receive2"), (Span{14 * kMicrosecond, 14 * kMicrosecond}));
}

// Two collectives that each hold what the other needs wait for ever: gpu has started x and lacks
// SMs for y, peer has started y and lacks SMs for x. Without SMs there is no deadlock.
TEST(Contention, ACircularWaitForSmsIsNamed) {
  const char* const text = R"(
    device gpu sms=20
    device peer sms=20
    comm x gpu peer
    comm y gpu peer
    op x on gpu one 1us comm=x ctas=16
    op y on gpu two 1us comm=y ctas=16
    op wait on peer one 1us
    op x on peer one 1us comm=x ctas=16
    op y on peer two 1us comm=y ctas=16
  )";
  EXPECT_EQ(replay(parse_program(text).program).makespan, 2 * kMicrosecond);
  try {
    Contended{text};
    FAIL() << "no deadlock";
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::negative);
    EXPECT_STREQ(e.what(),
                 "replay: expected every operator to end, found a deadlock: "
                 "gpu · step 0 · x [one] waits for peer · step 0 · x [one] (rendezvous on "
                 "x); peer · step 0 · x [one] waits for peer · step 0 · y [two] (holds the "
                 "SMs); peer · step 0 · y [two] waits for gpu · step 0 · y [two] "
                 "(rendezvous on y); gpu · step 0 · y [two] waits for gpu · step 0 · x [one] "
                 "(holds the SMs)");
  }
}

// Who waits behind another in line for SMs is part of the cycle: k would fit, but y came first, and
// y waits for the SMs of x, whose peer comes only after a message that follows k.
TEST(Contention, AWaitInLineIsNamed) {
  try {
    Contended{R"(
      device gpu sms=20
      device peer
      comm c gpu peer
      comm d gpu peer
      comm self gpu
      op x on gpu one 1us comm=c ctas=16
      op y on gpu two 1us comm=self ctas=8
      op k on gpu three 1us sms=1
      op s on gpu four 1us comm=d after=k
      op r on peer one 1us comm=d
      op x on peer one 1us comm=c ctas=16
    )"};
    FAIL() << "no deadlock";
  } catch (const Error& e) {
    EXPECT_STREQ(e.where().found.c_str(),
                 "a deadlock: gpu · step 0 · x [one] waits for peer · step 0 · x [one] "
                 "(rendezvous "
                 "on c); peer · step 0 · x [one] waits for peer · step 0 · r [one] "
                 "(stream order); "
                 "peer · step 0 · r [one] waits for gpu · step 0 · s [four] (rendezvous "
                 "on d); gpu · "
                 "step 0 · s [four] waits for gpu · step 0 · k [three] (dependency); gpu · "
                 "step 0 · k "
                 "[three] waits for gpu · step 0 · y [two] (before it in line for SMs); "
                 "gpu · step 0 "
                 "· y [two] waits for gpu · step 0 · x [one] (holds the SMs)");
  }
}

TEST(Contention, TablesAreValidated) {
  Contention c = neutral_contention(2);
  EXPECT_NO_THROW(validate(c, "tables"));
  c.share[1][3] = 0;
  EXPECT_THROW(validate(c, "tables"), Error);
  c = neutral_contention(2);
  c.beside[1].rates = {100, 200};
  EXPECT_THROW(validate(c, "tables"), Error);
  c.beside[1].own = {4, 8};
  EXPECT_NO_THROW(validate(c, "tables"));
  c.beside[1].rates = {100, kFullRate + 1};
  EXPECT_THROW(validate(c, "tables"), Error);
  c.beside[1] = {{8, 8}, {}, {100, 200}};
  EXPECT_THROW(validate(c, "tables"), Error);
  c = neutral_contention(2);
  c.priority_wave.pop_back();
  EXPECT_THROW(validate(c, "tables"), Error);
  const Program program = testing::random_program(1);
  const Contention few = neutral_contention(1);
  ReplayOptions options;
  options.contention = &few;
  EXPECT_THROW(replay(program, options), Error);
}

}  // namespace
}  // namespace steploom
