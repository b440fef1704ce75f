#include "planner/proportionate_stages.h"

#include <algorithm>
#include <set>

#include "models/flops.h"
#include "models/stages.h"

namespace steploom {
namespace {

constexpr int kSteps = 16;

// By pipeline rank, which types its devices are of.
std::vector<std::set<std::size_t>> types_of_stages(const Cluster& c, int pp) {
  const int each = c.devices() / pp;
  std::vector<std::set<std::size_t>> out(static_cast<std::size_t>(pp));
  for (int rank = 0; rank < pp; ++rank)
    for (int device = rank * each; device < (rank + 1) * each; ++device)
      out[static_cast<std::size_t>(rank)].insert(c.type(device));
  return out;
}

// By pipeline rank, the least of its types' by this measure over the least of all.
template <class Measure>
std::vector<double> ratios(const Setting& s, const std::vector<std::set<std::size_t>>& types,
                           const Measure& measure) {
  std::vector<double> out;
  for (const std::set<std::size_t>& of : types) {
    double least = measure(s.device_of_type(*of.begin()));
    for (const std::size_t t : of) least = std::min(least, measure(s.device_of_type(t)));
    out.push_back(least);
  }
  const double least = *std::min_element(out.begin(), out.end());
  for (double& each : out) each /= least;
  return out;
}

}  // namespace

std::vector<std::vector<int>> proportionate_stages(const Setting& s, int pp, int vpp) {
  std::vector<std::vector<int>> out;
  if (s.sides.empty() || pp == 1) return out;
  const auto types = types_of_stages(s.cluster, pp);
  const TokenWork work = token_work(s.model, s.work.seq_length);
  const auto ranks = static_cast<std::size_t>(pp);
  const std::size_t stages = ranks * static_cast<std::size_t>(vpp);
  const auto add = [&](const std::vector<double>& ratio) {
    for (int step = 1; step <= kSteps; ++step)
      for (const bool v : {false, true}) {
        if (v && vpp != 2) continue;
        std::vector<double> speed;
        for (std::size_t k = 0; k < stages; ++k) {
          const std::size_t rank = v && k >= ranks ? stages - 1 - k : k % ranks;
          speed.push_back(1 + (ratio[rank] - 1) * step / kSteps);
        }
        std::vector<int> split =
            balanced_stages(work.layers, 0, work.head, static_cast<int>(stages), speed);
        if (std::find(out.begin(), out.end(), split) == out.end()) out.push_back(std::move(split));
      }
  };
  for (const std::vector<double>& ratio :
       {ratios(s, types, [](const DeviceType& d) { return d.peak_flops; }),
        ratios(s, types, [](const DeviceType& d) { return d.memory_bandwidth; }),
        ratios(s, types, [](const DeviceType& d) { return static_cast<double>(d.memory); })})
    if (std::any_of(ratio.begin(), ratio.end(), [](double r) { return r > 1; })) add(ratio);
  return out;
}

}  // namespace steploom
