#include "profiler/reference_kernels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "profiler/execution.h"

namespace steploom {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;

// One rank with a tensor after another in one memory.
class ReferenceKernel : public testing::Test {
 protected:
  ReferenceKernel() { kernels_.allocate(1 << 16); }
  TensorRef make(std::int64_t rows, std::int64_t width, ElementType type = ElementType::bf16) {
    const TensorRef t{0, next_, type, rows, width};
    next_ += t.bytes();
    return t;
  }
  TensorRef make(std::int64_t rows, std::int64_t width, const std::vector<double>& values,
                 ElementType type = ElementType::bf16) {
    const TensorRef t = make(rows, width, type);
    kernels_.write(t, values);
    return t;
  }
  std::vector<double> read(const TensorRef& t) { return kernels_.read(t); }

  ReferenceMeeting meeting_;
  ReferenceKernels kernels_{meeting_};
  Bytes next_ = 0;
};

// y = x·Wᵀ + b, dx = dy·W, dW += dyᵀ·x with x (1 2), W ((3 4) (5 6)).
TEST_F(ReferenceKernel, LinearByHand) {
  const TensorRef x = make(1, 2, {1, 2}), w = make(2, 2, {3, 4, 5, 6}), b = make(1, 2, {10, 20});
  const TensorRef y = make(1, 2), dx = make(1, 2);
  kernels_.launch(Linear{Phase::forward, y, x, w, b}, 0);
  EXPECT_THAT(read(y), ElementsAre(21, 37));
  kernels_.launch(Linear{Phase::data_grad, dx, y, w, {}}, 0);
  EXPECT_THAT(read(dx), ElementsAre(21 * 3 + 37 * 5, 21 * 4 + 37 * 6));
  const TensorRef dw = make(2, 2, {1, 1, 1, 1}, ElementType::fp32);
  const TensorRef db = make(1, 2, {1, 1}, ElementType::fp32);
  kernels_.launch(Linear{Phase::weight_grad, dw, x, y, db}, 0);
  EXPECT_THAT(read(dw), ElementsAre(22, 43, 38, 75));
  EXPECT_THAT(read(db), ElementsAre(22, 38));
}

// The second token's scores are 0 and ln 3: it takes a quarter of the first value, three of its
// own.
TEST_F(ReferenceKernel, AttentionIsCausalAndScaled) {
  const double score = std::log(3.0) * std::sqrt(2.0);
  const TensorRef qkv = make(2, 6, {9, 9, 0, 0, 4, 8, score, 0, 1, 0, 8, 0});
  const TensorRef out = make(2, 2), log_sum = make(1, 2, ElementType::fp32);
  kernels_.launch(Attention{out, log_sum, qkv, {2, 1, 1, 1, 2, 2}}, 0);
  EXPECT_THAT(read(out), Pointwise(DoubleNear(1e-12), {4.0, 8.0, 7.0, 2.0}));
  EXPECT_THAT(read(log_sum), Pointwise(DoubleNear(1e-12), {0.0, std::log(4.0)}));
}

// A quarter turn takes (a, b) to (−b, a); what follows the heads is copied.
TEST_F(ReferenceKernel, RotaryTurnsPairsByPosition) {
  const TensorRef table = make(2, 2, {1, 0, 0, 1}, ElementType::fp32);
  const TensorRef x = make(3, 3, {1, 2, 7, 1, 2, 7, 1, 2, 7}), y = make(3, 3);
  kernels_.launch(Rotary{false, y, x, table, 1, 2, 2}, 0);
  EXPECT_THAT(read(y), ElementsAre(1, 2, 7, -2, 1, 7, 1, 2, 7));
  kernels_.launch(Rotary{true, x, y, table, 1, 2, 2}, 0);
  EXPECT_THAT(read(x), ElementsAre(1, 2, 7, 1, 2, 7, 1, 2, 7));
}

TEST_F(ReferenceKernel, NormsByHand) {
  const TensorRef x = make(1, 2, {3, 5}), y = make(1, 2), gain = make(1, 2, {2, 10});
  const TensorRef scale = make(1, 1, ElementType::fp32), mean = make(1, 1, ElementType::fp32);
  Norm norm{y, scale, x, gain, {}, {}, 0};
  kernels_.launch(norm, 0);  // root mean square √17
  EXPECT_THAT(read(y), Pointwise(DoubleNear(1e-12), {6 / std::sqrt(17.0), 50 / std::sqrt(17.0)}));
  norm.mean = mean;
  norm.bias = make(1, 2, {100, 200});
  kernels_.launch(norm, 0);  // mean 4, deviation 1
  EXPECT_THAT(read(y), Pointwise(DoubleNear(1e-12), {98.0, 210.0}));
}

// Four tokens, two experts with two places each, one choice a token: the third choice of expert 1
// is dropped, one place of expert 0 stays empty.
TEST_F(ReferenceKernel, RouterPlacesInOrderAndDrops) {
  constexpr ElementType kIndex = ElementType::int32;
  const TensorRef logits = make(4, 2, {0, 1, 2, 5, 3, 1, 1, 9});
  const TensorRef chosen = make(4, 1, kIndex), weight = make(4, 1, ElementType::fp32),
                  position = make(4, 1, kIndex), source = make(4, 1, kIndex);
  kernels_.launch(Router{chosen, weight, position, source, logits, 2, 1, TapeMode::off, {}}, 0);
  EXPECT_THAT(read(chosen), ElementsAre(1, 1, 0, 1));
  EXPECT_THAT(read(weight), ElementsAre(1, 1, 1, 1));
  EXPECT_THAT(read(position), ElementsAre(2, 3, 0, -1));
  EXPECT_THAT(read(source), ElementsAre(2, -1, 0, 1));
  const TensorRef x = make(4, 1, {10, 20, 30, 40}), rows = make(4, 1), back = make(4, 1);
  kernels_.launch(Permute{rows, x, source, 1}, 0);
  EXPECT_THAT(read(rows), ElementsAre(30, 0, 10, 20));
  kernels_.launch(Unpermute{back, rows, position, weight, {}}, 0);
  EXPECT_THAT(read(back), ElementsAre(10, 20, 30, 0));
}

// Weights are the softmax over the chosen: ln 3 against 0 is three quarters to one.
TEST_F(ReferenceKernel, RouterWeighsItsChoices) {
  constexpr ElementType kIndex = ElementType::int32;
  const TensorRef logits = make(1, 3, {0, std::log(3.0), -50});
  const TensorRef chosen = make(1, 2, kIndex), weight = make(1, 2, ElementType::fp32),
                  position = make(1, 2, kIndex), source = make(3, 1, kIndex);
  kernels_.launch(Router{chosen, weight, position, source, logits, 1, 1, TapeMode::off, {}}, 0);
  EXPECT_THAT(read(chosen), ElementsAre(1, 0));
  EXPECT_THAT(read(weight), Pointwise(DoubleNear(1e-12), {0.75, 0.25}));
}

TEST_F(ReferenceKernel, SortingIsATransposition) {
  const TensorRef x = make(6, 1, {0, 1, 2, 10, 11, 12}), y = make(6, 1), z = make(6, 1);
  kernels_.launch(SortRows{y, x, 2, 3}, 0);
  EXPECT_THAT(read(y), ElementsAre(0, 10, 1, 11, 2, 12));
  kernels_.launch(SortRows{z, y, 3, 2}, 0);
  EXPECT_EQ(read(z), read(x));
}

TEST_F(ReferenceKernel, LossOfSlicesIsTheWholeLoss) {
  const TensorRef targets = make(1, 1, {2}, ElementType::int32);
  const auto number = [&] { return make(1, 1, ElementType::fp32); };
  const TensorRef loss = number(), log_sum = number();
  kernels_.launch(CrossEntropy{log_sum, loss, make(1, 4, {1, 2, 3, 4}), targets}, 0);
  double sums[2] = {};
  for (const std::int64_t slice : {0, 1}) {
    const TensorRef logits =
        make(1, 2, slice == 0 ? std::vector<double>{1, 2} : std::vector<double>{3, 4});
    const TensorRef maximum = number(), local = make(1, 3, ElementType::fp32);
    kernels_.launch(CrossEntropySlice{maximum, local, logits, targets, 2 * slice}, 0);
    EXPECT_THAT(read(maximum), ElementsAre(slice == 0 ? 2 : 4));
    kernels_.write(maximum, std::vector<double>{4});  // as reduced
    const TensorRef sum = make(1, 2, ElementType::fp32);
    kernels_.launch(CrossEntropySums{sum, local, maximum}, 0);
    for (int i = 0; i < 2; ++i) sums[i] += read(sum)[static_cast<std::size_t>(i)];
  }
  const TensorRef loss2 = number(), log_sum2 = number();
  kernels_.launch(CrossEntropyEnd{log_sum2, loss2, make(1, 1, {4}, ElementType::fp32),
                                  make(1, 2, {sums[0], sums[1]}, ElementType::fp32)},
                  0);
  EXPECT_NEAR(read(loss2)[0], read(loss)[0], 1e-12);
  EXPECT_NEAR(read(log_sum2)[0], read(log_sum)[0], 1e-12);
  EXPECT_NEAR(read(loss)[0], std::log(std::exp(-2) + std::exp(-1) + 1 + std::exp(1)), 1e-12);
}

TEST_F(ReferenceKernel, PoisonShows) {
  const TensorRef a = make(1, 2, {1, 2}), y = make(1, 2);
  kernels_.launch(Add{y, a, make(1, 2)}, 0);  // fresh memory
  EXPECT_TRUE(std::isnan(read(y)[0]));
  const TensorRef source = make(1, 1, {0}, ElementType::int32);
  kernels_.poison(source, 0);
  EXPECT_THROW(kernels_.launch(Permute{y, a, source, 1}, 0), PoisonRead);
}

// Two ranks: what comes out of each collective.
class TwoRanks : public testing::Test {
 protected:
  TwoRanks() {
    for (int r = 0; r < 2; ++r) {
      executions_[r].communicators.push_back({"both", CommGroup::tp, 0, {0, 1}, r, 0, 0});
      kernels_[r].allocate(1024);
      kernels_[r].prepare(executions_[r]);
    }
  }
  // Both ranks' results of `to` elements from these inputs.
  std::array<std::vector<double>, 2> run(CollectiveKind a, CollectiveKind b, std::int64_t to,
                                         std::vector<double> x, std::vector<double> y) {
    const auto count = static_cast<std::int64_t>(x.size());
    const TensorRef in{0, 0, ElementType::bf16, count, 1};
    const TensorRef out{0, 512, ElementType::bf16, to, 1};
    kernels_[0].write(in, x);
    kernels_[1].write(in, y);
    const std::array<Collective, 2> calls{Collective{a, 0, {{out, in, {}, {}}}},
                                          Collective{b, 0, {{out, in, {}, {}}}}};
    kernels_[1].launch(calls[1], 0);
    EXPECT_FALSE(kernels_[1].met());
    kernels_[0].launch(calls[0], 0);
    EXPECT_TRUE(kernels_[0].met());
    return {kernels_[0].read(out), kernels_[1].read(out)};
  }

  ReferenceMeeting meeting_;
  Execution executions_[2];
  ReferenceKernels kernels_[2] = {ReferenceKernels{meeting_}, ReferenceKernels{meeting_}};
};

// Rank 0 keeps one row of two and sends two, rank 1 sends one and keeps none.
TEST_F(TwoRanks, AnUnevenAllToAll) {
  const TensorRef in{0, 0, ElementType::bf16, 3, 2}, less{0, 0, ElementType::bf16, 1, 2};
  const TensorRef out{0, 512, ElementType::bf16, 2, 2};
  kernels_[0].write(in, std::vector<double>{1, 2, 3, 4, 5, 6});
  kernels_[1].write(less, std::vector<double>{7, 8});
  const Collective a{CollectiveKind::all_to_all, 0, {{out, in, {1, 2}, {1, 1}}}};
  const Collective b{CollectiveKind::all_to_all, 0, {{out, less, {1, 0}, {2, 0}}}};
  kernels_[0].launch(a, 0);
  kernels_[1].launch(b, 0);
  EXPECT_THAT(kernels_[0].read(out), ElementsAre(1, 2, 7, 8));
  EXPECT_THAT(kernels_[1].read(out), ElementsAre(3, 4, 5, 6));
}

TEST_F(TwoRanks, CollectivesByHand) {
  const auto both = [&](CollectiveKind k, std::int64_t to) {
    return run(k, k, to, {1, 20}, {3, 4});
  };
  EXPECT_THAT(both(CollectiveKind::all_reduce_sum, 2)[1], ElementsAre(4, 24));
  EXPECT_THAT(both(CollectiveKind::all_reduce_max, 2)[0], ElementsAre(3, 20));
  EXPECT_THAT(both(CollectiveKind::all_gather, 4)[1], ElementsAre(1, 20, 3, 4));
  EXPECT_THAT(both(CollectiveKind::reduce_scatter, 1)[0], ElementsAre(4));
  EXPECT_THAT(both(CollectiveKind::reduce_scatter, 1)[1], ElementsAre(24));
  EXPECT_THAT(both(CollectiveKind::all_to_all, 2)[0], ElementsAre(1, 3));
  EXPECT_THAT(both(CollectiveKind::all_to_all, 2)[1], ElementsAre(20, 4));
  EXPECT_THAT(run(CollectiveKind::send, CollectiveKind::receive, 2, {1, 20}, {3, 4})[1],
              ElementsAre(1, 20));
}

}  // namespace
}  // namespace steploom
