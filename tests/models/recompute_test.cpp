// Recomputation: its text form, and what each kind keeps and runs again.
#include "models/recompute.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "models/chunk_builder.h"
#include "models/config_reader.h"
#include "models/error.h"
#include "models/layout_rules.h"

namespace steploom {
namespace {

TEST(Recompute, TextReadsBack) {
  for (const char* text :
       {"none", "full", "full:uniform:2", "full:block:3", "full:block:1", "selective",
        "selective:layernorm", "selective:core_attn+moe_act", "selective:layernorm+mlp+moe",
        "selective:mla_up_proj", "selective:core_attn+mla_up_proj+shared_experts"}) {
    const RecomputeChoice c = parse_recompute(text);
    EXPECT_EQ(to_text(c.what, c.detail), text);
  }
  EXPECT_EQ(parse_recompute("full:uniform:1").detail, parse_recompute("full").detail);
  EXPECT_EQ(parse_recompute("selective:core_attn").detail, parse_recompute("selective").detail);
  for (const char* text :
       {"", "all", "none:1", "full:2", "full:rows:2", "full:block:0", "full:block:x",
        "selective:", "selective:attention", "selective:moe+moe", "selective:mlp:2"})
    EXPECT_THROW(parse_recompute(text), Error) << text;
}

struct Passes {
  ModelSpec model;
  Chunk chunk;
};

Passes passes(const char* model, const std::string& layout, int devices,
              const char* runtime = "megatron-core") {
  ModelSpec m = load_model(model);
  const Layout l = parse_layout(layout, devices, m.has_moe());
  Chunk c = build_chunk(m, Workload{2048, 8, Precision::bf16}, l, runtime_named(runtime),
                        stage_span(m, l, 0));
  return {std::move(m), std::move(c)};
}

template <class Visit>
void each_op(const OpGraph& g, const Visit& visit) {
  for (OpId op = 0; op < g.size(); ++op) visit(g.node(op));
}

// What the forward pass of a layer leaves for the backward pass.
Bytes kept(const Passes& p, int layer) {
  std::set<TensorId> written, saved;
  each_op(p.chunk.forward, [&](const OpNode& n) {
    if (n.layer == layer) written.insert(n.writes.begin(), n.writes.end());
  });
  each_op(p.chunk.backward, [&](const OpNode& n) {
    for (const TensorId t : n.reads)
      if (written.count(t)) saved.insert(t);
  });
  Bytes sum = 0;
  for (const TensorId t : saved) sum += p.chunk.tensors[t].bytes;
  return sum;
}

std::map<std::string, int> again(const Passes& p, int layer) {
  std::map<std::string, int> names;
  each_op(p.chunk.backward, [&](const OpNode& n) {
    if (n.recompute && n.layer == layer) ++names[n.name];
  });
  return names;
}

using Names = std::map<std::string, int>;
constexpr Bytes kRow = 2 * 2048;  // bf16, tokens

TEST(SelectiveRecompute, ModulesOfADenseLayer) {
  const Bytes h = 4096, f = 11008;
  const Bytes all = kept(passes("llama-2-7b", "tp=1", 1), 5);
  const Passes norms = passes("llama-2-7b", "tp=1,recompute=selective:layernorm", 1);
  EXPECT_EQ(again(norms, 5), (Names{{"attention norm", 1}, {"ffn norm", 1}}));
  EXPECT_EQ(all - kept(norms, 5), kRow * 2 * h);
  const Passes mlp = passes("llama-2-7b", "tp=1,recompute=selective:mlp", 1);
  EXPECT_EQ(again(mlp, 5), (Names{{"ffn up", 1}, {"ffn activation", 1}, {"ffn down", 1}}));
  EXPECT_EQ(all - kept(mlp, 5), kRow * 3 * f);
  // One fused kernel: the output is kept for the product after it, and nothing else is there to
  // free.
  const Passes core = passes("llama-2-7b", "tp=1,recompute=selective", 1);
  EXPECT_EQ(again(core, 5), (Names{{"attention", 1}}));
  EXPECT_EQ(kept(core, 5), all);
}

TEST(SelectiveRecompute, ModulesOfAnExpertLayer) {
  const char* base = "tp=1,ep=8";
  const Bytes rows = 2 * kRow, f = 14336;  // top-2
  const Bytes all = kept(passes("mixtral-8x7b", base, 8), 5);
  const Passes act = passes("mixtral-8x7b", std::string(base) + ",recompute=selective:moe_act", 8);
  EXPECT_EQ(again(act, 5), (Names{{"experts activation", 1}}));
  EXPECT_EQ(all - kept(act, 5), rows * f);
  const Passes moe = passes("mixtral-8x7b", std::string(base) + ",recompute=selective:moe", 8);
  Names whole;
  each_op(moe.chunk.forward, [&](const OpNode& n) {
    if (n.layer == 5) ++whole[n.name];
  });
  for (const char* not_moe : {"attention norm", "qkv", "rotary", "attention", "attention out",
                              "attention residual", "ffn norm", "ffn residual"})
    whole.erase(not_moe);
  EXPECT_EQ(again(moe, 5), whole);
  EXPECT_GT(whole["dispatch"] + whole["combine"], 1);
  EXPECT_EQ(kept(moe, 5),
            kRow * (4 * 4096 + 4096 + 2 * 1024 + 4096));  // x, mid, 2 normed; qkv, out
}

double flops(const OpGraph& g) {
  double sum = 0;
  each_op(g, [&](const OpNode& n) { sum += n.work.flops; });
  return sum;
}

// Of the up projections' part the two down projections are kept; both norms, both products, the
// rotary embedding and the gathers of the latents' shards run again.
TEST(SelectiveRecompute, UpProjectionsOfLatentAttention) {
  const double tokens = 2048;
  for (const int tp : {1, 2}) {
    const std::string base = tp == 1 ? "tp=1,ep=8,etp=1" : "tp=2,sp=1,ep=8,etp=1";
    const Passes all = passes("deepseek-v3", base, 16);
    const Passes up = passes("deepseek-v3", base + ",recompute=selective:mla_up_proj", 16);
    Names expected{
        {"q latent norm", 1}, {"q up", 1}, {"kv latent norm", 1}, {"kv up", 1}, {"rotary", 1}};
    if (tp > 1) expected["q latent gather"] = expected["kv latent gather"] = 1;
    EXPECT_EQ(again(up, 5), expected);
    // 128 heads: q and k of 128 + 64, v of 128; ranks 1536 and 512, the shared key's 64 elements.
    const Bytes qkv = 128 * (192 + 192 + 128) / tp, latents = (1536 + 512 + 64) / tp;
    EXPECT_EQ(kept(all, 5) - kept(up, 5), kRow * (qkv + latents));
    const double q = 2 * tokens * 1536 * 128 * 192 / tp;
    const double kv = 2 * tokens * 512 * 128 * (128 + 128) / tp;
    EXPECT_DOUBLE_EQ(flops(up.chunk.backward) - flops(all.chunk.backward), 61 * (q + kv));
    EXPECT_DOUBLE_EQ(flops(up.chunk.forward), flops(all.chunk.forward));
  }
  // Before the kernel that reads them; core attention runs again on what they made.
  const Passes both = passes("deepseek-v3", "tp=1,recompute=selective:core_attn+mla_up_proj", 1);
  std::vector<std::string> order;
  each_op(both.chunk.backward, [&](const OpNode& n) {
    if (n.layer == 5 && (n.name == "rotary" || n.name == "attention"))
      order.push_back(n.name + (n.recompute ? " again" : ""));
  });
  EXPECT_EQ(order,
            (std::vector<std::string>{"rotary again", "attention again", "attention", "rotary"}));
}

// Without a latent of the queries their projection starts at the layer's normed input.
TEST(SelectiveRecompute, UpProjectionsOfWholeQueries) {
  const Passes all = passes("deepseek-v2-lite", "tp=1", 1);
  const Passes up = passes("deepseek-v2-lite", "tp=1,recompute=selective:mla_up_proj", 1);
  EXPECT_EQ(again(up, 5), (Names{{"q", 1}, {"kv latent norm", 1}, {"kv up", 1}, {"rotary", 1}}));
  EXPECT_EQ(kept(all, 5) - kept(up, 5), kRow * (16 * (192 + 192 + 128) + 512 + 64));
}

// The shared expert keeps the normed input, which the router needs anyway.
TEST(SelectiveRecompute, SharedExperts) {
  const Bytes f = 2048;
  const Passes all = passes("deepseek-v3", "tp=1,ep=8", 8);
  const Passes shared = passes("deepseek-v3", "tp=1,ep=8,recompute=selective:shared_experts", 8);
  const Names expected{
      {"shared expert up", 1}, {"shared expert activation", 1}, {"shared expert down", 1}};
  EXPECT_EQ(again(shared, 5), expected);
  EXPECT_TRUE(again(shared, 1).empty());  // dense
  EXPECT_EQ(kept(all, 5) - kept(shared, 5), kRow * 3 * f);
  EXPECT_DOUBLE_EQ(flops(shared.chunk.backward) - flops(all.chunk.backward),
                   58 * 2.0 * 2048 * 3 * 7168 * 2048);
  // Gated: its output before the gate and the gate's logit go too. Inside `moe` once more.
  const Passes gated = passes("qwen2-57b-a14b", "tp=1,ep=8", 8);
  const Passes freed = passes("qwen2-57b-a14b", "tp=1,ep=8,recompute=selective:shared_experts", 8);
  EXPECT_EQ(kept(gated, 5) - kept(freed, 5), kRow * (3 * 20480 + 3584 + 1));
  const Passes nested =
      passes("deepseek-v3", "tp=1,ep=8,recompute=selective:moe+shared_experts", 8);
  EXPECT_EQ(again(nested, 5)["shared expert up"], 2);
}

// Groups of n layers keep one input each; every layer runs again once.
TEST(FullRecompute, UniformAndBlock) {
  const Passes none = passes("llama-2-7b", "tp=1", 1);
  const Passes one = passes("llama-2-7b", "tp=1,recompute=full", 1);
  const Passes groups = passes("llama-2-7b", "tp=1,recompute=full:uniform:5", 1);  // 32 = 6·5 + 2
  const Passes block = passes("llama-2-7b", "tp=1,recompute=full:block:3", 1);
  const auto all_kept = [](const Passes& p) {
    Bytes sum = 0;
    for (int layer = 0; layer < 32; ++layer) sum += kept(p, layer);
    return sum;
  };
  EXPECT_DOUBLE_EQ(flops(groups.chunk.backward), flops(one.chunk.backward));
  const Bytes x = kRow * 4096;
  // A layer's input is written by the layer before: the embedding's and the head's are not counted.
  EXPECT_EQ(all_kept(one), 31 * x + x);
  EXPECT_EQ(all_kept(groups), 6 * x + x);  // + x: the head's input
  const Bytes whole = kept(none, 5);
  EXPECT_EQ(all_kept(block), 2 * x + 29 * whole + x);
  Names third, fourth;
  third = again(block, 2);
  fourth = again(block, 3);
  EXPECT_EQ(third["ffn up"], 1);
  EXPECT_TRUE(fourth.empty());
}

TEST(RecomputeRules, PartsMustExist) {
  const ModelSpec dense = load_model("llama-2-7b"), experts = load_model("mixtral-8x7b");
  const auto rule = [](const ModelSpec& m, const char* text) {
    const Layout l = parse_layout(text, 8, m.has_moe());
    const auto refused = refuse({m, Workload{}, l, 8});
    return refused ? std::string(refused->rule) : "";
  };
  EXPECT_EQ(rule(dense, "recompute=selective:moe_act"), "recomputed parts exist");
  EXPECT_EQ(rule(experts, "recompute=selective:mlp"), "recomputed parts exist");
  EXPECT_EQ(rule(dense, "recompute=full:block:33"), "recomputed parts exist");
  EXPECT_EQ(rule(dense, "recompute=full:block:32"), "");
  EXPECT_EQ(rule(experts, "recompute=selective:core_attn+moe_act+layernorm"), "");
  EXPECT_EQ(rule(experts, "recompute=selective:shared_experts"), "recomputed parts exist");
  EXPECT_EQ(rule(dense, "recompute=selective:shared_experts"), "recomputed parts exist");
  EXPECT_EQ(rule(experts, "recompute=selective:mla_up_proj"), "mla_up_proj needs latent attention");
  const ModelSpec latent = load_model("deepseek-v2-lite");
  EXPECT_EQ(rule(latent, "recompute=selective:mla_up_proj+shared_experts+mlp"), "");
}

}  // namespace
}  // namespace steploom
