// Small models and their Programs for tests of execution. Everything is a few hundred parameters
// wide, so that a step on the reference kernels takes milliseconds.
#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "planner/lower.h"
#include "profiler/run_reference.h"
#include "tests/planner/planning.h"

namespace steploom {

inline ModelSpec tiny_dense() {
  ModelSpec m;
  m.name = "tiny-llama";
  m.family = "test";
  m.hidden = 16;
  m.layers = 2;
  m.vocab = 256;  // a multiple of 128·tp: the same table under every layout
  m.max_positions = 8;
  m.attention.heads = 4;
  m.attention.kv_heads = 2;
  m.attention.head_dim = 4;
  m.attention.v_head_dim = 4;
  m.dense.width = 24;
  m.layer_is_moe.assign(2, false);
  return m;
}

inline ModelSpec tiny_gpt2() {
  ModelSpec m = tiny_dense();
  m.name = "tiny-gpt2";
  m.tied_embeddings = m.learned_positions = m.norm_bias = true;
  m.attention.kv_heads = 4;
  m.attention.rotary = false;
  m.attention.qkv_bias = m.attention.out_bias = true;
  m.dense = {.width = 32, .gated = false, .bias = true};
  return m;
}

inline ModelSpec tiny_mixtral() {
  ModelSpec m = tiny_dense();
  m.name = "tiny-mixtral";
  MoeSpec moe;
  moe.experts = 4;
  moe.top_k = 2;
  moe.expert.width = 12;
  m.moe = moe;
  m.layer_is_moe.assign(2, true);
  return m;
}

// Many small experts, a shared one, a dense first layer.
inline ModelSpec tiny_deepseek() {
  ModelSpec m = tiny_mixtral();
  m.name = "tiny-deepseek";
  m.moe->experts = 8;
  m.moe->top_k = 3;
  m.moe->expert.width = 8;
  m.moe->shared_width = 8;
  m.layer_is_moe[0] = false;
  return m;
}

// Four layers, for pipelines with several chunks a rank.
inline ModelSpec deep(ModelSpec m) {
  m.layers = 4;
  m.layer_is_moe.insert(m.layer_is_moe.end(), 2, m.has_moe());
  return m;
}
inline ModelSpec deep_dense() {
  return deep(tiny_dense());
}
inline ModelSpec deep_gpt2() {
  return deep(tiny_gpt2());
}
inline ModelSpec deep_deepseek() {
  return deep(tiny_deepseek());
}

// A model under a layout: the Program, and what binding needs.
struct Lowering {
  Lowering(ModelSpec model, const std::string& text, int devices, std::int64_t batch = 12,
           std::int64_t sequence = 8)
      : world(std::move(model), 1, sequence, batch, "steploom", "h200-sxm-141gb"),
        layout(parse_layout(text, devices, world.model.has_moe())) {
    Cluster& c = world.cluster;
    c.devices_per_node = devices;
    lowered = lower(world.setting, layout, world.cache, Folding::unfolded);
  }

  BindInput input() const {
    return {world.model, world.work, layout, world.setting.runtime, lowered.program};
  }
  Program& program() { return lowered.program; }

  World world;
  Layout layout;
  Lowered lowered;
};

using Tensors = std::map<std::string, std::vector<double>>;

// The largest relative L2 difference of a tensor; NaN differs from everything.
inline double difference(const Tensors& a, const Tensors& b) {
  double worst = a.size() == b.size() ? 0 : HUGE_VAL;
  for (const auto& [name, x] : a) {
    const auto other = b.find(name);
    if (other == b.end() || other->second.size() != x.size()) return HUGE_VAL;
    double square = 0, size = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      square += (x[i] - other->second[i]) * (x[i] - other->second[i]);
      size += x[i] * x[i];
    }
    const double relative = std::sqrt(square) / std::max(std::sqrt(size), 1e-300);
    worst = square == 0 ? worst : std::isnan(relative) ? HUGE_VAL : std::max(worst, relative);
  }
  return worst;
}

}  // namespace steploom
