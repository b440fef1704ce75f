#include "planner/space.h"

#include <algorithm>
#include <array>

#include "models/layout_rules.h"

namespace steploom {
namespace {

constexpr std::array kChunks{2, 4, 8};  // Tutel's degrees of pipelining (arXiv 2206.03382)

std::vector<std::int64_t> divisors(std::int64_t n) {
  std::vector<std::int64_t> low, high;
  for (std::int64_t d = 1; d * d <= n; ++d)
    if (n % d == 0) {
      low.push_back(d);
      if (d != n / d) high.push_back(n / d);
    }
  low.insert(low.end(), high.rbegin(), high.rend());
  return low;
}

}  // namespace

Space enumerate_layouts(const Setting& s) {
  Space space;
  const int devices = s.cluster.devices();
  const auto degrees = divisors(devices);
  const std::vector<std::int64_t> one{1};
  const auto& expert_degrees = s.model.has_moe() ? degrees : one;
  const auto batches = divisors(s.work.global_batch);
  Layout l;
  const auto consider = [&] {
    ++space.enumerated;
    const auto refusal = refuse({s.model, s.work, l, devices});
    if (refusal)
      ++space.refused[refusal->rule];
    else
      space.valid.push_back(l);
    return !refusal;
  };
  // What is refused whole is refused in chunks too.
  const auto consider_chunks = [&] {
    l.chunks = 1;
    if (!consider() || l.ep * l.etp == 1 || !s.runtime.chunks_experts) return;
    for (const int chunks : kChunks) {
      l.chunks = chunks;
      consider();
    }
  };
  for (const std::int64_t tp : degrees)
    for (const std::int64_t pp : divisors(devices / tp)) {
      l.tp = static_cast<int>(tp);
      l.pp = static_cast<int>(pp);
      l.dp = devices / (l.tp * l.pp);
      for (const std::int64_t ep : expert_degrees)
        for (const std::int64_t etp : expert_degrees)
          for (const bool sp : {false, true})
            for (const int zero : {0, 1})
              for (const std::int64_t batch : batches)
                for (const Recompute recompute : {Recompute::none, Recompute::full}) {
                  l.ep = static_cast<int>(ep);
                  l.etp = static_cast<int>(etp);
                  l.sp = sp;
                  l.zero = zero;
                  l.micro_batch = batch;
                  l.recompute = recompute;
                  consider_chunks();
                }
    }
  std::sort(space.valid.begin(), space.valid.end());
  return space;
}

}  // namespace steploom
