// The cuda kernels against the reference kernels: every call of small steps on equal operands, then
// whole steps. Needs a GPU, and says so where there is none.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "profiler/cuda_kernels.h"
#include "profiler/kernel_operands.h"
#include "profiler/reference_kernels.h"
#include "profiler/run_step.h"
#include "profiler/verify_step.h"
#include "tests/profiler/executing.h"

namespace steploom {
namespace {

constexpr std::int64_t kSequence = 128, kBatch = 4;

// As tiny_*(), as wide as the kernels need.
ModelSpec widened(ModelSpec m) {
  m.name = "small";
  m.hidden = 128;
  m.vocab = 512;
  m.max_positions = kSequence;
  m.attention.head_dim = m.attention.v_head_dim = 64;
  m.dense.width = 256;
  if (m.moe) {
    m.moe->expert.width = 128;
    if (m.moe->shared_width > 0) m.moe->shared_width = 128;
  }
  return m;
}

// Rounded to bf16 once, a value is off by 2⁻⁹ at most; the device also rounds what it works with.
double tolerance(const TensorRef& t) {
  return t.type == ElementType::bf16 ? 6e-3 : t.type == ElementType::fp32 ? 4e-3 : 0;
}

struct Case {
  const char* name;
  ModelSpec (*model)();
  const char* layout;
  int devices;
};

class Cuda : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (gpu_count() == 0) GTEST_SKIP() << "no GPU here: the cuda kernels are not run";
  }
};

// One rank of a case on both kernel sets.
struct BothSets {
  Execution execution;
  ReferenceKernels reference;
  CudaKernels cuda;

  BothSets(const BindInput& input, int rank, ReferenceMeeting& meeting, Peers& peers)
      : execution(bind(input, rank)), reference(meeting), cuda(peers, alone()) {
    set_up(reference, input, execution);
    set_up(cuda, input, execution);
    reference.begin_step(1);
    cuda.begin_step(1);
  }
  static CudaOptions alone() {
    CudaOptions options;
    options.connect = false;
    return options;
  }

  // The same call on equal operands; the largest error over its tolerance goes into `worst`.
  void compare(const Call& call, std::map<std::string, double>& worst, const std::string& op) {
    const Operands operands(call.kernel);
    for (const TensorRef& t : operands.in) {
      cuda.write(t, reference.read(t));
      reference.write(t, cuda.read(t));  // rounded
    }
    for (const TensorRef& t : operands.out) {
      bool also_read = false;
      for (const TensorRef& r : operands.in) also_read |= r == t;
      if (!also_read) cuda.poison(t, call.stream);
    }
    launch(reference, call.kernel, call.stream);
    launch(cuda, call.kernel, call.stream);
    for (const TensorRef& t : operands.out) {
      const double error = relative_error(cuda.read(t), reference.read(t));
      double& so_far = worst[op];
      so_far = std::isnan(error) ? HUGE_VAL : std::max(so_far, error);
      EXPECT_LE(error, tolerance(t)) << op;
    }
  }
};

// Initial values are the same bits on the device, as bf16 and as fp32.
TEST_P(Cuda, EveryCallOnEqualOperands) {
  const Case& c = GetParam();
  const Lowering l(widened(c.model()), c.layout, c.devices, kBatch, kSequence);
  const BindInput input = l.input();
  const auto peers = Peers::join(Place{}, 60);
  ReferenceMeeting meeting;
  std::vector<std::unique_ptr<BothSets>> ranks;
  for (int r = 0; r < c.devices; ++r)
    ranks.push_back(std::make_unique<BothSets>(input, r, meeting, *peers));
  for (const auto& r : ranks) {
    for (const BoundParameter& p : r->execution.parameters) {
      EXPECT_EQ(r->cuda.read(p.value), r->reference.read(p.value)) << p.name;
    }
  }
  std::map<std::string, double> worst;
  std::vector<std::size_t> next(ranks.size(), 0);
  std::vector<bool> waiting(ranks.size(), false);  // in a collective
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t r = 0; r < ranks.size(); ++r) {
      const std::vector<Call>& calls = ranks[r]->execution.calls;
      while (next[r] < calls.size() && !waiting[r]) {
        const Call& call = calls[next[r]++];
        moved = true;
        if (!std::holds_alternative<Collective>(call.kernel)) {
          const std::string op = describe_op(input.program, call.op);
          ranks[r]->compare(call, worst, op.substr(op.find("· ") + 3));
          continue;
        }
        launch(ranks[r]->reference, call.kernel, call.stream);
        waiting[r] = !ranks[r]->reference.met();
        if (!waiting[r]) waiting.assign(waiting.size(), false);
      }
    }
  }
  for (std::size_t r = 0; r < ranks.size(); ++r)
    EXPECT_EQ(next[r], ranks[r]->execution.calls.size());
  for (const auto& [op, error] : worst) std::printf("%-60s %.2e\n", op.c_str(), error);
}

// The whole step on its own streams, tensors poisoned before their life, against the reference with
// the routing that the device chose.
TEST_P(Cuda, AWholeStep) {
  const Case& c = GetParam();
  if (c.devices > 1) GTEST_SKIP() << "`steploom run --verify` does this with as many GPUs";
  const Lowering l(widened(c.model()), c.layout, c.devices, kBatch, kSequence);
  const BindInput input = l.input();
  const auto peers = Peers::join(Place{}, 60);
  const std::vector<BindInput> plans{input, input};
  const std::vector<Verification> verified = verify_on_gpus(*peers, plans, {});
  for (const Verification& v : verified) {
    ASSERT_TRUE(v.against_reference);
    EXPECT_TRUE(v.passes()) << v.worst().name << ": " << v.worst().error << ", bound "
                            << v.worst().bound;
    EXPECT_NEAR(v.loss, v.expected_loss, 5e-3);
    std::printf("loss %.6f, reference %.6f; worst gradient %s: %.2e; router agreement %.4f\n",
                v.loss, v.expected_loss, v.worst().name.c_str(), v.worst().error,
                v.router_agreement);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kernels, Cuda,
    testing::Values(Case{"llama", tiny_dense, "tp=1,mbs=2,zero=0", 1},
                    Case{"gpt2", tiny_gpt2, "tp=1,mbs=2,zero=0", 1},
                    Case{"mixtral", tiny_mixtral, "tp=1,mbs=2,zero=0", 1},
                    Case{"deepseek", tiny_deepseek, "tp=1,mbs=2,zero=0", 1},
                    Case{"recompute", tiny_deepseek, "tp=1,mbs=1,recompute=full,zero=0", 1},
                    Case{"llama_tp", tiny_dense, "tp=2,mbs=2,zero=0", 2},
                    Case{"gpt2_tp_sp", tiny_gpt2, "tp=2,sp=1,mbs=2,zero=0", 2},
                    Case{"mixtral_ep", tiny_mixtral, "tp=1,ep=2,mbs=2,zero=0", 2},
                    Case{"mixtral_etp", tiny_mixtral, "tp=2,sp=1,etp=2,mbs=2,zero=0", 2},
                    Case{"deepseek_ep", tiny_deepseek, "tp=1,ep=2,mbs=2,zero=0", 2}),
    [](const auto& test) { return std::string(test.param.name); });

// Steps replayed from a graph are the steps: the same losses, Adam's count included.
TEST(CudaGraph, ReplaysTheStep) {
  if (gpu_count() == 0) GTEST_SKIP() << "no GPU here";
  const Lowering l(widened(tiny_mixtral()), "tp=1,mbs=2,zero=0", 1, kBatch, kSequence);
  const BindInput input = l.input();
  const auto peers = Peers::join(Place{}, 60);
  std::vector<std::vector<double>> losses;
  for (const bool graph : {false, true}) {
    const Execution e = bind(input, 0);
    CudaKernels kernels(*peers);
    set_up(kernels, input, e);
    if (graph) kernels.capture([&] { issue_step(kernels, e); });
    for (int step = 1; step <= 3; ++step) {
      kernels.begin_step(step);
      if (graph) {
        kernels.replay();
      } else {
        issue_step(kernels, e);
      }
      losses.push_back(kernels.read(e.loss));
    }
  }
  for (std::size_t step = 0; step < 3; ++step) {
    EXPECT_LT(relative_error(losses[step + 3], losses[step]), 1e-2) << "step " << step + 1;
  }
  EXPECT_GT(relative_error(losses[2], losses[0]), 1e-2) << "the model does not learn";
}

}  // namespace
}  // namespace steploom
