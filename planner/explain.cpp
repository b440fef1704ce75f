#include "planner/explain.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/engine.h"

namespace steploom {
namespace {

Picoseconds mean(double total, double ranks) {
  return static_cast<Picoseconds>(total / ranks);
}

}  // namespace

Explanation explain(const Program& p, const ReplayOptions& options) {
  const Replay r = replay(p, options);
  Explanation out;
  out.step = r.makespan;
  for (const GroupCollective& c : collectives_in(p))
    out.communication.push_back({c, 0, out.step - step_without(p, c, options)});
  std::array<double, kOpClasses> busy{};
  std::vector<double> comm(out.communication.size());
  double recompute = 0, idle = 0, ranks = 0;
  for (const Device& d : p.devices) {
    ranks += d.multiplicity;
    double computing = 0;
    for (std::uint32_t s = d.first_slot; s < d.first_slot + d.slot_count; ++s) {
      const BlockTemplate& b = p.blocks[p.slots[s].block];
      for (std::size_t i = 0; i < b.ops.size(); ++i) {
        const std::size_t op = p.slots[s].first_op + i;
        const OpInfo& info = b.infos[i];
        const auto time = static_cast<double>(r.end[op] - r.start[op]);
        busy[static_cast<std::size_t>(class_of(info.work.kind))] += time * d.multiplicity;
        if (b.ops[i].role == kNoRole) computing += time;
        if (info.recompute && b.ops[i].role == kNoRole) recompute += time * d.multiplicity;
        for (std::size_t c = 0; c < comm.size(); ++c)
          if (belongs(info, out.communication[c].what)) comm[c] += time * d.multiplicity;
      }
    }
    idle += (static_cast<double>(out.step) - computing) * d.multiplicity;
  }
  for (std::size_t i = 0; i < busy.size(); ++i) out.busy[i] = mean(busy[i], ranks);
  for (std::size_t c = 0; c < comm.size(); ++c) out.communication[c].busy = mean(comm[c], ranks);
  out.recompute = mean(recompute, ranks);
  out.idle = mean(idle, ranks);
  out.communication_exposed = out.step - step_without_communication(p, options);
  out.bubble = out.step - step_without_bubble(p, options);
  out.optimizer = out.step - step_without_optimizer(p, options);
  out.host = out.step - step_without_host(p, options);
  out.path = critical_path(p, r);
  return out;
}

std::vector<Saving> knock_out_all(const Program& p, const ReplayOptions& options) {
  const Picoseconds step = makespan(p, options);
  std::vector<Saving> out;
  for (const GroupCollective& c : collectives_in(p))
    out.push_back({name_of(c), step - step_without(p, c, options)});
  out.push_back({"all communication", step - step_without_communication(p, options)});
  out.push_back({"bubble", step - step_without_bubble(p, options)});
  out.push_back({"contention", step - step_without_contention(p)});
  out.push_back({"host", step - step_without_host(p, options)});
  out.push_back({"imbalance", step - step_without_imbalance(p, options)});
  return out;
}

double surely_known(const CriticalPath& path) {
  double sure = 0, all = 0;
  for (std::size_t i = 0; i < path.by_provenance.size(); ++i) {
    const auto time = static_cast<double>(path.by_provenance[i]);
    all += time;
    if (static_cast<Provenance>(i) != Provenance::modelled) sure += time;
  }
  return all > 0 ? sure / all : 0;
}

std::vector<std::string> warnings(double known_share, const PlanRow& row, int nodes) {
  constexpr double kMuchModelled = 0.5;
  constexpr double kTooGood = 0.7;
  constexpr double kNoEffect = 1e-4;
  std::vector<std::string> out;
  if (1 - known_share > kMuchModelled)
    out.push_back(
        fmt::format("{:.0f} % of this step is modelled, not measured", (1 - known_share) * 100));
  if (row.mfu > kTooGood)
    out.push_back(fmt::format("MFU of {:.0f} %: check the profile", row.mfu * 100));
  if (nodes > 1 && row.exposed_communication < kNoEffect)
    out.emplace_back("the network had no effect on this step");
  return out;
}

std::optional<std::string> overlap_warning(const Setting& s, const Layout& l) {
  if (!l.tp_overlap && !l.weave && l.expert_parts() == 1) return std::nullopt;
  if (s.contention != nullptr && !slows_nothing(*s.contention)) return std::nullopt;
  return fmt::format(
      "kernels beside communication are taken to run at full speed: the profile holds no measured "
      "interference, and {} may save less than this",
      l.tp_overlap   ? "tp_overlap=1"
      : l.weave      ? "weave=1"
      : l.chunks > 1 ? fmt::format("chunks={}", l.chunks)
                     : fmt::format("pairwise={}", l.pairwise));
}

}  // namespace steploom
