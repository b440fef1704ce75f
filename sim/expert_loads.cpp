#include "sim/expert_loads.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <numeric>

#include "sim/portable_math.h"
#include "sim/uniform.h"

namespace steploom {
namespace {

constexpr double kMostOfTokens = 0.8;
constexpr int kDraws = 15;  // odd, for a median

double power(double base, double exponent) {
  return portable_exp2(exponent * portable_log2(base));
}

// The weight at a quantile of the law between 1 and `most`.
double weight(double quantile, double most, double skew) {
  const double left = 1 - skew;
  if (left > -1e-6 && left < 1e-6) return power(most, quantile);
  return power((power(most, left) - 1) * quantile + 1, 1 / left);
}

}  // namespace

double power_law_weight(double quantile, double tokens, double skew) {
  return weight(quantile, std::max(kMostOfTokens * tokens, 2.0), skew);
}

double slowest_rank_rows(double rows, double tokens, int experts, int ranks, double skew) {
  assert(ranks >= 1 && experts % ranks == 0);
  if (skew <= 0 || ranks == 1) return rows / ranks;
  const double most = std::max(kMostOfTokens * tokens, 2.0);
  const int each = experts / ranks;
  std::vector<double> shares;
  for (int draw = 0; draw < kDraws; ++draw) {
    Uniform uniform(static_cast<std::uint64_t>(draw) + 1);
    double all = 0, longest = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      double sum = 0;
      for (int i = 0; i < each; ++i) sum += weight(uniform(), most, skew);
      all += sum;
      longest = std::max(longest, sum);
    }
    shares.push_back(longest / all);
  }
  std::nth_element(shares.begin(), shares.begin() + kDraws / 2, shares.end());
  return rows * shares[kDraws / 2];
}

std::vector<double> power_law_loads(double rows, int groups, double skew) {
  assert(groups >= 1);
  const int count = std::min(groups, kMostLoads);
  std::vector<double> loads(static_cast<std::size_t>(count), 1);
  if (skew > 0) {
    const double most = std::max(rows, 2.0);
    for (int i = 0; i < count; ++i)
      loads[static_cast<std::size_t>(i)] = weight((i + 0.5) / count, most, skew);
  }
  const double sum = std::accumulate(loads.begin(), loads.end(), 0.0) * groups / count;
  for (double& load : loads) load *= rows / sum;
  return loads;
}

}  // namespace steploom
