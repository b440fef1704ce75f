#include "planner/mesh_bound.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "models/shapes.h"
#include "planner/cut_time.h"
#include "planner/gradient_choices.h"
#include "planner/partition_axes.h"
#include "planner/pass_partition.h"
#include "planner/ranks.h"
#include "sim/clock_law.h"
#include "sim/link_load.h"
#include "sim/relax.h"
#include "sim/step_clock.h"

namespace steploom {
namespace {

constexpr auto kCompute = static_cast<std::uint16_t>(StreamKind::compute);
constexpr auto kReceive = static_cast<std::uint16_t>(StreamKind::pp_recv);
constexpr std::uint32_t kNone = ~std::uint32_t{0};
constexpr Picoseconds kLongest = std::numeric_limits<Picoseconds>::max();
constexpr auto kSend = static_cast<std::uint16_t>(StreamKind::pp_send);

void issue_at_once(OpTemplate& op) {
  op.launch = 0;
  op.stream_gap = 0;
  op.host_waits = false;
}

void free_of_time(OpTemplate& op) {
  issue_at_once(op);
  op.duration = 0;
  op.event_latency = 0;
}

}  // namespace

Layout mesh_of(const Layout& layout) {
  Layout mesh = layout;
  mesh.partition = {};
  mesh.dw = WeightPlacement::none;
  mesh.grad_micro = 0;
  mesh.a2a_first = false;
  return mesh;
}

namespace {

bool is_weight_kernel(const BlockTemplate& block, std::uint32_t op) {
  return block.infos[op].work.phase == Phase::weight_grad && block.ops[op].stream == kCompute &&
         block.ops[op].role == kNoRole;
}
bool reduces(const BlockTemplate& block, std::uint32_t op) {
  return block.infos[op].work.phase == Phase::weight_grad && block.ops[op].role != kNoRole &&
         over_replicas(block.infos[op].group);
}

// By operator that reduces gradients: the last kernel that no order of weight gradients runs after
// it, or kNone. Reductions of a stream may change places, so none has a later one than those after
// it.
std::vector<std::uint32_t> needed_by_reductions(const BlockTemplate& block) {
  std::map<std::uint32_t, std::uint32_t>
      writer;  // by tensor: the last kernel that is placed by none
  std::map<std::uint32_t, std::uint32_t> needed;  // by tensor of gradients: what is read for it
  std::vector<std::uint32_t> out(block.ops.size(), kNone);
  for (std::size_t from = 0, to = 0; from < block.accesses.size(); from = to) {
    const std::uint32_t op = block.accesses[from].op;
    while (to < block.accesses.size() && block.accesses[to].op == op) ++to;
    std::optional<std::uint32_t> read;
    const bool weight = is_weight_kernel(block, op);
    for (std::size_t i = from; i < to; ++i) {
      const Access& a = block.accesses[i];
      if (a.mode != AccessMode::read) continue;
      const auto& known = reduces(block, op) ? needed : writer;
      if (const auto at = known.find(a.tensor); at != known.end())
        read = std::max(read.value_or(0), at->second);
    }
    if (reduces(block, op)) out[op] = read.value_or(kNone);
    for (std::size_t i = from; i < to; ++i) {
      const Access& a = block.accesses[i];
      if (a.mode != AccessMode::write) continue;
      if (weight && read) {
        const auto [at, fresh] = needed.try_emplace(a.tensor, *read);
        if (!fresh) at->second = std::max(at->second, *read);
      }
      if (!weight && block.ops[op].stream == kCompute) writer[a.tensor] = op;
    }
  }
  std::array<std::uint32_t, kStreamKinds> least;
  least.fill(kNone);
  for (std::uint32_t op = static_cast<std::uint32_t>(out.size()); op-- > 0;) {
    if (out[op] == kNone) continue;
    std::uint32_t& of_later = least[block.ops[op].stream];
    of_later = out[op] = std::min(out[op], of_later);
  }
  return out;
}

// Reductions wait for these too, named last.
void depend_on(BlockTemplate& block, const std::vector<std::uint32_t>& needed) {
  std::vector<std::uint32_t> deps;
  for (std::size_t i = 0; i < block.ops.size(); ++i) {
    OpTemplate& op = block.ops[i];
    const auto first = static_cast<std::uint32_t>(deps.size());
    const auto from = block.deps.begin() + op.first_dep;
    deps.insert(deps.end(), from, from + op.deps);
    if (needed[i] != kNone) deps.push_back(needed[i]), ++op.deps;
    op.first_dep = first;
  }
  block.deps = std::move(deps);
}

}  // namespace

MeshBound::MeshBound(const Setting& setting, const Layout& mesh, CostCache& costs,
                     BlockCache& blocks)
    : s_(setting), costs_(costs), lowered_(lower(setting, mesh, costs, blocks)) {
  Program& p = lowered_.program;
  const bool cuts = s_.runtime.cuts_ranges && mesh.ep > 1;
  std::vector<std::vector<std::uint32_t>> needed;
  for (BlockTemplate& block : p.blocks) {
    needed.push_back(needed_by_reductions(block));
    depend_on(block, needed.back());
  }
  std::vector<BlockTemplate> whole = p.blocks;
  floors_ = add_pass_floors(p);
  for (std::size_t b = 0; b < p.blocks.size(); ++b) {
    ops_.push_back(p.blocks[b].ops);
    const bool forward = floors_[b].op != 0 && floors_[b].forward;
    whole_.push_back(cuts && forward ? std::move(whole[b]) : BlockTemplate{});
    waits_.push_back({});
    for (std::uint32_t op = 0; op < needed[b].size(); ++op)
      if (needed[b][op] != kNone)
        waits_.back().push_back(floors_[b].op != 0 && op >= floors_[b].op ? op + 1 : op);
  }
}

void MeshBound::restore() {
  Program& p = lowered_.program;
  for (std::size_t b = 0; b < ops_.size(); ++b) p.blocks[b].ops = ops_[b];
  for (Device& device : p.devices) device.mhz = 0;
  p.clock = s_.costs.clock_law();
}

// Under one hardware connection what waits in line holds up others. What is drawn in parts, at
// which clock, is not known; nor in which order the scheduler has the variant's passes, nor (yet)
// what a mesh of several types of device takes.
bool MeshBound::knows(const Setting& s, const Layout& variant) {
  return !s.work.routing.uneven() && s.runtime.hardware_connections != 1 && s.sides.empty() &&
         !is_searched(variant.schedule) &&
         !(variant.partition.cuts() && s.costs.clock_law().known());
}

bool MeshBound::may_beat(const Layout& variant, Picoseconds step) {
  Asked asked;
  asked.gathers = variant.grad_micro > 0;
  return may_beat(variant, asked, step);
}

bool MeshBound::may_beat_reduced(const Layout& variant, Picoseconds step) {
  Asked asked;
  asked.reduced = true;
  return may_beat(variant, asked, step);
}

namespace {

bool no_longer(const std::vector<Picoseconds>& a, const std::vector<Picoseconds>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), std::less_equal<>());
}

}  // namespace

// What is free takes longer where less is, and a pass that takes longer makes no step shorter.
bool MeshBound::may_beat(const Layout& variant, Asked asked, Picoseconds step) {
  asked.placed = variant.dw != WeightPlacement::none;
  asked.parts = variant.partition.parts;
  asked.program = variant.partition.program;
  std::vector<Picoseconds> forward;  // by block: no less
  if (variant.partition.cuts()) forward = forward_times(variant);
  const bool clocked = s_.costs.clock_law().known();
  std::vector<Relaxed>& known = relaxed_[asked];
  for (const Relaxed& k : known) {
    if (k.makespan >= step && no_longer(k.forward, forward)) return false;
    if (k.makespan < step && no_longer(forward, k.forward)) return true;
  }
  restore();
  if (variant.partition.cuts()) cut_forward(variant, forward);
  if (asked.placed) free_weight_gradients();
  if (asked.gathers) free_gathers();
  if (asked.reduced) free_reductions();
  if (clocked) return ClockedProgram(lowered_.program).may_beat(step, s_.contention != nullptr);
  const Picoseconds relaxed = relaxed_makespan(lowered_.program, s_.contention != nullptr);
  known.push_back({std::move(forward), relaxed});
  return relaxed < step;
}

// Kernels keep their order in the mesh; a cut range has the same in another, all between the same
// two. Only the first may wait for what arrives.
void MeshBound::cut_forward(const Layout& variant, const std::vector<Picoseconds>& least) {
  const int most = variant.partition.parts;
  for (std::size_t b = 0; b < ops_.size(); ++b) {
    BlockTemplate& block = lowered_.program.blocks[b];
    for (std::size_t i = 0; i < block.ops.size(); ++i) {
      const OpInfo& info = block.infos[i];
      OpTemplate& op = block.ops[i];
      if (info.work.phase != Phase::forward || info.recompute) continue;
      if (op.stream == kReceive || op.stream == kSend) continue;
      if (op.stream != kCompute) {
        free_of_time(op);
        continue;
      }
      issue_at_once(op);
      bool receives = false;
      for (std::uint32_t d = 0; d < op.deps; ++d)
        receives = receives || block.ops[block.deps[op.first_dep + d]].stream == kReceive;
      if (!receives) op.event_latency = 0;
      for (int k = variant.partition.program ? 2 : most; k <= most; ++k)
        if (rows_to_cut(info.work) % k == 0)
          op.duration = std::min(
              op.duration,
              k * costs_.cost({part_of(info.work, k), GroupShape{}, variant.ctas_of(info.group), k})
                      .time);
    }
    const PassFloor& floor = floors_[b];
    if (least[b] == 0 || floor.first == floor.last) continue;
    const Picoseconds kernels = block.ops[floor.first].duration + block.ops[floor.last].duration;
    block.ops[floor.op].duration = std::max<Picoseconds>(0, least[b] - kernels);
  }
}

// A part of an exchange goes no faster than its links let it alone.
const std::vector<std::vector<Picoseconds>>& MeshBound::part_times(const Layout& variant,
                                                                   int parts) {
  const auto [it, fresh] = part_times_.try_emplace(parts);
  if (!fresh) return it->second;
  const Program& p = lowered_.program;
  const GroupShape exchange = strided_shape(s_.cluster, 0, variant.etp, variant.ep);
  LinkLoad links(p);
  for (std::uint32_t b = 0; b < whole_.size(); ++b) {
    std::vector<Picoseconds> times;
    for (std::size_t i = 0; i < whole_[b].ops.size(); ++i) {
      const OpInfo& info = whole_[b].infos[i];
      const OpTemplate& op = whole_[b].ops[i];
      const bool is_cut =
          parts > 1 && !runs_whole(info.group) && info.work.phase == Phase::forward &&
          rows_to_cut(info.work) % parts == 0 && op.stream != kReceive && op.stream != kSend;
      Picoseconds time = op.duration;
      if (is_cut)
        time = costs_
                   .cost({part_of(info.work, parts), op.role == kNoRole ? GroupShape{} : exchange,
                          variant.ctas_of(info.group), parts})
                   .time;
      if (op.role != kNoRole && s_.contention != nullptr) {
        Picoseconds alone = kLongest;
        for (const Device& device : p.devices)
          for (std::uint32_t s = 0; s < device.slot_count; ++s)
            if (p.slots[device.first_slot + s].block == b) {
              alone = std::min(
                  alone, links.alone(device.communicator_of_role[op.role], op.link_share, time));
              break;
            }
        time = alone;
      }
      times.push_back(time);
    }
    it->second.push_back(std::move(times));
  }
  return it->second;
}

std::vector<Picoseconds> MeshBound::forward_times(const Layout& variant) {
  const Partition& partition = variant.partition;
  const auto [it, fresh] = forward_times_.try_emplace(partition);
  if (!fresh) return it->second;
  for (std::uint32_t b = 0; b < whole_.size(); ++b) {
    Picoseconds time = 0;
    if (!partition.program && !whole_[b].ops.empty()) {
      const std::vector<Picoseconds>&whole = part_times(variant, 1)[b],
            &parts = part_times(variant, partition.parts)[b];
      time = cut_time(whole_[b], named_ranges(whole_[b].infos, partition),
                      [&](std::uint32_t op, int n) { return (n > 1 ? parts : whole)[op]; });
    }
    it->second.push_back(time);
  }
  return it->second;
}

// Nor do those behind them in the stream wait for what they read.
void MeshBound::free_weight_gradients() {
  const ClockLaw& law = lowered_.program.clock;
  for (std::size_t b = 0; b < ops_.size(); ++b) {
    BlockTemplate& block = lowered_.program.blocks[b];
    const PassFloor& floor = floors_[b];
    Picoseconds kernels = 0;
    bool any = false;
    for (std::uint32_t i = 0; i < block.ops.size(); ++i) {
      OpTemplate& op = block.ops[i];
      // At the highest clock: the floor knows none.
      const Picoseconds time =
          law.known() ? time_at(law, op.duration, op.mhz, law.most_mhz) : op.duration;
      const bool placed = is_weight_kernel(block, i);
      any = any || placed;
      if (op.stream == kCompute && (placed || i != floor.first)) kernels += time;
      if (placed)
        free_of_time(op), op.deps = 0;
      else if (block.infos[i].work.phase == Phase::weight_grad)
        op.launch = 0;
      if (reduces(block, i)) free_of_time(op), op.deps = 0;
    }
    for (const std::uint32_t reduction : waits_[b]) {
      const OpTemplate& was = ops_[b][reduction];
      OpTemplate& op = block.ops[reduction];
      op = was;
      op.launch = 0;
      op.first_dep = was.first_dep + was.deps - 1U;
      op.deps = 1;
    }
    if (any && floor.op != 0 && !floor.forward) block.ops[floor.op].duration = kernels;
  }
}

// Parameters that are gathered in the parts in which their gradients were reduced.
void MeshBound::free_gathers() {
  for (BlockTemplate& block : lowered_.program.blocks)
    for (std::size_t i = 0; i < block.ops.size(); ++i) {
      const OpInfo& info = block.infos[i];
      if (info.work.phase != Phase::weight_grad &&
          (info.group == CommGroup::dp || info.group == CommGroup::expert_dp))
        free_of_time(block.ops[i]);
    }
}

void MeshBound::free_reductions() {
  for (BlockTemplate& block : lowered_.program.blocks)
    for (std::size_t i = 0; i < block.ops.size(); ++i)
      if (over_replicas(block.infos[i].group)) free_of_time(block.ops[i]);
}

}  // namespace steploom
