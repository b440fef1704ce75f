// Gaps from chains whose links are sums that are known.
#include "profiler/fit_gaps.h"

#include <gtest/gtest.h>

#include <string>

#include "models/error.h"

namespace steploom {
namespace {

const std::string kHeader =
    R"({"steploom_gaps":1,"date":"2026-01-01T00:00:00Z","command":"c","fabric":"nvlink","ranks":2,)"
    R"("gpu":"g","sms":132,"driver":"d","cuda_driver":"13.0.0","cuda_runtime":"13.0.0",)"
    R"("nccl":"2.28.3","cublas":"13.1.0","environment":[],"precision":"bf16"})"
    "\n";
const std::string kEnd = R"({"table":"end","seconds":1})"
                         "\n";

std::string line(const std::string& chain, const std::string& kernel, const std::string& collective,
                 Bytes bytes, double us, const std::string& traced = "") {
  const std::string t = std::to_string(us);
  return R"({"table":"chain","chain":")" + chain + R"(","kernel":")" + kernel +
         R"(","collective":")" + collective + R"(","bytes":)" + std::to_string(bytes) +
         R"(,"ctas":16,"us":[)" + t + "," + t + "," + t + R"(],"samples":9)" + traced + "}\n";
}

// The kernel takes 10 us in a graph and 11.5 in a stream: a gap of 1.5. The large all-gather takes
// 30 back to back and its links 10 + 30 + 9; of the 9 CUPTI sees 5 before and 4 after it. The
// small one is shorter than 20 us by itself, so its own 12 us count: 10 + 12 + 9.
const std::string kChains =
    line("kernels", "k", "", 0, 11.5) + line("kernels_in_graph", "k", "", 0, 10) +
    line("collectives", "", "all_gather", 4096, 15, R"(,"traced_collective_us":12)") +
    line("collectives", "", "all_gather", 65536, 30, R"(,"traced_collective_us":29)") +
    line("kernel_and_collective", "k", "all_gather", 4096, 31,
         R"(,"traced_kernel_to_collective_us":5,"traced_collective_to_kernel_us":4)") +
    line("kernel_and_collective", "k", "all_gather", 65536, 49,
         R"(,"traced_kernel_to_collective_us":5,"traced_collective_to_kernel_us":4)");

TEST(FitGaps, DurationsAndGapsAddUpToTheChain) {
  const GapPoints points = parse_gap_points(kHeader + kChains + kEnd, "t");
  EXPECT_TRUE(points.complete);
  const Gaps gaps = gaps_of(points);
  EXPECT_DOUBLE_EQ(gaps.kernel_us, 1.5);
  EXPECT_DOUBLE_EQ(gaps.collective_event_us, 5);
  EXPECT_DOUBLE_EQ(gaps.kernel_event_us, 4);
  EXPECT_EQ(
      gaps.source,
      "steploom profile gaps --fabric nvlink, 2026-01-01T00:00:00Z; g, CUDA 13.0.0, NCCL 2.28.3");
}

TEST(FitGaps, NeedTheSameKernelsInAGraph) {
  const GapPoints points = parse_gap_points(kHeader + line("kernels", "k", "", 0, 11.5), "t");
  EXPECT_FALSE(points.complete);
  EXPECT_THROW(gaps_of(points), Error);
}

std::string memory(int communicator, int ctas, const std::string& step, Bytes taken) {
  return R"({"table":"memory","communicator":)" + std::to_string(communicator) + R"(,"ctas":)" +
         std::to_string(ctas) + R"(,"step":")" + step + R"(","bytes":0,"taken":)" +
         std::to_string(taken) + "}\n";
}

std::string communicator(int number, int ctas, Bytes made, Bytes rings, Bytes messages) {
  return memory(number, ctas, "made", made) + memory(number, ctas, "all_reduce", rings) +
         memory(number, ctas, "all_to_all", messages) + memory(number, ctas, "all_gather", 0);
}

// made 4 + 6 a CTA, rings 12, messages 10; the first takes 3, 200 and 60 more, all ranks 300.
TEST(FitGaps, MemoryIsALineInCtas) {
  const std::string text = kHeader + memory(0, 0, "context", 500) + memory(0, 0, "world", 300) +
                           communicator(1, 1, 13, 212, 70) + communicator(2, 1, 10, 12, 10) +
                           communicator(3, 8, 52, 96, 80) + communicator(4, 16, 100, 192, 160) +
                           communicator(5, 0, 190, 288, 384) +
                           // One way first: the sender takes 2 then, and 8 with its first reply.
                           memory(6, 8, "made", 52) + memory(6, 8, "send_recv", 64) +
                           memory(6, 8, "all_to_all", 64) + memory(6, 8, "all_reduce", 96) + kEnd;
  const CommunicatorMemory m = memory_of(parse_gap_points(text, "t"));
  EXPECT_EQ(m.made, (CommunicatorMemory::Part{303, 4, 6}));
  EXPECT_EQ(m.rings, (CommunicatorMemory::Part{200, 0, 12}));
  EXPECT_EQ(m.messages, (CommunicatorMemory::Part{60, 0, 10}));
  EXPECT_EQ(m.idle, 190);
  EXPECT_THROW(memory_of(parse_gap_points(kHeader + kEnd, "t")), Error);
}

TEST(FitGaps, AFabricKeepsItsMemoryAndTheProfileItsGaps) {
  Profile p = built_in_profile("h200-sxm-141gb");
  for (ProfiledFabric& f : p.fabrics) f.memory.reset();
  const std::string memory_text = kHeader + memory(0, 0, "world", 300) +
                                  communicator(1, 1, 13, 212, 70) + communicator(2, 1, 10, 12, 10) +
                                  communicator(3, 8, 52, 96, 80) +
                                  communicator(4, 16, 100, 192, 160);
  add_gaps(p, {parse_gap_points(memory_text, "memory"), parse_gap_points(kHeader + kChains, "t")});
  EXPECT_DOUBLE_EQ(p.gaps.kernel_us, 1.5);
  for (const ProfiledFabric& f : p.fabrics) EXPECT_EQ(f.memory.has_value(), f.name == "nvlink");
  const Profile again = parse_profile(to_json(p), "again");
  EXPECT_EQ(again.gaps, p.gaps);
  EXPECT_EQ(again.fabrics, p.fabrics);
  p.device.sms = 100;
  EXPECT_THROW(add_gaps(p, {parse_gap_points(kHeader + kChains, "t")}), Error);
}

TEST(GapPoints, AreReadStrictly) {
  EXPECT_THROW(parse_gap_points("", "t"), Error);
  EXPECT_THROW(parse_gap_points(kHeader + R"({"table":"end")", "t"), Error);
  EXPECT_THROW(parse_gap_points(kHeader + "{\"table\":\"ends\"}\n", "t"), Error);
  EXPECT_THROW(parse_gap_points(kHeader + kEnd + kEnd, "t"), Error);
  EXPECT_THROW(parse_gap_points(kHeader + line("k", "k", "", 0, 1, ",\"more\":1"), "t"), Error);
}

}  // namespace
}  // namespace steploom
