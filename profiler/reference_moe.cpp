// Routing and the movement of rows in float64.
#include <algorithm>
#include <cmath>
#include <string>

#include "models/error.h"
#include "profiler/reference_kernels.h"

namespace steploom {
namespace {

using View = ReferenceKernels::View;

// The k largest of a row, of equals the lower; a NaN is poison.
std::vector<std::int64_t> largest(const View& logits, std::int64_t row, std::int64_t n,
                                  std::int64_t k) {
  std::vector<std::int64_t> order;
  for (std::int64_t e = 0; e < n; ++e) {
    if (std::isnan(logits(row, e))) throw PoisonRead("router logits that nothing had written");
    order.push_back(e);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return logits(row, a) > logits(row, b); });
  order.resize(static_cast<std::size_t>(k));
  return order;
}

}  // namespace

void ReferenceKernels::launch(const Router& c, int) {
  const View chosen = view(c.chosen), weight = view(c.weight), position = view(c.position),
             source = view(c.source), logits = view(c.logits);
  const std::int64_t m = c.logits.rows, n = c.logits.width, k = c.chosen.width;
  std::vector<std::int64_t> taken(static_cast<std::size_t>(n), 0);
  for (std::int64_t i = 0; i < c.source.rows; ++i) source[i] = -1;
  for (std::int64_t t = 0; t < m; ++t) {
    std::vector<std::int64_t> experts = largest(logits, t, n, k);
    std::vector<bool> dropped(static_cast<std::size_t>(k), false);
    for (std::int64_t j = 0; j < k && c.mode == TapeMode::replay; ++j) {
      const std::int64_t word = view(c.tape).index(t * k + j);
      experts[static_cast<std::size_t>(j)] = word < 0 ? -1 - word : word;
      dropped[static_cast<std::size_t>(j)] = word < 0;
    }
    double most = logits(t, experts[0]), sum = 0;
    for (const std::int64_t e : experts) most = std::max(most, logits(t, e));
    for (const std::int64_t e : experts) sum += std::exp(logits(t, e) - most);
    for (std::int64_t j = 0; j < k; ++j) {
      const std::int64_t e = experts[static_cast<std::size_t>(j)];
      std::int64_t& place = taken[static_cast<std::size_t>(e)];
      bool drop = dropped[static_cast<std::size_t>(j)];
      if (place >= c.capacity && !drop && c.mode == TapeMode::replay)
        throw Error({"routing tape", "token " + std::to_string(t),
                     "at most " + std::to_string(c.capacity) + " rows for an expert",
                     "more for expert " + std::to_string(e), ""});
      if (c.mode != TapeMode::replay) drop = place >= c.capacity;
      chosen(t, j) = static_cast<double>(e);
      weight(t, j) = std::exp(logits(t, e) - most) / sum;
      const std::int64_t each = c.capacity / c.chunks;
      const std::int64_t row = drop ? -1 : (place / each * n + e) * each + place % each;
      if (!drop) ++place;
      position(t, j) = static_cast<double>(row);
      if (!drop) source[row] = static_cast<double>(t * k + j);
      if (c.mode == TapeMode::record) view(c.tape)(t, j) = static_cast<double>(drop ? -1 - e : e);
    }
  }
}

// weight = softmax over the chosen: d_logit = weight·(d_weight − Σ weight·d_weight).
void ReferenceKernels::launch(const RouterBackward& c, int) {
  const View d_logits = view(c.d_logits), d_weight = view(c.d_weight), weight = view(c.weight),
             chosen = view(c.chosen);
  const std::int64_t k = c.chosen.width;
  for (std::int64_t t = 0; t < c.d_logits.rows; ++t) {
    double mean = 0;
    for (std::int64_t j = 0; j < k; ++j) mean += weight(t, j) * d_weight(t, j);
    for (std::int64_t e = 0; e < c.d_logits.width; ++e) d_logits(t, e) = 0;
    for (std::int64_t j = 0; j < k; ++j)
      d_logits(t, chosen.index(t * k + j)) = weight(t, j) * (d_weight(t, j) - mean);
  }
}

void ReferenceKernels::launch(const Permute& c, int) {
  const View y = view(c.y), x = view(c.x), source = view(c.source);
  for (std::int64_t i = 0; i < c.y.rows; ++i) {
    const std::int64_t from = source.index(i);
    for (std::int64_t d = 0; d < c.y.width; ++d) y(i, d) = from < 0 ? 0 : x(from / c.k, d);
  }
}

void ReferenceKernels::launch(const PermuteBackward& c, int) {
  const View dx = view(c.dx), dy = view(c.dy), position = view(c.position);
  const std::int64_t k = c.position.width;
  for (std::int64_t t = 0; t < c.dx.rows; ++t)
    for (std::int64_t d = 0; d < c.dx.width; ++d) {
      double sum = 0;
      for (std::int64_t j = 0; j < k; ++j)
        if (const std::int64_t row = position.index(t * k + j); row >= 0) sum += dy(row, d);
      dx(t, d) = sum;
    }
}

void ReferenceKernels::launch(const Unpermute& c, int) {
  const View y = view(c.y), x = view(c.x), position = view(c.position), weight = view(c.weight);
  const std::int64_t k = c.position.width;
  for (std::int64_t t = 0; t < c.y.rows; ++t)
    for (std::int64_t d = 0; d < c.y.width; ++d) {
      double sum = c.shared ? view(c.shared)(t, d) : 0;
      for (std::int64_t j = 0; j < k; ++j)
        if (const std::int64_t row = position.index(t * k + j); row >= 0)
          sum += weight(t, j) * x(row, d);
      y(t, d) = sum;
    }
}

void ReferenceKernels::launch(const UnpermuteBackward& c, int) {
  const View dx = view(c.dx), d_weight = view(c.d_weight), dy = view(c.dy), x = view(c.x),
             position = view(c.position), weight = view(c.weight), source = view(c.source);
  const std::int64_t k = c.position.width;
  for (std::int64_t i = 0; i < c.dx.rows; ++i) {
    const std::int64_t from = source.index(i);
    for (std::int64_t d = 0; d < c.dx.width; ++d)
      dx(i, d) = from < 0 ? 0 : weight[from] * dy(from / k, d);
  }
  for (std::int64_t i = 0; i < c.position.elements(); ++i) {
    const std::int64_t row = position.index(i);
    double sum = 0;
    for (std::int64_t d = 0; d < c.dy.width && row >= 0; ++d) sum += dy(i / k, d) * x(row, d);
    d_weight[i] = sum;
  }
}

void ReferenceKernels::launch(const SortRows& c, int) {
  const View y = view(c.y), x = view(c.x);
  const std::int64_t block = c.x.elements() / (c.outer * c.inner);
  for (std::int64_t o = 0; o < c.outer; ++o)
    for (std::int64_t i = 0; i < c.inner; ++i)
      for (std::int64_t e = 0; e < block; ++e)
        y[(i * c.outer + o) * block + e] = x[(o * c.inner + i) * block + e];
}

}  // namespace steploom
