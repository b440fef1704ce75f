#include "models/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/models/refusal.h"

namespace steploom {
namespace {

Error::Where refused(std::int64_t seq_length, std::int64_t global_batch) {
  Workload w;
  w.seq_length = seq_length;
  w.global_batch = global_batch;
  return refusal([&] { validate(w, "--batch"); });
}

TEST(Workload, DefaultsAreValid) {
  EXPECT_NO_THROW(validate(Workload{}, "x"));
}

TEST(Workload, TwoToThe40TokensAreTheMost) {
  Workload w;
  w.seq_length = std::int64_t{1} << 20;
  w.global_batch = std::int64_t{1} << 20;
  EXPECT_NO_THROW(validate(w, "x"));
  EXPECT_THAT(refused(std::int64_t{1} << 20, (std::int64_t{1} << 20) + 1).expected,
              testing::HasSubstr("1099511627776 tokens"));
  EXPECT_EQ(refused(std::numeric_limits<std::int64_t>::max(), 2).place, "sequence length");
}

TEST(Workload, EveryFieldIsPositive) {
  EXPECT_EQ(refused(0, 1).place, "sequence length");
  EXPECT_EQ(refused(-4096, 1).found, "-4096");
  EXPECT_EQ(refused(4096, 0).place, "global batch");
  EXPECT_EQ(refused(4096, -1).reading, "--batch");
}

}  // namespace
}  // namespace steploom
