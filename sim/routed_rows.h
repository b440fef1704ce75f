// From a routing to rows: how many a source rank sends to each expert, and what that is for links.
//
// Integers throughout: weights become 32-bit shares, and the rows of a source rank are cut at the
// shares' running sum, each source starting at another fraction of a row. So a source sends exactly
// tokens·top_k rows (less what a capacity drops), even shares that divide them give even rows, and
// every machine gets the same. An expert whose weight asks for more than one row a token gets one a
// token; the others share the rest.
//
// Ranks of an expert-parallel group hold experts in blocks and are sources of equally many tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/routing.h"
#include "sim/cost.h"

namespace steploom {

// Which draw of a routing.
struct RoutingDraw {
  int sample = 0;
  int layer = 0;
  std::int64_t micro_batch = 0;
};

// One weight an expert, none negative, one positive. `tokens`: of all sources.
std::vector<double> expert_weights(const Routing& routing, int experts, std::int64_t tokens,
                                   const RoutingDraw& draw);

// Running sum of the shares, one entry an expert: the last is 2^32. No share is above 1/choices.
inline constexpr int kShareBits = 32;
std::vector<std::uint64_t> running_shares(std::span<const double> weights, int choices);

// Of one expert-parallel group in one layer and micro-batch.
struct RoutedRows {
  int ranks = 1;
  int experts = 1;
  std::vector<std::int64_t> sent;  // source rank after source rank, one entry an expert
  // With a node limit: rows that leave a source's node for each node, each row once a node; one
  // entry a node, source after source. Empty without.
  std::vector<std::int64_t> copies;
  std::int64_t dropped = 0;

  std::int64_t to(int source, int rank) const;  // all experts of a rank
  std::vector<std::int64_t> received() const;   // by expert
};

// `node_of`: of each rank of the group. `tokens`: of one source rank.
RoutedRows routed_rows(const Routing& routing, int experts, int choices, std::int64_t tokens,
                       std::span<const int> node_of, const RoutingDraw& draw);

// The rows of the even exchange that would be as much for the busiest link: what a rank of it sends
// in all, itself included. `inside`: for the rank that sends or receives most over NVLink;
// `outside`: for the node whose NICs do; 0 in one node. On several nodes `inside` is 0 where no two
// ranks share a node. With copies, a row travels to the rank of the same number on the other node
// and from there over NVLink (DeepEP).
struct EvenExchange {
  std::int64_t inside = 0;
  std::int64_t outside = 0;
};
EvenExchange even_exchange(const RoutedRows& rows, std::span<const int> node_of);

}  // namespace steploom
