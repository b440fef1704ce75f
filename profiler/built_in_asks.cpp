#include <algorithm>
#include <array>
#include <utility>

#include "models/shapes.h"
#include "profiler/asks.h"

namespace steploom {
namespace {

using enum OpKind;

constexpr std::array kPhases{Phase::forward, Phase::data_grad, Phase::weight_grad};
constexpr std::array<std::string_view, 3> kGroupedProviders{"cublas-grouped", "cublaslt-each",
                                                            "cublaslt-padded"};

// What fixes a dense layer's products, and the vocabulary of the head.
struct Model {
  std::int64_t hidden, heads, kv_heads, head_dim, ffn, vocab;
};
constexpr std::array kDense{
    Model{4096, 32, 8, 128, 14336, 128256},  // Llama-3.1-8B; its attention is Mixtral-8x7B's too
    Model{4096, 32, 32, 128, 11008, 32000},  // Llama-2-7B; its head is Mixtral-8x7B's too
    Model{8192, 64, 8, 128, 28672, 128256},  // Llama-3.1-70B
};

// An expert layer: y = x·Wᵀ, outputs × inputs.
constexpr std::array<std::pair<std::int64_t, std::int64_t>, 4> kExperts{
    {{28672, 4096}, {4096, 14336}, {4096, 7168}, {7168, 2048}}};  // Mixtral-8x7B, DeepSeek-V3

void add(std::vector<Ask>& asks, Ask ask) {
  if (std::find(asks.begin(), asks.end(), ask) == asks.end()) asks.push_back(std::move(ask));
}

void add_product(std::vector<Ask>& asks, std::int64_t tokens, std::int64_t outputs,
                 std::int64_t inputs) {
  for (const Phase phase : kPhases) {
    add(asks, {product(phase, Precision::bf16, tokens, outputs, inputs), false, "cublaslt"});
  }
}

void add_grouped(std::vector<Ask>& asks, std::int64_t groups, std::int64_t tokens,
                 std::int64_t outputs, std::int64_t inputs) {
  for (const Phase phase : kPhases) {
    for (const bool uneven : {false, true}) {
      if (uneven && groups == 1) continue;
      for (const std::string_view provider : kGroupedProviders) {
        if (phase == Phase::weight_grad && provider == "cublas-grouped") continue;
        add(asks, {grouped_product(phase, Precision::bf16, groups, tokens, outputs, inputs), uneven,
                   std::string(provider)});
      }
    }
  }
}

void add_layer(std::vector<Ask>& asks, const Model& m, std::int64_t tokens, std::int64_t tp) {
  const std::int64_t q = m.heads * m.head_dim;
  add_product(asks, tokens, (q + 2 * m.kv_heads * m.head_dim) / tp, m.hidden);
  add_product(asks, tokens, m.hidden, q / tp);
  add_product(asks, tokens, 2 * m.ffn / tp, m.hidden);
  add_product(asks, tokens, m.hidden, m.ffn / tp);
  add_product(asks, tokens, m.vocab / tp, m.hidden);
}

void add_row_kernels(std::vector<Ask>& asks, std::int64_t rows, std::int64_t hidden) {
  const auto one = [&](OpKind kind, Phase phase, std::int64_t m, std::int64_t n, std::int64_t k,
                       std::string_view provider) {
    add(asks, make_ask(kind, phase, m, n, k, 1, false, provider));
  };
  for (const Phase phase : {Phase::forward, Phase::data_grad}) {
    one(norm, phase, rows, hidden, 0, "steploom-rms");
    one(norm, phase, rows, hidden, 0, "steploom-layer");
    one(activation, phase, rows, hidden * 7 / 2, 0, "steploom-swiglu");
    one(activation, phase, rows, hidden * 4, 0, "steploom-gelu");
    one(rotary, phase, rows, hidden + 1024, 128, "steploom");
    one(cross_entropy, phase, rows, 32000, 0, "steploom");
    one(router, phase, rows, 8, 2, "steploom");
    one(router, phase, rows, 256, 8, "steploom");
    for (const std::int64_t k : {2, 8}) {
      // Forward permute and backward unpermute have k rows for each token.
      const bool wide = phase == Phase::forward;
      one(permute, phase, wide ? rows * k : rows, hidden, k, "steploom");
      one(unpermute, phase, wide ? rows : rows * k, hidden, k, "steploom");
    }
  }
  one(residual, Phase::forward, rows, hidden, 0, "steploom");
  one(embedding, Phase::forward, rows, hidden, 32000, "steploom");
  one(embedding, Phase::weight_grad, rows, hidden, 32000, "steploom");
}

}  // namespace

std::vector<Ask> built_in_asks() {
  std::vector<Ask> asks;
  for (const std::int64_t rows : {8192, 2048, 1024, 4096, 512, 16384}) {
    add_row_kernels(asks, rows, 4096);
    if (rows == 8192 || rows == 2048) add_row_kernels(asks, rows, 8192);
  }
  for (const std::int64_t rows : {2048, 8192}) {
    for (const Phase phase : {Phase::forward, Phase::data_grad}) {
      for (const std::int64_t vocab : {16032, 64128, 128256}) {
        add(asks, make_ask(cross_entropy, phase, rows, vocab, 0, 1, false, "steploom"));
      }
    }
  }
  for (const std::int64_t count : {1 << 20, 1 << 24, 1 << 27, 1 << 29}) {
    add(asks, make_ask(adam, Phase::optimizer, count, 1, 0, 1, false, "steploom"));
    add(asks, make_ask(grad_norm, Phase::optimizer, count, 1, 0, 1, false, "steploom"));
    add(asks, make_ask(zero_fill, Phase::optimizer, 4 * count, 1, 0, 1, false, "cuda-memset"));
  }
  for (const std::int64_t tokens : {4096, 8192, 16384, 2048}) {
    for (const std::int64_t tp : {1, 2, 4, 8}) {
      for (const Model& model : kDense) {
        if (model.hidden < 8192 || tokens < 16384) add_layer(asks, model, tokens, tp);
      }
    }
    if (tokens != 4096 && tokens != 8192) continue;
    for (const std::int64_t groups : {8, 1, 4, 2}) {
      for (const auto& [outputs, inputs] : {kExperts[0], kExperts[1]}) {
        add_grouped(asks, groups, 2 * tokens, outputs, inputs);
      }
    }
    for (const std::int64_t groups : {8, 32}) {
      for (const auto& [outputs, inputs] : {kExperts[2], kExperts[3]}) {
        add_grouped(asks, groups, 2 * tokens, outputs, inputs);
      }
    }
  }
  for (Ask& ask : built_in_attention()) asks.push_back(std::move(ask));
  return asks;
}

}  // namespace steploom
