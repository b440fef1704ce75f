// How sure is the ranking? The best rows again, under what the network might really be.
//
// The bandwidth and the latency between nodes are scaled by fixed draws within ±20 % (a Halton
// sequence in bases 2 and 3, so every run asks the same questions); every row is costed and
// replayed anew under each draw.
#pragma once

#include <span>
#include <vector>

#include "planner/search.h"
#include "sim/profile.h"

namespace steploom {

struct Robustness {
  double stays_best = 0;    // share of the draws in which this row is the fastest of the rows
  double worst_regret = 0;  // most that it loses to the fastest row, as a share of the fastest
};

inline constexpr int kDraws = 16;
inline constexpr double kSpread = 0.2;

struct Draw {
  double bandwidth = 1;  // factors
  double latency = 1;
};
std::vector<Draw> network_draws();

// One entry a row. `profiles`: by type of device, what the setting's costs were made from.
std::vector<Robustness> robustness(const Setting& setting, std::span<const Profile> profiles,
                                   const std::vector<Candidate>& rows, unsigned threads);
inline std::vector<Robustness> robustness(const Setting& setting, const Profile& profile,
                                          const std::vector<Candidate>& rows, unsigned threads) {
  return robustness(setting, std::span(&profile, 1), rows, threads);
}

}  // namespace steploom
