// The draw of points to test on: fixed by its seed, uniform in logarithms, in fixed shares.
#include "profiler/drawn_asks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>

#include "tests/models/refusal.h"

namespace steploom {
namespace {

using ::testing::HasSubstr;

std::string text_of(const DrawnAsks& draw) {
  std::string text;
  for (const Ask& ask : draw.kernels) text += to_text(ask) + "\n";
  for (const CollectiveAsk& ask : draw.collectives) text += to_text(ask) + "\n";
  return text;
}

TEST(DrawnAsks, SplitmixGivesItsPublishedNumbers) {
  // The first outputs for the seed 1234567, as in the reference implementation's checks.
  Draw draw(1234567);
  EXPECT_EQ(draw.bits(), 6457827717110365317U);
  EXPECT_EQ(draw.bits(), 3203168211198807973U);
  EXPECT_EQ(draw.bits(), 9817491932198370423U);
}

TEST(DrawnAsks, TheSameSeedGivesTheSameList) {
  EXPECT_EQ(text_of(drawn_asks(320, 7)), text_of(drawn_asks(320, 7)));
  EXPECT_NE(text_of(drawn_asks(320, 7)), text_of(drawn_asks(320, 8)));
}

TEST(DrawnAsks, TheFirstLinesStay) {
  const DrawnAsks draw = drawn_asks(320, 1);
  EXPECT_EQ(to_text(draw.kernels[0]), "matmul forward 5888 11392 29056 1 even cublaslt");
  EXPECT_EQ(to_text(draw.kernels[1]), "matmul data_grad 3008 12224 3200 1 even cublaslt");
  EXPECT_EQ(to_text(draw.kernels[2]), "matmul weight_grad 1664 4480 33216 1 even cublaslt");
  EXPECT_EQ(to_text(draw.collectives[0]), "all_reduce 302965760");
}

TEST(DrawnAsks, SizesAreUniformInTheirLogarithm) {
  // log2 is uniform over [8, 16]: mean 12, variance 8²/12; of 4096 draws the mean's standard
  // deviation is 0.036 and the variance's 0.07.
  Draw draw(3);
  double sum = 0, squares = 0;
  for (int i = 0; i < 4096; ++i) {
    const std::int64_t size = draw.log_uniform(256, 65536);
    ASSERT_GE(size, 256);
    ASSERT_LE(size, 65536);
    const double log = std::log2(static_cast<double>(size));
    sum += log;
    squares += log * log;
  }
  const double mean = sum / 4096;
  EXPECT_NEAR(mean, 12, 0.11);
  EXPECT_NEAR(squares / 4096 - mean * mean, 64.0 / 12, 0.21);
}

TEST(DrawnAsks, EverySmallNumberComesAsOftenAsItsLogarithmIsWide) {
  // k of 1 to 3 in log2(1 + 1/k) / log2(4): 1/2, 0.292, 0.208.
  Draw draw(5);
  std::map<std::int64_t, int> seen;
  for (int i = 0; i < 10000; ++i) ++seen[draw.log_uniform(1, 3)];
  EXPECT_NEAR(seen[1], 5000, 150);
  EXPECT_NEAR(seen[2], 2925, 140);
  EXPECT_NEAR(seen[3], 2075, 125);
}

TEST(DrawnAsks, ClassesHaveTheirShares) {
  const DrawnAsks draw = drawn_asks(320, 11);
  std::map<OpClass, int> classes;
  std::set<std::string> grouped;
  for (const Ask& ask : draw.kernels) {
    ++classes[class_of(ask.work.kind)];
    if (ask.work.kind == OpKind::grouped_matmul) {
      Ask any = ask;
      any.provider = "any";
      grouped.insert(to_text(any));
    }
  }
  EXPECT_EQ(classes[OpClass::matmul], 96);
  EXPECT_EQ(grouped.size(), 48U);
  EXPECT_EQ(classes[OpClass::grouped_matmul], 96);  // two providers of each
  EXPECT_EQ(classes[OpClass::attention], 48);
  EXPECT_EQ(classes[OpClass::memory] + classes[OpClass::optimizer], 64);
  EXPECT_EQ(draw.collectives.size(), 64U);
  for (const std::int64_t points : {1, 7, 19, 1000}) {
    const DrawnAsks some = drawn_asks(points, 2);
    std::set<std::string> shapes;
    for (Ask ask : some.kernels) {
      if (ask.work.kind == OpKind::grouped_matmul) ask.provider = "any";
      shapes.insert(to_text(ask));
    }
    // Nothing is lost to rounding; two draws may coincide.
    EXPECT_NEAR(static_cast<double>(shapes.size() + some.collectives.size()),
                static_cast<double>(points), 5);
  }
}

TEST(DrawnAsks, EveryMemoryBoundKernelOfTheCatalogueIsDrawn) {
  const auto name = [](const Ask& ask) {
    return std::string(name_of(ask.work.kind)) + " " + std::string(name_of(ask.work.phase)) + " " +
           ask.provider;
  };
  std::set<std::string> drawn;
  for (const Ask& ask : drawn_asks(320, 1).kernels) drawn.insert(name(ask));
  for (const Ask& ask : built_in_asks()) {
    const OpClass what = class_of(ask.work.kind);
    if (what == OpClass::memory || what == OpClass::optimizer) {
      EXPECT_TRUE(drawn.contains(name(ask))) << name(ask);
    }
  }
}

TEST(DrawnAsks, AllCanBeMeasured) {
  const DrawnAsks draw = drawn_asks(2000, 13);
  for (const Ask& ask : draw.kernels) {
    EXPECT_EQ(parse_asks(to_text(ask), "draw")[0], ask) << to_text(ask);
    EXPECT_LE(ask.work.flops, 2e13);
    EXPECT_LE(ask.work.bytes, Bytes{1} << 35);
    if (ask.work.kind == OpKind::norm) {
      EXPECT_LE(ask.work.n, 16384) << "no kernel of ours is wider";
    }
    if (ask.work.kind == OpKind::attention) {
      EXPECT_LE(ask.work.m * ask.work.n, 65536);
      EXPECT_EQ(ask.work.heads % ask.work.kv_heads, 0);
    }
  }
  for (const CollectiveAsk& ask : draw.collectives) {
    EXPECT_EQ(parse_collective_asks(to_text(ask), "draw")[0], ask);
    EXPECT_GE(ask.bytes, 64 << 10);
    EXPECT_LE(ask.bytes, 512 << 20);
  }
}

TEST(DrawnAsks, NonsenseIsRefused) {
  for (const std::int64_t points : {0, -1, 1'000'000}) {
    EXPECT_THAT(refusal([&] { drawn_asks(points, 1); }).expected, HasSubstr("1 to 100000"));
  }
}

}  // namespace
}  // namespace steploom
