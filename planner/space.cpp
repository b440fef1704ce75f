#include "planner/space.h"

#include <algorithm>
#include <array>
#include <utility>

#include "models/flops.h"
#include "models/layout_rules.h"
#include "models/stages.h"

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

// How a pipeline of some depth may be cut: chunks a rank, and layers of each stage (empty: alike).
struct Cut {
  int vpp = 1;
  std::vector<int> stages;
};

std::vector<Cut> cuts(const Setting& s, int pp) {
  const TokenWork work = token_work(s.model, s.work.seq_length);
  const int layers = s.model.layers;
  std::vector<Cut> out;
  for (int vpp = 1; vpp == 1 || (pp > 1 && vpp * pp <= layers); ++vpp) {
    const int stages = vpp * pp;
    const bool even = layers % stages == 0;
    if (vpp > 1 && !even && (layers + 1) % stages != 0 && (layers + 2) % stages != 0) continue;
    // What does not fit is left to the rules, which say so.
    if (even || stages > layers) out.push_back({vpp, {}});
    if (stages == 1 || stages > layers) continue;
    std::vector<int> split = balanced_stages(work.layers, 0, work.head, stages);
    const std::vector<int> alike = even_stages(layers, stages, false, false);
    if (!even || largest_stage(split, work.layers, 0, work.head) <
                     largest_stage(alike, work.layers, 0, work.head))
      out.push_back({vpp, std::move(split)});
  }
  return out;
}

std::vector<Recompute> recomputations(const Setting& s) {
  if (s.runtime.fused_attention) return {Recompute::none, Recompute::full};
  return {Recompute::none, Recompute::full, Recompute::selective};
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
  const std::vector<Recompute> recomputed = recomputations(s);
  std::map<std::int64_t, std::vector<Cut>> cuts_of;  // by pp
  for (const std::int64_t pp : degrees) cuts_of[pp] = cuts(s, static_cast<int>(pp));
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
                for (const Recompute recompute : recomputed) {
                  l.ep = static_cast<int>(ep);
                  l.etp = static_cast<int>(etp);
                  l.sp = sp;
                  l.zero = zero;
                  l.micro_batch = batch;
                  l.recompute = recompute;
                  l.recompute_detail =
                      recompute == Recompute::selective ? core_attention_only() : RecomputeDetail{};
                  for (const Cut& cut : cuts_of[pp]) {
                    l.vpp = cut.vpp;
                    l.stages = cut.stages;
                    consider_chunks();
                  }
                }
    }
  std::sort(space.valid.begin(), space.valid.end());
  return space;
}

}  // namespace steploom
