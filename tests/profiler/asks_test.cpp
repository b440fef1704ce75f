// Lists of what to measure.
#include "profiler/asks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "tests/models/refusal.h"

namespace steploom {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Asks, ALineIsReadAndWrittenBack) {
  const auto asks = parse_asks(
      "# products\n"
      "matmul data_grad 4096 4096 14336 1 even cublaslt  # down\n\n"
      "grouped_matmul weight_grad 4096 28672 8192 8 uneven cublaslt-each\n"
      "norm data_grad 8192 4096 0 1 even steploom-rms\n",
      "list");
  ASSERT_EQ(asks.size(), 3U);
  EXPECT_EQ(to_text(asks[0]), "matmul data_grad 4096 4096 14336 1 even cublaslt");
  EXPECT_EQ(to_text(asks[1]), "grouped_matmul weight_grad 4096 28672 8192 8 uneven cublaslt-each");
  // Read x, dy; write dx; bf16.
  EXPECT_EQ(asks[2].work.bytes, 3 * 2 * 8192 * 4096);
  // Eight experts' weights, in fp32, are read and written.
  EXPECT_EQ(asks[1].work.bytes, 2LL * 8192 * (4096 + 28672) + 8LL * 8 * 4096 * 28672);
}

TEST(Asks, AProductCarriesThePhasesOwnShape) {
  const auto asks = parse_asks(
      "matmul forward 10 30 20 1 even cublaslt\nmatmul data_grad 10 20 30 1 even cublaslt\n"
      "matmul weight_grad 20 30 10 1 even cublaslt\n",
      "list");
  for (const Ask& ask : asks) {
    const LayerShape layer = layer_of(ask.work);
    EXPECT_EQ(layer.tokens, 10);
    EXPECT_EQ(layer.outputs, 30);
    EXPECT_EQ(layer.inputs, 20);
    EXPECT_EQ(ask.work.flops, 2.0 * 10 * 20 * 30);
  }
}

TEST(Asks, AttentionNamesItsHeadsAndWidths) {
  const auto asks = parse_asks(
      "attention forward 4096 2 32 8 128 128 cudnn\n"
      "attention data_grad 2048 1 16 16 192 128 cudnn\n",
      "list");
  ASSERT_EQ(asks.size(), 2U);
  EXPECT_EQ(to_text(asks[0]), "attention forward 4096 2 32 8 128 128 cudnn");
  EXPECT_EQ(to_text(asks[1]), "attention data_grad 2048 1 16 16 192 128 cudnn");
  // q, k, v read and out written, two bytes an element.
  EXPECT_EQ(asks[0].work.bytes, 2LL * 2 * 4096 * (32 + 8 + 8 + 32) * 128);
  // Two products over half of the square of scores, a multiply-add as two.
  EXPECT_EQ(asks[0].work.flops, 0.5 * 4096 * 4096 * 2 * 32 * 2 * (128 + 128));
  // Backward does q·kᵀ again, and two products for each of the two.
  EXPECT_EQ(asks[1].work.flops, 2.5 * 2048 * 2048 * 16 * (192 + 128));
  const AttentionShape back = attention_of(asks[1].work);
  EXPECT_EQ(back.sequence, 2048);
  EXPECT_EQ(back.sequences, 1);
  EXPECT_EQ(back.head_dim, 192);
  EXPECT_EQ(back.v_head_dim, 128);
  // Shapes that differ in their heads alone are not one.
  const auto grouped = parse_asks("attention forward 4096 2 32 16 128 128 cudnn", "list");
  EXPECT_FALSE(grouped[0] == asks[0]);
}

TEST(Asks, AttentionThatCannotBeIsRefused) {
  const auto where = [](const char* text) { return refusal([&] { parse_asks(text, "list"); }); };
  EXPECT_THAT(where("attention forward 4096 2 32 8 128 cudnn").expected, HasSubstr("v_head_dim"));
  EXPECT_THAT(where("attention forward 4096 2 32 5 128 128 cudnn").expected,
              HasSubstr("multiple of kv_heads"));
  EXPECT_THAT(where("attention forward 4096 2 32 8 100 128 cudnn").found,
              HasSubstr("head_dim=100"));
  EXPECT_THAT(where("attention forward 4096 2 32 8 128 128 cudn").hint, HasSubstr("cudnn"));
  EXPECT_THAT(where("attention weight_grad 4096 2 32 8 128 128 cudnn").found,
              HasSubstr("weight_grad"));
  EXPECT_EQ(where("attention forward 4096 2 99999999999 8 128 128 cudnn").found, "'99999999999'");
  EXPECT_EQ(refusal([] {
              make_ask(OpKind::attention, Phase::forward, 1, 1, 1, 1, false, "cudnn");
            }).expected,
            "heads and widths of attention");
}

TEST(Asks, NonsenseIsRefusedByLine) {
  const auto where = [](const char* text) { return refusal([&] { parse_asks(text, "list"); }); };
  EXPECT_EQ(where("\nmatmul forward 1 2 3\n").place, "line 2");
  EXPECT_THAT(where("matmull forward 1 2 3 1 even cublaslt").hint, HasSubstr("matmul"));
  EXPECT_THAT(where("norm forward 1 8 0 1 even steploom-rmz").hint, HasSubstr("steploom-rms"));
  EXPECT_THAT(where("all_reduce forward 1 8 0 1 even nccl").expected, HasSubstr("measured"));
  EXPECT_EQ(where("matmul forward 0 2 3 1 even cublaslt").found, "m=0 n=2 k=3 groups=1");
  EXPECT_EQ(where("matmul forward -4 2 3 1 even cublaslt").found, "'-4'");
  EXPECT_EQ(where("matmul forward 99999999999999999999 2 3 1 even cublaslt").place, "line 1");
  EXPECT_EQ(where("matmul forward 4 2 3 2 even cublaslt").found, "2 groups");
  EXPECT_EQ(where("# nothing\n").found, "none");
}

TEST(Asks, TokensOfExpertsAddUp) {
  EXPECT_THAT(expert_tokens(10, 4, false), ElementsAre(3, 3, 2, 2));
  for (const std::int64_t tokens : {0, 7, 1000, 16384}) {
    const auto uneven = expert_tokens(tokens, 8, true);
    EXPECT_EQ(std::accumulate(uneven.begin(), uneven.end(), std::int64_t{0}), tokens);
  }
  // Shares 1 and 1/√2.
  EXPECT_THAT(expert_tokens(1000, 2, true), ElementsAre(586, 414));
}

TEST(Asks, TheCatalogueHasNoDoublesAndSurvivesItsOwnText) {
  std::set<std::string> seen;
  for (const Ask& ask : built_in_asks()) {
    const std::string text = to_text(ask);
    EXPECT_TRUE(seen.insert(text).second) << text;
    const Ask again = parse_asks(text, "text")[0];
    EXPECT_EQ(again, ask) << text;
    EXPECT_EQ(again.work.bytes, ask.work.bytes) << text;
  }
  EXPECT_GT(seen.size(), 500U);
}

}  // namespace
}  // namespace steploom
