// What corrections lie over: whole tiles, blocks and chunks.
#include "sim/correction_base.h"

#include <gtest/gtest.h>

#include <cmath>

#include "models/shapes.h"
#include "sim/operator_bytes.h"

namespace steploom {
namespace {

const Profile& profile() {
  return built_in_profile("h200-sxm-141gb");
}

double attention(std::int64_t tokens, bool backward) {
  return blocked_attention_base(profile().device, {static_cast<double>(tokens), 4, 32, 8, 128, 128},
                                backward);
}

// 300 rows are three blocks of 128 forward, and five half blocks backward.
TEST(CorrectionBase, AttentionComputesWholeBlocks) {
  EXPECT_EQ(attention(300, false), attention(384, false));
  EXPECT_LT(attention(256, false), attention(300, false));
  EXPECT_EQ(attention(300, true), attention(320, true));
  EXPECT_LT(attention(320, true), attention(384, true));
}

// A result in whole tiles costs what the surface says; one row more costs more, but less than
// another row of tiles.
TEST(CorrectionBase, ProductsFillTheirTiles) {
  const auto base = [](std::int64_t m) {
    return correction_base(profile(), product(Phase::forward, Precision::bf16, m, 4096, 4096),
                           1'000'000);
  };
  EXPECT_DOUBLE_EQ(base(512), 1e-6);
  EXPECT_GT(base(513), 1e-6);
  EXPECT_LT(base(513), 1e-6 * 640 / 512);
  EXPECT_DOUBLE_EQ(base(640), 1e-6);
  EXPECT_DOUBLE_EQ(base(100), 1e-6);  // narrower than a tile: the surface knows
}

// All experts together are at least one product over all their rows, and at least their bytes over
// the memory's bandwidth; tokens short of a tile cost more.
TEST(CorrectionBase, ExpertsAreADenseProductOfAllRows) {
  const auto experts = [](std::int64_t count, std::int64_t tokens) {
    return grouped_product(Phase::forward, Precision::bf16, count, count * tokens, 2048, 2048);
  };
  const Profile& p = profile();
  EXPECT_DOUBLE_EQ(grouped_base(p, experts(8, 1024)), matmul_seconds(p, {8 * 1024, 2048, 2048, 1}));
  EXPECT_GT(grouped_base(p, experts(8, 1025)), matmul_seconds(p, {8 * 1025, 2048, 2048, 1}));
  const Work few = experts(64, 8);  // all weights are read for 512 rows
  EXPECT_GT(grouped_base(p, few), 64 * 2048.0 * 2048 * 2 / p.device.memory_bandwidth);
  EXPECT_GT(grouped_base(p, few), matmul_seconds(p, {512, 2048, 2048, 1}));
  Work sums = grouped_product(Phase::weight_grad, Precision::bf16, 8, 8 * 1024, 2048, 2048);
  const ProductShape all{8 * 2048, 2048, 1024, 1};
  EXPECT_NEAR(grouped_base(p, sums) - matmul_seconds(p, all),
              8 * 2048.0 * 2048 * 8 / p.device.memory_bandwidth, 1e-12);
}

// 16385 logits are two chunks of a block, 16384 one.
TEST(CorrectionBase, RowsComeInChunks) {
  const auto loss = [](std::int64_t n, Phase phase) {
    const Work w = streaming(OpKind::cross_entropy, phase, Precision::bf16, 4096, n, 1);
    return correction_base(profile(), w, 1'000'000);
  };
  EXPECT_DOUBLE_EQ(loss(16384, Phase::forward), 1e-6);
  EXPECT_NEAR(loss(16392, Phase::forward), 1e-6 * std::sqrt(2), 1e-9);
  EXPECT_DOUBLE_EQ(loss(16392, Phase::data_grad), 1e-6);
}

// Twice the tokens or nearly twice the choices are that much more than the launch; the bytes that a
// graph counts say nothing.
TEST(CorrectionBase, ARouterIsArithmetic) {
  Work w = streaming(OpKind::router, Phase::forward, Precision::bf16, 1 << 20, 64, 1);
  w.k = 2;
  const double one = correction_base(profile(), w, 1);
  w.m *= 2;
  w.bytes = 12345;
  EXPECT_NEAR((correction_base(profile(), w, 1) - 2e-6) / (one - 2e-6), 2, 1e-9);
  w.m /= 2;
  w.n = 256;  // twice as many to a lane
  EXPECT_GT(correction_base(profile(), w, 1), 1.5 * one);
}

// By hand: 10 tokens, 8 experts or logits, 2 choices, bf16.
TEST(OperatorBytes, AreThoseOfTheOperator) {
  const auto bytes = [](OpKind kind, Phase phase, std::int64_t m, std::int64_t k) {
    Work w = streaming(kind, phase, Precision::bf16, m, 8, 999);
    w.k = k;
    return operator_bytes(w);
  };
  EXPECT_EQ(bytes(OpKind::router, Phase::forward, 10, 2), 10 * 8 * 6);
  EXPECT_EQ(bytes(OpKind::router, Phase::data_grad, 10, 2), 10 * 8 * 8);
  EXPECT_EQ(bytes(OpKind::cross_entropy, Phase::forward, 10, 0), 10 * 8 * 6);
  EXPECT_EQ(bytes(OpKind::cross_entropy, Phase::data_grad, 10, 0), 10 * 8 * 6);
  EXPECT_EQ(bytes(OpKind::unpermute, Phase::data_grad, 20, 2), (20 + 10) * 8 * 2);
  EXPECT_EQ(bytes(OpKind::unpermute, Phase::forward, 10, 2), 999);
  EXPECT_EQ(bytes(OpKind::norm, Phase::forward, 10, 1), 999);
}

}  // namespace
}  // namespace steploom
