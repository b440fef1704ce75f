#include "models/parameter_list.h"

#include <algorithm>
#include <cmath>

#include "models/parameters.h"

namespace steploom {
namespace {

using Run = ParameterTensor::Run;

class Builder {
 public:
  Builder(const ModelSpec& m, const Layout& l, const ShardIndex& at) : m_(m), l_(l), at_(at) {}

  std::vector<ParameterTensor> run(const std::vector<StageSpan>& spans) {
    for (const StageSpan& stage : spans) {
      if (stage.embedding) embedding();
      for (int i = 0; i < stage.layers; ++i) layer(stage.first_layer + i);
      if (stage.head) head(stage.has_embedding_table());
      for (int i = 1; stage.head && i <= m_.mtp_modules; ++i) module(i, stage.has_embedding_table());
    }
    std::stable_partition(out_.begin(), out_.end(), [](const ParameterTensor& p) {
      return p.bucket != ParameterBucket::experts;
    });
    return std::move(out_);
  }

 private:
  ParameterTensor& add(std::string_view op, ParameterPart part, ParameterBucket bucket) {
    ParameterTensor p;
    p.layer = layer_;
    p.op = op;
    p.part = part;
    p.name = "layer " + std::to_string(layer_) + " · " + p.op + " · " + std::string(name_of(part));
    p.bucket = bucket;
    if (bucket == ParameterBucket::replicated) p.copies = l_.tp;
    out_.push_back(std::move(p));
    return out_.back();
  }

  // All of it on every rank.
  ParameterTensor& replicated(std::string_view op, ParameterPart part, std::int64_t rows,
                              std::int64_t width) {
    ParameterTensor& p = add(op, part, ParameterBucket::replicated);
    p.rows = rows;
    p.width = p.whole_width = width;
    p.runs = {{0, rows, 0}};
    return p;
  }

  void gain(std::string_view op, std::int64_t n) {
    replicated(op, ParameterPart::gain, 1, n).mean = 1;
  }
  void norm(std::string_view op) {
    gain(op, m_.hidden);
    if (m_.norm_bias) replicated(op, ParameterPart::bias, 1, m_.hidden);
  }

  // Column-parallel: the rows of each section are cut over tp; sections stand one below the other.
  void column(std::string_view op, std::vector<std::int64_t> sections, std::int64_t inputs,
              bool bias) {
    ParameterTensor& p = add(op, ParameterPart::weight, ParameterBucket::sharded);
    p.width = p.whole_width = inputs;
    p.deviation = 1 / std::sqrt(static_cast<double>(inputs));
    std::int64_t whole = 0;
    for (const std::int64_t s : sections) {
      const std::int64_t mine = s / l_.tp;
      p.runs.push_back({p.rows, mine, whole + at_.tp * mine});
      p.rows += mine;
      whole += s;
    }
    if (!bias) return;
    // One row of columns: as runs of rows of width one.
    ParameterTensor b = p;
    b.part = ParameterPart::bias;
    b.name = p.name.substr(0, p.name.rfind("· ")) + "· bias";
    b.width = b.whole_width = 1;
    out_.push_back(std::move(b));
  }

  double residual() const { return 1 / std::sqrt(2.0 * m_.layers); }

  // Row-parallel: the columns are cut over tp.
  void row(std::string_view op, std::int64_t outputs, std::int64_t inputs) {
    ParameterTensor& p = add(op, ParameterPart::weight, ParameterBucket::sharded);
    p.rows = outputs;
    p.width = inputs / l_.tp;
    p.whole_width = inputs;
    p.first_column = at_.tp * p.width;
    p.runs = {{0, outputs, 0}};
    p.deviation = residual() / std::sqrt(static_cast<double>(inputs));
  }

  void down(std::string_view op, std::int64_t outputs, std::int64_t inputs) {
    replicated(op, ParameterPart::weight, outputs, inputs).deviation =
        1 / std::sqrt(static_cast<double>(inputs));
  }

  ParameterTensor& table(std::string_view op, bool second) {
    ParameterTensor& p = add(op, ParameterPart::weight, ParameterBucket::sharded);
    p.rows = padded_vocab(m_.vocab, l_.tp) / l_.tp;
    p.width = p.whole_width = m_.table_width();
    p.runs = {{0, p.rows, at_.tp * p.rows}};
    p.deviation = second ? 1 / std::sqrt(static_cast<double>(m_.hidden)) : 1;
    if (m_.tied_embeddings) p.deviation = 1 / std::sqrt(static_cast<double>(m_.hidden));
    if (m_.tied_embeddings || (!second && m_.embedding_at_both_ends())) {
      p.name = "layer -1 · embedding · weight";
      if (l_.pp > 1) p.copies = 2;
    }
    return p;
  }

  void embedding() {
    layer_ = -1;
    table("embedding", false);
    if (m_.learned_positions)
      replicated("embedding", ParameterPart::positions, m_.position_rows(), m_.hidden).deviation =
          0.1;
    if (m_.embedding_width > 0) down("embedding projection", m_.hidden, m_.embedding_width);
  }

  void head(bool embedding_here) {
    layer_ = m_.layers;
    if (!m_.tied_embeddings || !embedding_here) table("head", true);
    if (m_.final_norm) norm("final norm");
    if (m_.embedding_width > 0) down("head projection", m_.embedding_width, m_.hidden);
  }

  // Multi-token prediction: a layer, and around it what it needs beside the model's own tables.
  void module(int number, bool embedding_here) {
    layer_ = m_.layers + number;
    if (number == 1 && !embedding_here && !m_.tied_embeddings) table("embedding", false);
    column("mtp projection", {m_.hidden}, 2 * m_.hidden, false);
    layer(layer_);
    norm("mtp token norm");
    norm("mtp hidden norm");
    norm("final norm");
  }

  void layer(int layer) {
    layer_ = layer;
    const std::int64_t h = m_.hidden;
    const bool moe = m_.is_moe(layer);
    const std::size_t begin = out_.size();
    if (m_.attention.kind == AttentionKind::latent)
      latent_attention(h);
    else
      grouped_query_attention(h);
    norm("attention norm");
    norm("ffn norm");
    if (moe)
      experts(h);
    else
      ffn("ffn", m_.dense.width, m_.dense.gated, m_.dense.bias, h);
    std::stable_partition(
        out_.begin() + static_cast<std::ptrdiff_t>(begin), out_.end(),
        [](const ParameterTensor& p) { return p.bucket == ParameterBucket::sharded; });
  }

  void grouped_query_attention(std::int64_t h) {
    const AttentionSpec& a = m_.attention;
    const std::int64_t q = std::int64_t{a.heads} * a.head_dim;
    const std::int64_t k = std::int64_t{a.kv_heads} * a.head_dim;
    const std::int64_t v = std::int64_t{a.kv_heads} * a.v_head_dim;
    column("qkv", {q, k, v}, h, a.qkv_bias);
    if (a.sinks) column("attention", {a.heads}, 1, false);
    if (a.qk_norm && a.qk_gain) replicated("qk norm", ParameterPart::gain, 2, a.head_dim).mean = 1;
    row("attention out", h, std::int64_t{a.heads} * a.v_head_dim);
    if (a.out_bias) replicated("attention out", ParameterPart::bias, 1, h);
  }

  void latent_attention(std::int64_t h) {
    const AttentionSpec& a = m_.attention;
    const std::int64_t q = std::int64_t{a.heads} * a.head_dim;
    if (a.q_lora_rank == 0) {
      column("q", {q}, h, false);
    } else {
      down("q down", a.q_lora_rank, h);
      gain("q latent norm", a.q_lora_rank);
      column("q up", {q}, a.q_lora_rank, false);
    }
    down("kv down", a.kv_lora_rank + a.qk_rope_head_dim, h);
    gain("kv latent norm", a.kv_lora_rank);
    column("kv up", {std::int64_t{a.heads} * (a.qk_nope_head_dim + a.v_head_dim)}, a.kv_lora_rank,
           false);
    row("attention out", h, std::int64_t{a.heads} * a.v_head_dim);
  }

  void ffn(const std::string& name, std::int64_t width, bool gated, bool bias, std::int64_t h) {
    column(name + " up",
           gated ? std::vector<std::int64_t>{width, width} : std::vector<std::int64_t>{width}, h,
           bias);
    row(name + " down", h, width);
    if (bias) replicated(name + " down", ParameterPart::bias, 1, h);
  }

  void experts(std::int64_t h) {
    const MoeSpec& moe = *m_.moe;
    if (moe.shared_width > 0) ffn("shared expert", moe.shared_width, moe.expert.gated, false, h);
    down("router", moe.experts, h);
    if (moe.correction_bias || moe.router_bias)
      replicated("router", ParameterPart::bias, 1, moe.experts);
    if (moe.shared_gate) down("shared expert gate", 1, h);

    const std::int64_t local = moe.experts / l_.ep;
    const std::int64_t first = at_.ep * local;
    const std::int64_t width = moe.expert.width;
    const std::int64_t mine = width / l_.etp;
    const int halves = moe.expert.gated ? 2 : 1;
    const auto part = [&](std::string_view op, ParameterPart p) -> ParameterTensor& {
      return add(op, p, ParameterBucket::experts);
    };
    ParameterTensor& up = part("experts up", ParameterPart::weight);
    up.rows = local * halves * mine;
    up.width = up.whole_width = h;
    up.deviation = 1 / std::sqrt(static_cast<double>(h));
    for (std::int64_t e = 0; e < local; ++e)
      for (int half = 0; half < halves; ++half)
        up.runs.push_back({(e * halves + half) * mine, mine,
                           ((first + e) * halves + half) * width + at_.etp * mine});
    const std::vector<Run> runs = up.runs;
    const std::int64_t rows = up.rows;
    if (moe.expert.bias) {
      ParameterTensor& bias = part("experts up", ParameterPart::bias);
      bias.rows = rows;
      bias.width = bias.whole_width = 1;
      bias.runs = runs;
    }
    ParameterTensor& out = part("experts down", ParameterPart::weight);
    out.rows = local * h;
    out.width = mine;
    out.whole_width = width;
    out.first_column = at_.etp * mine;
    out.runs = {{0, local * h, first * h}};
    out.deviation = residual() / std::sqrt(static_cast<double>(width));
    if (moe.expert.bias) {
      ParameterTensor& bias = part("experts down", ParameterPart::bias);
      bias.rows = local;
      bias.width = bias.whole_width = h;
      bias.runs = {{0, local, first}};
    }
  }

  const ModelSpec& m_;
  const Layout& l_;
  const ShardIndex& at_;
  int layer_ = -1;
  std::vector<ParameterTensor> out_;
};

}  // namespace

std::string_view name_of(ParameterPart p) {
  switch (p) {
    case ParameterPart::weight:
      return "weight";
    case ParameterPart::bias:
      return "bias";
    case ParameterPart::gain:
      return "gain";
    case ParameterPart::positions:
      return "positions";
  }
  return "";
}

std::vector<ParameterTensor> parameter_list(const ModelSpec& m, const Layout& l,
                                            const std::vector<StageSpan>& spans,
                                            const ShardIndex& at) {
  return Builder(m, l, at).run(spans);
}

std::vector<ParameterTensor> parameter_list(const ModelSpec& m, const Layout& l,
                                            const StageSpan& stage, const ShardIndex& at) {
  return parameter_list(m, l, std::vector{stage}, at);
}

}  // namespace steploom
