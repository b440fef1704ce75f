#include <gtest/gtest.h>

#include <algorithm>

#include "tests/profiler/executing.h"

namespace steploom {
namespace {

class Families : public testing::TestWithParam<ModelSpec (*)()> {};

// A step's gradient of the mean loss, against (loss(p + e) - loss(p - e)) / 2e for two elements of
// every parameter tensor. Routing is replayed: the loss jumps where a choice changes.
TEST_P(Families, GradientsAreCentralDifferences) {
  const Lowering l(GetParam()(), "tp=1,zero=0,mbs=2", 1, 2);
  BindOptions record, replay;
  record.tape = TapeMode::record;
  replay.tape = TapeMode::replay;
  replay.adam.rate = 0;  // parameters stay
  ReferenceRun first(l.input(), record);
  const StepResult expected = first.step();
  const RoutingTape tape = first.routing();
  ReferenceRun run(l.input(), replay);
  run.replay_routing(tape);
  int checked = 0;
  for (const BoundParameter& p : run.execution(0).parameters) {
    const std::vector<double>& gradient = expected.gradients.at(p.name);
    const std::vector<double> values = run.kernels(0).read(p.value);
    // The largest gradient, and one in the middle.
    const auto largest = std::max_element(gradient.begin(), gradient.end(), [](double a, double b) {
      return std::abs(a) < std::abs(b);
    });
    for (const std::size_t i :
         {static_cast<std::size_t>(largest - gradient.begin()), gradient.size() / 2}) {
      constexpr double kStep = 1e-5;
      const auto loss = [&](double change) {
        std::vector<double> moved = values;
        moved[i] += change;
        run.kernels(0).write(p.value, moved);
        const double result = run.step().loss;
        // A step writes every parameter from its master.
        return result;
      };
      const double slope = (loss(kStep) - loss(-kStep)) / (2 * kStep);
      EXPECT_NEAR(slope, gradient[i], 1e-9 + 1e-6 * std::abs(gradient[i])) << p.name << " " << i;
      checked += std::abs(gradient[i]) > 1e-6;
    }
  }
  EXPECT_GT(checked, 20);
}

INSTANTIATE_TEST_SUITE_P(Execution, Families,
                         testing::Values(tiny_dense, tiny_gpt2, tiny_mixtral, tiny_deepseek));

// One parameter through AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2), clipped:
// after one step both moments are the gradient's own, so the change is rate · g / (|g| + epsilon).
TEST(Adam, OneStepByHand) {
  const Lowering l(tiny_dense(), "tp=1,zero=0", 1);
  BindOptions options;
  options.adam.rate = 0.25;
  options.adam.clip = 0.125;
  ReferenceRun run(l.input(), options);
  const Tensors before = run.parameters();
  const StepResult step = run.step();
  const Tensors after = run.parameters();
  double square = 0;
  for (const auto& [name, g] : step.gradients)
    for (const double x : g) square += x * x;
  ASSERT_GT(std::sqrt(square), 0.125);  // it is clipped
  const double factor = 0.125 / (std::sqrt(square) + 1e-6);
  for (const auto& [name, g] : step.gradients)
    for (std::size_t i = 0; i < g.size(); ++i) {
      const double clipped = g[i] * factor;
      const double change = clipped / (std::abs(clipped) + options.adam.epsilon);
      const double p = before.at(name)[i];
      ASSERT_NEAR(after.at(name)[i], p - 0.25 * (change + options.adam.decay * p), 1e-9) << name;
    }
}

// Two steps lower the loss.
TEST(Adam, TheLossFalls) {
  const Lowering l(tiny_mixtral(), "tp=1,ep=2,zero=0", 2);
  BindOptions options;
  options.adam.rate = 1e-2;
  ReferenceRun run(l.input(), options);
  const double first = run.step().loss;
  for (int i = 0; i < 4; ++i) run.step();
  EXPECT_LT(run.step().loss, 0.9 * first);
}

}  // namespace
}  // namespace steploom
