// Split backward passes as torch.distributed.pipelining launches them: kernels and host time.
#include "models/eager_passes.h"

#include <gtest/gtest.h>

#include "models/config_reader.h"
#include "models/eager_costs.h"
#include "models/split_backward.h"

namespace steploom {
namespace {

struct Stage {
  StageSpan span;
  Chunk chunk;
};

// The second of four stages of llama-2-7b: eight layers, no ends.
Stage middle() {
  const ModelSpec m = load_model("llama-2-7b");
  const Layout l = parse_layout("pp=4,zero=0,mbs=1", 4, false);
  const StageSpan span = stage_span(m, l, 1);
  return {span, build_chunk(m, Workload{}, l, runtime_named("torch-eager"), span)};
}

double host_of(const OpGraph& g) {
  double sum = 0;
  for (OpId op = 0; op < g.size(); ++op)
    if (!is_communication(g.node(op).work.kind)) sum += g.node(op).launches * host::kMean;
  return sum;
}

TEST(EagerPasses, EachHasACallAroundIt) {
  const Stage s = middle();
  const OpGraph& f = s.chunk.forward;
  EXPECT_NEAR(host_of(eager_pass(f, EagerPass::forward, s.span)), host_of(f) + 56 + 120, 1e-6);
  const OpGraph& b = s.chunk.backward;
  EXPECT_NEAR(host_of(eager_pass(b, EagerPass::whole_backward, s.span)), host_of(b) + 56 + 270,
              1e-6);
}

// Seven products and two norms a layer: a kernel for each, which reads and writes the gradient that
// it starts from, and a call whose time grows with the layers below.
TEST(EagerPasses, WeightGradientsStartOncePerWeight) {
  const Stage s = middle();
  const BackwardBlocks split = split_backward(s.chunk.backward);
  const OpGraph w = eager_pass(split.weight, EagerPass::weight_gradients, s.span);
  EXPECT_EQ(w.size(), split.weight.size() + 9 * 8);
  double depths = 0;
  for (int layer = 1; layer <= 8; ++layer) depths += 9 * layer;
  EXPECT_NEAR(host_of(w), host_of(split.weight) + 56 + 72 * 103 + depths * 21.2, 1e-6);
  // Of the gate's: 4096 tokens of 11008 in bf16, read and written.
  int found = 0;
  for (OpId op = 0; op < w.size(); ++op)
    if (w.node(op).name == "ffn gate · gradient + 0") {
      EXPECT_EQ(w.node(op).work.bytes, 2 * 4096 * 11008 * 2);
      ++found;
    }
  EXPECT_EQ(found, 8);
}

TEST(EagerPasses, DataGradientsAreTheSameKernels) {
  const Stage s = middle();
  const BackwardBlocks split = split_backward(s.chunk.backward);
  const OpGraph i = eager_pass(split.data, EagerPass::data_gradients, s.span);
  EXPECT_EQ(i.size(), split.data.size());
  EXPECT_NEAR(host_of(i), host_of(split.data) * 1.41 + 56 + 270, 1e-6);
}

TEST(EagerPasses, MessagesLeaveAPass) {
  const Stage s = middle();
  const PassAndMessages f = without_messages(s.chunk.forward);
  EXPECT_EQ(f.pass.size() + 2, s.chunk.forward.size());
  ASSERT_EQ(f.receive.size(), 1U);
  ASSERT_EQ(f.send.size(), 1U);
  EXPECT_EQ(f.receive.node(0).stream, f.send.node(0).stream);
  EXPECT_EQ(f.receive.node(0).writes, s.chunk.forward.node(0).writes);
}

}  // namespace
}  // namespace steploom
