#include "models/nearest.h"

#include <gtest/gtest.h>

#include <array>

namespace steploom {
namespace {

constexpr std::array<std::string_view, 4> kNames{"gpt2", "gpt2-xl", "mixtral-8x7b",
                                                 "mixtral-8x22b"};

TEST(Nearest, FindsTheNameAFewEditsAway) {
  EXPECT_EQ(nearest_name("mixtrl-8x7b", kNames), "mixtral-8x7b");      // one deletion
  EXPECT_EQ(nearest_name("gpt3", kNames), "gpt2");                     // one replacement
  EXPECT_EQ(nearest_name("mixtral-8x222b", kNames), "mixtral-8x22b");  // one insertion
  EXPECT_EQ(nearest_name("gtp2", kNames), "gpt2");                     // one swap
  EXPECT_EQ(nearest_name("chekc", std::array<std::string_view, 1>{"check"}), "check");
  EXPECT_EQ(nearest_name("gpt2-xl", kNames), "gpt2-xl");
}

TEST(Nearest, AThirdOfTheWordIsTheLimit) {
  EXPECT_EQ(nearest_name("abcdef", std::array<std::string_view, 1>{"abcdXY"}), "abcdXY");
  EXPECT_EQ(nearest_name("abcdef", std::array<std::string_view, 1>{"abcXYZ"}), "");
  EXPECT_EQ(nearest_name("pp", std::array<std::string_view, 1>{"tp"}), "tp");  // at least 1
  EXPECT_EQ(nearest_name("", kNames), "");
}

TEST(Nearest, TiesGoToTheEarlierCandidate) {
  EXPECT_EQ(nearest_name("abc", std::array<std::string_view, 2>{"abd", "abe"}), "abd");
  EXPECT_EQ(nearest_name("abc", std::array<std::string_view, 2>{"abe", "abd"}), "abe");
}

TEST(Nearest, HintsListTheNamesWhenNoneIsNear) {
  EXPECT_EQ(nearest_hint("bert", kNames), "known: gpt2, gpt2-xl, mixtral-8x7b, mixtral-8x22b");
  EXPECT_EQ(nearest_hint("gpt-2", kNames), "did you mean 'gpt2'?");
}

}  // namespace
}  // namespace steploom
