#include "sim/portable_math.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace steploom {
namespace {

// Deterministic numbers spread over the given range of exponents.
double spread(std::uint64_t i, double least, double most) {
  const auto scattered = static_cast<double>((i * 0x9e3779b97f4a7c15u) >> 11);
  return least + (most - least) * scattered / 9007199254740992.0;
}

TEST(PortableLog2, IsExactForPowersOfTwo) {
  for (int e = -1022; e <= 1023; ++e) EXPECT_EQ(portable_log2(std::ldexp(1.0, e)), e) << e;
}

TEST(PortableLog2, AgreesWithTheLibraryEverywhere) {
  for (std::uint64_t i = 0; i < 200000; ++i) {
    const double x = std::exp2(spread(i, -300, 300));
    ASSERT_NEAR(portable_log2(x), std::log2(x), 1e-12) << x;
  }
}

TEST(PortableLog2, IsAccurateNearOne) {
  for (const double x : {1 - 1e-9, 1 + 1e-9, 1.41421356, 1.41421357, 0.70710678}) {
    EXPECT_NEAR(portable_log2(x), std::log2(x), 1e-15) << x;
  }
}

TEST(PortableExp2, IsExactForWholeNumbers) {
  for (int e = -1022; e <= 1023; ++e) EXPECT_EQ(portable_exp2(e), std::ldexp(1.0, e)) << e;
}

TEST(PortableExp2, AgreesWithTheLibraryEverywhere) {
  for (std::uint64_t i = 0; i < 200000; ++i) {
    const double x = spread(i, -1000, 1000);
    ASSERT_NEAR(portable_exp2(x) / std::exp2(x), 1, 1e-12) << x;
  }
}

TEST(PortableExp2, EndsAtZeroAndInfinity) {
  EXPECT_EQ(portable_exp2(-1022.5), 0);
  EXPECT_EQ(portable_exp2(1024), std::numeric_limits<double>::infinity());
  EXPECT_NEAR(portable_exp2(1023.75) / std::exp2(1023.75), 1, 1e-12);
}

TEST(PortableMath, InvertsItself) {
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const double x = spread(i, 1e-6, 1e9);
    ASSERT_NEAR(portable_exp2(portable_log2(x)) / x, 1, 1e-12);
  }
}

// The very bits, as any machine must make them.
TEST(PortableMath, GivesTheseBits) {
  std::uint64_t hash = 14695981039346656037u;
  for (std::uint64_t i = 1; i <= 10000; ++i) {
    for (const double y :
         {portable_log2(spread(i, 1e-3, 1e12)), portable_exp2(spread(i, -60, 60))}) {
      hash = (hash ^ std::bit_cast<std::uint64_t>(y)) * 1099511628211u;
    }
  }
  EXPECT_EQ(hash, 6345754135388746253u);
}

TEST(ToPicoseconds, RoundsOnceAndStopsAtTheTop) {
  EXPECT_EQ(to_picoseconds(0), 0);
  EXPECT_EQ(to_picoseconds(1), 1'000'000'000'000);
  EXPECT_EQ(to_picoseconds(2.6e-12), 3);
  EXPECT_EQ(to_picoseconds(2.4e-12), 2);
  EXPECT_EQ(to_picoseconds(1e30), Picoseconds{1} << 62);
}

}  // namespace
}  // namespace steploom
