#include "profiler/drawn_asks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "models/error.h"
#include "sim/portable_math.h"

namespace steploom {
namespace {

using enum OpKind;

constexpr double kMostFlops = 2e13;
constexpr Bytes kMostBytes = Bytes{1} << 35;
constexpr std::int64_t kMostPoints = 100'000;
constexpr std::int64_t kMostTokens = 65536;  // of all sequences together

constexpr std::array kPhases{Phase::forward, Phase::data_grad, Phase::weight_grad};
constexpr std::array kCollectives{all_reduce, all_gather, reduce_scatter, all_to_all, send_recv};

// What attention is drawn for; ours, not PyTorch's.
constexpr std::string_view kAttentionProvider = "cudnn";
constexpr std::array<std::pair<int, int>, 3> kHeadWidths{{{64, 64}, {128, 128}, {192, 128}}};

// How n and k of a memory-bound kernel are drawn.
enum class Shape { rows, heads, experts, choices, vocabulary, table, parameters, fill };

struct Kernel {
  OpKind kind;
  Phase phase;
  std::string_view provider;
  Shape shape;
};
constexpr std::array kKernels{
    Kernel{norm, Phase::forward, "steploom-rms", Shape::rows},
    Kernel{norm, Phase::data_grad, "steploom-rms", Shape::rows},
    Kernel{activation, Phase::forward, "steploom-swiglu", Shape::rows},
    Kernel{activation, Phase::data_grad, "steploom-swiglu", Shape::rows},
    Kernel{rotary, Phase::forward, "steploom", Shape::heads},
    Kernel{rotary, Phase::data_grad, "steploom", Shape::heads},
    Kernel{residual, Phase::forward, "steploom", Shape::rows},
    Kernel{embedding, Phase::forward, "steploom", Shape::table},
    Kernel{embedding, Phase::weight_grad, "steploom", Shape::table},
    Kernel{cross_entropy, Phase::forward, "steploom", Shape::vocabulary},
    Kernel{cross_entropy, Phase::data_grad, "steploom", Shape::vocabulary},
    Kernel{adam, Phase::optimizer, "steploom", Shape::parameters},
    Kernel{grad_norm, Phase::optimizer, "steploom", Shape::parameters},
    Kernel{zero_fill, Phase::optimizer, "cuda-memset", Shape::fill},
    Kernel{permute, Phase::forward, "steploom", Shape::choices},
    Kernel{permute, Phase::data_grad, "steploom", Shape::choices},
    Kernel{unpermute, Phase::forward, "steploom", Shape::choices},
    Kernel{unpermute, Phase::data_grad, "steploom", Shape::choices},
    Kernel{router, Phase::forward, "steploom", Shape::experts},
    Kernel{router, Phase::data_grad, "steploom", Shape::experts},
    Kernel{norm, Phase::forward, "steploom-layer", Shape::rows},
    Kernel{norm, Phase::data_grad, "steploom-layer", Shape::rows},
    Kernel{activation, Phase::forward, "steploom-gelu", Shape::rows},
    Kernel{activation, Phase::data_grad, "steploom-gelu", Shape::rows},
};

Ask drawn_product(Draw& draw, Phase phase) {
  const std::int64_t tokens = draw.log_uniform(256, 65536, 64);
  const std::int64_t outputs = draw.log_uniform(512, 32768, 64);
  const std::int64_t inputs = draw.log_uniform(512, 32768, 64);
  return {product(phase, Precision::bf16, tokens, outputs, inputs), false, "cublaslt"};
}

Ask drawn_grouped(Draw& draw, Phase phase) {
  const std::int64_t experts = draw.log_uniform(1, 32);
  const std::int64_t tokens = experts * draw.log_uniform(64, 16384, 16);
  const std::int64_t outputs = draw.log_uniform(512, 16384, 64);
  const std::int64_t inputs = draw.log_uniform(512, 16384, 64);
  return {grouped_product(phase, Precision::bf16, experts, tokens, outputs, inputs), false,
          "cublaslt-each"};
}

Ask drawn_attention(Draw& draw, Phase phase, std::pair<int, int> widths) {
  AttentionShape s;
  s.sequence = draw.log_uniform(256, 32768, 64);
  s.sequences = draw.log_uniform(1, std::min<std::int64_t>(32, kMostTokens / s.sequence));
  s.heads = 4 << (draw.bits() % 6);
  const int share = widths.first > widths.second ? 1 : std::array{1, 4, 8}[draw.bits() % 3];
  s.kv_heads = s.heads / std::min(share, s.heads);
  s.head_dim = widths.first;
  s.v_head_dim = widths.second;
  return make_attention_ask(phase, s, kAttentionProvider);
}

Ask drawn_memory_bound(Draw& draw, const Kernel& kernel) {
  const auto ask = [&](std::int64_t m, std::int64_t n, std::int64_t k) {
    return make_ask(kernel.kind, kernel.phase, m, n, k, 1, false, kernel.provider);
  };
  if (kernel.shape == Shape::parameters) return ask(draw.log_uniform(1 << 20, 1 << 30, 64), 1, 0);
  if (kernel.shape == Shape::fill) {
    return ask(4 * draw.log_uniform(1 << 20, 1 << 30, 64), 1, 0);
  }
  const std::int64_t rows = draw.log_uniform(256, 65536, 64);
  switch (kernel.shape) {
    case Shape::experts: {
      const std::int64_t experts = draw.log_uniform(8, 256, 8);
      return ask(rows, experts, draw.log_uniform(1, 8));
    }
    case Shape::vocabulary:
      return ask(rows, draw.log_uniform(8192, 131072, 64), 0);
    case Shape::heads: {
      const std::int64_t width = std::int64_t{64} << (draw.bits() % 2);
      return ask(rows, draw.log_uniform(512, 16384, width), width);
    }
    case Shape::table: {
      const std::int64_t width = draw.log_uniform(512, 16384, 64);
      return ask(rows, width, draw.log_uniform(8192, 131072, 64));
    }
    case Shape::choices: {
      // Forward permute and backward unpermute have k rows for each token.
      const std::int64_t k = draw.log_uniform(1, 8);
      const bool wide = (kernel.kind == permute) == (kernel.phase == Phase::forward);
      return ask(wide ? rows * k : rows, draw.log_uniform(512, 16384, 64), k);
    }
    default:
      return ask(rows, draw.log_uniform(512, 16384, 64), 0);
  }
}

// Draws until a kernel is within the bounds.
template <class One>
Ask bounded(One one) {
  for (;;) {
    Ask ask = one();
    if (ask.work.flops <= kMostFlops && ask.work.bytes <= kMostBytes) return ask;
  }
}

// Parts of `points` as 6 : 3 : 3 : 4 : 4, rounded so that they add up.
std::array<std::int64_t, 5> shares(std::int64_t points) {
  constexpr std::array<std::int64_t, 5> kUpTo{6, 9, 12, 16, 20};
  std::array<std::int64_t, 5> parts{};
  std::int64_t before = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::int64_t upto = points * kUpTo[i] / 20;
    parts[i] = upto - before;
    before = upto;
  }
  return parts;
}

template <class Array>
const auto& in_turn(const Array& of, std::int64_t i) {
  return of[static_cast<std::size_t>(i) % of.size()];
}

}  // namespace

std::uint64_t Draw::bits() {
  std::uint64_t z = state_ += 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

std::int64_t Draw::log_uniform(std::int64_t least, std::int64_t most, std::int64_t multiple) {
  const double share = static_cast<double>(bits() >> 11) * 0x1p-53;
  const double times = static_cast<double>(most + multiple) / static_cast<double>(least);
  const double size = static_cast<double>(least) * portable_exp2(share * portable_log2(times));
  const std::int64_t whole = static_cast<std::int64_t>(size) / multiple * multiple;
  return std::clamp(whole, least, most);
}

DrawnAsks drawn_asks(std::int64_t points, std::uint64_t seed) {
  if (points < 1 || points > kMostPoints) {
    throw Error({"a draw", "points", fmt::format("a number from 1 to {}", kMostPoints),
                 std::to_string(points), ""});
  }
  const auto [products, grouped, attentions, memory_bound, collectives] = shares(points);
  Draw draw(seed);
  DrawnAsks all;
  for (std::int64_t i = 0; i < products; ++i) {
    all.kernels.push_back(bounded([&] { return drawn_product(draw, in_turn(kPhases, i)); }));
  }
  for (std::int64_t i = 0; i < grouped; ++i) {
    all.kernels.push_back(bounded([&] { return drawn_grouped(draw, in_turn(kPhases, i)); }));
    all.kernels.push_back(all.kernels.back());
    all.kernels.back().provider = "cublaslt-padded";
  }
  for (std::int64_t i = 0; i < attentions; ++i) {
    const Phase phase = i / 3 % 2 == 0 ? Phase::forward : Phase::data_grad;
    all.kernels.push_back(
        bounded([&] { return drawn_attention(draw, phase, in_turn(kHeadWidths, i)); }));
  }
  for (std::int64_t i = 0; i < memory_bound; ++i) {
    all.kernels.push_back(bounded([&] { return drawn_memory_bound(draw, in_turn(kKernels, i)); }));
  }
  for (std::int64_t i = 0; i < collectives; ++i) {
    all.collectives.push_back(
        {in_turn(kCollectives, i), draw.log_uniform(64 << 10, 512 << 20, 1024)});
  }
  return all;
}

}  // namespace steploom
