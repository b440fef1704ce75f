#include "tools/plan_shapes.h"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>

#include "planner/lower.h"
#include "planner/ranks.h"
#include "profiler/work_asks.h"
#include "sim/profile_points.h"

namespace steploom {
namespace {

template <class List>
void most_time_first(List& list) {
  std::stable_sort(list.begin(), list.end(),
                   [](const auto& a, const auto& b) { return a.share > b.share; });
}

// Times of one device's operators, each as often as its slots have it.
template <class Visit>
void for_each_op(const Program& p, const Device& d, const Visit& visit) {
  std::map<std::uint32_t, double> times;
  for (std::uint32_t s = 0; s < d.slot_count; ++s) ++times[p.slots[d.first_slot + s].block];
  for (const auto& [block, count] : times)
    for (std::size_t i = 0; i < p.blocks[block].ops.size(); ++i)
      visit(p.blocks[block].ops[i], p.blocks[block].infos[i], count * d.multiplicity);
}

}  // namespace

PlanShapes shapes_to_measure(const Setting& s, const Layout& layout) {
  CostCache costs(s.costs);
  const Lowered lowered = lower(s, layout, costs);
  const RankTable ranks = rank_table(s.model, layout, s.cluster);
  using CollectiveKey = std::tuple<OpKind, Bytes, GroupShape>;
  std::map<std::string, ShapeToMeasure> kernels;
  std::map<CollectiveKey, CollectiveToMeasure> collectives;
  std::map<PointKey, double> others;
  double whole = 0;
  for (std::size_t d = 0; d < lowered.program.devices.size(); ++d) {
    const auto rank = static_cast<std::size_t>(lowered.first_rank[d]);
    for_each_op(lowered.program, lowered.program.devices[d],
                [&](const OpTemplate& op, const OpInfo& info, double times) {
                  const Work& w = info.work;
                  const double time = static_cast<double>(op.duration) * times;
                  whole += time;
                  if (op.duration == 0) return;
                  if (w.exchange != ExpertExchange::parts) {  // no kernel of ours, nor NCCL's
                    others[point_key(w)] += time;
                    return;
                  }
                  if (is_communication(w.kind)) {
                    if (info.provenance != Provenance::modelled) return;
                    const std::int32_t g =
                        ranks.group_of[rank][static_cast<std::size_t>(info.group)];
                    if (g < 0) return;
                    const GroupShape group = ranks.groups[static_cast<std::size_t>(g)].shape;
                    CollectiveToMeasure& c = collectives[{w.kind, w.bytes, group}];
                    c.collective = w.kind;
                    c.bytes = w.bytes;
                    c.group = group;
                    c.predicted = op.duration;
                    c.share += time;
                    return;
                  }
                  if (info.provenance == Provenance::measured) return;
                  if (const auto ask = ask_of(w, s.model)) {
                    ShapeToMeasure& shape = kernels[to_text(*ask)];
                    shape.ask = *ask;
                    shape.predicted = op.duration;
                    shape.share += time;
                  } else {
                    others[point_key(w)] += time;
                  }
                });
  }
  PlanShapes out;
  for (auto& [text, shape] : kernels) out.kernels.push_back(shape);
  for (auto& [key, c] : collectives) out.collectives.push_back(c);
  for (auto& shape : out.kernels) shape.share /= whole;
  for (auto& c : out.collectives) c.share /= whole;
  for (const auto& [key, time] : others) out.without_kernel_share += time / whole;
  out.without_kernel = static_cast<std::int64_t>(others.size());
  most_time_first(out.kernels);
  most_time_first(out.collectives);
  return out;
}

}  // namespace steploom
