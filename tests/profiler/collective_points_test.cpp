#include "profiler/collective_points.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

#include "models/error.h"

namespace steploom {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const char* const kHeader =
    R"({"steploom_collective_points":1,"date":"2026-11-22T18:34:10Z","command":"c","fabric":"nvlink",)"
    R"("ranks":2,"gpu":"NVIDIA H200","sms":132,"driver":"580","cuda_driver":"13.0.0",)"
    R"("cuda_runtime":"13.0.0","nccl":"2.28.3","cublas":"13.1.0","environment":["NCCL_NVLS_ENABLE=0"],)"
    R"("precision":"bf16"})"
    "\n";
const char* const kPoint =
    R"({"table":"collective","collective":"all_reduce","bytes":1048576,"asked":[4,8],"grid":4,)"
    R"("us":[19,20,21],"samples":9,"shots":50,"kernel_us":18.5,"kernel_shots":5,"wrong":0})"
    "\n";
const char* const kEnd = R"({"table":"end","seconds":98.4,"complete":true})"
                         "\n";

std::string refusal(const std::string& text) {
  try {
    parse_collective_points(text, "points.jsonl");
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  const std::size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), with);
}

TEST(CollectivePoints, ReadsAPoint) {
  const CollectivePoints points =
      parse_collective_points(std::string(kHeader) + kPoint + kEnd, "points.jsonl");
  EXPECT_EQ(points.fabric, "nvlink");
  EXPECT_EQ(points.nccl, "2.28.3");
  EXPECT_EQ(points.ranks, 2);
  EXPECT_TRUE(points.complete);
  ASSERT_THAT(points.collectives, SizeIs(1));
  const CollectivePoint& p = points.collectives[0];
  EXPECT_EQ(p.collective, "all_reduce");
  EXPECT_EQ(p.bytes, 1 << 20);
  EXPECT_EQ(p.grid, 4);
  EXPECT_THAT(p.asked, ElementsAre(4, 8));
  EXPECT_EQ(p.us.first, 19);
  EXPECT_EQ(p.us.median, 20);
  EXPECT_EQ(p.us.third, 21);
  EXPECT_EQ(p.kernel_us, 18.5);
}

// A run that died has no end line; what it measured counts.
TEST(CollectivePoints, ReadsWhatAnUnfinishedRunKept) {
  const CollectivePoints points =
      parse_collective_points(std::string(kHeader) + kPoint, "points.jsonl");
  EXPECT_FALSE(points.complete);
  EXPECT_THAT(points.collectives, SizeIs(1));
}

TEST(CollectivePoints, KeepsWhyAPointWasSkipped) {
  const std::string line =
      R"({"table":"collective","collective":"send_recv","bytes":1073741824,"asked":[1],)"
      R"("skipped":"a shot takes over 50 ms","about_us":61000})"
      "\n";
  const CollectivePoints points =
      parse_collective_points(std::string(kHeader) + line + kEnd, "points.jsonl");
  EXPECT_EQ(points.collectives.at(0).skipped, "a shot takes over 50 ms");
  EXPECT_FALSE(fastest(points, "send_recv", 1 << 30).has_value());
}

TEST(CollectivePoints, RefusesAnotherVersion) {
  EXPECT_THAT(refusal(replaced(kHeader, "points\":1", "points\":2")),
              AllOf(HasSubstr("points.jsonl, line 1"), HasSubstr("version 1"), HasSubstr("2")));
}

TEST(CollectivePoints, RefusesForeignFiles) {
  EXPECT_THAT(refusal(""), HasSubstr("a header"));
  EXPECT_THAT(refusal("{\"traceEvents\":[]}\n"), HasSubstr("steploom profile"));
  EXPECT_THAT(refusal("#                size\n"), HasSubstr("points.jsonl, line 1"));
  EXPECT_THAT(refusal(kPoint), HasSubstr("the header"));
}

TEST(CollectivePoints, RefusesALineThatIsCutOff) {
  const std::string text = std::string(kHeader) + kPoint;
  EXPECT_THAT(refusal(text.substr(0, text.size() - 20)),
              AllOf(HasSubstr("line 2"), HasSubstr("a whole line")));
}

TEST(CollectivePoints, NamesTheNearestKey) {
  EXPECT_THAT(refusal(kHeader + replaced(kPoint, "\"kernel_us\"", "\"kernel_su\"")),
              AllOf(HasSubstr("line 2"), HasSubstr("kernel_us")));
}

TEST(CollectivePoints, RefusesUnknownNamesAndBadNumbers) {
  EXPECT_THAT(refusal(kHeader + replaced(kPoint, "all_reduce", "broadcast")),
              HasSubstr("reduce_scatter"));
  EXPECT_THAT(refusal(kHeader + replaced(kPoint, "[19,20,21]", "[21,20,19]")),
              HasSubstr("do not fall"));
  EXPECT_THAT(refusal(kHeader + replaced(kPoint, "\"grid\":4", "\"grid\":0")), HasSubstr("line 2"));
  EXPECT_THAT(refusal(std::string(kHeader) + kEnd + kPoint), HasSubstr("nothing after the end"));
}

TEST(CollectivePoints, RefusesARunWithWrongResults) {
  EXPECT_THAT(refusal(kHeader + replaced(kPoint, "\"wrong\":0", "\"wrong\":3")),
              HasSubstr("results were wrong"));
}

// A kernel of 18.5 µs in a loop of 20 µs: the loop may have waited for the host.
TEST(CollectivePoints, TakesTheKernelsTimeWhereTheHostLimits) {
  const CollectivePoints points =
      parse_collective_points(std::string(kHeader) + kPoint + kEnd, "points.jsonl");
  CollectivePoint p = points.collectives.at(0);
  EXPECT_EQ(duration_us(p), 18.5);
  p.kernel_us = 20.5;
  EXPECT_EQ(duration_us(p), 20);
}

TEST(CollectivePoints, TakesTheFastestSetting) {
  std::string slow = replaced(kPoint, "\"grid\":4", "\"grid\":2");
  slow = replaced(replaced(slow, "[19,20,21]", "[38,39,40]"), "18.5", "37");
  const CollectivePoints points =
      parse_collective_points(std::string(kHeader) + slow + kPoint + kEnd, "points.jsonl");
  EXPECT_EQ(fastest(points, "all_reduce", 1 << 20)->grid, 4);
  EXPECT_FALSE(fastest(points, "all_gather", 1 << 20).has_value());
}

// ---- The measured tables in the repository ----

CollectivePoints measured(const std::string& name) {
  return load_collective_points(std::string(STEPLOOM_SOURCE_DIR) +
                                "/profiler/data/h200-sxm-141gb/" + name + ".jsonl");
}

TEST(CollectivePoints, TheMeasuredFilesAreWhole) {
  for (const char* name : {"nvlink", "host", "sockets", "nvlink-again"}) {
    const CollectivePoints points = measured(name);
    EXPECT_TRUE(points.complete) << name;
    EXPECT_EQ(points.ranks, 2) << name;
    EXPECT_EQ(points.gpu, "NVIDIA H200") << name;
    EXPECT_GT(points.collectives.size(), 600u) << name;
    EXPECT_THAT(points.besides, ::testing::Not(IsEmpty())) << name;
  }
}

// More CTAs never make a large collective over NVLink slower: the grid is what limits it.
TEST(CollectivePoints, GridLimitsNvlinkBandwidth) {
  const CollectivePoints points = measured("nvlink");
  for (const char* name : {"all_reduce", "all_gather", "reduce_scatter", "all_to_all"}) {
    double before = INFINITY;
    for (const CollectivePoint& p : points.collectives) {
      if (p.collective != name || p.bytes != 256 << 20) continue;
      EXPECT_LT(p.us.median, before * 1.02) << name << " on " << p.grid;
      before = p.us.median;
    }
  }
}

// A kernel of one wave that persists takes twice as long on one SM fewer, as the engine has it.
TEST(CollectivePoints, APersistentKernelLosesAWholeRound) {
  const CollectivePoints points = measured("nvlink");
  double all = 0;
  for (const SharePoint& p : points.shares) {
    if (p.kernel != "spin") continue;
    if (p.held == p.wanted) all = p.us.median;
    const int rounds = (p.wanted + p.held - 1) / p.held;
    EXPECT_NEAR(p.us.median / all, rounds, 0.03 * rounds) << p.held << " SMs";
  }
  EXPECT_GT(all, 0);
}

// Two runs, apart in time; docs/interference.md has the figures and where they do not
// agree.
TEST(CollectivePoints, TwoRunsAgree) {
  const CollectivePoints one = measured("nvlink"), two = measured("nvlink-again");
  std::vector<double> differences;
  for (const CollectivePoint& a : one.collectives) {
    for (const CollectivePoint& b : two.collectives) {
      if (a.collective == b.collective && a.bytes == b.bytes && a.grid == b.grid && a.grid > 0 &&
          a.bytes >= 1 << 20) {
        differences.push_back(std::abs(duration_us(b) / duration_us(a) - 1));
      }
    }
  }
  ASSERT_GT(differences.size(), 500u);
  std::sort(differences.begin(), differences.end());
  EXPECT_LT(differences[differences.size() / 2], 0.03);
  EXPECT_LT(differences[differences.size() * 95 / 100], 0.08);
}

// Prints the figures of docs/interference.md: of the curves that serve groups of other sizes.
TEST(CollectivePoints, ComparesWithTheBuiltInProfile) {
  Profile profile = built_in_profile("h200-sxm-141gb");
  profile.fabrics.clear();
  for (const Bytes least : {Bytes{64} << 10, Bytes{1} << 20}) {
    const std::vector<CollectiveComparison> all =
        compare_with_profile(measured("nvlink"), profile, least);
    ASSERT_THAT(all, SizeIs(5));
    for (const CollectiveComparison& c : all) {
      std::printf(
          "%-14s from %4lld KiB: %2d points, median %5.1f %%, p95 %5.1f %%, bias %+5.1f %%\n",
          c.collective.c_str(), static_cast<long long>(least >> 10), c.points, 100 * c.median,
          100 * c.p95, 100 * c.bias);
      EXPECT_GT(c.points, 10);
      EXPECT_GE(c.p95, c.median);
    }
  }
}

}  // namespace
}  // namespace steploom
