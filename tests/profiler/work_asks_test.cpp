// From the operators of a model's step to asks and back.
#include "profiler/work_asks.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "models/chunk_builder.h"
#include "models/config_reader.h"
#include "models/runtime.h"
#include "models/shapes.h"
#include "sim/profile_points.h"

namespace steploom {
namespace {

struct Count {
  int asked = 0;
  int without = 0;
};

// Every operator of a model's only stage; those with an ask must be found again by its point.
std::map<std::string, Count> count_asks(const std::string& name, const std::string& layout_text,
                                        Precision precision = Precision::bf16) {
  const ModelSpec model = load_model(name);
  const Layout layout = parse_layout(layout_text, 8, model.has_moe());
  Workload work;
  work.seq_length = 1024;
  work.global_batch = 64;
  work.precision = precision;
  const StageSpan span{0, model.layers, true, true, false, false};
  const Chunk chunk = build_chunk(model, work, layout, runtime_named("megatron-core"), span);
  std::map<std::string, Count> counts;
  for (const OpGraph* graph : {&chunk.forward, &chunk.backward, &chunk.optimizer})
    for (OpId op = 0; op < graph->size(); ++op) {
      const Work& w = graph->node(op).work;
      Count& count = counts[std::string(name_of(w.kind)) + " " + std::string(name_of(w.phase))];
      const auto ask = ask_of(w, model);
      ++(ask ? count.asked : count.without);
      if (!ask) continue;
      EXPECT_EQ(point_key(operator_of(*ask)), point_key(w)) << to_text(*ask);
      EXPECT_EQ(parse_asks(to_text(*ask), "text")[0], *ask);
    }
  return counts;
}

TEST(WorkAsks, EveryKernelOfTheseModelsCanBeAsked) {
  for (const auto& [model, layout] : {std::pair{"mixtral-8x7b", "tp=2,pp=1,ep=4,sp=1,mbs=1"},
                                      {"llama-3.1-8b", "tp=2,pp=1,sp=1,mbs=2"},
                                      {"gpt2-xl", "tp=1,pp=1,mbs=1"}}) {
    int asked = 0;
    for (const auto& [kind, count] : count_asks(model, layout)) {
      asked += count.asked;
      const bool kernel = kind.find("all_") != 0 && kind.find("reduce_scatter") != 0;
      if (!kernel) {
        EXPECT_EQ(count.asked, 0) << model << " " << kind;
      } else if (kind.find("embedding forward") != 0) {  // gpt2 has two tables
        EXPECT_EQ(count.without, 0) << model << " " << kind;
      }
    }
    EXPECT_GT(asked, 100) << model;
  }
}

// What runtimes keep for the backward pass differs, the kernels that stand for it do not: a router,
// a loss and an unpermute are known by the same key in both graphs.
TEST(WorkAsks, AnOperatorIsOneInEveryRuntimesGraph) {
  const ModelSpec model = load_model("mixtral-8x7b");
  const Layout layout = parse_layout("tp=1,pp=1,ep=8,mbs=1", 8, true);
  Workload work;
  work.seq_length = 1024;
  work.global_batch = 64;
  const StageSpan span{0, model.layers, true, true, false, false};
  const auto keys = [&](const char* runtime) {
    std::map<std::string, PointKey> found;
    const Chunk chunk = build_chunk(model, work, layout, runtime_named(runtime), span);
    for (const OpGraph* graph : {&chunk.forward, &chunk.backward})
      for (OpId op = 0; op < graph->size(); ++op) {
        const Work& w = graph->node(op).work;
        if (w.kind != OpKind::router && w.kind != OpKind::unpermute &&
            w.kind != OpKind::cross_entropy)
          continue;
        EXPECT_TRUE(ask_of(w, model)) << runtime << " " << name_of(w.kind);
        found[std::string(name_of(w.kind)) + " " + std::string(name_of(w.phase))] = point_key(w);
      }
    return found;
  };
  const auto megatron = keys("megatron-core");
  EXPECT_EQ(megatron.size(), 6U);
  EXPECT_EQ(megatron, keys("steploom"));
}

// Over slices of the vocabulary the loss ends with sums of a number or two a token, which no kernel
// of ours is asked for.
TEST(WorkAsks, ASumOfTheLossIsNoLoss) {
  const ModelSpec llama = load_model("llama-3.1-8b");
  Work w = streaming(OpKind::cross_entropy, Phase::forward, Precision::bf16, 4096, 64128, 1);
  w.bytes = 2 * w.m * w.n;
  EXPECT_TRUE(ask_of(w, llama));
  w.n = 2;
  w.bytes = 24 * w.m;
  EXPECT_FALSE(ask_of(w, llama));
}

TEST(WorkAsks, LatentAttentionIsAskedWithBothWidths) {
  const auto counts = count_asks("deepseek-v3", "tp=2,pp=1,ep=4,sp=1,mbs=1");
  for (const char* attention : {"attention forward", "attention data_grad"}) {
    EXPECT_GT(counts.at(attention).asked, 0) << attention;
    EXPECT_EQ(counts.at(attention).without, 0) << attention;
  }
}

TEST(WorkAsks, TheModelSaysWhichKernel) {
  const ModelSpec llama = load_model("llama-3.1-8b"), gpt2 = load_model("gpt2-xl");
  const auto norm_of = [](std::int64_t statistics) {
    Work w;
    w.kind = OpKind::norm;
    w.k = statistics;
    w.m = 1024;
    w.n = 4096;
    w.bytes = 4 * 1024 * 4096;
    return w;
  };
  const Work norm = norm_of(1);
  EXPECT_EQ(to_text(*ask_of(norm, llama)), "norm forward 1024 4096 0 1 even steploom-rms");
  EXPECT_EQ(to_text(*ask_of(norm_of(2), gpt2)), "norm forward 1024 4096 0 1 even steploom-layer");
  // A kernel that moves other bytes is another kernel.
  Work other = norm;
  other.bytes *= 2;
  EXPECT_FALSE(ask_of(other, llama));
}

TEST(WorkAsks, Fp16HasNone) {
  for (const auto& [kind, count] : count_asks("llama-3.1-8b", "tp=1,pp=1,mbs=1", Precision::fp16))
    EXPECT_EQ(count.asked, 0) << kind;
}

}  // namespace
}  // namespace steploom
