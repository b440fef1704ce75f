#include "models/optimizer.h"

#include <gtest/gtest.h>

#include "tests/models/refusal.h"

namespace steploom {
namespace {

// Megatron-Core in bf16 keeps 18 bytes a parameter: 2 and 4 for itself and its gradient, 12 here.
TEST(Optimizer, StateOfAParameter) {
  EXPECT_EQ(master_bytes({Precision::bf16}) + moment_bytes(Optimizer::adam, {Precision::bf16}), 12);
  EXPECT_EQ(master_bytes({Precision::fp8}) + moment_bytes(Optimizer::adamw_fused, {Precision::fp8}),
            12);
  EXPECT_EQ(
      master_bytes({Precision::fp32}) + moment_bytes(Optimizer::adamw_foreach, {Precision::fp32}),
      8);
  EXPECT_EQ(master_bytes({Precision::tf32}) + moment_bytes(Optimizer::sgd, {Precision::tf32}), 4);
}

// One kernel reads gradient, master and moments and writes the last three and the parameter.
TEST(Optimizer, OneKernelMovesEverythingOnce) {
  EXPECT_EQ(moved_bytes(Optimizer::adam, {Precision::bf16}, 4), 4 + 12 + 12 + 2);
  EXPECT_EQ(moved_bytes(Optimizer::adamw_fused, {Precision::fp32}, 4), 4 + 12 + 12);
}

// torch's lists: 2 + 3 + 2 + 3 + 2 + 2 + 2 + 4 words for AdamW, 2 + 3 + 3 for SGD, gradients
// included; then a bf16 parameter is written from its master.
TEST(Optimizer, ListsOfKernelsMoveMore) {
  EXPECT_EQ(moved_bytes(Optimizer::adamw_foreach, {Precision::fp32}, 4), 20 * 4);
  EXPECT_EQ(moved_bytes(Optimizer::sgd, {Precision::fp32}, 4), 8 * 4);
  EXPECT_EQ(moved_bytes(Optimizer::sgd, {Precision::bf16}, 4), 8 * 4 + 4 + 2);
  EXPECT_EQ(scratch_bytes(Optimizer::adamw_foreach, {}), 4);
  EXPECT_EQ(scratch_bytes(Optimizer::adam, {}), 0);
}

// torch.optim on bf16 parameters has no other words than theirs, in lists or tensor by tensor.
TEST(Optimizer, WithoutMastersWordsAreTheParameters) {
  const Keeping bare{Precision::bf16, false};
  EXPECT_EQ(master_bytes(bare) + moment_bytes(Optimizer::adamw_foreach, bare), 4);
  EXPECT_EQ(moved_bytes(Optimizer::adamw_foreach, bare, 2), 20 * 2);
  EXPECT_EQ(moved_bytes(Optimizer::adamw_loop, bare, 2), 20 * 2);
  EXPECT_EQ(moved_bytes(Optimizer::adamw_fused, bare, 2), 7 * 2);
  EXPECT_EQ(scratch_bytes(Optimizer::adamw_foreach, bare), 2);
  EXPECT_EQ(scratch_bytes(Optimizer::adamw_loop, bare), 0);
}

TEST(Optimizer, GoesByItsName) {
  for (int i = 0; i < kOptimizers; ++i) {
    const auto o = static_cast<Optimizer>(i);
    EXPECT_EQ(optimizer_named(name_of(o), "--optimizer"), o);
  }
  EXPECT_EQ(refusal([] { optimizer_named("adamw-fuse", "--optimizer"); }).hint,
            "did you mean 'adamw-fused'?");
}

}  // namespace
}  // namespace steploom
