#include "models/capacity_experts.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "models/layout_rules.h"
#include "tests/models/small_configs.h"

namespace steploom {
namespace {

const Runtime& deepspeed() {
  return runtime_named("deepspeed");
}

// ⌈tokens / experts · factor · top_k⌉, at least 4 (sharded_moe.py, _capacity; layer.py).
TEST(CapacityExperts, CapacityIsRoundedUp) {
  MoeSpec moe;
  moe.experts = 8;
  moe.top_k = 2;
  EXPECT_EQ(expert_capacity(moe, 1, 1024), 256);
  EXPECT_EQ(expert_capacity(moe, 1.25, 1024), 320);
  EXPECT_EQ(expert_capacity(moe, 1, 1001), 251);
  EXPECT_EQ(expert_capacity(moe, 1, 8), 4);
}

// Mixtral's small one: 64 wide, 4 or 8 experts, 2 of them for a token, 96 wide.
struct Small {
  ModelSpec m = read(kMixtral);
  Workload w;
  Layout l;
  explicit Small(const std::string& layout, int devices) {
    w.seq_length = 256;
    w.global_batch = devices;
    l = parse_layout(layout, devices, true);
  }
  Chunk chunk() const { return build_chunk(m, w, l, deepspeed(), stage_span(m, l, 0)); }
};

std::map<std::string, Work> works(const OpGraph& g, int layer) {
  std::map<std::string, Work> all;
  for (OpId op = 0; op < g.size(); ++op)
    if (g.node(op).layer == layer) all.emplace(g.node(op).name, g.node(op).work);
  return all;
}

TEST(CapacityExperts, EverythingIsPaddedToTheCapacity) {
  const Small s("tp=1,ep=2,zero=0,mbs=1", 2);
  const int experts = s.m.moe->experts;
  const std::int64_t tokens = 256, h = s.m.hidden;
  const std::int64_t rows = experts * expert_capacity(*s.m.moe, 1, tokens);
  EXPECT_EQ(rows, tokens * s.m.moe->top_k);
  const Chunk c = s.chunk();
  auto f = works(c.forward, 0);
  // Two products with masks of tokens × rows, as many FLOPs as tokens² · top_k.
  EXPECT_EQ(f["dispatch einsum"].flops, 2.0 * static_cast<double>(tokens * rows * h));
  EXPECT_EQ(f["combine einsum"].flops, f["dispatch einsum"].flops);
  EXPECT_EQ(f["dispatch"].bytes, rows * h * 2);
  EXPECT_EQ(f["combine"].bytes, rows * h * 2);
  EXPECT_EQ(f["experts up"].groups, experts / 2);
  EXPECT_EQ(f["experts up"].m, rows);
  EXPECT_EQ(f["dispatch mask in 16 bits"].bytes, tokens * rows * 3);
  EXPECT_EQ(f["gate"].precision, Precision::fp32);
  auto b = works(c.backward, 0);
  EXPECT_EQ(b["combine weights"].flops, f["dispatch einsum"].flops);
  EXPECT_EQ(b["combine backward"].bytes, rows * h * 2);
  EXPECT_EQ(b["dispatch backward"].bytes, rows * h * 2);
}

// The host never asks how many tokens came: a capacity is known before.
TEST(CapacityExperts, HostWaitsForNothing) {
  const Small s("tp=1,ep=2,zero=0,mbs=1", 2);
  const Chunk c = s.chunk();
  for (const OpGraph* g : {&c.forward, &c.backward})
    for (OpId op = 0; op < g->size(); ++op) {
      EXPECT_FALSE(g->node(op).host_waits) << g->node(op).name;
      EXPECT_FALSE(g->node(op).routed) << g->node(op).name;
    }
}

// bf16 gradients, reduced once the backward pass is over; parameters gathered after the update.
TEST(CapacityExperts, DeepSpeedsDataParallelism) {
  const Small s("tp=1,ep=1,zero=1,mbs=1", 4);
  const std::vector<StageSpan> spans{stage_span(s.m, s.l, 0)};
  const Chunk c = build_chunks(s.m, s.w, s.l, deepspeed(), spans).front();
  const std::int64_t n = parameters_of(s.m, s.l, spans).total();
  Bytes reduced = 0, gathered = 0;
  bool over = false;
  for (OpId op = 0; op < c.last_backward.size(); ++op) {
    const OpNode& node = c.last_backward.node(op);
    over |= node.work.kind == OpKind::reduce_scatter;
    if (over) {
      EXPECT_TRUE(is_communication(node.work.kind)) << node.name;
    }
    if (node.work.kind == OpKind::reduce_scatter) reduced += node.work.bytes;
  }
  EXPECT_EQ(reduced, 2 * n);
  for (OpId op = 0; op < c.optimizer.size(); ++op)
    if (c.optimizer.node(op).work.kind == OpKind::all_gather)
      gathered += c.optimizer.node(op).work.bytes;
  EXPECT_EQ(gathered, 2 * n);
}

TEST(CapacityExperts, RefusesByName) {
  const auto message = [](const char* layout, int devices) {
    const Small s(layout, devices);
    const auto refusal = refuse({s.m, s.w, s.l, devices, &deepspeed()});
    return refusal ? refusal->message : "";
  };
  EXPECT_EQ(message("tp=1,ep=2,zero=2,mbs=1", 2), "");
  EXPECT_EQ(message("tp=2,sp=1,etp=1,ep=2,zero=1,mbs=1", 2),
            "sp=1, which the runtime deepspeed cannot run; sp must be 0");
  EXPECT_EQ(message("tp=1,pp=2,vpp=2,zero=1,mbs=1,stages=E|t|t|L", 2),
            "vpp=2, which the runtime deepspeed cannot run; vpp must be 1");
  EXPECT_NE(message("tp=1,ep=2,zero=1,mbs=1,chunks=2", 2).find("experts whole"), std::string::npos);
}

}  // namespace
}  // namespace steploom
