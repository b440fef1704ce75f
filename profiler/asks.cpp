#include "profiler/asks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <utility>

#include "models/error.h"
#include "models/nearest.h"
#include "models/shapes.h"
#include "sim/operator_bytes.h"

namespace steploom {
namespace {

constexpr std::int64_t kMost = std::int64_t{1} << 40;  // of one dimension

// Kernels that can be measured, and the bytes that each must move for m, n, k.
struct Row {
  OpKind kind;
  Phase phase;
  std::string_view provider;
  Bytes (*bytes)(Bytes m, Bytes n, Bytes k);  // null: a product, attention
};

using enum OpKind;
constexpr auto kForward = Phase::forward;
constexpr auto kDataGrad = Phase::data_grad;
constexpr auto kWeightGrad = Phase::weight_grad;
constexpr auto kOptimizer = Phase::optimizer;

// bf16 everywhere but for scores, choices, weights and what the optimizer holds: 4 bytes.
const std::array kRows{
    Row{attention, kForward, "cudnn", nullptr},
    Row{attention, kDataGrad, "cudnn", nullptr},
    Row{matmul, kForward, "cublaslt", nullptr},
    Row{matmul, kDataGrad, "cublaslt", nullptr},
    Row{matmul, kWeightGrad, "cublaslt", nullptr},
    Row{grouped_matmul, kForward, "cublas-grouped", nullptr},
    Row{grouped_matmul, kDataGrad, "cublas-grouped", nullptr},
    Row{grouped_matmul, kForward, "cublaslt-each", nullptr},
    Row{grouped_matmul, kDataGrad, "cublaslt-each", nullptr},
    Row{grouped_matmul, kWeightGrad, "cublaslt-each", nullptr},
    Row{grouped_matmul, kForward, "cublaslt-padded", nullptr},
    Row{grouped_matmul, kDataGrad, "cublaslt-padded", nullptr},
    Row{grouped_matmul, kWeightGrad, "cublaslt-padded", nullptr},
    Row{embedding, kForward, "steploom", [](Bytes m, Bytes n, Bytes) { return 4 * m * n; }},
    Row{embedding, kWeightGrad, "steploom", [](Bytes m, Bytes n, Bytes) { return 10 * m * n; }},
    Row{norm, kForward, "steploom-rms", [](Bytes m, Bytes n, Bytes) { return 4 * m * n; }},
    Row{norm, kDataGrad, "steploom-rms", [](Bytes m, Bytes n, Bytes) { return 6 * m * n; }},
    Row{norm, kForward, "steploom-layer", [](Bytes m, Bytes n, Bytes) { return 4 * m * n; }},
    Row{norm, kDataGrad, "steploom-layer", [](Bytes m, Bytes n, Bytes) { return 6 * m * n; }},
    Row{rotary, kForward, "steploom", [](Bytes m, Bytes n, Bytes) { return 4 * m * n; }},
    Row{rotary, kDataGrad, "steploom", [](Bytes m, Bytes n, Bytes) { return 4 * m * n; }},
    Row{residual, kForward, "steploom", [](Bytes m, Bytes n, Bytes) { return 6 * m * n; }},
    Row{residual, kDataGrad, "steploom", [](Bytes m, Bytes n, Bytes) { return 6 * m * n; }},
    Row{activation, kForward, "steploom-swiglu", [](Bytes m, Bytes n, Bytes) { return 6 * m * n; }},
    Row{activation, kDataGrad, "steploom-swiglu",
        [](Bytes m, Bytes n, Bytes) { return 10 * m * n; }},
    Row{activation, kForward, "steploom-gelu", [](Bytes m, Bytes n, Bytes) { return 4 * m * n; }},
    Row{activation, kDataGrad, "steploom-gelu", [](Bytes m, Bytes n, Bytes) { return 6 * m * n; }},
    Row{router, kForward, "steploom",
        [](Bytes m, Bytes n, Bytes k) { return m * (6 * n + 8 * k); }},
    Row{router, kDataGrad, "steploom",
        [](Bytes m, Bytes n, Bytes k) { return m * (2 * n + 12 * k); }},
    Row{permute, kForward, "steploom", [](Bytes m, Bytes n, Bytes) { return 4 * m * n; }},
    Row{permute, kDataGrad, "steploom",
        [](Bytes m, Bytes n, Bytes k) { return 2 * m * n * (k + 1); }},
    Row{unpermute, kForward, "steploom",
        [](Bytes m, Bytes n, Bytes k) { return 2 * m * n * (k + 1); }},
    // m rows of m/k tokens; rows are read too, for the gradient of their weights.
    Row{unpermute, kDataGrad, "steploom",
        [](Bytes m, Bytes n, Bytes k) { return 4 * m * n + 2 * (m / k) * n; }},
    Row{cross_entropy, kForward, "steploom", [](Bytes m, Bytes n, Bytes) { return 2 * m * n; }},
    Row{cross_entropy, kDataGrad, "steploom", [](Bytes m, Bytes n, Bytes) { return 4 * m * n; }},
    Row{adam, kOptimizer, "steploom", [](Bytes m, Bytes, Bytes) { return 30 * m; }},
    Row{grad_norm, kOptimizer, "steploom", [](Bytes m, Bytes, Bytes) { return 4 * m; }},
    Row{zero_fill, kOptimizer, "cuda-memset", [](Bytes m, Bytes, Bytes) { return m; }},
    // PyTorch's (torch_eager.py): the sum over the kernels that an operator is made of, each
    // reading its operands and writing its results once.
    Row{attention, kForward, "torch-sdpa-flash", nullptr},
    Row{attention, kDataGrad, "torch-sdpa-flash", nullptr},
    Row{attention, kForward, "torch-sdpa-cudnn", nullptr},
    Row{attention, kDataGrad, "torch-sdpa-cudnn", nullptr},
    Row{norm, kForward, "torch-eager-rms", [](Bytes m, Bytes n, Bytes) { return 36 * m * n; }},
    Row{norm, kDataGrad, "torch-eager-rms", [](Bytes m, Bytes n, Bytes) { return 92 * m * n; }},
    Row{norm, kForward, "torch-fused-rms", [](Bytes m, Bytes n, Bytes) { return 4 * m * n; }},
    // x and dy once for dx and once more for the weights' gradients.
    Row{norm, kDataGrad, "torch-fused-rms", [](Bytes m, Bytes n, Bytes) { return 10 * m * n; }},
    Row{norm, kForward, "torch-fused-layer", [](Bytes m, Bytes n, Bytes) { return 4 * m * n; }},
    Row{norm, kDataGrad, "torch-fused-layer", [](Bytes m, Bytes n, Bytes) { return 10 * m * n; }},
    Row{rotary, kForward, "torch-eager", [](Bytes m, Bytes n, Bytes) { return 20 * m * n; }},
    Row{rotary, kDataGrad, "torch-eager", [](Bytes m, Bytes n, Bytes) { return 30 * m * n; }},
    Row{activation, kForward, "torch-eager-swiglu",
        [](Bytes m, Bytes n, Bytes) { return 10 * m * n; }},
    Row{activation, kDataGrad, "torch-eager-swiglu",
        [](Bytes m, Bytes n, Bytes) { return 18 * m * n; }},
    Row{activation, kForward, "torch-eager-gelu",
        [](Bytes m, Bytes n, Bytes) { return 4 * m * n; }},
    Row{activation, kDataGrad, "torch-eager-gelu",
        [](Bytes m, Bytes n, Bytes) { return 6 * m * n; }},
    Row{residual, kForward, "torch-eager", [](Bytes m, Bytes n, Bytes) { return 6 * m * n; }},
    Row{embedding, kForward, "torch-eager", [](Bytes m, Bytes n, Bytes) { return 4 * m * n; }},
    // A bf16 gradient of the whole table is zeroed, then filled.
    Row{embedding, kWeightGrad, "torch-eager",
        [](Bytes m, Bytes n, Bytes k) { return 4 * m * n + 2 * k * n; }},
    // Logits are widened to fp32 first.
    Row{cross_entropy, kForward, "torch-eager", [](Bytes m, Bytes n, Bytes) { return 14 * m * n; }},
    Row{cross_entropy, kDataGrad, "torch-eager",
        [](Bytes m, Bytes n, Bytes) { return 22 * m * n; }},
    // fp32 throughout.
    Row{adam, kOptimizer, "torch-foreach", [](Bytes m, Bytes, Bytes) { return 72 * m; }},
    Row{adam, kOptimizer, "torch-fused", [](Bytes m, Bytes, Bytes) { return 28 * m; }},
    Row{grad_norm, kOptimizer, "torch-foreach", [](Bytes m, Bytes, Bytes) { return 4 * m; }},
    // The norm, and then the gradients scaled by it.
    Row{grad_norm, kOptimizer, "torch-foreach-clip", [](Bytes m, Bytes, Bytes) { return 12 * m; }},
    Row{zero_fill, kOptimizer, "torch-foreach", [](Bytes m, Bytes, Bytes) { return m; }},
};

bool needs_k(OpKind kind) {
  return kind == router || kind == permute || kind == unpermute || kind == rotary ||
         kind == embedding;
}

template <class Enum>
Enum named(std::string_view name, int count, const std::string& reading, const std::string& place,
           const char* what) {
  std::vector<std::string_view> known;
  for (int i = 0; i < count; ++i) {
    const auto e = static_cast<Enum>(i);
    if (name_of(e) == name) return e;
    known.push_back(name_of(e));
  }
  throw Error({reading, place, what, fmt::format("'{}'", name), nearest_hint(name, known)});
}

std::int64_t number(const std::string& word, const std::string& reading, const std::string& place) {
  std::int64_t value = 0;
  for (const char c : word) {
    if (c < '0' || c > '9' || value > kMost) {
      throw Error({reading, place, "a number from 0 to 2^40", "'" + word + "'", ""});
    }
    value = 10 * value + (c - '0');
  }
  return value;
}

const Row& row_of(OpKind kind, Phase phase, std::string_view provider, const std::string& reading,
                  const std::string& place) {
  std::vector<std::string_view> providers;
  for (const Row& row : kRows) {
    if (row.kind != kind || row.phase != phase) continue;
    if (row.provider == provider) return row;
    providers.push_back(row.provider);
  }
  if (providers.empty()) {
    throw Error({reading, place, "a kernel that can be measured",
                 fmt::format("{} {}", name_of(kind), name_of(phase)), ""});
  }
  throw Error({reading, place,
               fmt::format("a provider of {} {}: {}", name_of(kind), name_of(phase),
                           fmt::join(providers, ", ")),
               fmt::format("'{}'", provider), nearest_hint(provider, providers)});
}

// A line's words; number `i` of them.
struct Words {
  const std::vector<std::string>& of;
  const std::string& reading;
  const std::string& place;
  std::int64_t number_at(std::size_t i) const { return number(of[i], reading, place); }
  int small_at(std::size_t i) const {
    const std::int64_t value = number_at(i);
    if (value > std::numeric_limits<int>::max()) {
      throw Error({reading, place, "a number of heads or their width", "'" + of[i] + "'", ""});
    }
    return static_cast<int>(value);
  }
  void need(std::size_t count, const char* what) const {
    if (of.size() == count) return;
    throw Error({reading, place, what, fmt::format("{} words", of.size()), ""});
  }
};

Ask ask_of(const Words& w) {
  const OpKind kind = kind_of(w.of[0], w.reading, w.place);
  if (kind == attention) {
    w.need(9, "attention phase m n heads kv_heads head_dim v_head_dim provider");
    const AttentionShape shape{w.number_at(2), w.number_at(3), w.small_at(4),
                               w.small_at(5),  w.small_at(6),  w.small_at(7)};
    return make_attention_ask(phase_of(w.of[1], w.reading, w.place), shape, w.of[8], w.reading,
                              w.place);
  }
  w.need(8, "kind phase m n k groups spread provider");
  if (w.of[6] != "even" && w.of[6] != "uneven") {
    throw Error({w.reading, w.place, "even or uneven", "'" + w.of[6] + "'", ""});
  }
  return make_ask(kind, phase_of(w.of[1], w.reading, w.place), w.number_at(2), w.number_at(3),
                  w.number_at(4), w.number_at(5), w.of[6] == "uneven", w.of[7], w.reading, w.place);
}

}  // namespace

bool is_product(const Ask& ask) {
  return ask.work.kind == matmul || ask.work.kind == grouped_matmul;
}

bool is_hot(const Ask& ask) {
  return is_product(ask) || ask.work.kind == attention;
}

void refuse_pytorch(const std::vector<Ask>& asks, const std::string& reading) {
  for (const Ask& ask : asks) {
    if (!ask.provider.starts_with("torch-")) continue;
    throw Error({reading, to_text(ask), "a kernel of cuBLAS, cuDNN or steploom", "one of PyTorch's",
                 "measure it with profiler/torch_eager.py"});
  }
}

Work operator_of(const Ask& ask) {
  Work w = ask.work;
  w.bytes = operator_bytes(w);
  return w;
}

bool Ask::operator==(const Ask& other) const {
  const Work& a = work;
  const Work& b = other.work;
  return a.kind == b.kind && a.phase == b.phase && a.precision == b.precision && a.m == b.m &&
         a.n == b.n && a.k == b.k && a.groups == b.groups && a.heads == b.heads &&
         a.kv_heads == b.kv_heads && a.head_dim == b.head_dim && a.v_head_dim == b.v_head_dim &&
         uneven == other.uneven && provider == other.provider;
}

OpKind kind_of(std::string_view name, const std::string& reading, const std::string& place) {
  return named<OpKind>(name, kOpKinds, reading, place, "a kind of kernel");
}

Phase phase_of(std::string_view name, const std::string& reading, const std::string& place) {
  return named<Phase>(name, 4, reading, place, "a phase");
}

Ask make_ask(OpKind kind, Phase phase, std::int64_t m, std::int64_t n, std::int64_t k,
             std::int64_t groups, bool uneven, std::string_view provider,
             const std::string& reading, const std::string& place) {
  const Row& row = row_of(kind, phase, provider, reading, place);
  const auto refuse = [&](std::string expected, std::string found) {
    throw Error({reading, place, std::move(expected), std::move(found), ""});
  };
  if (kind == attention) refuse("heads and widths of attention", "m, n, k and groups");
  const bool product = row.bytes == nullptr;
  if (m <= 0 || n <= 0 || ((product || needs_k(kind)) && k <= 0) || groups <= 0) {
    refuse("a shape with sizes above 0", fmt::format("m={} n={} k={} groups={}", m, n, k, groups));
  }
  if (kind != grouped_matmul && (groups != 1 || uneven)) {
    refuse("one group, even: only grouped_matmul has more", fmt::format("{} groups", groups));
  }
  if (kind == unpermute && phase == kDataGrad && m % k != 0) {
    refuse("m rows, a multiple of the k that each token has", fmt::format("m={} k={}", m, k));
  }
  Ask ask{{}, uneven, std::string(provider)};
  if (product) {
    // m, n, k are the phase's own; the builder's function wants the layer's.
    ask.work.phase = phase;
    ask.work.m = m;
    ask.work.n = n;
    ask.work.k = k;
    const LayerShape layer = layer_of(ask.work);
    ask.work = grouped_product(phase, Precision::bf16, kind == grouped_matmul ? groups : 0,
                               layer.tokens, layer.outputs, layer.inputs);
  } else {
    ask.work = streaming(kind, phase, Precision::bf16, m, n, row.bytes(m, n, k));
    ask.work.k = kind == norm ? (provider.ends_with("layer") ? 2 : 1) : k;
  }
  return ask;
}

Ask make_attention_ask(Phase phase, const AttentionShape& shape, std::string_view provider,
                       const std::string& reading, const std::string& place) {
  row_of(attention, phase, provider, reading, place);
  const AttentionShape& s = shape;
  const bool sizes = s.sequence > 0 && s.sequences > 0 && s.heads > 0 && s.kv_heads > 0 &&
                     s.head_dim > 0 && s.v_head_dim > 0;
  if (!sizes || s.heads % s.kv_heads != 0 || s.head_dim % 8 != 0 || s.v_head_dim % 8 != 0) {
    throw Error({reading, place,
                 "sizes above 0, heads a multiple of kv_heads, widths multiples of 8",
                 fmt::format("m={} n={} heads={} kv_heads={} head_dim={} v_head_dim={}", s.sequence,
                             s.sequences, s.heads, s.kv_heads, s.head_dim, s.v_head_dim),
                 ""});
  }
  return {causal_attention(phase, Precision::bf16, shape), false, std::string(provider)};
}

std::int64_t written_k(const Ask& ask) {
  return ask.work.kind == norm ? 0 : ask.work.k;
}

std::string to_text(const Ask& ask) {
  const Work& w = ask.work;
  if (w.kind == attention) {
    return fmt::format("{} {} {} {} {} {} {} {} {}", name_of(w.kind), name_of(w.phase), w.m, w.n,
                       w.heads, w.kv_heads, w.head_dim, w.v_head_dim, ask.provider);
  }
  return fmt::format("{} {} {} {} {} {} {} {}", name_of(w.kind), name_of(w.phase), w.m, w.n,
                     written_k(ask), w.groups, ask.uneven ? "uneven" : "even", ask.provider);
}

std::vector<Ask> parse_asks(std::string_view text, const std::string& reading) {
  std::vector<Ask> asks;
  std::istringstream in{std::string(text)};
  int number_of_line = 0;
  for (std::string line; std::getline(in, line);) {
    const std::string place = fmt::format("line {}", ++number_of_line);
    std::istringstream split(line.substr(0, line.find('#')));
    std::vector<std::string> w;
    for (std::string word; split >> word;) w.push_back(word);
    if (w.empty()) continue;
    asks.push_back(ask_of({w, reading, place}));
  }
  if (asks.empty()) throw Error({reading, "", "a list of points to measure", "none", ""});
  return asks;
}

std::vector<Ask> read_asks(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw Error({file.string(), "", "a file that can be read", "no such file", ""});
  std::ostringstream text;
  text << in.rdbuf();
  return parse_asks(text.str(), file.string());
}

std::vector<std::int64_t> expert_tokens(std::int64_t tokens, std::int64_t groups, bool uneven) {
  std::vector<double> shares(static_cast<std::size_t>(groups), 1);
  double sum = 0;
  for (std::size_t e = 0; e < shares.size(); ++e) {
    if (uneven) shares[e] = 1 / std::sqrt(static_cast<double>(e + 1));
    sum += shares[e];
  }
  std::vector<std::int64_t> result;
  std::int64_t given = 0;
  for (const double share : shares) {
    result.push_back(static_cast<std::int64_t>(static_cast<double>(tokens) * share / sum));
    given += result.back();
  }
  for (std::size_t e = 0; given < tokens; e = (e + 1) % result.size(), ++given) ++result[e];
  return result;
}

AttentionShape attention_of(const Work& w) {
  return {w.m, w.n, w.heads, w.kv_heads, w.head_dim, w.v_head_dim};
}

LayerShape layer_of(const Work& w) {
  if (w.phase == Phase::data_grad) return {w.m, w.k, w.n};
  if (w.phase == Phase::weight_grad) return {w.k, w.n, w.m};
  return {w.m, w.n, w.k};
}

}  // namespace steploom
