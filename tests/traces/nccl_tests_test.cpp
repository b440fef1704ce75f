// The output of nccl-tests. Texts are laid out as NVIDIA/nccl-tests 2.19's src/util.cu prints them;
// their numbers are made up.
#include "traces/nccl_tests.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/models/refusal.h"

namespace steploom {
namespace {

using ::testing::HasSubstr;

const std::string kHead =
    "# nccl-tests version 2.19.6 nccl-headers=22907 nccl-library=22907\n"
    "# Collective test starting: all_reduce_perf\n"
    "# nThread 1 nGpus 1 minBytes 0 maxBytes 4096 step: 2(factor) warmup iters: 1 iters: 20 agg "
    "iters: 1 validation: 1 graph: 0 unalign: 0\n"
    "#\n"
    "# Using devices\n"
    "#  Rank  0 Group  0 Pid   6899 on      node1 device  0 [0000:04:00] NVIDIA H100 80GB HBM3\n"
    "#  Rank  1 Group  0 Pid   6900 on      node1 device  1 [0000:05:00] NVIDIA H100 80GB HBM3\n"
    "#  Rank  2 Group  0 Pid   7001 on      node2 device  0 [0000:04:00] NVIDIA H100 80GB HBM3\n"
    "#  Rank  3 Group  0 Pid   7002 on      node2 device  1 [0000:05:00] NVIDIA H100 80GB HBM3\n"
    "#\n"
    "#                                                              out-of-place                   "
    "    in-place          \n"
    "#       size         count      type   redop    root     time   algbw   busbw  #wrong     "
    "time "
    "  algbw   busbw  #wrong \n"
    "#        (B)    (elements)                               (us)  (GB/s)  (GB/s)             "
    "(us) "
    " (GB/s)  (GB/s)         \n";
const std::string kRows =
    "           0             0     float     sum      -1     0.13    0.00    0.00       0     "
    "0.12  "
    "  0.00    0.00       0\n"
    "        1024           256     float     sum      -1    20.50    0.05    0.07       0    "
    "19.25  "
    "  0.05    0.08     N/A\n"
    "        2048           512     float     sum      -1    1e+02    0.02    0.03       0    "
    "21.00  "
    "  0.10    0.15       0\n";
const std::string kFoot =
    "# Out of bounds values : 0 OK\n"
    "# Avg bus bandwidth    : 0.05 \n"
    "#\n"
    "# Collective test concluded: all_reduce_perf\n";
const std::string kText = kHead + kRows + kFoot;

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

NcclTestsRun one(const std::string& text, std::string_view collective = "") {
  const auto runs = parse_nccl_tests(text, "f", collective);
  EXPECT_EQ(runs.size(), 1U);
  return runs.at(0);
}

Error::Where refused(const std::string& text) {
  return refusal([&] { parse_nccl_tests(text, "f"); });
}

TEST(NcclTests, TextIsReadWithItsRanksHostsAndVersions) {
  const NcclTestsRun run = one(kText);
  EXPECT_EQ(run.collective, OpKind::all_reduce);
  EXPECT_EQ(run.ranks, 4);
  EXPECT_EQ(run.nodes, 2);
  EXPECT_EQ(run.device, "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(run.tests, "2.19.6");
  EXPECT_EQ(run.nccl, "2.29.7");
  EXPECT_EQ(run.type, "float");
  ASSERT_EQ(run.rows.size(), 2U);  // not the one of 0 bytes
  EXPECT_EQ(run.rows[0].bytes, 1024);
  EXPECT_EQ(run.rows[0].out_of_place, 20.5);
  EXPECT_EQ(run.rows[0].in_place, 19.25);
  EXPECT_EQ(run.rows[1].out_of_place, 100);
}

TEST(NcclTests, EveryCollectiveByItsProgramsName) {
  for (const auto& [program, kind] : {std::pair{"all_gather_perf", OpKind::all_gather},
                                      {"/opt/bin/reduce_scatter_perf_mpi", OpKind::reduce_scatter},
                                      {"alltoall_perf", OpKind::all_to_all},
                                      {"sendrecv_perf", OpKind::send_recv}})
    EXPECT_EQ(one(replaced(kText, "all_reduce_perf", program)).collective, kind) << program;
  EXPECT_THAT(refused(replaced(kText, "all_reduce_perf", "broadcast_perf")).found,
              HasSubstr("broadcast_perf"));
}

TEST(NcclTests, OlderReleasesDoNotNameTheTest) {
  std::string older = kText;
  older = replaced(older, kHead.substr(0, kHead.find("# nThread")), "");
  EXPECT_THAT(refused(older).hint, HasSubstr("--collective"));
  EXPECT_EQ(one(older, "all_to_all").collective, OpKind::all_to_all);
  EXPECT_EQ(one(older, "all_reduce").nccl, "");
}

TEST(NcclTests, SeveralRunsInOneFile) {
  const auto runs =
      parse_nccl_tests(kText + "\n" + replaced(kText, "all_reduce_perf", "alltoall_perf"), "f");
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_EQ(runs[1].collective, OpKind::all_to_all);
  EXPECT_EQ(runs[1].ranks, 4);
}

TEST(NcclTests, TagsOfMpirunAndLinesOfNcclAreNoHarm) {
  std::string tagged;
  for (std::size_t at = 0; at < kText.size();) {
    const std::size_t end = kText.find('\n', at);
    tagged += "[1,0]<stdout>:" + kText.substr(at, end - at) + "\r\n";
    tagged += "node1:21:21 [0] NCCL INFO comm 0x7f9c rank 1 nranks 2 - Init COMPLETE\n";
    at = end + 1;
  }
  EXPECT_EQ(one(tagged).rows.size(), 2U);
}

TEST(NcclTests, RepetitionsCountAsTheirMedian) {
  const auto again = [&](const char* us) {
    return replaced(kRows.substr(kRows.find("        1024"),
                                 kRows.find("        2048") - kRows.find("        1024")),
                    "20.50", us);
  };
  const NcclTestsRun run = one(kHead + kRows + again("30.00") + again("22.00") + kFoot);
  EXPECT_EQ(run.rows[0].out_of_place, 22);
  EXPECT_EQ(run.rows.size(), 2U);
}

TEST(NcclTests, PerIterationColumnsAreSteppedOver) {
  std::string text = replaced(kHead, "#wrong     time", "#wrong i_min i_max i_p99 i_cv%  time");
  text = replaced(text, "busbw  #wrong \n", "busbw  #wrong i_min i_max i_p99 i_cv%\n");
  const std::string row =
      "%BYTES 256 float sum -1 20.50 0.05 0.07 0 1 2 3 4 19.25 0.05 0.08 0 5 6 7 8\n";
  const NcclTestsRun run =
      one(text + replaced(row, "%BYTES", "1024") + replaced(row, "%BYTES", "2048") + kFoot);
  EXPECT_EQ(run.rows[0].out_of_place, 20.5);
  EXPECT_EQ(run.rows[0].in_place, 19.25);
}

// Older all-gathers have neither redop nor root.
TEST(NcclTests, ColumnsGoByTheirNames) {
  const std::string head = replaced(kHead, "redop    root     time", "time");
  const std::string row = " 256 float 20.50 0.05 0.07 0 19.25 0.05 0.08 0\n";
  const NcclTestsRun run = one(head + "1024" + row + "2048" + row + kFoot);
  EXPECT_EQ(run.rows[1].out_of_place, 20.5);
  EXPECT_EQ(run.redop, "");
}

// Lines are counted from 1; the header takes 13.
TEST(NcclTests, WhatIsCutShortOrForeignIsRefusedByLine) {
  EXPECT_EQ(refused(kHead + kRows).place, "line 16");
  EXPECT_THAT(refused(kHead + kRows).found, HasSubstr("end of the text"));
  EXPECT_EQ(refused(kText.substr(0, kText.find("2048   "))).place, "line 16");
  EXPECT_EQ(refused(kHead + kRows.substr(0, kRows.size() - 60)).place, "line 16");
  EXPECT_EQ(refused("step 1 loss 3.2\n").place, "line 1");
  EXPECT_EQ(refused(kHead + "step 1 loss 3.2\n" + kRows + kFoot).place, "line 14");
  EXPECT_EQ(refused("").found, "none");
  EXPECT_EQ(refused(replaced(kText, "20.50", "20.5O")).place, "line 15");
  EXPECT_EQ(refused(replaced(kText, "20.50", "  nan")).place, "line 15");
  EXPECT_EQ(refused(replaced(kText, "    1024  ", "   -1024  ")).place, "line 15");
}

TEST(NcclTests, WrongResultsAndCpuTimesAreRefused) {
  EXPECT_THAT(refused(replaced(kText, "values : 0 OK", "values : 3 FAILED")).found,
              HasSubstr("FAILED"));
  EXPECT_THAT(refused(replaced(kText, "0.07       0", "0.07      12")).found,
              HasSubstr("12 wrong"));
  EXPECT_THAT(refused(replaced(kText, "root     time", "root  cputime")).hint, HasSubstr("-C"));
}

TEST(NcclTests, RanksLieEvenlyOnOneTypeOfDevice) {
  EXPECT_EQ(refused(replaced(kText, "7001 on      node2", "7001 on      node1")).expected,
            "as many ranks on every host");
  EXPECT_THAT(refused(replaced(kText, "HBM3\n#\n", "PCIe\n#\n")).found, HasSubstr("PCIe"));
  EXPECT_THAT(refused(replaced(kText, "#  Rank  3", "#  Rank  4")).found, HasSubstr("rank 4"));
  EXPECT_THAT(refused(replaced(kText, "512     float", "512      half")).hint, HasSubstr("-d"));
}

const std::string kJson = R"({"version": 3, "start_time": "2026-11-22 10:00:00",
 "args": ["/opt/nccl-tests/alltoall_perf", "-J", "x.json"], "env": ["A=B"], "nccl_version": 22907,
 "config": {"nthreads": 1, "ngpus": 1, "minimum_bytes": 0, "devices": [
  {"rank": 0, "group": 0, "pid": 7, "hostname": "node1", "device": 0, "device_hex": "0000:04:00",
   "device_info": "NVIDIA H200"},
  {"rank": 1, "group": 0, "pid": 8, "hostname": "node1", "device": 1, "device_hex": "0000:05:00",
   "device_info": "NVIDIA H200"}]},
 "results": [
  {"size": 1024, "count": 128, "type": "float", "redop": "none", "root": "    -1",
   "out_of_place": {"time": 12.5, "alg_bw": 0.1, "bus_bw": 0.1, "nwrong": 0.0},
   "in_place": {"time": 12.0, "alg_bw": 0.1, "bus_bw": 0.1, "nwrong": null}},
  {"size": 2048, "count": 256, "type": "float", "redop": "none", "root": "    -1",
   "out_of_place": {"time": 13.5, "alg_bw": 0.1, "bus_bw": 0.1, "nwrong": 0.0}, "in_place": null,
   "actual_iterations": 20, "experiment_name": "x"}],
 "out_of_bounds": {"count": 0, "okay": "true"},
 "average_bus_bandwidth": {"bandwidth": "nan", "okay": "unchecked"},
 "end_time": "2026-11-22 10:00:09", "errors": []})";

TEST(NcclTests, JsonIsReadLikewise) {
  const NcclTestsRun run = one(kJson);
  EXPECT_EQ(run.collective, OpKind::all_to_all);
  EXPECT_EQ(run.ranks, 2);
  EXPECT_EQ(run.nodes, 1);
  EXPECT_EQ(run.nccl, "2.29.7");
  EXPECT_EQ(run.device, "NVIDIA H200");
  ASSERT_EQ(run.rows.size(), 2U);
  EXPECT_EQ(run.rows[0].out_of_place, 12.5);
  EXPECT_EQ(run.rows[0].in_place, 12);
  EXPECT_EQ(run.rows[1].in_place, 0);
}

TEST(NcclTests, JsonThatIsCutShortForeignOrWrongIsRefused) {
  const auto broken = [](const char* from, const char* to) {
    return refused(replaced(kJson, from, to));
  };
  EXPECT_EQ(refused(kJson.substr(0, kJson.size() / 2)).reading, "f");
  EXPECT_THAT(refused("{\"steploom_plan\": 1}").expected, HasSubstr("-J"));
  EXPECT_EQ(broken("\"version\": 3", "\"version\": 9").place, "/version");
  EXPECT_THAT(broken("out_of_bounds", "of_bounds").expected, HasSubstr("out_of_bounds"));
  EXPECT_EQ(broken("\"okay\": \"true\"", "\"okay\": \"false\"").place, "/out_of_bounds/okay");
  EXPECT_EQ(broken("\"nwrong\": 0.0", "\"nwrong\": 2.0").place, "/results/0/out_of_place/nwrong");
  EXPECT_EQ(broken("\"time\": 12.5", "\"time\": \"nan\"").place, "/results/0/out_of_place/time");
  EXPECT_EQ(broken("\"time\": 12.5", "\"cpu_time\": 12.5").place,
            "/results/0/out_of_place/cpu_time");
  EXPECT_EQ(broken("\"size\": 1024", "\"size\": -1").place, "/results/0/size");
  EXPECT_EQ(broken("\"rank\": 1", "\"rank\": 5").place, "/config/devices/1/rank");
}

}  // namespace
}  // namespace steploom
