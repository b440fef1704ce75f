#include <algorithm>
#include <memory>
#include <numeric>
#include <random>

#include "profiler/kernels.h"
#include "profiler/trial.h"

namespace steploom {
namespace {

// What the kernel is: rows gathered by index, k rows summed, k rows written, rows added to a table.
enum class Body { gather, sum, spread, scatter };

Body body_of(const Work& w) {
  if (w.kind == OpKind::embedding) return w.phase == Phase::forward ? Body::gather : Body::scatter;
  if (w.kind == OpKind::permute) return w.phase == Phase::forward ? Body::gather : Body::sum;
  return w.phase == Phase::forward ? Body::sum : Body::spread;
}

struct Counts {
  std::int64_t few;   // tokens, or entries of the embedding's table
  std::int64_t many;  // their rows, one for each choice; or tokens looked up
  int k;
};

Counts counts_of(const Work& w) {
  if (w.kind == OpKind::embedding) return {w.k, w.m, 1};
  const int k = static_cast<int>(w.k);
  const bool m_is_many = (w.kind == OpKind::permute) == (w.phase == Phase::forward);
  const std::int64_t tokens = m_is_many ? w.m / k : w.m;
  return {tokens, tokens * k, k};
}

// position[t·k + j]: the row of token t's choice j; every row once, in no order.
std::vector<std::int32_t> scattered_positions(std::int64_t many) {
  std::vector<std::int32_t> position(static_cast<std::size_t>(many));
  std::iota(position.begin(), position.end(), 0);
  std::mt19937 random(7);
  std::shuffle(position.begin(), position.end(), random);
  return position;
}

struct Tensors {
  Work work;
  Body body;
  Counts c;
  int sets;
  Slab<Bf16> few, many, result_few, result_many;
  Slab<float> weight, d_weight, table;
  Slab<std::int32_t> index;
  std::vector<std::int32_t> host_index;
  std::vector<float> host_weight;

  Tensors(const Work& w, Bytes rotate)
      : work(w),
        body(body_of(w)),
        c(counts_of(w)),
        // The index is one for all sets; an embedding's table is one too, as in training.
        sets(sets_for(w.bytes, rotate)),
        few(body == Body::gather || body == Body::spread ? c.few * w.n : 0,
            w.kind == OpKind::embedding ? 1 : sets),
        many(body == Body::gather ? 0 : c.many * w.n, sets),
        result_few(body == Body::sum ? c.few * w.n : 0, sets),
        result_many(body == Body::gather || body == Body::spread ? c.many * w.n : 0, sets),
        weight(c.many, 1),
        d_weight(c.many, 1),
        table(body == Body::scatter ? c.few * w.n : 0, 1),
        index(c.many, 1) {
    few.randomize(1, 1);
    many.randomize(2, 1);
    weight.randomize(3, 1);
    table.randomize(4, 1);
    host_index = scattered_positions(c.many);
    if (w.kind == OpKind::embedding) {
      for (std::int32_t& i : host_index) i = static_cast<std::int32_t>(i * 7919LL % c.few);
    } else if (body == Body::gather) {
      for (std::int32_t& i : host_index) i = static_cast<std::int32_t>(i / c.k);
    }
    index.assign(host_index);
    host_weight = weight.read(0, c.many);
  }

  bool weighted() const { return work.kind == OpKind::unpermute; }
  const Bf16* few_at(int s) const { return few.at(work.kind == OpKind::embedding ? 0 : s); }

  void run(int s, Stream stream) const {
    switch (body) {
      case Body::gather:
        kernels::gather_rows(result_many.at(s), few_at(s), index.at(0), c.many, work.n, stream);
        break;
      case Body::sum:
        kernels::sum_rows(result_few.at(s), many.at(s), index.at(0),
                          weighted() ? weight.at(0) : nullptr, nullptr, c.few, c.k, work.n, stream);
        break;
      case Body::spread:
        kernels::unpermute_backward(result_many.at(s), d_weight.at(0), few.at(s), many.at(s),
                                    index.at(0), weight.at(0), nullptr, c.few, c.k, work.n, stream);
        break;
      case Body::scatter:
        kernels::add_rows(table.at(0), many.at(s), index.at(0), c.many, work.n, stream);
        break;
    }
  }
};

void prove_gather(const Tensors& t, Proof& proof) {
  for (const std::int64_t row : sampled_rows(t.c.many)) {
    const std::int64_t from = t.host_index[static_cast<std::size_t>(row)];
    const std::vector<double> got = row_of(t.result_many, row, t.work.n);
    const std::vector<double> want = row_of(t.few, from, t.work.n);
    for (std::size_t i = 0; i < got.size(); ++i) {
      proof.expect(got[i], want[i], "row", row, static_cast<std::int64_t>(i));
    }
  }
}

void prove_sum(const Tensors& t, Proof& proof) {
  for (const std::int64_t token : sampled_rows(t.c.few)) {
    std::vector<double> want(static_cast<std::size_t>(t.work.n), 0);
    for (int j = 0; j < t.c.k; ++j) {
      const auto choice = static_cast<std::size_t>(token * t.c.k + j);
      const std::vector<double> x = row_of(t.many, t.host_index[choice], t.work.n);
      const double w = t.weighted() ? static_cast<double>(t.host_weight[choice]) : 1;
      for (std::size_t i = 0; i < x.size(); ++i) want[i] += w * x[i];
    }
    const std::vector<double> got = row_of(t.result_few, token, t.work.n);
    for (std::size_t i = 0; i < got.size(); ++i) {
      proof.expect(got[i], want[i], "sum", token, static_cast<std::int64_t>(i));
    }
  }
}

void prove_spread(const Tensors& t, Proof& proof) {
  for (const std::int64_t token : sampled_rows(t.c.few)) {
    const std::vector<double> dy = row_of(t.few, token, t.work.n);
    for (int j = 0; j < t.c.k; ++j) {
      const auto choice = static_cast<std::size_t>(token * t.c.k + j);
      const std::int64_t row = t.host_index[choice];
      const std::vector<double> x = row_of(t.many, row, t.work.n);
      const std::vector<double> dx = row_of(t.result_many, row, t.work.n);
      double dot = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        dot += dy[i] * x[i];
        proof.expect(dx[i], static_cast<double>(t.host_weight[choice]) * dy[i], "dx", row,
                     static_cast<std::int64_t>(i));
      }
      const auto at = static_cast<std::int64_t>(choice);
      proof.expect(static_cast<double>(t.d_weight.read(at, 1)[0]), dot, "d_weight", token, j);
    }
  }
}

std::string prove_scatter(const Tensors& t, Stream stream) {
  const std::int64_t entry = t.host_index[static_cast<std::size_t>(t.c.many / 2)];
  const std::vector<float> before = t.table.read(entry * t.work.n, t.work.n);
  t.run(0, stream);
  std::vector<double> want(before.begin(), before.end());
  for (std::int64_t row = 0; row < t.c.many; ++row) {
    if (t.host_index[static_cast<std::size_t>(row)] != entry) continue;
    const std::vector<double> dy = row_of(t.many, row, t.work.n);
    for (std::size_t i = 0; i < dy.size(); ++i) want[i] += dy[i];
  }
  Proof proof(1e-5, 1e-5);
  const std::vector<float> got = t.table.read(entry * t.work.n, t.work.n);
  for (std::size_t i = 0; i < got.size(); ++i) {
    proof.expect(static_cast<double>(got[i]), want[i], "table", entry,
                 static_cast<std::int64_t>(i));
  }
  return proof.fault();
}

std::string prove(const Tensors& t, Stream stream) {
  if (t.body == Body::scatter) return prove_scatter(t, stream);
  const Slab<Bf16>& result = t.body == Body::sum ? t.result_few : t.result_many;
  result.spoil(stream);
  t.d_weight.spoil(stream);
  t.run(0, stream);
  Proof proof(0.005, 0.002);
  proof.expect_written(result, stream);
  if (t.body == Body::gather) prove_gather(t, proof);
  if (t.body == Body::sum) prove_sum(t, proof);
  if (t.body == Body::spread) prove_spread(t, proof);
  return proof.fault();
}

}  // namespace

Trial rows_trial(const Ask& ask, Bytes rotate) {
  const auto tensors = std::make_shared<const Tensors>(ask.work, rotate);
  Trial trial;
  trial.sets = tensors->sets;
  trial.launch = [tensors](int set, Stream stream) { tensors->run(set, stream); };
  trial.prove = [tensors](Stream stream) { return prove(*tensors, stream); };
  return trial;
}

}  // namespace steploom
