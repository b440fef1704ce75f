// DeepEP's dispatcher: what it makes of an expert layer, what refuses it, its flags.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "models/chunk_builder.h"
#include "models/config_reader.h"
#include "models/dispatcher_rules.h"
#include "models/from_megatron.h"
#include "models/to_megatron.h"
#include "models/visits.h"

namespace steploom {
namespace {

constexpr int kDevices = 64;
constexpr const char* kLayout = "tp=1,ep=16,dispatcher=deepep";

ModelSpec one_expert_layer() {
  ModelSpec m = load_model("deepseek-v3");
  m.layers = 4;  // of which the last has experts
  m.layer_is_moe.resize(4);
  return m;
}

Chunk built(const std::string& layout) {
  const ModelSpec m = one_expert_layer();
  const Layout l = parse_layout(layout, kDevices, true);
  Workload w;
  w.seq_length = 4096;
  return build_chunk(m, w, l, runtime_named("megatron-core"), stage_span(m, l, 0));
}

std::string names_of(const OpGraph& g, const std::string& from, const std::string& to) {
  std::string all, upto;
  for (OpId op = 0; op < g.size(); ++op) {
    const OpNode& n = g.node(op);
    if (n.layer != 3 || (all.empty() && n.name != from)) continue;
    all += (all.empty() ? "" : ", ") + n.name;
    if (n.work.phase == Phase::weight_grad) all += " W";
    if (n.name == to) upto = all;
  }
  return upto;
}

const OpNode& named(const OpGraph& g, const std::string& name) {
  for (OpId op = 0; op < g.size(); ++op)
    if (g.node(op).layer == 3 && g.node(op).name == name) return g.node(op);
  ADD_FAILURE() << name;
  return g.node(0);
}

TEST(Dispatcher, TokensGoAsTheyAreAndArePermutedThere) {
  const Chunk c = built(kLayout);
  EXPECT_EQ(names_of(c.forward, "router", "shared expert sum"),
            "router, router scores and top-k, dispatch, sort rows by expert, experts up, experts "
            "activation, experts down, sort rows by sender, combine, shared expert sum");
  EXPECT_EQ(names_of(c.backward, "combine backward", "router scores and top-k"),
            "combine backward, sort rows by expert, experts down, experts down W, experts "
            "activation, experts up, experts up W, sort rows by sender, dispatch backward, router "
            "scores and top-k");
}

// 4096 tokens, 8 of 256 experts, 16 of them on each of 16 ranks: 6.52 ranks a token.
TEST(Dispatcher, RowsByHand) {
  const Chunk c = built(kLayout);
  const double ranks = places_visited(16, 256, 8);
  EXPECT_NEAR(ranks, 6.52, 0.01);
  const Bytes row = 7168 * 2, brought = static_cast<Bytes>(std::ceil(4096 * ranks)) * row;
  const Bytes sorted = Bytes{4096} * 8 * row;
  for (const auto& [graph, out, back] : {std::tuple{&c.forward, "dispatch", "combine"},
                                         {&c.backward, "combine backward", "dispatch backward"}}) {
    const OpNode &there = named(*graph, out), &home = named(*graph, back);
    EXPECT_EQ(there.work.exchange, ExpertExchange::dispatch);
    EXPECT_EQ(home.work.exchange, ExpertExchange::combine);
    for (const OpNode* n : {&there, &home}) {
      EXPECT_EQ(n->work.kind, OpKind::all_to_all);
      EXPECT_EQ(n->group, CommGroup::ep);
      EXPECT_EQ(n->work.bytes, brought);
      EXPECT_EQ(n->work.m, 4096);
      EXPECT_EQ(n->work.n, 7168);
      EXPECT_EQ(n->work.k, 8);
      EXPECT_EQ(n->work.groups, 256);
      EXPECT_TRUE(n->routed);
    }
    EXPECT_EQ(c.tensors[there.writes[0]].bytes, brought);
    EXPECT_EQ(c.tensors[home.writes[0]].bytes, 4096 * row);
    EXPECT_EQ(named(*graph, "sort rows by expert").work.bytes, brought + sorted);
  }
  // It waits for the router too, though it sends what went into it.
  EXPECT_EQ(named(c.forward, "dispatch").reads.size(), 2U);
}

// Experts compute what they do with any dispatcher.
TEST(Dispatcher, ProductsAreTheSame) {
  const Chunk by_nccl = built("tp=1,ep=16"), by_deepep = built(kLayout);
  for (const auto graph : {&Chunk::forward, &Chunk::backward}) {
    std::map<std::string, double> flops[2];
    for (const int i : {0, 1}) {
      const OpGraph& g = (i == 0 ? by_nccl : by_deepep).*graph;
      for (OpId op = 0; op < g.size(); ++op)
        if (g.node(op).work.flops > 0)
          flops[i][g.node(op).name + std::string(name_of(g.node(op).work.phase))] +=
              g.node(op).work.flops;
    }
    EXPECT_EQ(flops[0], flops[1]);
  }
}

std::string_view refused(const std::string& layout, const Workload& w = {},
                         const char* runtime = "megatron-core") {
  const ModelSpec m = load_model("deepseek-v3");
  const Layout l = parse_layout(layout, kDevices, true);
  const RuleContext context{m, w, l, kDevices, &runtime_named(runtime), 8};
  for (const LayoutRule& rule : dispatcher_rules())
    if (rule.broken(context)) return rule.name;
  return "";
}

TEST(Dispatcher, IsRefusedByName) {
  EXPECT_EQ(refused("tp=1,ep=16,dispatcher=deepep,ctas.ep=20"), "");
  EXPECT_EQ(refused("tp=1,ep=4,dispatcher=deepep"), "");
  EXPECT_EQ(refused(kLayout, {}, "steploom"), "deepep needs a runtime that has it");
  EXPECT_EQ(refused("tp=1,ep=1,dispatcher=deepep"), "deepep needs an exchange");
  EXPECT_EQ(refused("tp=2,sp=1,ep=16,dispatcher=deepep"), "deepep exchanges whole rows at once");
  EXPECT_EQ(refused("tp=1,ep=16,chunks=2,dispatcher=deepep"),
            "deepep exchanges whole rows at once");
  EXPECT_EQ(refused("tp=1,ep=12,dispatcher=deepep"), "deepep fills nodes");
  EXPECT_EQ(refused("tp=1,ep=16,dispatcher=deepep,ctas.ep=7"), "deepep takes pairs of SMs");
  EXPECT_EQ(refused("tp=1,ep=16,dispatcher=deepep,ctas.ep=64"), "deepep takes pairs of SMs");
  Workload w;
  w.precision = Precision::fp16;
  EXPECT_EQ(refused(kLayout, w), "deepep needs bf16");
  w = {};
  w.routing = parse_routing("power-law:1.2", "x");
  EXPECT_EQ(refused(kLayout, w), "deepep needs even experts");
  w.routing = parse_routing("balanced,nodes=4", "x");
  EXPECT_EQ(refused(kLayout, w), "");
}

// 20 SMs are DeepEP's own number; only NCCL's groups need a power of two.
TEST(Dispatcher, KeepsTheOtherRules) {
  const ModelSpec m = load_model("deepseek-v3");
  Workload w;
  w.global_batch = 64;
  const auto by = [&](const std::string& text) {
    const Layout l = parse_layout(text, kDevices, true);
    const auto refusal = refuse({m, w, l, kDevices, &runtime_named("megatron-core"), 8});
    return refusal ? std::string(refusal->rule) : "";
  };
  EXPECT_EQ(by("tp=1,ep=16,dispatcher=deepep,ctas.ep=20"), "");
  EXPECT_EQ(by("tp=1,ep=16,ctas.ep=20"), "ctas is a power of two up to 32");
  EXPECT_EQ(by("tp=1,ep=16,dispatcher=deepep,ctas.dp=20"), "ctas is a power of two up to 32");
}

constexpr const char* kFlags =
    "--num-layers 4 --hidden-size 512 --num-attention-heads 8 --seq-length 1024 --vocab-size 1000 "
    "--micro-batch-size 1 --global-batch-size 64 --num-experts 16 --moe-router-topk 2 "
    "--expert-model-parallel-size 8 --moe-token-dispatcher-type flex ";

MegatronQuestion read(const std::string& more) {
  return from_megatron(parse_megatron_shell(kFlags + more, "run.sh"), "run");
}

TEST(Dispatcher, FlagsOfMegatron) {
  using testing::HasSubstr;
  MegatronQuestion q = read("--bf16 --moe-deepep-num-sms 24");
  EXPECT_THAT(q.layout, HasSubstr(",dispatcher=deepep,ctas.ep=24"));
  EXPECT_THAT(q.not_modelled, testing::IsEmpty());
  EXPECT_THAT(q.notes, testing::IsEmpty());
  EXPECT_THAT(read("--bf16 --moe-enable-deepep").layout, HasSubstr(",dispatcher=deepep"));
  for (const std::string other : {"--bf16 --moe-flex-dispatcher-backend hybridep", "--fp16",
                                  "--bf16 --tensor-model-parallel-size 2 --sequence-parallel"}) {
    q = read(other);
    EXPECT_THAT(q.layout, testing::Not(HasSubstr("dispatcher"))) << other;
    EXPECT_THAT(q.notes, testing::Contains(HasSubstr("costed as an all-to-all"))) << other;
  }
}

TEST(Dispatcher, IsWrittenForMegatronAndReadAgain) {
  const ModelSpec m = load_model("deepseek-v3");
  Workload w;
  w.global_batch = 64;
  for (const char* text : {"tp=1,pp=4,ep=16,stages=Et*15|t*15|t*15|t*16L,dispatcher=deepep",
                           "tp=1,pp=1,ep=64,dispatcher=deepep,ctas.ep=24", "tp=1,pp=1,ep=64"}) {
    const Layout l = parse_layout(text, kDevices, true);
    const MegatronExport out = to_megatron(m, w, l, runtime_named("megatron-core"));
    EXPECT_EQ(to_text(parse_layout(from_megatron(out.args, m.name).layout, kDevices, true)),
              to_text(l));
    EXPECT_THAT(out.not_expressed, testing::Not(testing::Contains(testing::HasSubstr("CTAs"))));
  }
}

}  // namespace
}  // namespace steploom
