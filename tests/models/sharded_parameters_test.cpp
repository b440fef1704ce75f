// Closed forms of ZeRO-2, ZeRO-3 and copies of shards: bytes, order of issue, tensors.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "models/chunk_builder.h"
#include "models/config_reader.h"

namespace steploom {
namespace {

struct Built {
  ModelSpec model;
  Layout layout;
  StageParameters held;
  Chunk chunk;
};

Built built(const char* model, const std::string& layout, int devices,
            const char* runtime = "megatron-core", int at = 0) {
  Built b{load_model(model), {}, {}, {}};
  b.layout = parse_layout(layout, devices, b.model.has_moe());
  const StageSpan stage = stage_span(b.model, b.layout, at);
  b.held = stage_parameters(b.model, b.layout, stage);
  b.chunk = build_chunk(b.model, Workload{}, b.layout, runtime_named(runtime), stage);
  return b;
}

Bytes moved(const OpGraph& g, CommGroup group, OpKind kind) {
  Bytes sum = 0;
  for (OpId op = 0; op < g.size(); ++op)
    if (g.node(op).group == group && g.node(op).work.kind == kind) sum += g.node(op).work.bytes;
  return sum;
}

// Parameters of the embedding, or of the head.
std::int64_t outside_layers(const Built& b, bool head) {
  return stage_parameters(b.model, b.layout, {0, 0, !head, head, false, false}).dense();
}

// Every backward pass scatters all gradients; parameters are gathered in the first forward pass.
TEST(ShardedParameters, Zero2ScattersGradientsInEveryPass) {
  const Built b = built("mixtral-8x7b", "tp=1,ep=4,zero=2", 8);
  for (const OpGraph* g : {&b.chunk.backward, &b.chunk.last_backward}) {
    EXPECT_EQ(moved(*g, CommGroup::dp, OpKind::reduce_scatter), 4 * b.held.dense());
    EXPECT_EQ(moved(*g, CommGroup::expert_dp, OpKind::reduce_scatter), 4 * b.held.experts);
  }
  EXPECT_EQ(moved(b.chunk.forward, CommGroup::dp, OpKind::all_gather), 0);
  EXPECT_EQ(moved(b.chunk.first_forward, CommGroup::dp, OpKind::all_gather), 2 * b.held.dense());
}

// Forward gathers everything; backward again, but for the head, which is kept, and the embedding.
TEST(ShardedParameters, Zero3GathersParametersForEveryPass) {
  const Built b = built("mixtral-8x7b", "tp=1,ep=4,zero=3", 8);
  const std::int64_t layers = b.held.dense() - outside_layers(b, false) - outside_layers(b, true);
  for (const OpGraph* g : {&b.chunk.forward, &b.chunk.first_forward}) {
    EXPECT_EQ(moved(*g, CommGroup::dp, OpKind::all_gather), 2 * b.held.dense());
    EXPECT_EQ(moved(*g, CommGroup::expert_dp, OpKind::all_gather), 2 * b.held.experts);
  }
  EXPECT_EQ(moved(b.chunk.backward, CommGroup::dp, OpKind::all_gather), 2 * layers);
  EXPECT_EQ(moved(b.chunk.backward, CommGroup::expert_dp, OpKind::all_gather), 2 * b.held.experts);
  EXPECT_EQ(moved(b.chunk.backward, CommGroup::dp, OpKind::reduce_scatter), 4 * b.held.dense());
  const Built kept = built("mixtral-8x7b", "tp=1,ep=4,zero=3,reshard=0", 8);
  EXPECT_EQ(moved(kept.chunk.backward, CommGroup::dp, OpKind::all_gather), 0);
  EXPECT_EQ(moved(kept.chunk.forward, CommGroup::dp, OpKind::all_gather), 2 * b.held.dense());
}

// A layer's parameters are asked for when the layer before it begins, and read from its first to
// its last operator.
TEST(ShardedParameters, OneUnitIsGatheredAhead) {
  const Built b = built("llama-3.1-8b", "tp=1,zero=3", 8);
  for (const OpGraph* g : {&b.chunk.forward, &b.chunk.backward}) {
    std::vector<int> gathered;
    int at = -2, most = 0;
    for (OpId op = 0; op < g->size(); ++op) {
      const OpNode& n = g->node(op);
      if (n.stream == StreamKind::gather) {
        gathered.push_back(n.layer);
      } else if (n.stream == StreamKind::compute && n.layer != at) {
        at = n.layer;
        int ahead = 0;
        while (!gathered.empty() && gathered.back() != at &&
               ahead < static_cast<int>(gathered.size()) &&
               gathered[gathered.size() - 1 - static_cast<std::size_t>(ahead)] != at)
          ++ahead;
        most = std::max(most, at >= 0 && at < b.model.layers ? ahead : 0);
      }
    }
    EXPECT_EQ(most, 1);
  }
}

// A stage's step of m micro-batches: its parameters are gathered once and kept, or for each of the
// 2·m passes (the embedding for the m that read it); its gradients are reduced once, at the end of
// the last backward pass.
TEST(ShardedParameters, UnderAPipelineOnceAStep) {
  const int m = 5;
  for (const int stage : {0, 1, 2, 3})
    for (const bool reshard : {false, true}) {
      const Built b = built("llama-3.1-8b", reshard ? "pp=4,zero=3" : "pp=4,zero=3,reshard=0", 8,
                            "torch-eager", stage);
      const auto step = [&](OpKind kind) {
        return moved(b.chunk.first_forward, CommGroup::dp, kind) +
               (m - 1) * moved(b.chunk.forward, CommGroup::dp, kind) +
               (m - 1) * moved(b.chunk.backward, CommGroup::dp, kind) +
               moved(b.chunk.last_backward, CommGroup::dp, kind);
      };
      const Bytes all = 2 * b.held.dense();
      const Bytes embedding = stage == 0 ? 2 * outside_layers(b, false) : 0;
      EXPECT_EQ(step(OpKind::all_gather), reshard ? m * (2 * all - embedding) : all) << stage;
      EXPECT_EQ(step(OpKind::reduce_scatter), all) << stage;
      EXPECT_EQ(moved(b.chunk.last_backward, CommGroup::dp, OpKind::reduce_scatter), all);
      bool reduced = false;
      for (OpId op = 0; op < b.chunk.last_backward.size(); ++op) {
        const OpNode& n = b.chunk.last_backward.node(op);
        reduced = reduced || n.work.kind == OpKind::reduce_scatter;
        EXPECT_EQ(n.work.kind == OpKind::reduce_scatter, reduced) << n.name;
      }
    }
}

// Copies: each reduces within, and all-reduces its share with the others once a step.
TEST(ShardedParameters, CopiesReduceTheirSharesBetweenThem) {
  for (const int zero : {1, 2, 3}) {
    const Built b = built("llama-3.1-8b", "tp=1,replicate=4,zero=" + std::to_string(zero), 16);
    EXPECT_EQ(moved(b.chunk.last_backward, CommGroup::dp, OpKind::reduce_scatter),
              4 * b.held.dense());
    EXPECT_EQ(moved(b.chunk.last_backward, CommGroup::dp_outer, OpKind::all_reduce),
              4 * b.held.dense() / 4);
    EXPECT_EQ(moved(b.chunk.backward, CommGroup::dp_outer, OpKind::all_reduce), 0);
    EXPECT_EQ(moved(b.chunk.first_forward, CommGroup::dp, OpKind::all_gather), 2 * b.held.dense());
  }
}

// As many copies as an expert has replicas: it is whole in each, and all-reduced between them.
TEST(ShardedParameters, ExpertsWholeInEveryCopy) {
  for (const int zero : {1, 3}) {
    const Built b = built("mixtral-8x7b", "tp=1,ep=8,replicate=2,zero=" + std::to_string(zero), 16);
    EXPECT_EQ(moved(b.chunk.last_backward, CommGroup::expert_dp_outer, OpKind::all_reduce),
              4 * b.held.experts);
    for (const OpGraph* g : {&b.chunk.first_forward, &b.chunk.backward, &b.chunk.last_backward})
      for (OpId op = 0; op < g->size(); ++op) EXPECT_NE(g->node(op).group, CommGroup::expert_dp);
  }
}

}  // namespace
}  // namespace steploom
