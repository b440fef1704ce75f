#include "sim/known_kernel.h"

#include <gtest/gtest.h>

#include "models/shapes.h"
#include "sim/cluster.h"
#include "sim/cost_cache.h"
#include "sim/cost_model.h"
#include "sim/profile.h"

namespace steploom {
namespace {

struct H200 {
  Cluster cluster = load_cluster("h200-sxm-141gb", 1);
  const Profile& profile = built_in_profile("h200-sxm-141gb");
  CostModel model{profile, cluster};
  Picoseconds time(const Work& w) const { return model.cost({w, {}}).time; }
};

// dW = dyᵀ·x of 8192 rows, 4096 inputs, 14336 outputs: without the fp32 sum, read and written, it
// is a product like any of its shape, and moves 2 bytes of each weight, not 8.
TEST(KnownKernel, AFreshWeightGradientIsAProduct) {
  const H200 h;
  const Work summed = product(Phase::weight_grad, Precision::bf16, 8192, 14336, 4096);
  const Work fresh = as_fresh(summed);
  EXPECT_EQ(summed.bytes - fresh.bytes, Bytes{14336} * 4096 * 6);
  EXPECT_EQ(as_fresh(fresh).bytes, fresh.bytes);
  EXPECT_EQ(fresh.flops, summed.flops);
  Work shape = summed;
  shape.phase = Phase::data_grad;
  EXPECT_EQ(h.time(fresh), h.time(shape));
  EXPECT_LT(h.time(fresh), h.time(summed));
}

// A kernel three times as slow as a sum of its bytes is a sum of three times as many.
TEST(KnownKernel, AnElementWiseOneGoesByBytes) {
  const H200 h;
  const auto sum = [](Bytes bytes) {
    return streaming(OpKind::residual, Phase::forward, Precision::bf16, 8192, 4096, bytes);
  };
  const Bytes bytes = Bytes{8192} * 4096 * 6;
  Work slow = streaming(OpKind::rotary, Phase::data_grad, Precision::bf16, 8192, 4096, bytes);
  slow.elementwise = 3;
  EXPECT_EQ(h.time(slow), h.time(sum(3 * bytes)));
  slow.elementwise = 1;
  EXPECT_EQ(h.time(slow), h.time(sum(bytes)));
  EXPECT_EQ(known_kernel(sum(bytes)).bytes, bytes);
}

// They never pass for measured, and the cache tells them apart.
TEST(KnownKernel, IsNotMeasuredAndHasItsOwnCost) {
  const H200 h;
  CostCache cache(h.model);
  const Work summed = product(Phase::weight_grad, Precision::bf16, 2048, 1024, 1024);
  const Picoseconds before = cache.cost({summed, {}}).time;
  const Cost fresh = cache.cost({as_fresh(summed), {}});
  EXPECT_NE(fresh.time, before);
  EXPECT_GE(fresh.provenance, Provenance::fitted);
}

}  // namespace
}  // namespace steploom
