// What is written for Megatron-Core: it keeps Megatron's rules, and read again it is the same.
#include "models/to_megatron.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <initializer_list>
#include <random>
#include <tuple>
#include <vector>

#include "models/config_reader.h"
#include "models/error.h"
#include "models/from_megatron.h"
#include "models/layout_rules.h"
#include "models/megatron_flags.h"
#include "models/megatron_rules.h"
#include "models/parameters.h"
#include "tests/models/refusal.h"

namespace steploom {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kDevices = 64;

Workload work_of(const ModelSpec& m) {
  Workload w;
  w.seq_length = std::min<std::int64_t>(m.max_positions, 2048) / 64 * 64;
  w.global_batch = 256;
  return w;
}

// The same architecture, but for names and notes.
void expect_same(const ModelSpec& a, const ModelSpec& b) {
  EXPECT_EQ(a.hidden, b.hidden);
  EXPECT_EQ(a.layers, b.layers);
  EXPECT_EQ(a.vocab, b.vocab);
  EXPECT_EQ(a.max_positions, b.max_positions);
  EXPECT_EQ(a.tied_embeddings, b.tied_embeddings);
  EXPECT_EQ(a.learned_positions, b.learned_positions);
  EXPECT_EQ(a.norm_bias, b.norm_bias);
  EXPECT_EQ(a.mtp_modules, b.mtp_modules);
  EXPECT_EQ(a.layer_is_moe, b.layer_is_moe);
  const AttentionSpec &p = a.attention, &q = b.attention;
  EXPECT_EQ(p.kind, q.kind);
  EXPECT_EQ(std::tuple(p.heads, p.kv_heads, p.head_dim, p.v_head_dim),
            std::tuple(q.heads, q.kv_heads, q.head_dim, q.v_head_dim));
  EXPECT_EQ(std::tuple(p.qkv_bias, p.out_bias, p.qk_norm, p.rotary),
            std::tuple(q.qkv_bias, q.out_bias, q.qk_norm, q.rotary));
  EXPECT_EQ(std::tuple(p.q_lora_rank, p.kv_lora_rank, p.qk_nope_head_dim, p.qk_rope_head_dim),
            std::tuple(q.q_lora_rank, q.kv_lora_rank, q.qk_nope_head_dim, q.qk_rope_head_dim));
  ASSERT_EQ(a.has_moe(), b.has_moe());
  if (a.has_moe()) {
    const MoeSpec &e = *a.moe, &f = *b.moe;
    EXPECT_EQ(std::tuple(e.experts, e.top_k, e.shared_width, e.shared_gate, e.correction_bias),
              std::tuple(f.experts, f.top_k, f.shared_width, f.shared_gate, f.correction_bias));
    EXPECT_EQ(std::tuple(e.groups, e.top_groups, e.expert.width, e.expert.gated, e.expert.bias),
              std::tuple(f.groups, f.top_groups, f.expert.width, f.expert.gated, f.expert.bias));
  }
  EXPECT_EQ(count_parameters(a).total, count_parameters(b).total);
  EXPECT_EQ(count_parameters(a).active, count_parameters(b).active);
}

constexpr const char* kLayouts[] = {
    "tp=1,pp=1,zero=0",
    "tp=1,pp=1,ep=8,etp=1,zero=1",
    "tp=2,pp=2,ep=4,etp=1,sp=1,recompute=full",
    "tp=2,pp=2,sp=1,ep=4,etp=1,vpp=2,recompute=selective",
    "tp=4,pp=1,sp=1,etp=1,mbs=2,recompute=selective:core_attn+layernorm",
    "tp=1,pp=4,vpp=2,vpp_group=8,ep=2,etp=1,recompute=full:block:2",
    "tp=1,pp=1,cp=2,ep=4,etp=1",
    "tp=1,pp=1,cp=4,cp_comm=allgather,ep=2,etp=1,mbs=2",
    "tp=1,pp=1,cp=2,cp_comm=a2a",
    "tp=1,pp=1,zero=2,ep=2,etp=1",
    "tp=1,pp=1,zero=3,replicate=2",
    "tp=1,pp=1,zero=1,replicate=4",
    "tp=2,pp=1,sp=1,etp=2,ep=2,recompute=selective:moe_act",
    "tp=2,pp=1,sp=1,etp=1,ep=2,recompute=selective:mla_up_proj+shared_experts",
    "tp=1,pp=1,etp=1,ep=2,recompute=selective:moe_act+shared_experts",
};

// All shipped models in all layouts that keep the rules.
TEST(ToMegatron, ReadAgainItIsTheSameModelWorkloadAndLayout) {
  int written = 0, whole = 0;
  for (const std::string& name : model_names()) {
    const ModelSpec m = load_model(name);
    for (const char* text : kLayouts) {
      Layout layout;
      try {
        layout = parse_layout(text, kDevices, m.has_moe());
      } catch (const Error&) {
        continue;
      }
      const Workload w = work_of(m);
      const Runtime& runtime = runtime_named("megatron-core");
      if (refuse({m, w, layout, kDevices, &runtime})) continue;
      SCOPED_TRACE(name + " " + text);
      const MegatronExport out = to_megatron(m, w, layout, runtime);
      ++written;
      EXPECT_EQ(broken_megatron_rule({out.args, kDevices}), nullptr);
      EXPECT_THAT(MegatronRun(out.args).unknown(), IsEmpty());
      for (const MegatronArgs& again : {parse_megatron_shell(to_shell(out.args), "again"),
                                        parse_megatron_yaml(to_yaml(out.args), "again")}) {
        const MegatronQuestion q = from_megatron(again, name);
        EXPECT_EQ(to_text(parse_layout(q.layout, kDevices, m.has_moe())), to_text(layout));
        EXPECT_EQ(q.work.seq_length, w.seq_length);
        EXPECT_EQ(q.work.global_batch, w.global_batch);
        EXPECT_EQ(q.work.precision, w.precision);
        EXPECT_EQ(q.work.optimizer, w.optimizer);
        EXPECT_EQ(q.runtime.overlap_grad_reduce, runtime.overlap_grad_reduce);
        const bool all_said = std::all_of(out.not_expressed.begin(), out.not_expressed.end(),
                                          [](const std::string& item) {
                                            return item.starts_with("balanced routing") ||
                                                   item.starts_with("CUDA_DEVICE_MAX_CONNECTIONS");
                                          });
        if (!all_said) continue;
        ++whole;
        expect_same(m, q.model);
      }
    }
  }
  EXPECT_GT(written, 100);
  EXPECT_GT(whole, 100);
}

// Whatever keeps the rules of a layout keeps Megatron's, and is the same layout read again.
TEST(ToMegatron, DrawnLayoutsAreTakenByMegatron) {
  std::mt19937 draw(7);
  const auto one_of = [&draw](std::initializer_list<const char*> of) {
    return std::string(of.begin()[draw() % of.size()]);
  };
  std::vector<ModelSpec> models;
  for (const char* name :
       {"llama-3.1-8b", "mixtral-8x7b", "deepseek-v2-lite", "gpt2-s-moe", "qwen3-8b"})
    models.push_back(load_model(name));
  int taken = 0;
  for (int i = 0; i < 8000; ++i) {
    const ModelSpec& m = models[draw() % models.size()];
    const std::string tp = one_of({"1", "2", "4"});
    std::string text = "tp=" + tp + ",sp=" + (tp == "1" ? "0" : one_of({"0", "1", "1"})) +
                       ",pp=" + one_of({"1", "2", "4"}) + ",mbs=" + one_of({"1", "2"}) +
                       ",zero=" + one_of({"0", "1", "2", "3"}) + ",cp=" + one_of({"1", "1", "2"}) +
                       ",replicate=" + one_of({"1", "1", "2"}) + ",vpp=" + one_of({"1", "2", "3"});
    text += one_of({"", ",vpp_group=4", ",vpp_group=6"});
    text += one_of({"", ",cp_comm=a2a", ",cp_comm=allgather"});
    text += ",recompute=" + one_of({"none", "full", "full:block:2", "selective",
                                    "selective:layernorm", "selective:moe_act+moe"});
    if (m.has_moe())
      text += ",ep=" + one_of({"1", "2", "8"}) + ",etp=" + one_of({"1", "1", "2"}) +
              ",weave=" + one_of({"0", "0", "1"});
    const Layout layout = parse_layout(text, kDevices, m.has_moe());
    const Workload w = work_of(m);
    const Runtime& runtime = runtime_named("megatron-core");
    if (refuse({m, w, layout, kDevices, &runtime})) continue;
    ++taken;
    const MegatronExport out = to_megatron(m, w, layout, runtime);  // throws if a rule is broken
    const std::string again = from_megatron(out.args, m.name).layout;
    ASSERT_EQ(to_text(parse_layout(again, kDevices, m.has_moe())), to_text(layout)) << m.name;
  }
  EXPECT_GT(taken, 300);
}

TEST(ToMegatron, StagesAndPrecisionsAndPrediction) {
  const ModelSpec m = load_model("deepseek-v3-mtp");
  Workload w = work_of(m);
  w.precision = Precision::fp8_block;
  w.global_batch = 512;
  const Runtime& runtime = runtime_named("megatron-core");
  const Layout l =
      parse_layout("tp=1,pp=8,vpp=2,ep=8,etp=1,stages=Et*3|(t*4|)*13t*4|ttL", 256, true);
  const MegatronExport out = to_megatron(m, w, l, runtime);
  const MegatronRunFacts facts{out.args, 256};
  EXPECT_THAT(facts.text("pipeline-model-parallel-layout", ""), testing::EndsWith("mL"));
  EXPECT_EQ(broken_megatron_rule(facts), nullptr);
  const MegatronQuestion q = from_megatron(out.args, "deepseek-v3-mtp");
  EXPECT_EQ(to_text(parse_layout(q.layout, 256, true)), to_text(l));
  EXPECT_EQ(q.work.precision, Precision::fp8_block);
  expect_same(m, q.model);
}

MegatronExport written(const ModelSpec& m, const std::string& layout, const std::string& runtime,
                       Workload w) {
  return to_megatron(m, w, parse_layout(layout, kDevices, m.has_moe()), runtime_named(runtime));
}

TEST(ToMegatron, WhatIsNotExpressedIsSaidItemByItem) {
  const auto items = [](const std::string& model, const std::string& layout,
                        const std::string& runtime = "megatron-core") {
    const ModelSpec m = load_model(model);
    return written(m, layout, runtime, work_of(m)).not_expressed;
  };
  EXPECT_THAT(items("llama-3.1-8b", "tp=1,pp=1"), IsEmpty());
  EXPECT_THAT(items("mixtral-8x7b", "ep=8,etp=1,chunks=2", "steploom"),
              testing::AllOf(Contains(HasSubstr("chunks=2")), Contains(HasSubstr("steploom")),
                             Contains(HasSubstr("balanced routing"))));
  EXPECT_THAT(items("llama-3.1-8b", "tp=2,ctas=8"), Contains(HasSubstr("tp 8")));
  EXPECT_THAT(items("llama-3.1-8b", "zero=3,reshard=0"),
              testing::AllOf(Contains(HasSubstr("reshard=0")),
                             Contains(HasSubstr("CUDA_DEVICE_MAX_CONNECTIONS=1"))));
  EXPECT_THAT(items("gpt-oss-20b", "ep=8,etp=1"),
              testing::AllOf(Contains(HasSubstr("windows of 128")), Contains(HasSubstr("sinks")),
                             Contains(HasSubstr("router"))));
  EXPECT_THAT(items("opt-350m", "tp=1"), Contains(HasSubstr("embeddings 512 wide")));
}

TEST(ToMegatron, EnvironmentFollowsMegatronsRules) {
  const ModelSpec m = load_model("llama-3.1-8b");
  const auto connections = [&](const std::string& layout, const std::string& runtime) {
    const MegatronExport out = written(m, layout, runtime, work_of(m));
    return MegatronRunFacts{out.args, kDevices}.environment("CUDA_DEVICE_MAX_CONNECTIONS");
  };
  EXPECT_EQ(connections("tp=2,sp=1", "megatron-core"), "1");
  EXPECT_EQ(connections("tp=2,sp=1", "steploom"), "1");
  EXPECT_EQ(connections("tp=1", "steploom"), "32");
  EXPECT_EQ(connections("zero=3", "megatron-core"), "32");
  const MegatronExport woven = written(load_model("mixtral-8x7b"), "tp=2,sp=1,etp=1,ep=8,weave=1",
                                       "megatron-core", work_of(load_model("mixtral-8x7b")));
  EXPECT_EQ((MegatronRunFacts{woven.args, kDevices}.environment("CUDA_DEVICE_MAX_CONNECTIONS")),
            "32");
}

TEST(ToMegatron, WhatMegatronRefusesIsRefused) {
  const ModelSpec dense = load_model("llama-3.1-8b"), moe = load_model("mixtral-8x7b");
  Workload w = work_of(dense);
  w.precision = Precision::tf32;
  EXPECT_THAT(refusal([&] { (void)written(dense, "tp=1", "megatron-core", w); }).found, "tf32");
  w.precision = Precision::fp16;
  EXPECT_EQ(refusal([&] { (void)written(moe, "ep=8,etp=1", "megatron-core", w); }).place,
            "ep without fp16");
}

TEST(ToMegatron, ExpertLayers) {
  EXPECT_EQ(expert_layers_text({true, true}), "1");
  EXPECT_EQ(expert_layers_text({false, true, true, false}), "([0]*1+[1]*2+[0]*1)");
  for (const auto& layers : {std::vector<bool>{false, true, true, false}, {true, false}})
    EXPECT_EQ(expert_layers(expert_layers_text(layers), static_cast<int>(layers.size()), 100),
              layers);
}

}  // namespace
}  // namespace steploom
