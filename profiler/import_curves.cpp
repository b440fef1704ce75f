#include "profiler/import_curves.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

namespace steploom {
namespace {

// The nearest values, by least squares, that never fall.
std::vector<double> never_falling(const std::vector<double>& values) {
  struct Pool {
    double sum;
    std::size_t count;
    double mean() const { return sum / static_cast<double>(count); }
  };
  std::vector<Pool> pools;
  for (const double v : values) {
    pools.push_back({v, 1});
    while (pools.size() > 1 && pools[pools.size() - 2].mean() > pools.back().mean()) {
      const Pool last = pools.back();
      pools.pop_back();
      pools.back().sum += last.sum;
      pools.back().count += last.count;
    }
  }
  std::vector<double> out;
  for (const Pool& p : pools) out.insert(out.end(), p.count, p.mean());
  return out;
}

}  // namespace

LaidCurve lay_curve(Profile& profile, const MeasuredCurve& measured) {
  std::vector<double> octaves;
  for (const double us : measured.us) octaves.push_back(std::log2(us));
  const std::vector<double> rising = never_falling(octaves);
  LaidCurve laid;
  CollectiveCurve curve{measured.collective,
                        measured.ranks,
                        {{make_axis("bytes", measured.bytes)}, {}},
                        measured.nodes,
                        measured.source};
  for (std::size_t i = 0; i < rising.size(); ++i) {
    curve.grid.values.push_back(static_cast<std::int32_t>(std::lround(1000 * rising[i])));
    const double moved = std::abs(std::exp2(rising[i] - octaves[i]) - 1);
    if (moved > 1e-9) ++laid.joined;
    laid.most_moved = std::max(laid.most_moved, moved);
  }
  const auto key = [](const CollectiveCurve& c) {
    return std::tuple(c.collective, c.ranks, c.nodes);
  };
  std::vector<CollectiveCurve>& curves = profile.collectives;
  const auto at = std::lower_bound(
      curves.begin(), curves.end(), curve,
      [&](const CollectiveCurve& a, const CollectiveCurve& b) { return key(a) < key(b); });
  laid.replaced = at != curves.end() && key(*at) == key(curve);
  if (laid.replaced) {
    *at = std::move(curve);
  } else {
    curves.insert(at, std::move(curve));
  }
  return laid;
}

}  // namespace steploom
