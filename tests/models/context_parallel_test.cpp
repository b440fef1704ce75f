// Closed forms of context parallelism: FLOPs, bytes and what is kept, for each way to communicate.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "models/chunk_builder.h"
#include "models/config_reader.h"

namespace steploom {
namespace {

constexpr std::int64_t kSequence = 8192;

Chunk layers_of(const ModelSpec& m, const std::string& layout, int devices) {
  Workload w;
  w.seq_length = kSequence;
  return build_chunk(m, w, parse_layout(layout, devices, m.has_moe()),
                     runtime_named("megatron-core"), {0, 2, false, false, true, true});
}

template <class Visit>
void each_op(const OpGraph& g, const Visit& visit) {
  for (OpId op = 0; op < g.size(); ++op) visit(g.node(op));
}

double flops_of(const OpGraph& g, OpKind kind) {
  double sum = 0;
  each_op(g, [&](const OpNode& n) { sum += n.work.kind == kind ? n.work.flops : 0; });
  return sum;
}

// Bytes of a layer over the context-parallel group, by kind of collective.
std::map<OpKind, Bytes> moved(const OpGraph& g, int layer = 1) {
  std::map<OpKind, Bytes> sum;
  each_op(g, [&](const OpNode& n) {
    if (n.group == CommGroup::cp && n.layer == layer) sum[n.work.kind] += n.work.bytes;
  });
  return sum;
}

// A rank computes 1/cp of the whole, in attention and in products, forward and backward.
TEST(ContextParallel, ARankComputesItsShareOfTheWhole) {
  struct Case {
    const char* model;
    const char* comm;
    int cp;
  };
  for (const Case& c : {Case{"llama-3.1-8b", "p2p", 2}, Case{"llama-3.1-8b", "p2p", 8},
                        Case{"llama-3.1-8b", "allgather", 4}, Case{"llama-3.1-8b", "a2a", 4},
                        Case{"gpt-oss-20b", "allgather", 4}, Case{"gpt-oss-20b", "a2a", 8},
                        Case{"deepseek-v3", "p2p", 4}, Case{"lina-bert-large-moe", "p2p", 4}}) {
    const ModelSpec m = load_model(c.model);
    const Chunk whole = layers_of(m, "tp=1", 1);
    const Chunk part = layers_of(m, "cp=" + std::to_string(c.cp) + ",cp_comm=" + c.comm, c.cp);
    for (const auto graph : {&Chunk::forward, &Chunk::backward})
      for (const OpKind kind : {OpKind::attention, OpKind::matmul})
        EXPECT_NEAR(flops_of(part.*graph, kind) * c.cp / flops_of(whole.*graph, kind), 1, 1e-12)
            << c.model << " " << c.comm << " " << c.cp;
  }
}

// Keys and values go round cp − 1 times; backward once more, and so do their gradients.
TEST(ContextParallel, RingMovesKeysAndValues) {
  const Bytes kv = kSequence / 4 * 2 * (8 / 2) * 128 * 2;  // tp 2 of 8 heads, bf16
  const Chunk c = layers_of(load_model("llama-3.1-8b"), "tp=2,sp=1,cp=4", 8);
  EXPECT_EQ(moved(c.forward), (std::map<OpKind, Bytes>{{OpKind::send_recv, 3 * kv}}));
  EXPECT_EQ(moved(c.backward), (std::map<OpKind, Bytes>{{OpKind::send_recv, 6 * kv}}));
  // Latent attention: keys of 128 + 64, values of 128 on each of 128 heads.
  const Bytes latent = kSequence / 2 * 128 * (192 + 128) * 2;
  const Chunk mla = layers_of(load_model("deepseek-v3"), "cp=2", 2);
  EXPECT_EQ(moved(mla.forward).at(OpKind::send_recv), latent);
  EXPECT_EQ(moved(mla.backward).at(OpKind::send_recv), 2 * latent);
}

TEST(ContextParallel, AllGatherMovesAllKeysAndScattersTheirGradients) {
  const Bytes all = kSequence * 2 * 8 * 128 * 2;
  const Chunk c = layers_of(load_model("llama-3.1-8b"), "cp=4,cp_comm=allgather", 4);
  EXPECT_EQ(moved(c.forward), (std::map<OpKind, Bytes>{{OpKind::all_gather, all}}));
  EXPECT_EQ(moved(c.backward),
            (std::map<OpKind, Bytes>{{OpKind::all_gather, all}, {OpKind::reduce_scatter, all}}));
}

TEST(ContextParallel, AllToAllMovesQueriesKeysValuesAndOutputs) {
  const Bytes one = kSequence / 4 * (32 + 2 * 8 + 32) * 128 * 2;
  const Chunk c = layers_of(load_model("llama-3.1-8b"), "cp=4,cp_comm=a2a", 4);
  EXPECT_EQ(moved(c.forward), (std::map<OpKind, Bytes>{{OpKind::all_to_all, one}}));
  EXPECT_EQ(moved(c.backward), (std::map<OpKind, Bytes>{{OpKind::all_to_all, one}}));
  // Run again, attention exchanges again.
  const Chunk again =
      layers_of(load_model("llama-3.1-8b"), "cp=4,cp_comm=a2a,recompute=selective", 4);
  EXPECT_EQ(moved(again.backward), (std::map<OpKind, Bytes>{{OpKind::all_to_all, 2 * one}}));
}

// A step's keys travel while the step before attends: the exchange is issued first and does not
// read what the attention writes.
TEST(ContextParallel, TheRingTurnsBesideAttention) {
  const Chunk c = layers_of(load_model("llama-3.1-8b"), "cp=4", 4);
  std::string order;
  each_op(c.forward, [&](const OpNode& n) {
    if (n.layer != 0) return;
    if (n.group == CommGroup::cp) order += 'x';
    if (n.work.kind == OpKind::attention) order += 'a';
    if (n.name == "attention merge") order += 'm';
  });
  EXPECT_EQ(order, "xaxaxaammmm");
  for (OpId op = 0; op < c.forward.size(); ++op) {
    if (c.forward.node(op).group != CommGroup::cp) continue;
    for (const OpGraph::Edge& e : c.forward.predecessors(op))
      EXPECT_NE(c.forward.node(e.op).work.kind, OpKind::attention);
  }
}

}  // namespace
}  // namespace steploom
