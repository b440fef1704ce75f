#include "profiler/collective_asks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/models/refusal.h"

namespace steploom {
namespace {

using ::testing::HasSubstr;

Error::Where refused(const std::string& text) {
  return refusal([&] { parse_collective_asks(text, "list"); });
}

TEST(CollectiveAsks, ALineEach) {
  const auto asks =
      parse_collective_asks("# drawn\nall_reduce 65536\n\nsend_recv 1024 # p2p\n", "");
  ASSERT_EQ(asks.size(), 2U);
  EXPECT_EQ(asks[0], (CollectiveAsk{OpKind::all_reduce, 65536}));
  EXPECT_EQ(to_text(asks[1]), "send_recv 1024");
}

TEST(CollectiveAsks, WhatCannotBeMeasuredIsRefusedByLine) {
  EXPECT_THAT(refused("all_reduce 1024\nall_reduc 1024\n").hint, HasSubstr("all_reduce"));
  EXPECT_EQ(refused("all_reduce 1024\nmatmul 1024\n").place, "line 2");
  for (const char* bytes : {"1000", "0", "-1024", "1e6", "2147483648", "99999999999999999999"}) {
    EXPECT_THAT(refused(std::string("all_reduce ") + bytes).found, HasSubstr(bytes));
  }
  EXPECT_EQ(refused("all_reduce").expected, "collective bytes");
  EXPECT_EQ(refused("all_reduce 1024 2").expected, "collective bytes");
  EXPECT_EQ(refused("# nothing\n").found, "none");
}

}  // namespace
}  // namespace steploom
