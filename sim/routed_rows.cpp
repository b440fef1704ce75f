#include "sim/routed_rows.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

#include "sim/expert_loads.h"
#include "sim/portable_math.h"
#include "sim/uniform.h"

namespace steploom {
namespace {

constexpr double kLn2 = 0.69314718055994530942;

// One stream of numbers for each draw: the parts are mixed in one after another.
Uniform stream_of(const Routing& routing, const RoutingDraw& draw) {
  std::uint64_t seed = routing.seed;
  for (const std::uint64_t part :
       {static_cast<std::uint64_t>(draw.sample), static_cast<std::uint64_t>(draw.layer),
        static_cast<std::uint64_t>(draw.micro_batch)})
    seed = Uniform(seed ^ (part + 1)).bits();
  return Uniform(seed);
}

// Standard normal, by Marsaglia's polar method (1964).
double normal(Uniform& uniform) {
  for (;;) {
    const double x = 2 * uniform() - 1, y = 2 * uniform() - 1;
    const double s = x * x + y * y;
    if (s > 0 && s < 1) return x * std::sqrt(-2 * kLn2 * portable_log2(s) / s);
  }
}

struct Placement {
  std::vector<std::vector<int>> ranks_of;  // by node, in order of first appearance
  std::vector<std::size_t> node;           // by rank
  std::vector<std::size_t> place;          // by rank: among its node's
};

Placement placed(std::span<const int> node_of) {
  Placement out;
  std::vector<int> known;
  for (std::size_t r = 0; r < node_of.size(); ++r) {
    const auto it = std::find(known.begin(), known.end(), node_of[r]);
    const auto node = static_cast<std::size_t>(it - known.begin());
    if (it == known.end()) {
      known.push_back(node_of[r]);
      out.ranks_of.emplace_back();
    }
    out.node.push_back(node);
    out.place.push_back(out.ranks_of[node].size());
    out.ranks_of[node].push_back(static_cast<int>(r));
  }
  return out;
}

// `rows` cut at the shares, from a `fraction` of a row on.
std::int64_t rows_up_to(std::uint64_t share, std::uint64_t rows, std::uint64_t fraction) {
  return static_cast<std::int64_t>((rows * share + fraction) >> kShareBits);
}

std::uint64_t fraction_of(std::size_t source, std::size_t sources) {
  return (static_cast<std::uint64_t>(source) << kShareBits) / sources;
}

// How many of a source's tokens go to each node at all.
void limit_nodes(const Placement& at, const std::vector<std::uint64_t>& shares, int limit,
                 std::int64_t tokens, RoutedRows& out) {
  const std::size_t nodes = at.ranks_of.size(), sources = at.node.size();
  const int visits = std::min(limit, static_cast<int>(nodes));
  const auto local = static_cast<std::size_t>(out.experts) / sources;
  std::vector<double> weights(nodes);
  for (std::size_t r = 0; r < sources; ++r) {
    const std::uint64_t before = r == 0 ? 0 : shares[r * local - 1];
    weights[at.node[r]] += static_cast<double>(shares[(r + 1) * local - 1] - before);
  }
  const std::vector<std::uint64_t> of_nodes = running_shares(weights, visits);
  out.copies.resize(sources * nodes);
  for (std::size_t s = 0; s < sources; ++s) {
    std::int64_t before = 0;
    for (std::size_t n = 0; n < nodes; ++n) {
      const std::int64_t upto = rows_up_to(of_nodes[n], static_cast<std::uint64_t>(tokens * visits),
                                           fraction_of(s, sources));
      std::int64_t wanted = 0;  // no more rows than there are for its experts
      for (const int rank : at.ranks_of[n]) wanted += out.to(static_cast<int>(s), rank);
      if (n != at.node[s]) out.copies[s * nodes + n] = std::min(upto - before, wanted);
      before = upto;
    }
  }
}

}  // namespace

std::int64_t RoutedRows::to(int source, int rank) const {
  const std::int64_t local = experts / ranks;
  const auto first = sent.begin() + std::int64_t{source} * experts + rank * local;
  return std::accumulate(first, first + local, std::int64_t{0});
}

std::vector<std::int64_t> RoutedRows::received() const {
  std::vector<std::int64_t> out(static_cast<std::size_t>(experts));
  for (std::size_t first = 0; first < sent.size(); first += out.size())
    for (std::size_t e = 0; e < out.size(); ++e) out[e] += sent[first + e];
  return out;
}

std::vector<double> expert_weights(const Routing& routing, int experts, std::int64_t tokens,
                                   const RoutingDraw& draw) {
  std::vector<double> out(static_cast<std::size_t>(experts), 1);
  if (routing.law == RoutingLaw::recorded) {
    const std::vector<std::int64_t>& recorded = routing.tokens_of(draw.layer, draw.micro_batch);
    assert(recorded.size() == out.size());
    std::transform(recorded.begin(), recorded.end(), out.begin(),
                   [](std::int64_t n) { return static_cast<double>(n); });
  }
  if (!routing.random()) return out;
  Uniform uniform = stream_of(routing, draw);
  for (double& weight : out)
    weight = routing.law == RoutingLaw::power_law
                 ? power_law_weight(uniform(), static_cast<double>(tokens), routing.parameter)
                 : portable_exp2(routing.parameter * normal(uniform) / kLn2);
  return out;
}

std::vector<std::uint64_t> running_shares(std::span<const double> weights, int choices) {
  const std::size_t n = weights.size();
  assert(choices >= 1 && static_cast<std::size_t>(choices) <= n);
  // Experts that get one row a token, until the others' largest wants no more than that.
  std::vector<bool> full(n, false);
  int left = choices;
  double rest = 0;
  for (bool again = true; again;) {
    again = false;
    rest = 0;
    for (std::size_t i = 0; i < n; ++i)
      if (!full[i]) rest += weights[i];
    const int before = left;
    for (std::size_t i = 0; i < n; ++i) {
      if (full[i] || weights[i] * before <= rest) continue;
      full[i] = again = true;
      --left;
    }
  }
  // Fewer experts with weight than choices: the rest have the other choices evenly.
  const bool none = rest <= 0;
  if (none) rest = static_cast<double>(std::count(full.begin(), full.end(), false));
  constexpr double kWhole = static_cast<double>(std::uint64_t{1} << kShareBits);
  std::vector<std::uint64_t> out(n);
  double fully = 0, sum = 0;  // experts with one row a token so far; weight of the others
  for (std::size_t i = 0; i < n; ++i) {
    (full[i] ? fully : sum) += full[i] || none ? 1 : weights[i];
    const double share = (fully + (rest > 0 ? sum * left / rest : 0)) / choices;
    // Up, so that rows that divide evenly are not lost to rounding.
    out[i] = static_cast<std::uint64_t>(std::min(std::ceil(share * kWhole - 1e-3), kWhole));
  }
  out.back() = std::uint64_t{1} << kShareBits;
  return out;
}

RoutedRows routed_rows(const Routing& routing, int experts, int choices, std::int64_t tokens,
                       std::span<const int> node_of, const RoutingDraw& draw) {
  const std::size_t sources = node_of.size(), n = static_cast<std::size_t>(experts);
  assert(sources > 0 && n % sources == 0 && tokens * choices < (std::int64_t{1} << 31));
  const auto of_all = static_cast<std::int64_t>(sources) * tokens;
  const std::vector<std::uint64_t> shares =
      running_shares(expert_weights(routing, experts, of_all, draw), choices);
  RoutedRows out;
  out.ranks = static_cast<int>(sources);
  out.experts = experts;
  out.sent.resize(sources * n);
  const auto rows = static_cast<std::uint64_t>(tokens * choices);
  const auto most = routing.capacity > 0
                        ? static_cast<std::int64_t>(
                              std::ceil(static_cast<double>(rows) * routing.capacity / experts))
                        : tokens;
  for (std::size_t s = 0; s < sources; ++s) {
    std::int64_t before = 0;
    const std::uint64_t fraction = fraction_of(s, sources);
    for (std::size_t e = 0; e < n; ++e) {
      const std::int64_t upto = rows_up_to(shares[e], rows, fraction);
      std::int64_t& kept = out.sent[s * n + e];
      kept = upto - before;
      before = upto;
      if (routing.capacity <= 0 || kept <= most) continue;
      out.dropped += kept - most;
      kept = most;
    }
  }
  if (routing.nodes > 0) {
    const Placement at = placed(node_of);
    if (at.ranks_of.size() > 1) limit_nodes(at, shares, routing.nodes, tokens, out);
  }
  return out;
}

EvenExchange even_exchange(const RoutedRows& rows, std::span<const int> node_of) {
  const Placement at = placed(node_of);
  const std::size_t ranks = node_of.size(), nodes = at.ranks_of.size();
  const bool copied = !rows.copies.empty();
  std::vector<std::int64_t> in(ranks), out(ranks), into(nodes), leaving(nodes);
  std::size_t most = 0;
  for (const auto& members : at.ranks_of) most = std::max(most, members.size());
  for (std::size_t s = 0; s < ranks; ++s) {
    for (std::size_t d = 0; d < ranks; ++d) {
      const std::int64_t n = rows.to(static_cast<int>(s), static_cast<int>(d));
      std::size_t from = s;  // who sends it over NVLink
      if (at.node[s] != at.node[d]) {
        if (!copied) {
          leaving[at.node[s]] += n;
          into[at.node[d]] += n;
          continue;
        }
        const auto& members = at.ranks_of[at.node[d]];
        from = static_cast<std::size_t>(members[at.place[s] % members.size()]);
      }
      if (from == d) continue;
      out[from] += n;
      in[d] += n;
    }
    for (std::size_t n = 0; copied && n < nodes; ++n) {
      leaving[at.node[s]] += rows.copies[s * nodes + n];
      into[n] += rows.copies[s * nodes + n];
    }
  }
  const auto largest = [](const std::vector<std::int64_t>& a, const std::vector<std::int64_t>& b) {
    return std::max(*std::max_element(a.begin(), a.end()), *std::max_element(b.begin(), b.end()));
  };
  const auto n = static_cast<std::int64_t>(ranks), r = static_cast<std::int64_t>(most);
  EvenExchange even;
  if (r > 1) even.inside = (largest(in, out) * n + r - 2) / (r - 1);
  if (nodes > 1) even.outside = (largest(into, leaving) * n + r * (n - r) - 1) / (r * (n - r));
  return even;
}

}  // namespace steploom
