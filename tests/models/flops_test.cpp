#include "models/flops.h"

#include <gtest/gtest.h>

#include "models/config_reader.h"
#include "models/parameters.h"

namespace steploom {
namespace {

Workload workload(std::int64_t seq_length, std::int64_t global_batch) {
  Workload w;
  w.seq_length = seq_length;
  w.global_batch = global_batch;
  return w;
}

void expect_equal(double got, double want) {
  EXPECT_NEAR(got / want, 1, 1e-12);
}

// A dense llama multiplies each token by every matrix parameter once: 6 FLOPs a parameter for
// forward and backward. Norms and the embedding's gather do not multiply. Beside them are the two
// attention products over half the square: 6 · layers · heads · head_dim · seq a token.
TEST(Flops, DenseModelsAreSixTimesTheirMatrixParameters) {
  const ModelSpec m = load_model("llama-3.1-8b");
  const double norms = (2.0 * 32 + 1) * 4096;
  const double embedding = 128256.0 * 4096;
  const double matrices = 8'030'261'248.0 - norms - embedding;
  const double tokens = 8192.0 * 128;
  const double attention = 6.0 * 32 * 32 * 128 * 8192;
  expect_equal(model_flops(m, workload(8192, 128)), tokens * (6 * matrices + attention));
}

TEST(Flops, ExpertsCountTopKTimesAndTheRouterNot) {
  const ModelSpec m = load_model("mixtral-8x7b");
  const double projections = 4096.0 * 4096 * 2 + 2 * 4096.0 * 1024;
  const double experts = 2 * 3 * 4096.0 * 14336;
  const double core = 4096.0 * 4096;  // Q·Kᵀ and its product with V: 2 · h · s / 2
  const double per_token = 32 * (projections + experts + core) + 4096.0 * 32000;
  expect_equal(model_flops(m, workload(4096, 256)), 6 * 4096.0 * 256 * per_token);
}

TEST(Flops, LatentAttentionAndSharedExperts) {
  const ModelSpec m = load_model("deepseek-v3");
  const double seq = 4096;
  // The products of one layer's attention as they are run, and one multiply-add for each latent
  // element's norm.
  const double q_down = 7168.0 * 1536;
  const double q_up = 1536.0 * 128 * 192;
  const double kv_down = 7168.0 * (512 + 64);
  const double kv_up = 512.0 * 128 * (128 + 128);
  const double out = 128.0 * 128 * 7168;
  const double norms = 1536 + 512;
  const double core = 128.0 * 192 * seq / 2 + 128.0 * 128 * seq / 2;
  const double attention = q_down + q_up + kv_down + kv_up + out + norms + core;
  const double dense = 3.0 * 7168 * 18432;
  const double experts = (8 + 1) * 3.0 * 7168 * 2048;
  const double logits = 7168.0 * 129280;
  const double per_token = 61 * attention + 3 * dense + 58 * experts + logits;
  expect_equal(model_flops(m, workload(4096, 15360)), 6 * seq * 15360 * per_token);
}

TEST(Flops, PlainActivationsHaveTwoMatricesAndLogitsArePadded) {
  const ModelSpec m = load_model("gpt2");
  const double layer = 4 * 768.0 * 768 + 2 * 768.0 * 3072 + 768.0 * 1024;
  expect_equal(model_flops(m, workload(1024, 8)), 6 * 1024.0 * 8 * (12 * layer + 768.0 * 50304));
}

// Of a sequence of S tokens with a window of w, the first w queries see 1..w keys (w²/2 as half
// squares go), the other S − w see w each; in every other layer.
TEST(Flops, WindowsCountTheirPairs) {
  const ModelSpec m = load_model("gpt-oss-20b");
  const double seq = 4096;
  const double projections = 2880.0 * 64 * 64 * 2 + 2 * 2880.0 * 8 * 64;
  const double experts = 4 * 3 * 2880.0 * 2880;
  const double whole = 64.0 * (64 + 64) * seq / 2;
  const double local = 64.0 * (64 + 64) * (128.0 * 128 / 2 + (seq - 128) * 128) / seq;
  const double per_token = 24 * (projections + experts) + 12 * (whole + local) + 2880.0 * 201088;
  expect_equal(model_flops(m, workload(4096, 64)), 6 * seq * 64 * per_token);
  // Sequences within the window are causal throughout.
  const double short_token = 24 * (projections + experts + 64.0 * 128 * 64) + 2880.0 * 201088;
  expect_equal(model_flops(m, workload(128, 64)), 6 * 128.0 * 64 * short_token);
}

// llama4: chunks of 8192 in three layers of four, experts in every other layer, a shared one
// beside.
TEST(Flops, ChunksAndInterleavedExperts) {
  const ModelSpec m = load_model("llama4-maverick");
  const double seq = 20480;  // two chunks and half of one
  const double projections = 5120.0 * 40 * 128 * 2 + 2 * 5120.0 * 8 * 128;
  const double dense = 3 * 5120.0 * 16384;
  const double experts = (1 + 1) * 3 * 5120.0 * 8192;
  const double whole = 40.0 * 256 * seq / 2;
  const double chunked = 40.0 * 256 * (2 * 8192.0 * 8192 / 2 + 4096.0 * 4096 / 2) / seq;
  const double logits = 5120.0 * 202112;  // padded to 128
  const double per_token =
      48 * projections + 36 * chunked + 12 * whole + 24 * (dense + experts) + logits;
  expect_equal(model_flops(m, workload(20480, 4)), 6 * seq * 4 * per_token);
}

// Each module is a layer with experts, a projection of two hidden states to one, the logits again,
// and by Megatron's count its three norms.
TEST(Flops, MultiTokenPredictionIsALayerAProjectionAndTheLogits) {
  const Workload w = workload(4096, 64);
  const double h = 7168;
  const double attention = h * 1536 + 1536.0 * 128 * 192 + h * (512 + 64) + 512.0 * 128 * 256 +
                           128.0 * 128 * h + (1536 + 512) + 128.0 * (192 + 128) * 4096 / 2;
  const double module = attention + 9 * 3 * h * 2048 + 2 * h * h + 3 * h + h * 129280;
  expect_equal(
      model_flops(load_model("deepseek-v3-mtp"), w) - model_flops(load_model("deepseek-v3"), w),
      6 * 4096.0 * 64 * module);
}

// An encoder's queries see all S tokens; one expert of two matrices, in every layer.
TEST(Flops, BothWaysCountTheWholeSquare) {
  const ModelSpec m = load_model("lina-bert-large-moe");
  const double layer = 4 * 1024.0 * 1024 + 2 * 1024.0 * 512 + 2 * 1024.0 * 4096;
  expect_equal(model_flops(m, workload(512, 8)), 6 * 512.0 * 8 * (24 * layer + 1024.0 * 30592));
}

TEST(Flops, NarrowEmbeddingsAreProjectedTwice) {
  const ModelSpec m = load_model("opt-350m");
  const double layer = 4 * 1024.0 * 1024 + 2 * 1024.0 * 4096 + 1024.0 * 2048;
  const double ends = 2 * 1024.0 * 512 + 512.0 * 50304;
  expect_equal(model_flops(m, workload(2048, 8)), 6 * 2048.0 * 8 * (24 * layer + ends));
}

TEST(Flops, BatchesScaleLinearly) {
  const ModelSpec m = load_model("mixtral-8x22b");
  EXPECT_EQ(model_flops(m, workload(2048, 64)), 2 * model_flops(m, workload(2048, 32)));
}

}  // namespace
}  // namespace steploom
