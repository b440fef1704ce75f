#include "models/split_backward.h"

#include <gtest/gtest.h>

#include "models/chunk_builder.h"
#include "models/config_reader.h"

namespace steploom {
namespace {

Chunk chunk_of(const char* model, const char* layout, int devices) {
  const ModelSpec m = load_model(model);
  const Layout l = parse_layout(layout, devices, m.has_moe());
  return build_chunk(m, Workload{}, l, runtime_named("megatron-core"), stage_span(m, l, 0));
}

double flops(const OpGraph& g) {
  double sum = 0;
  for (OpId op = 0; op < g.size(); ++op) sum += g.node(op).work.flops;
  return sum;
}

class SplitBackward : public testing::TestWithParam<std::tuple<const char*, const char*, int>> {};

// Every operator lands in one block, products split evenly, and B never waits for W: nothing that B
// reads is written in W.
TEST_P(SplitBackward, SeparatesWeightGradientsThatNothingWaitsFor) {
  const auto& [model, layout, devices] = GetParam();
  const Chunk chunk = chunk_of(model, layout, devices);
  const BackwardBlocks blocks = split_backward(chunk.backward);
  EXPECT_EQ(blocks.data.size() + blocks.weight.size(), chunk.backward.size());
  EXPECT_DOUBLE_EQ(flops(blocks.data) + flops(blocks.weight), flops(chunk.backward));
  std::vector<bool> written_by_weight(chunk.tensors.size(), false);
  for (OpId op = 0; op < blocks.weight.size(); ++op)
    for (const TensorId t : blocks.weight.node(op).writes) written_by_weight[t] = true;
  for (OpId op = 0; op < blocks.data.size(); ++op)
    for (const TensorId t : blocks.data.node(op).reads)
      EXPECT_FALSE(written_by_weight[t]) << blocks.data.node(op).name;
}

INSTANTIATE_TEST_SUITE_P(Models, SplitBackward,
                         testing::Values(std::tuple("llama-2-7b", "tp=2,sp=1,pp=2", 4),
                                         std::tuple("gpt2", "tp=1", 1),
                                         std::tuple("mixtral-8x7b", "tp=2,sp=1,etp=2,ep=2", 8),
                                         std::tuple("deepseek-v3", "tp=2,sp=1,etp=1,ep=16", 16)));

// A dense layer's weight gradients are as many FLOPs as its data gradients, attention apart.
TEST(SplitBackwardFlops, AreEvenForProducts) {
  const BackwardBlocks blocks = split_backward(chunk_of("llama-2-7b", "tp=1", 1).backward);
  double attention = 0;
  for (OpId op = 0; op < blocks.data.size(); ++op)
    if (blocks.data.node(op).work.kind == OpKind::attention)
      attention += blocks.data.node(op).work.flops;
  EXPECT_DOUBLE_EQ(flops(blocks.data) - attention, flops(blocks.weight));
}

}  // namespace
}  // namespace steploom
