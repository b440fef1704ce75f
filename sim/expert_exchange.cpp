#include "sim/expert_exchange.h"

#include <algorithm>
#include <cassert>

namespace steploom {

RowsExchanged rows_exchanged(const Work& w, const GroupShape& group) {
  assert(w.exchange != ExpertExchange::parts);
  return {static_cast<double>(w.m), static_cast<double>(w.n * bytes_of(w.precision)),
          visits_of(group.ranks, group.nodes, static_cast<int>(w.groups), static_cast<int>(w.k),
                    w.node_limit),
          w.exchange == ExpertExchange::combine};
}

double sm_seconds(const RowsExchanged& x, bool between_nodes, int sms) {
  const double copies = x.sent() / kCopied;
  const double sums = x.tokens * x.row / kSummed;  // one a token
  double one = copies, other = x.sums ? sums : copies;
  if (between_nodes) {
    one += x.sums ? sums : x.to_nodes() / kCopied;
    other = x.sums ? sums * x.visits.nodes : copies;
  }
  const double pairs = sms / 2.0;
  return std::max(one, other) / pairs * (1 + sms / kSharingSms);
}

}  // namespace steploom
