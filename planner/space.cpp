#include "planner/space.h"

#include <algorithm>
#include <array>
#include <utility>

#include "models/flops.h"
#include "models/layout_rules.h"
#include "models/routing.h"
#include "models/stages.h"
#include "planner/proportionate_stages.h"
#include "planner/schedule_choices.h"

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
    for (std::vector<int>& own : proportionate_stages(s, pp, vpp))
      if (std::none_of(out.begin(), out.end(), [&](const Cut& c) { return c.stages == own; }) &&
          !(even && own == alike))
        out.push_back({vpp, std::move(own)});
  }
  return out;
}

std::vector<Recompute> recomputations(const Setting& s) {
  if (s.runtime.fused_attention) return {Recompute::none, Recompute::full};
  return {Recompute::none, Recompute::full, Recompute::selective};
}

// Ways to share the sequences between so many ranks.
struct ContextCut {
  int cp = 1;
  ContextComm comm = ContextComm::p2p;
};

// Degrees that rules refuse for the length of the sequence are left out.
std::vector<ContextCut> context_cuts(const Setting& s, std::int64_t ranks) {
  std::vector<ContextCut> out{{}};
  if (!s.runtime.context_parallel) return out;
  for (const std::int64_t cp : divisors(ranks)) {
    if (cp == 1 || s.work.seq_length % (2 * cp) != 0) continue;
    for (const ContextComm comm : {ContextComm::p2p, ContextComm::allgather, ContextComm::a2a})
      out.push_back({static_cast<int>(cp), comm});
  }
  return out;
}

struct Sharding {
  int zero = 0;
  bool reshard = true;
  int replicate = 1;
};

// What is chosen on a mesh.
struct Choices {
  std::vector<std::int64_t> batches;
  std::vector<Recompute> recomputed;
  std::map<std::int64_t, std::vector<Cut>> cuts;  // by pp
};

class Enumeration {
 public:
  explicit Enumeration(const Setting& s) : s_(s) {
    choices_.batches = divisors(s.work.global_batch);
    choices_.recomputed = recomputations(s);
    for (const std::int64_t pp : divisors(s.cluster.devices()))
      choices_.cuts[pp] = cuts(s, static_cast<int>(pp));
  }

  // All choices on the mesh of `l`.
  void add_mesh(Layout l) {
    const std::vector<Cut>& cuts = choices_.cuts[l.pp];
    if (const auto refusal = refuse_mesh(context(l))) {
      const auto all = static_cast<std::int64_t>(shardings(l).size() * choices_.batches.size() *
                                                 choices_.recomputed.size() * cuts.size());
      space.enumerated += all;
      space.refused[refusal->rule] += all;
      return;
    }
    for (const Sharding& sharding : shardings(l))
      for (const std::int64_t batch : choices_.batches)
        for (const Recompute recompute : choices_.recomputed) {
          l.zero = sharding.zero;
          l.reshard = sharding.reshard;
          l.replicate = sharding.replicate;
          l.micro_batch = batch;
          l.recompute = recompute;
          l.recompute_detail =
              recompute == Recompute::selective ? core_attention_only() : RecomputeDetail{};
          for (const Cut& cut : cuts) {
            l.vpp = cut.vpp;
            l.stages = cut.stages;
            consider_parts(l);
          }
        }
  }

  Space space;

 private:
  // Stages that the runtime has and the mesh can have; one copy of what is sharded, or one a node.
  // Sharded parameters under a pipeline are not tried: they double the time of a search.
  std::vector<Sharding> shardings(const Layout& l) const {
    std::vector<Sharding> out{{0}, {1}};
    if (l.dp_cp() > 1 && l.pp == 1) {
      if (s_.runtime.zero[2]) out.push_back({2});
      if (s_.runtime.zero[3]) out.insert(out.end(), {{3}, {3, false}});
    }
    const int per_node = s_.cluster.devices_per_node;
    const int copies = l.tp * l.dp_cp() / per_node;
    if (!s_.runtime.replicates_shards || copies <= 1 || per_node % l.tp != 0 ||
        l.tp * l.dp_cp() % per_node != 0 || per_node == l.tp)
      return out;
    for (std::size_t i = 1, n = out.size(); i < n; ++i)
      out.push_back({out[i].zero, out[i].reshard, copies});
    return out;
  }

  RuleContext context(const Layout& l) const {
    return {s_.model, s_.work, l, s_.cluster.devices(), &s_.runtime, s_.cluster.devices_per_node};
  }

  bool consider(const Layout& l) {
    ++space.enumerated;
    const auto refusal = refuse(context(l));
    if (!refusal) {
      space.valid.push_back(l);
      return true;
    }
    // Another order may take chunks that 1F1B does not.
    const bool orders = s_.runtime.pipeline_orders && l.pp > 1 && l.vpp > 1;
    const std::vector<Layout> others = orders ? schedule_choices(s_, l) : std::vector<Layout>{};
    if (!others.empty())
      space.valid.push_back(others.front());
    else
      ++space.refused[refusal->rule];
    return !others.empty();
  }

  // What is refused whole is refused in parts too. Overlap inside tensor parallelism is tried where
  // the profile says what products and collectives cost each other; and not with fp8 scaled a
  // block, which Transformer Engine's has with some recipes only.
  void consider_parts(Layout& l) {
    l.chunks = 1;
    if (!consider(l)) return;
    if (l.sp && s_.runtime.overlaps_tp && s_.work.precision != Precision::fp8_block &&
        s_.contention != nullptr && !slows_nothing(*s_.contention)) {
      l.tp_overlap = true;
      consider(l);
      l.tp_overlap = false;
    }
    if (l.ep * l.etp == 1) return;
    if (s_.runtime.chunks_experts)
      for (const int chunks : kChunks) {
        l.chunks = chunks;
        consider(l);
      }
    l.chunks = 1;
    if (s_.runtime.cuts_ranges && l.ep > 1) consider_partitions(l);
  }

  // The range program's choice, and every kind of range in parts of its own.
  void consider_partitions(Layout& l) {
    const bool partial = decides_on_parts(s_.work.routing.gate);
    l.partition = {kChunks.back(), true};
    consider(l);
    for (const int parts : kChunks)
      for (const PartFrom from : {PartFrom::permute, PartFrom::gate, PartFrom::attention})
        for (const PartTo to : {PartTo::layer, PartTo::attention}) {
          if (!partial && from != PartFrom::permute) continue;
          l.partition = {parts, false, from, to};
          consider(l);
        }
    l.partition = {};
  }

  const Setting& s_;
  Choices choices_;
};

}  // namespace

Space enumerate_layouts(const Setting& s) {
  Enumeration all(s);
  const int devices = s.cluster.devices();
  const auto degrees = divisors(devices);
  const std::vector<std::int64_t> one{1};
  const auto& expert_degrees = s.model.has_moe() ? degrees : one;
  Layout l;
  for (const std::int64_t tp : degrees)
    for (const std::int64_t pp : divisors(devices / tp))
      for (const ContextCut& context : context_cuts(s, devices / (tp * pp)))
        for (const std::int64_t ep : expert_degrees)
          for (const std::int64_t etp : expert_degrees)
            for (const bool sp : {false, true}) {
              l.tp = static_cast<int>(tp);
              l.pp = static_cast<int>(pp);
              l.cp = context.cp;
              l.cp_comm = context.comm;
              l.dp = devices / (l.tp * l.cp * l.pp);
              l.ep = static_cast<int>(ep);
              l.etp = static_cast<int>(etp);
              l.sp = sp;
              all.add_mesh(l);
            }
  Space space = std::move(all.space);
  std::sort(space.valid.begin(), space.valid.end());
  return space;
}

}  // namespace steploom
