#include "traces/chrome_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <utility>

#include "models/json_reader.h"
#include "sim/program_text.h"
#include "tests/sim/random_programs.h"

namespace steploom {
namespace {

using ::testing::StartsWith;

constexpr double kForever = 1e15;

Json written(const Timeline& t, const TraceOptions& options = {}) {
  std::ostringstream out;
  write_chrome_trace(out, t, options);
  return Json::parse(out.str(), "trace.json");
}

Timeline timeline_of(const Program& program) {
  ReplayOptions options;
  options.record_memory = true;
  return make_timeline(program, replay(program, options));
}

// Two stages: a kernel of 4 us, a message of 1 us + 1 ps, a kernel of 2 us, an all-gather.
Timeline sample() {
  Program program = parse_program(R"(
device first static=100
device second
comm pair first second
comm dp second
slot first F 3
op fc1  on first  compute 4us
op send on first  pp 1000001ps comm=pair send after=fc1 alloc=50
slot second F 3
op recv on second pp 1us comm=pair
op fc1  on second compute 2us after=recv
op gather on second dp 1us comm=dp after=fc1
)")
                        .program;
  program.devices[1].stage = 1;
  program.devices[1].multiplicity = 4;
  program.communicators[1].ranks = 4;
  OpInfo& send = program.blocks[0].infos[1];
  send.work.kind = OpKind::send_recv;
  send.work.bytes = 2048;
  program.blocks[1].infos[0].work = send.work;
  OpInfo& gather = program.blocks[1].infos[2];
  gather.work.kind = OpKind::all_gather;
  gather.work.bytes = 4096;
  gather.work.precision = Precision::fp32;
  gather.layer = 5;
  gather.provenance = Provenance::measured;
  return timeline_of(program);
}

std::vector<Json> events(const Json& trace, std::string_view phase,
                         std::string_view category = "") {
  std::vector<Json> out;
  const Json all = trace.at("traceEvents");
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Json e = all.at(i);
    if (e.at("ph").text() != phase) continue;
    if (category.empty() || e.at("cat").text() == category) out.push_back(e);
  }
  return out;
}

const Json* named(const std::vector<Json>& list, std::string_view op) {
  for (const Json& e : list)
    if (e.at("args").at("op").text() == op) return &e;
  return nullptr;
}

TEST(ChromeTrace, HeadIsThatOfThePyTorchProfiler) {
  const Json trace = written(sample());
  EXPECT_EQ(trace.at("schemaVersion").integer(), 1);
  EXPECT_EQ(trace.at("displayTimeUnit").text(), "ns");
  EXPECT_EQ(trace.at("traceName").text(), "steploom");
  EXPECT_EQ(trace.at("deviceProperties").size(), 2U);
  EXPECT_EQ(trace.at("deviceProperties").at(1).at("id").integer(), 1);
  const Json info = trace.at("distributedInfo");
  EXPECT_EQ(info.at("backend").text(), "nccl");
  EXPECT_EQ(info.at("world_size").integer(), 5);
  EXPECT_EQ(info.at("pg_config").size(), 2U);
  EXPECT_EQ(info.at("pg_config").at(1).at("pg_size").integer(), 4);
}

TEST(ChromeTrace, KernelsHaveExactTimes) {
  const Json trace = written(sample());
  const std::vector<Json> kernels = events(trace, "X", "kernel");
  ASSERT_EQ(kernels.size(), 5U);
  const Json* send = named(kernels, "send");
  ASSERT_NE(send, nullptr);
  EXPECT_DOUBLE_EQ(send->at("ts").number(0, kForever), 4);
  EXPECT_DOUBLE_EQ(send->at("dur").number(0, kForever), 1.000001);
  EXPECT_EQ(send->at("pid").integer(), 0);
  EXPECT_EQ(send->at("tid").integer(), send->at("args").at("stream").integer());
  const Json* fc1 = named(kernels, "fc1");
  EXPECT_EQ(fc1->at("name").text(), "fc1");
  EXPECT_EQ(fc1->at("args").at("micro-batch").integer(), 3);
  EXPECT_FALSE(fc1->at("args").has("layer"));
  EXPECT_FALSE(fc1->at("args").has("Collective name"));
}

TEST(ChromeTrace, CollectivesLookLikeNccls) {
  const Json trace = written(sample());
  const std::vector<Json> kernels = events(trace, "X", "kernel");
  const Json* gather = named(kernels, "gather");
  ASSERT_NE(gather, nullptr);
  EXPECT_EQ(gather->at("name").text(), "ncclDevKernel_AllGather_RING_LL");
  const Json args = gather->at("args");
  EXPECT_EQ(args.at("Collective name").text(), "_allgather_base");
  EXPECT_EQ(args.at("dtype").text(), "Float");
  EXPECT_EQ(args.at("Group size").integer(), 4);
  EXPECT_EQ(args.at("Out msg nelems").integer(), 1024);
  EXPECT_EQ(args.at("In msg nelems").integer(), 256);
  EXPECT_EQ(args.at("Process Group Description").text(), "dp");
  EXPECT_EQ(args.at("Process Group Ranks").text(), "[]");  // folded: not known
  EXPECT_EQ(args.at("layer").integer(), 5);
  EXPECT_EQ(args.at("cost").text(), "measured");
  EXPECT_EQ(named(kernels, "send")->at("args").at("Collective name").text(), "send");
  EXPECT_EQ(named(kernels, "recv")->at("args").at("Collective name").text(), "recv");
  EXPECT_THAT(named(kernels, "recv")->at("name").text(), StartsWith("nccl"));
}

TEST(ChromeTrace, RanksAreListedWhereADeviceIsARank) {
  Timeline t = sample();
  t.devices[1].multiplicity = 1;
  const Json trace = written(t);
  EXPECT_EQ(trace.at("distributedInfo").at("pg_config").at(0).at("ranks").size(), 2U);
  const std::vector<Json> kernels = events(trace, "X", "kernel");
  EXPECT_EQ(named(kernels, "recv")->at("args").at("Process Group Ranks").text(), "[0, 1]");
}

TEST(ChromeTrace, EveryCollectiveHasANameThatBeginsWithNccl) {
  for (int kind = static_cast<int>(OpKind::all_reduce); kind < kOpKinds; ++kind) {
    Program program = parse_program("device a\ncomm c a\nop x on a s 1us comm=c\n").program;
    program.blocks[0].infos[0].work.kind = static_cast<OpKind>(kind);
    const Json kernel = events(written(timeline_of(program)), "X", "kernel").at(0);
    EXPECT_THAT(kernel.at("name").text(), StartsWith("ncclDevKernel_"));
    EXPECT_FALSE(kernel.at("args").at("Collective name").text().empty());
  }
}

TEST(ChromeTrace, SlotsAreNamedAsPipelineActions) {
  const Json trace = written(sample());
  const std::vector<Json> slots = events(trace, "X", "gpu_user_annotation");
  ASSERT_EQ(slots.size(), 2U);
  EXPECT_EQ(slots[0].at("name").text(), "PP:0F3");
  EXPECT_EQ(slots[1].at("name").text(), "PP:1F3");
  EXPECT_DOUBLE_EQ(slots[1].at("ts").number(0, kForever), 5.000001);
  EXPECT_DOUBLE_EQ(slots[1].at("dur").number(0, kForever), 2);
}

TEST(ChromeTrace, ProcessesAndThreadsHaveNames) {
  const Json trace = written(sample());
  std::map<std::pair<std::int64_t, std::string>, int> count;
  for (const Json& e : events(trace, "M")) ++count[{e.at("pid").integer(), e.at("name").text()}];
  EXPECT_EQ((count[{0, "process_name"}]), 1);
  EXPECT_EQ((count[{0, "process_labels"}]), 0);
  EXPECT_EQ((count[{1, "process_labels"}]), 1);
  EXPECT_EQ((count[{0, "thread_name"}]), (count[{0, "thread_sort_index"}]));
}

TEST(ChromeTrace, MemoryIsACounter) {
  const std::vector<Json> samples = events(written(sample()), "C");
  ASSERT_EQ(samples.size(), 3U);
  EXPECT_EQ(samples.back().at("args").at("bytes").integer(), 150);
  EXPECT_DOUBLE_EQ(samples.back().at("ts").number(0, kForever), 4);
}

TEST(ChromeTrace, AFlowLeadsFromASendToItsReceive) {
  const Json trace = written(sample());
  const std::vector<Json> from = events(trace, "s"), to = events(trace, "f");
  ASSERT_EQ(from.size(), 1U);
  ASSERT_EQ(to.size(), 1U);
  EXPECT_EQ(from[0].at("id").integer(), to[0].at("id").integer());
  EXPECT_EQ(from[0].at("pid").integer(), 0);
  EXPECT_EQ(to[0].at("pid").integer(), 1);
  EXPECT_DOUBLE_EQ(to[0].at("ts").number(0, kForever), 4);  // the receive waits from 0
}

TEST(ChromeTrace, OneDeviceAlone) {
  TraceOptions options;
  options.device = 1;
  options.rank = 8;
  const Json trace = written(sample(), options);
  EXPECT_EQ(trace.at("distributedInfo").at("rank").integer(), 8);
  EXPECT_EQ(trace.at("deviceProperties").size(), 1U);
  const Json all = trace.at("traceEvents");
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all.at(i).at("pid").integer(), 1);
  EXPECT_TRUE(events(trace, "s").empty());
}

TEST(ChromeTrace, NamesAreEscaped) {
  Timeline t = sample();
  t.names[t.events[0].name] = "a \"quoted\" \\ name\n· é";
  t.devices[0].name = "tab\there";
  const Json trace = written(t);
  EXPECT_EQ(events(trace, "X", "kernel").at(0).at("name").text(), "a \"quoted\" \\ name\n· é");
}

TEST(ChromeTrace, AnEmptyTimelineIsStillATrace) {
  EXPECT_EQ(written(Timeline{}).at("traceEvents").size(), 0U);
}

// On one thread of one process nothing overlaps; flows come in pairs, inside their kernels.
TEST(ChromeTrace, KeepsTheRulesOfTheFormat) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const Json trace = written(timeline_of(testing::random_program(seed)));
    std::map<std::pair<std::int64_t, std::int64_t>, std::vector<std::pair<double, double>>> spans;
    for (const Json& e : events(trace, "X")) {
      const double start = e.at("ts").number(0, kForever);
      const double duration = e.at("dur").number(0, kForever);
      spans[{e.at("pid").integer(), e.at("tid").integer()}].emplace_back(start, start + duration);
    }
    for (auto& [thread, list] : spans) {
      std::sort(list.begin(), list.end());
      for (std::size_t i = 1; i < list.size(); ++i)
        ASSERT_GE(list[i].first, list[i - 1].second - 1e-6) << "seed " << seed;
    }
    std::map<std::int64_t, int> flows;
    for (const char* phase : {"s", "f"})
      for (const Json& e : events(trace, phase)) flows[e.at("id").integer()] += *phase;
    for (const auto& [id, sum] : flows) ASSERT_EQ(sum, 's' + 'f') << "seed " << seed;
  }
}

}  // namespace
}  // namespace steploom
