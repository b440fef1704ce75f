#include "models/chunk_builder.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "models/config_reader.h"
#include "models/flops.h"
#include "models/parameters.h"

namespace steploom {
namespace {

struct Case {
  const char* model;
  const char* layout;
  int devices;
};

Layout layout_of(const Case& c, const ModelSpec& m) {
  return parse_layout(c.layout, c.devices, m.has_moe());
}

template <class Visit>
void each_op(const OpGraph& g, const Visit& visit) {
  for (OpId op = 0; op < g.size(); ++op) visit(g.node(op));
}

// FLOPs of one micro-batch on one rank of every stage, by what is counted.
struct Counted {
  double products = 0;   // matmul and grouped, routers apart
  double attention = 0;  // forward only
};

Counted count(const ModelSpec& m, const Workload& w, const Layout& l) {
  Counted sum;
  for (int s = 0; s < l.pp; ++s) {
    const Chunk chunk = build_chunk(m, w, l, runtime_named("megatron-core"), stage_span(m, l, s));
    for (const OpGraph* g : {&chunk.forward, &chunk.backward})
      each_op(*g, [&](const OpNode& n) {
        if (n.recompute || n.name == "router") return;
        if (n.work.kind == OpKind::attention && n.work.phase == Phase::forward)
          sum.attention += n.work.flops;
        if (n.work.kind == OpKind::matmul || n.work.kind == OpKind::grouped_matmul)
          sum.products += n.work.flops;
      });
  }
  return sum;
}

// "name, name, ..." of the operators of a layer from the first `from` to the last `to`.
std::string names_of(const OpGraph& g, int layer, const std::string& from, const std::string& to) {
  std::string all, upto;
  each_op(g, [&](const OpNode& n) {
    if (n.layer != layer || (all.empty() && n.name != from)) return;
    all += (all.empty() ? "" : ", ") + n.name;
    if (n.work.phase == Phase::weight_grad) all += " W";
    if (n.name == to) upto = all;
  });
  return upto;
}

Chunk layer_in_chunks(int chunks, const char* layout = "tp=1,ep=16") {
  ModelSpec m = load_model("deepseek-v3");
  m.layers = 4;  // of which the last has experts
  m.layer_is_moe.resize(4);
  Layout l = parse_layout(layout, 16, true);
  l.chunks = chunks;
  Workload w;
  w.seq_length = 4096;
  return build_chunk(m, w, l, runtime_named("steploom"), stage_span(m, l, 0));
}

// Every dispatch is issued before the first combine, a shared expert in between; the experts'
// weight gradients after all of their data gradients.
TEST(ExpertsInChunks, OrderOfIssue) {
  const Chunk whole = layer_in_chunks(1), two = layer_in_chunks(2);
  const std::string experts =
      "sort rows by expert, experts up, experts activation, experts down, sort rows by sender, "
      "combine, ";
  EXPECT_EQ(names_of(whole.forward, 3, "shared expert up", "unpermute"),
            "shared expert up, shared expert activation, shared expert down, router, "
            "router scores and top-k, permute, dispatch, " +
                experts + "unpermute");
  EXPECT_EQ(names_of(two.forward, 3, "router", "unpermute"),
            "router, router scores and top-k, permute, dispatch, dispatch, shared expert up, "
            "shared expert activation, shared expert down, " +
                experts + experts + "unpermute");
  const std::string home = "sort rows by sender, dispatch backward, ";
  EXPECT_EQ(names_of(whole.backward, 3, "unpermute", "permute"),
            "unpermute, combine backward, sort rows by expert, experts down, experts down W, "
            "experts activation, experts up, experts up W, " +
                home + "permute");
  const std::string data =
      "sort rows by expert, experts down, experts activation, experts up, " + home;
  const std::string weights = "experts down W, experts up W, ";
  const std::string backward = names_of(two.backward, 3, "unpermute", "permute");
  EXPECT_EQ(backward.substr(0, 63),
            "unpermute, combine backward, combine backward, shared expert do");
  const std::string end = data + data + weights + weights + "permute";
  EXPECT_EQ(backward.substr(backward.size() - end.size()), end);
}

// The parts of an operator add up to the whole, weights and their gradients' sums apart.
TEST(ExpertsInChunks, PartsAddUp) {
  for (const char* layout : {"tp=1,ep=16", "tp=2,sp=1,etp=2,ep=8"}) {
    const Chunk whole = layer_in_chunks(1, layout), four = layer_in_chunks(4, layout);
    for (const auto graph : {&Chunk::forward, &Chunk::backward}) {
      std::map<std::string, double> flops[2];
      std::map<std::string, Bytes> exchanged[2];
      for (const int i : {0, 1})
        each_op((i == 0 ? whole : four).*graph, [&](const OpNode& n) {
          EXPECT_EQ(n.parts == 4,
                    i == 1 && n.name != "shared expert up" &&
                        (n.name.starts_with("expert") || n.name == "dispatch" ||
                         n.name.starts_with("combine") || n.name == "dispatch backward" ||
                         n.name.starts_with("sort rows")))
              << n.name;
          flops[i][n.name + std::string(name_of(n.work.phase))] += n.work.flops;
          if (is_communication(n.work.kind)) exchanged[i][n.name] += n.work.bytes;
        });
      EXPECT_EQ(flops[0], flops[1]);
      EXPECT_EQ(exchanged[0], exchanged[1]);
    }
  }
}

class FlopsOfGraphs : public testing::TestWithParam<Case> {};

// What all ranks execute in a step, recomputation apart, is what the closed form credits: three
// times the forward products, and three times the forward attention. Only MLA's down projections,
// which every tensor-parallel rank repeats unless sp splits their rows, and vocabulary padding for
// larger tp differ, and the projections of narrow embeddings likewise; the cases avoid them.
TEST_P(FlopsOfGraphs, EqualTheClosedForm) {
  const ModelSpec m = load_model(GetParam().model);
  const Layout l = layout_of(GetParam(), m);
  Workload w;
  w.seq_length = 4096;
  w.global_batch = 64;
  const Counted c = count(m, w, l);
  const double per_stage_ranks = l.tp * l.dp_cp();
  const double executed = (c.products + 3 * c.attention) * per_stage_ranks *
                          static_cast<double>(l.micro_batches(w.global_batch));
  EXPECT_NEAR(executed / model_flops(m, w), 1.0, 1e-3) << GetParam().layout;
}

INSTANTIATE_TEST_SUITE_P(
    Models, FlopsOfGraphs,
    testing::Values(
        Case{"llama-2-7b", "tp=1", 1}, Case{"llama-2-7b", "tp=4,pp=2,sp=1", 16},
        Case{"llama-3.1-70b", "tp=8,pp=4", 64}, Case{"llama-3.1-70b", "tp=2,cp=4,sp=1", 16},
        Case{"llama-3.1-70b", "cp=8,cp_comm=a2a", 16},
        Case{"gpt-oss-20b", "tp=2,sp=1,etp=1,ep=4,cp=2,cp_comm=allgather", 8},
        Case{"deepseek-v3", "tp=1,ep=16,cp=4", 16},
        Case{"lina-bert-large-moe", "tp=1,ep=4,cp=2", 8}, Case{"mixtral-8x7b", "tp=1,ep=8", 8},
        Case{"mixtral-8x7b", "tp=2,sp=1,ep=4,pp=4,mbs=2", 64},
        Case{"mixtral-8x7b", "tp=2,sp=1,etp=2,ep=2,recompute=full", 8},
        Case{"mixtral-8x7b", "tp=2,sp=1,etp=2,ep=2,chunks=4", 8},
        Case{"mixtral-8x7b", "tp=4,sp=1,etp=1,ep=8", 8}, Case{"deepseek-v3", "tp=1,ep=16", 16},
        Case{"deepseek-v3", "tp=2,sp=1,etp=1,ep=16", 16}, Case{"deepseek-v3-mtp", "tp=1,ep=16", 16},
        Case{"deepseek-v3-mtp", "tp=2,sp=1,etp=1,ep=16", 16},
        Case{"deepseek-v2", "tp=2,sp=1,etp=1,ep=16,pp=4", 64},
        Case{"qwen1.5-moe-a2.7b", "tp=2,sp=1,etp=1,ep=4,pp=2", 8},
        Case{"qwen3-30b-a3b", "tp=4,sp=1,etp=1,ep=8", 8},
        Case{"gpt-oss-20b", "tp=2,sp=1,etp=1,ep=4", 8},
        Case{"llama4-maverick", "tp=4,sp=1,etp=1,ep=8,pp=2", 16},
        Case{"lina-bert-large-moe", "tp=2,sp=1,etp=1,ep=4", 8}, Case{"gpt2-s-moe", "tp=1,ep=8", 8},
        Case{"opt-350m", "tp=1", 4}, Case{"opt-6.7b", "tp=4,sp=1,pp=2", 8}));

Chunk chunk_of(const char* model, const char* layout, int devices,
               const char* runtime = "megatron-core") {
  const ModelSpec m = load_model(model);
  const Layout l = parse_layout(layout, devices, m.has_moe());
  return build_chunk(m, Workload{}, l, runtime_named(runtime), stage_span(m, l, 0));
}

const OpNode& named(const OpGraph& g, const std::string& name, int layer,
                    Phase phase = Phase::forward) {
  for (OpId op = 0; op < g.size(); ++op) {
    const OpNode& n = g.node(op);
    if (n.name == name && n.layer == layer && n.work.phase == phase && !n.recompute) return n;
  }
  throw std::runtime_error("no operator " + name);
}

// Mixtral, tp 2 with sp, ep 4: a rank holds 2048 of 4096 tokens, so 4096 routed rows, two experts.
TEST(ChunkBuilder, ShapesOfAMixtralLayer) {
  const Chunk c = chunk_of("mixtral-8x7b", "tp=2,sp=1,etp=1,ep=4", 8);
  const Work qkv = named(c.forward, "qkv", 3).work;
  EXPECT_EQ(qkv.m, 4096);
  EXPECT_EQ(qkv.k, 4096);
  EXPECT_EQ(qkv.n, (32 + 2 * 8) / 2 * 128);
  const Work up = named(c.forward, "experts up", 3).work;
  EXPECT_EQ(up.groups, 2);
  EXPECT_EQ(up.m, 2048 * 2);
  EXPECT_EQ(up.n, 2 * 14336);
  const Work dispatch = named(c.forward, "dispatch", 3).work;
  EXPECT_EQ(dispatch.bytes, Bytes{2048} * 2 * 4096 * 2);
  const Work gather = named(c.forward, "qkv input gather", 3).work;
  EXPECT_EQ(gather.kind, OpKind::all_gather);
  EXPECT_EQ(gather.bytes, Bytes{4096} * 4096 * 2);
  const Work attention = named(c.forward, "attention", 3).work;
  EXPECT_EQ(attention.heads, 16);
  EXPECT_EQ(attention.kv_heads, 4);
  const Work down_grad = named(c.backward, "experts down", 3, Phase::weight_grad).work;
  EXPECT_EQ(down_grad.m, 14336);
  EXPECT_EQ(down_grad.n, 4096);
  EXPECT_EQ(down_grad.k, 2048 * 2);
}

std::map<std::string, int> collectives(const OpGraph& g, int layer) {
  std::map<std::string, int> count;
  each_op(g, [&](const OpNode& n) {
    if (n.layer == layer && is_communication(n.work.kind))
      ++count[std::string(name_of(n.group)) + " " + std::string(name_of(n.work.kind))];
  });
  return count;
}

// Megatron-LM (arXiv 2205.05198, section 4.2.2): with sequence parallelism a layer has two
// all-gathers and two reduce-scatters forward; backward the same mirrored, and two more all-gathers
// of the inputs for the weight gradients. Without it, two all-reduces each way.
// Costs of routing depend on how many experts a token is for, and norms on their statistics: the
// Work says both (models/work.h), in either runtime's graph.
TEST(ChunkBuilder, RoutingAndNormsSayTheirK) {
  for (const char* runtime : {"megatron-core", "steploom"}) {
    const Chunk c = chunk_of("mixtral-8x7b", "tp=1,ep=1", 1, runtime);
    std::map<std::string, int> seen;
    for (const OpGraph* g : {&c.forward, &c.backward})
      each_op(*g, [&](const OpNode& n) {
        const bool routes = n.work.kind == OpKind::router || n.work.kind == OpKind::permute ||
                            n.work.kind == OpKind::unpermute;
        if (!routes && n.work.kind != OpKind::norm) return;
        ++seen[n.name];
        EXPECT_EQ(n.work.k, routes ? 2 : 1) << runtime << ' ' << n.name;
      });
    EXPECT_EQ(seen["unpermute"], 64);
    EXPECT_EQ(seen["permute"], 64);
    EXPECT_EQ(seen["ffn norm"], 64);
  }
}

TEST(ChunkBuilder, TensorParallelCollectivesOfALayer) {
  using Count = std::map<std::string, int>;
  const Chunk sp = chunk_of("llama-2-7b", "tp=2,sp=1", 2);
  EXPECT_EQ(collectives(sp.forward, 5), (Count{{"tp all_gather", 2}, {"tp reduce_scatter", 2}}));
  EXPECT_EQ(collectives(sp.backward, 5), (Count{{"tp all_gather", 4}, {"tp reduce_scatter", 2}}));
  const Chunk plain = chunk_of("llama-2-7b", "tp=2", 2);
  EXPECT_EQ(collectives(plain.forward, 5), (Count{{"tp all_reduce", 2}}));
  EXPECT_EQ(collectives(plain.backward, 5), (Count{{"tp all_reduce", 2}}));
  EXPECT_TRUE(collectives(chunk_of("llama-2-7b", "tp=1", 2).forward, 5).empty());
}

// Without dropout and with fused attention a dense layer keeps, in bytes a token of width h and
// element size 2: two norm inputs, two normed inputs, q, k, v, attention's output, the hidden
// activation (before and after SwiGLU): 2·(4h + 3h + h + 3f).
TEST(ChunkBuilder, SavedActivationsOfALayer) {
  const Chunk c = chunk_of("llama-2-7b", "tp=1", 1);
  std::set<TensorId> written, saved;
  each_op(c.forward, [&](const OpNode& n) {
    if (n.layer == 5) written.insert(n.writes.begin(), n.writes.end());
  });
  each_op(c.backward, [&](const OpNode& n) {
    for (const TensorId t : n.reads)
      if (written.count(t)) saved.insert(t);
  });
  Bytes sum = 0;
  for (const TensorId t : saved) sum += c.tensors[t].bytes;
  EXPECT_EQ(sum, Bytes{4096} * 2 * (4 * 4096 + 3 * 4096 + 4096 + 3 * 11008));
}

TEST(ChunkBuilder, FullRecomputationKeepsOnlyTheInputAndRunsForwardAgain) {
  const Chunk none = chunk_of("llama-2-7b", "tp=1", 1);
  const Chunk full = chunk_of("llama-2-7b", "tp=1,recompute=full", 1);
  const auto flops = [](const OpGraph& g) {
    double sum = 0;
    each_op(g, [&](const OpNode& n) {
      if (n.layer >= 0 && n.layer < 32) sum += n.work.flops;
    });
    return sum;
  };
  EXPECT_DOUBLE_EQ(flops(full.backward), flops(none.backward) + flops(none.forward));
  std::set<TensorId> forward_writes;
  each_op(full.forward, [&](const OpNode& n) {
    if (n.layer == 5) forward_writes.insert(n.writes.begin(), n.writes.end());
  });
  int saved = 0;
  each_op(full.backward, [&](const OpNode& n) {
    for (const TensorId t : n.reads) saved += static_cast<int>(forward_writes.erase(t));
  });
  EXPECT_EQ(saved, 1);
}

// Every other layer of gpt-oss sees 128 tokens; the same projections, less of the square.
TEST(ChunkBuilder, WindowsStandInTheirLayers) {
  const Chunk c = chunk_of("gpt-oss-20b", "tp=2,sp=1,etp=1,ep=4", 8);
  const Work local = named(c.forward, "attention", 4).work;
  const Work whole = named(c.forward, "attention", 5).work;
  EXPECT_EQ(local.window, 128);
  EXPECT_EQ(whole.window, 0);
  EXPECT_EQ(whole.flops, 4096.0 * 4096 * 32 * (64 + 64));
  EXPECT_EQ(local.flops, (2 * 4096.0 * 128 - 128.0 * 128) * 32 * (64 + 64));
  EXPECT_EQ(local.bytes, whole.bytes);
  EXPECT_EQ(named(c.backward, "attention", 4, Phase::data_grad).work.flops, 2.5 * local.flops);
}

// llama4: a layer that sees all tokens neither rotates nor norms its queries.
TEST(ChunkBuilder, GlobalLayersOfLlama4DoNotRotate) {
  const Chunk c = chunk_of("llama4-scout", "tp=1,ep=16", 16);
  std::map<int, int> turned;
  for (const OpGraph* g : {&c.forward, &c.backward})
    each_op(*g, [&](const OpNode& n) {
      if (n.name == "rotary" || n.name == "qk norm") ++turned[n.layer];
    });
  EXPECT_EQ(turned[2], 4);
  EXPECT_EQ(turned.count(3), 0U);
  EXPECT_EQ(turned.size(), 36U);
  EXPECT_EQ(named(c.forward, "attention", 2).work.window, 0);  // 4096 tokens: within one chunk
}

// The module's operators on the last stage: its layer is numbered beyond the head's.
TEST(ChunkBuilder, MultiTokenPredictionStandsBesideTheHead) {
  const ModelSpec m = load_model("deepseek-v3-mtp");
  const Layout l = parse_layout("tp=2,sp=1,etp=1,ep=16,pp=61", 61 * 16, true);
  const Chunk first =
      build_chunk(m, Workload{}, l, runtime_named("megatron-core"), stage_span(m, l, 0));
  each_op(first.forward, [](const OpNode& n) { EXPECT_LE(n.layer, 61); });
  const StageSpan last = stage_span(m, l, 60);
  const Chunk c = build_chunk(m, Workload{}, l, runtime_named("megatron-core"), last);
  const Work projection = named(c.forward, "mtp projection", 62).work;
  EXPECT_EQ(projection.m, 4096);
  EXPECT_EQ(projection.n, 7168 / 2);
  EXPECT_EQ(projection.k, 2 * 7168);
  EXPECT_EQ(named(c.forward, "experts up", 62).work.groups, 16);
  EXPECT_EQ(named(c.forward, "head", 62).work.n, named(c.forward, "head", 61).work.n);
  EXPECT_EQ(named(c.backward, "embedding", 62, Phase::weight_grad).work.m, 4096);
  // Its parameters beside the last layer's and the head's, with a copy of the embedding's table.
  const StageParameters with = stage_parameters(m, l, last);
  const ModelSpec plain = load_model("deepseek-v3");
  const StageParameters without = stage_parameters(plain, l, last);
  const ParameterBuckets layer = layer_parameters(plain, 60);
  EXPECT_EQ(with.experts - without.experts, layer.experts / 16);
  EXPECT_EQ(with.replicated - without.replicated, layer.replicated + 3 * 7168);
  EXPECT_EQ(with.sharded - without.sharded,
            layer.sharded / 2 + 7168 * 7168 + padded_vocab(129280, 2) / 2 * 7168);
  EXPECT_TRUE(shares_embedding(m, l, last));
  EXPECT_FALSE(shares_embedding(plain, l, last));
}

TEST(ChunkBuilder, BucketsCoverModulesToo) {
  const ModelSpec m = load_model("deepseek-v3-mtp");
  const Layout l = parse_layout("tp=2,sp=1,etp=1,ep=16,pp=61", 61 * 32, true);
  const StageSpan last = stage_span(m, l, 60);
  const Chunk c = build_chunk(m, Workload{}, l, runtime_named("megatron-core"), last);
  const StageParameters p = stage_parameters(m, l, last);
  Bytes dense = 0, experts = 0;
  each_op(c.last_backward, [&](const OpNode& n) {
    if (n.group == CommGroup::dp) dense += n.work.bytes;
    if (n.group == CommGroup::expert_dp) experts += n.work.bytes;
  });
  EXPECT_EQ(dense, 4 * p.dense());
  EXPECT_EQ(experts, 4 * p.experts);
}

// The gate of qwen's shared expert is a product with one output and a scaling of the expert's.
TEST(ChunkBuilder, ASharedExpertMayHaveAGate) {
  const Chunk c = chunk_of("qwen1.5-moe-a2.7b", "tp=1,ep=4", 4);
  EXPECT_EQ(named(c.forward, "shared expert gate", 3).work.n, 1);
  EXPECT_EQ(named(c.forward, "gated shared expert", 3).work.bytes,
            Bytes{4096} * (2 * 2048 + 1) * 2);
  EXPECT_EQ(named(c.backward, "shared expert gate", 3, Phase::weight_grad).work.m, 2048);
}

// 8-bit operands, 16-bit results; casts before; router, attention and head in bf16.
TEST(ChunkBuilder, Fp8IsOfTheProductsOfLayers) {
  const ModelSpec m = load_model("mixtral-8x7b");
  Workload w;
  w.precision = Precision::fp8;
  const Layout l = parse_layout("tp=1,ep=8", 8, true);
  const Chunk c = build_chunk(m, w, l, runtime_named("megatron-core"), stage_span(m, l, 0));
  const Work up = named(c.forward, "experts up", 3).work;
  EXPECT_EQ(up.precision, Precision::fp8);
  const Bytes rows = 8192, wide = 2 * 14336;
  EXPECT_EQ(up.bytes, rows * 4096 + 4096 * wide + 2 * rows * wide);
  EXPECT_EQ(named(c.forward, "experts up cast", 3).work.bytes, rows * 4096 * (2 + 2));
  EXPECT_EQ(named(c.forward, "qkv", 3).work.precision, Precision::fp8);
  for (const char* kept : {"router", "attention"})
    EXPECT_EQ(named(c.forward, kept, 3).work.precision, Precision::bf16) << kept;
  EXPECT_EQ(named(c.forward, "head", 32).work.precision, Precision::bf16);
  w.precision = Precision::tf32;
  const Chunk t = build_chunk(m, w, l, runtime_named("megatron-core"), stage_span(m, l, 0));
  EXPECT_EQ(named(t.forward, "head", 32).work.precision, Precision::tf32);
  EXPECT_EQ(named(t.forward, "dispatch", 3).work.bytes, rows * 4096 * 4);  // fp32 activations
}

// What an optimizer of kernel lists holds while it runs is a tensor of its block alone.
TEST(ChunkBuilder, OptimizersMoveWhatTheyKeep) {
  const ModelSpec m = load_model("llama-3.1-8b");
  const Layout l = parse_layout("tp=2,sp=1", 16, false);
  const StageSpan span = stage_span(m, l, 0);
  const std::int64_t own = stage_parameters(m, l, span).total() / 8;  // over dp
  Workload w;
  const auto adam = [&](const Chunk& c) {
    return named(c.optimizer, "adam", -1, Phase::optimizer);
  };
  const Chunk plain = build_chunk(m, w, l, runtime_named("megatron-core"), span);
  EXPECT_EQ(adam(plain).work.bytes, own * 30);
  w.optimizer = Optimizer::adamw_foreach;
  const Chunk lists = build_chunk(m, w, l, runtime_named("megatron-core"), span);
  const OpNode& foreach = named(lists.optimizer, "adamw-foreach", -1, Phase::optimizer);
  EXPECT_EQ(foreach.work.bytes, own * 86);
  ASSERT_EQ(foreach.writes.size(), 2U);
  EXPECT_EQ(lists.tensors[foreach.writes[1]].bytes, own * 4);
  EXPECT_EQ(lists.tensors[foreach.writes[1]].scope, TensorScope::micro_batch);
}

Bytes bytes_over(const OpGraph& g, CommGroup group, OpKind kind) {
  Bytes sum = 0;
  each_op(g, [&](const OpNode& n) {
    if (n.group == group && n.work.kind == kind) sum += n.work.bytes;
  });
  return sum;
}

// Every parameter's gradient is reduced once and gathered once: 4 and 2 bytes.
TEST(ChunkBuilder, BucketsCoverEveryParameterOnce) {
  const ModelSpec m = load_model("mixtral-8x7b");
  const Layout l = parse_layout("tp=2,sp=1,etp=1,ep=4,pp=2", 64, true);
  for (int s = 0; s < 2; ++s) {
    const StageSpan span = stage_span(m, l, s);
    const Chunk c = build_chunk(m, Workload{}, l, runtime_named("megatron-core"), span);
    const StageParameters p = stage_parameters(m, l, span);
    EXPECT_EQ(bytes_over(c.last_backward, CommGroup::dp, OpKind::reduce_scatter), 4 * p.dense());
    EXPECT_EQ(bytes_over(c.last_backward, CommGroup::expert_dp, OpKind::reduce_scatter),
              4 * p.experts);
    EXPECT_EQ(bytes_over(c.first_forward, CommGroup::dp, OpKind::all_gather), 2 * p.dense());
    EXPECT_EQ(bytes_over(c.first_forward, CommGroup::expert_dp, OpKind::all_gather), 2 * p.experts);
    EXPECT_EQ(bytes_over(c.backward, CommGroup::dp, OpKind::reduce_scatter), 0);
  }
}

TEST(ChunkBuilder, StagesHoldTheWholeModel) {
  for (const char* model :
       {"llama-3.1-8b", "mixtral-8x7b", "gpt2-xl", "opt-350m", "gpt-oss-20b", "llama4-scout"}) {
    const ModelSpec m = load_model(model);
    for (const int pp : {1, 2, 4}) {
      Layout l;
      l.pp = pp;
      std::int64_t sum = 0;
      for (int s = 0; s < pp; ++s) sum += stage_parameters(m, l, stage_span(m, l, s)).total();
      // Tied tables stand twice when first and last stage differ; tables are padded to 128.
      const std::int64_t table = padded_vocab(m.vocab, 1) * m.table_width();
      const std::int64_t padding = table - m.vocab * m.table_width();
      const std::int64_t copies = m.tied_embeddings && pp == 1 ? 1 : 2;
      const std::int64_t extra = m.tied_embeddings && pp > 1 ? table - padding : 0;
      EXPECT_EQ(sum, count_parameters(m).total + extra + copies * padding) << model << " pp " << pp;
    }
  }
}

// A bucket is reduced right after the last gradient that it holds, not at the end.
TEST(ChunkBuilder, GradientBucketsOverlapTheBackwardPass) {
  const Chunk c = chunk_of("llama-2-7b", "tp=1", 8);
  OpId first = 0, last_kernel = 0;
  int buckets = 0;
  for (OpId op = 0; op < c.last_backward.size(); ++op) {
    const OpNode& n = c.last_backward.node(op);
    if (n.group == CommGroup::dp && buckets++ == 0) first = op;
    if (n.stream == StreamKind::compute) last_kernel = op;
  }
  EXPECT_GT(buckets, 30);
  EXPECT_LT(first, last_kernel / 10);
}

}  // namespace
}  // namespace steploom
