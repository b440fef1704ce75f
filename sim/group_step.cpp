#include "sim/group_step.h"

#include <algorithm>
#include <cassert>
#include <vector>

namespace steploom {

StepMessages messages_of(const GroupStep& s, const GroupShape& group) {
  assert(s.steps >= 1 && group.ranks % s.steps == 0 && s.step >= 0 && s.step < s.steps);
  const int members = group.ranks / s.steps;
  const auto node_of = [&group](int rank) { return rank / group.ranks_per_node; };
  StepMessages most;
  std::vector<int> leaving(static_cast<std::size_t>(node_of(group.ranks - 1)) + 1, 0);
  for (int rank = 0; rank < group.ranks; ++rank) {
    const int first = (rank / members + s.step) % s.steps * members;
    int inside = 0, outside = 0;
    for (int to = first; to < first + members; ++to)
      if (to != rank) ++(node_of(to) == node_of(rank) ? inside : outside);
    most.inside = std::max(most.inside, inside);
    most.outside = std::max(most.outside, outside);
    leaving[static_cast<std::size_t>(node_of(rank))] += outside;
  }
  most.leaving = *std::max_element(leaving.begin(), leaving.end());
  return most;
}

}  // namespace steploom
