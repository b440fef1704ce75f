#include "models/eager_kernels.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "models/chunk_builder.h"
#include "models/layout_rules.h"
#include "models/parameters.h"
#include "tests/models/small_configs.h"

namespace steploom {
namespace {

const Runtime& eager() {
  return runtime_named("torch-eager");
}

// 64 wide, 8 heads of 8, 2 of keys, 160 wide feed-forward, vocabulary of 1000.
ModelSpec llama() {
  return read(kLlama);
}

// One sequence of 128 tokens.
Workload small(std::int64_t batch = 1) {
  Workload w;
  w.seq_length = 128;
  w.global_batch = batch;
  w.optimizer = Optimizer::adamw_foreach;
  return w;
}

Layout one_rank(const std::string& more = "") {
  return parse_layout("tp=1,zero=0,mbs=1" + more, 1, false);
}

Chunk chunk_of(const ModelSpec& m, const Workload& w, const Layout& l) {
  return std::move(build_chunks(m, w, l, eager(), {stage_span(m, l, 0)}).front());
}

std::vector<std::string> names(const OpGraph& g, int layer) {
  std::vector<std::string> all;
  for (OpId op = 0; op < g.size(); ++op)
    if (g.node(op).layer == layer) all.push_back(g.node(op).name);
  return all;
}

std::map<std::string, Bytes> bytes_by_name(const OpGraph& g, int layer) {
  std::map<std::string, Bytes> sum;
  for (OpId op = 0; op < g.size(); ++op)
    if (g.node(op).layer == layer) sum[g.node(op).name] += g.node(op).work.bytes;
  return sum;
}

// As the profiler lists the kernels of a block (profiler/torch_parts.py), without fills of
// workspaces: 24 forward.
TEST(EagerKernels, ForwardOfABlock) {
  const Chunk c = chunk_of(llama(), small(), one_rank());
  const std::vector<std::string> turned{"rotary · neg", "rotary · cat", "rotary · mul",
                                        "rotary · mul", "rotary · add"};
  std::vector<std::string> expected{"attention norm", "q", "k", "v"};
  for (int i = 0; i < 2; ++i) expected.insert(expected.end(), turned.begin(), turned.end());
  for (const char* name :
       {"attention", "attention out", "attention residual", "ffn norm", "ffn gate", "ffn up",
        "ffn activation · silu", "ffn activation · mul", "ffn down", "ffn residual"})
    expected.emplace_back(name);
  EXPECT_EQ(names(c.forward, 1), expected);
}

// Backward 45: two a norm and a product, nine for each of q and k, one sum for each second use.
TEST(EagerKernels, BackwardOfABlock) {
  const Chunk c = chunk_of(llama(), small(), one_rank());
  const auto list = names(c.backward, 1);
  EXPECT_EQ(list.size(), 45U);
  std::map<std::string, int> times;
  for (const std::string& name : list) ++times[name];
  EXPECT_EQ(times["rotary · add"], 4);
  EXPECT_EQ(times["rotary · fill"], 4);
  EXPECT_EQ(times["q"], 2);  // of its input and of its weights
  EXPECT_EQ(times["k input gradient sum"] + times["v input gradient sum"] +
                times["ffn up input gradient sum"],
            3);
  EXPECT_EQ(times["attention norm weights"], 1);
  EXPECT_EQ(times["ffn residual"] + times["attention residual"], 2);
}

// By hand, of 128 tokens in 2 bytes: hidden 64, q 64 and k 16 wide, feed-forward 160.
TEST(EagerKernels, BytesOfABlock) {
  const Chunk c = chunk_of(llama(), small(), one_rank());
  auto f = bytes_by_name(c.forward, 1);
  EXPECT_EQ(f["attention norm"], 128 * 64 * 2 * 2);
  EXPECT_EQ(f["rotary · neg"], 128 * (64 + 16) * 2);  // half is read and written
  EXPECT_EQ(f["rotary · cat"], 128 * (64 + 16) * 4);
  EXPECT_EQ(f["rotary · mul"], 2 * 128 * (64 + 16) * 4);
  EXPECT_EQ(f["rotary · add"], 128 * (64 + 16) * 6);
  EXPECT_EQ(f["ffn activation · silu"], 128 * 160 * 4);
  EXPECT_EQ(f["ffn activation · mul"], 128 * 160 * 6);
  auto b = bytes_by_name(c.backward, 1);
  // The bytes that profiler/asks.cpp counts of the same operators: rotary 30 an element, SwiGLU 18,
  // RMSNorm's one kernel and the sum of its weights' gradient 10.
  Bytes rotary = 0, swiglu = 0, norm = 0;
  for (const auto& [name, bytes] : b) {
    if (name.starts_with("rotary")) rotary += bytes;
    if (name.starts_with("ffn activation")) swiglu += bytes;
    if (name.starts_with("ffn norm")) norm += bytes;
  }
  EXPECT_EQ(rotary, 30 * 128 * (64 + 16));
  EXPECT_EQ(swiglu, 18 * 128 * 160);
  EXPECT_EQ(norm, 10 * 128 * 64);
  // Cross-entropy in fp32: 14 an element forward and 22 backward, and what nll_loss picks.
  const auto loss = [](const OpGraph& g) {
    Bytes sum = 0;
    for (OpId op = 0; op < g.size(); ++op)
      if (g.node(op).work.kind == OpKind::cross_entropy) sum += g.node(op).work.bytes;
    return sum;
  };
  const std::int64_t logits = 128 * padded_vocab(1000, 1);
  EXPECT_EQ(loss(c.forward), 14 * logits + 12 * 128);
  EXPECT_EQ(loss(c.backward), 22 * logits + 12 * 128);
}

// What a layer leaves for its backward pass, a token, in 2 bytes: its input and the middle (64
// each), two normed inputs (64 each), q and k turned, v, what attention gives (64 + 16 + 16 + 64),
// gate, its silu, up and their product (160 each); in 4 bytes two norms' statistics and a sum a
// head.
TEST(EagerKernels, SavesWhatAutogradSaves) {
  const ModelSpec m = llama();
  const Chunk c = chunk_of(m, small(), one_rank());
  std::vector<bool> written(c.tensors.size(), false), read(c.tensors.size(), false);
  std::vector<int> layer(c.tensors.size(), -2);
  for (OpId op = 0; op < c.forward.size(); ++op)
    for (const TensorId t : c.forward.node(op).writes) {
      written[t] = true;
      layer[t] = c.forward.node(op).layer;
    }
  for (OpId op = 0; op < c.backward.size(); ++op)
    for (const TensorId t : c.backward.node(op).reads) read[t] = true;
  std::map<int, Bytes> saved;
  for (TensorId t = 0; t < c.tensors.size(); ++t)
    if (written[t] && read[t] && c.tensors[t].scope == TensorScope::micro_batch)
      saved[layer[t]] += c.tensors[t].bytes;
  EXPECT_EQ(saved[1], 128 * (2 * (4 * 64 + 64 + 16 + 16 + 64 + 4 * 160) + 4 * (1 + 1 + 8)));
  // The head: final norm and its statistics, logits that the caller holds, log-softmax in fp32.
  const std::int64_t vocab = padded_vocab(1000, 1);
  EXPECT_EQ(saved[m.layers], 128 * (2 * 64 + 4 + 2 * vocab + 4 * vocab));
}

// Weight gradients are bf16 and added to nothing in a step's only micro-batch.
TEST(EagerKernels, GradientsAreAddedFromTheSecondMicroBatchOn) {
  const auto sums = [](const Workload& w) {
    const Chunk c = chunk_of(llama(), w, one_rank());
    Bytes bytes = 0;
    for (OpId op = 0; op < c.backward.size(); ++op) {
      const OpNode& n = c.backward.node(op);
      if (n.work.kind == OpKind::matmul && n.work.phase == Phase::weight_grad) {
        EXPECT_TRUE(n.work.fresh) << n.name;
      }
      if (n.layer == 1 && n.name.ends_with("gradient sum") && n.work.phase == Phase::weight_grad)
        bytes += n.work.bytes;
    }
    return bytes;
  };
  EXPECT_EQ(sums(small(1)), 0);
  const Bytes weights = 64 * (64 + 16 + 16) + 64 * 64 + 3 * 64 * 160;
  EXPECT_EQ(sums(small(2)), 6 * (weights + 2 * 64));
}

// Arithmetic is that of the fused runtimes: only the number of its kernels differs.
TEST(EagerKernels, FlopsAreThoseOfTheModel) {
  for (const char* name : {"llama-3.1-8b", "gpt2", "qwen3-8b", "opt-125m"}) {
    const ModelSpec m = load_model(name);
    Workload w = small();
    w.seq_length = 512;
    const Layout l = one_rank();
    const auto flops = [&](const Runtime& r) {
      const Chunk c = build_chunk(m, w, l, r, stage_span(m, l, 0));
      double sum = 0;
      for (const OpGraph* g : {&c.forward, &c.backward})
        for (OpId op = 0; op < g->size(); ++op) sum += g->node(op).work.flops;
      return sum;
    };
    EXPECT_EQ(flops(eager()), flops(runtime_named("megatron-core"))) << name;
  }
}

// The optimizer works on bf16 parameters and moments, after clip_grad_norm_; nothing is set to
// zero.
TEST(EagerKernels, OptimizerOnTheParametersThemselves) {
  const ModelSpec m = llama();
  const Layout l = one_rank();
  const Chunk c = chunk_of(m, small(), l);
  auto bytes = bytes_by_name(c.optimizer, -1);
  ASSERT_EQ(c.optimizer.size(), 3U);
  const std::int64_t n = parameters_of(m, l, {stage_span(m, l, 0)}).total();
  EXPECT_EQ(bytes["gradient norm"], 2 * n);
  EXPECT_EQ(bytes["gradient clip"], 4 * n);
  EXPECT_EQ(bytes["adamw-foreach"], (18 + 2) * 2 * n);
  // Tensor by tensor it is as much, in parts that run beside what is issued next.
  Workload loop = small();
  loop.optimizer = Optimizer::adamw_loop;
  const Chunk one_by_one = chunk_of(m, loop, l);
  EXPECT_EQ(one_by_one.optimizer.size(), 2U + 3 + 1);
  EXPECT_EQ(bytes_by_name(one_by_one.optimizer, -1)["adamw-loop"], (18 + 2) * 2 * n);
  // 9 tensors a layer, embedding, last norm and head; GPT-2 has biases, and a tied head.
  EXPECT_EQ(parameter_tensors(m, stage_span(m, l, 0)), 3 * 9 + 3);
  const ModelSpec gpt = load_model("gpt2");
  EXPECT_EQ(parameter_tensors(gpt, stage_span(gpt, l, 0)), 12 * 12 + 4);
}

// What it cannot run is refused by name, whatever else is right.
TEST(EagerKernels, RefusesByName) {
  const Workload w = small(8);
  const auto rule = [&](const char* model, const char* layout, int devices, Workload work) {
    const ModelSpec m = load_model(model);
    const Layout l = parse_layout(layout, devices, m.has_moe());
    const auto refusal = refuse({m, work, l, devices, &eager()});
    return refusal ? refusal->message : "";
  };
  EXPECT_EQ(rule("llama-3.1-8b", "tp=1,zero=0", 1, w), "");
  EXPECT_EQ(rule("llama-3.1-8b", "tp=1,zero=1", 1, w), "");  // the default, where nothing is shared
  EXPECT_EQ(rule("llama-3.1-8b", "tp=1,zero=3", 4, w), "");
  EXPECT_EQ(rule("llama-3.1-8b", "tp=1,zero=1", 4, w),
            "zero=1, which the runtime torch-eager cannot run; zero may be 0, 3");
  EXPECT_EQ(rule("llama-3.1-8b", "tp=2,zero=0", 4, w),
            "tp=2, which the runtime torch-eager cannot run; tp must be 1");
  EXPECT_EQ(rule("llama-3.1-8b", "tp=1,cp=2,zero=0", 4, w),
            "cp=2, which the runtime torch-eager cannot run; cp must be 1");
  EXPECT_EQ(rule("mixtral-8x7b", "tp=1,zero=0", 1, w),
            "mixtral-8x7b has experts, which the runtime torch-eager cannot run");
  EXPECT_EQ(rule("mistral-7b", "tp=1,zero=0", 1, w), "");
  EXPECT_EQ(rule("opt-350m", "tp=1,zero=0", 1, w),
            "opt-350m has a narrow embedding, which the runtime torch-eager cannot run");
  Workload fp8 = w;
  fp8.precision = Precision::fp8;
  EXPECT_EQ(rule("llama-3.1-8b", "tp=1,zero=0", 1, fp8),
            "llama-3.1-8b has 8-bit products, which the runtime torch-eager cannot run");
}

}  // namespace
}  // namespace steploom
