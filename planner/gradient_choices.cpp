#include "planner/gradient_choices.h"

#include <algorithm>
#include <array>

#include "models/layout_rules.h"
#include "planner/samples.h"
#include "sim/step_clock.h"

namespace steploom {
namespace {

constexpr std::array<std::int64_t, 2> kBuckets{10'000'000, 160'000'000};
constexpr std::array<Bytes, 2> kMicro{0, 30'000'000};

// What most layouts break first: asking every rule takes as long as a bound.
bool may_weave(const Setting& s, Layout l) {
  if (s.runtime.weaves == Weaves::no || l.recompute == Recompute::full || l.zero > 1 ||
      l.expert_parts() > 1 || l.offload != Offload::none || l.partition.cuts() || l.tp_overlap ||
      l.micro_batches(s.work.global_batch) == 1)
    return false;
  if (s.contention == nullptr || slows_nothing(*s.contention)) return false;
  if (s.runtime.weaves == Weaves::interleaved && l.pp > 1 && l.vpp == 1) return false;
  l.weave = true;
  return !refuse({s.model, s.work, l, s.cluster.devices(), &s.runtime, s.cluster.devices_per_node});
}

std::vector<Layout> reductions(const Setting& s, const Layout& placed, bool exchanges) {
  std::vector<Layout> out;
  const bool replicas = placed.dp_cp() > 1 || (s.model.has_moe() && placed.expert_dp() > 1);
  if (has_samples(s) || placed.zero > 1 || !replicas) return out;
  for (const std::int64_t bucket : kBuckets) {
    out.push_back(placed);
    out.back().bucket = bucket;
  }
  if (!exchanges || s.contention == nullptr) return out;
  for (const Bytes micro : kMicro) {
    out.push_back(placed);
    out.back().a2a_first = true;
    out.back().grad_micro = micro;
  }
  return out;
}

}  // namespace

bool over_replicas(CommGroup g) {
  return g == CommGroup::dp || g == CommGroup::expert_dp || g == CommGroup::dp_outer ||
         g == CommGroup::expert_dp_outer;
}

std::vector<GradientChoices> gradient_choices(const Setting& s, const Layout& l) {
  std::vector<GradientChoices> out{{l, {}}};
  const bool said =
      l.dw != WeightPlacement::none || l.bucket != 0 || l.grad_micro != 0 || l.a2a_first || l.weave;
  if (said) return out;
  // Passes of their own have no place to choose, and nothing to weave.
  const bool exchanges = s.model.has_moe() && l.ep > 1 && !splits_backward(l.schedule);
  if (exchanges && may_weave(s, l)) {
    out.push_back({l, {}});
    out.back().placed.weave = true;
  }
  if (!s.runtime.places_gradients) return out;
  if (exchanges)
    for (const WeightPlacement how : {WeightPlacement::lancet, WeightPlacement::solved}) {
      out.push_back({l, {}});
      out.back().placed.dw = how;
    }
  out.back().reduced = reductions(s, out.back().placed, exchanges);
  return out;
}

bool may_beat_reduced(const Setting& s, Program program, Picoseconds step) {
  if (s.runtime.hardware_connections == 1) return true;  // what waits in line holds up others
  for (BlockTemplate& block : program.blocks)
    for (std::size_t i = 0; i < block.ops.size(); ++i) {
      if (!over_replicas(block.infos[i].group)) continue;
      OpTemplate& op = block.ops[i];
      op.duration = op.launch = 0;
      op.event_latency = op.stream_gap = 0;
      op.microjoules = 0;
    }
  return ClockedProgram(program).may_beat(step, s.contention != nullptr);
}

}  // namespace steploom
