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

TEST(Flops, BatchesScaleLinearly) {
  const ModelSpec m = load_model("mixtral-8x22b");
  EXPECT_EQ(model_flops(m, workload(2048, 64)), 2 * model_flops(m, workload(2048, 32)));
}

}  // namespace
}  // namespace steploom
