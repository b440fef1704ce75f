#include "planner/lower.h"

#include <algorithm>
#include <cassert>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "models/chunk_builder.h"
#include "planner/expert_place.h"
#include "planner/mixed_groups.h"
#include "planner/pass_slots.h"
#include "planner/rank_links.h"
#include "planner/rank_slots.h"
#include "planner/ranks.h"
#include "planner/routed_loads.h"
#include "planner/searched_schedule.h"
#include "sim/check.h"
#include "sim/fold.h"
#include "sim/kernel_class.h"

namespace steploom {
namespace {

// Of each chunk.
std::vector<GroupShapes> shapes_of(const RankTable& table, const Layout& l, std::size_t rank) {
  std::vector<GroupShapes> shapes(static_cast<std::size_t>(l.vpp));
  for (int chunk = 0; chunk < l.vpp; ++chunk)
    for (int group = 0; group < kCommGroups; ++group) {
      const std::size_t role = role_of(static_cast<CommGroup>(group), l, chunk);
      if (const std::int32_t g = table.group_of[rank][role]; g >= 0)
        shapes[static_cast<std::size_t>(chunk)][static_cast<std::size_t>(group)] =
            table.groups[static_cast<std::size_t>(g)].shape;
    }
  return shapes;
}

class Lowering {
 public:
  Lowering(const Setting& s, const Layout& l, CostCache& costs, Folding folding,
           const ScheduleSlots* order, BlockCache& shared)
      : s_(s),
        l_(l),
        costs_(costs),
        order_(order),
        shared_(shared),
        table_(rank_table(s.model, l, s.cluster)),
        type_(types_of_ranks(s.cluster, table_.stage.size())),
        links_(s, type_) {
    for (std::size_t t = 0; t < s.types(); ++t) views_.push_back(s.of_type(t));
    for (std::size_t r = 0; r < table_.stage.size(); ++r) rank_kind_.push_back(kind_of(r));
    if (s.work.routing.uneven() && s.model.has_moe()) load_ranks();
    const RankGraph graph = rank_graph();
    fold_ = folding == Folding::folded ? fold(graph) : steploom::unfolded(graph);
  }

  Lowered run() {
    Program& p = out_.program;
    for (const Setting& view : views_) {
      for (int c = 0; c < kKernelClasses; ++c)
        p.kernel_classes.emplace_back(name_of(static_cast<KernelClass>(c)));
      if (!s_.sides.empty()) p.clock_of_type.push_back(view.costs.clock_law());
    }
    for (int i = 0; i < kStreamKinds; ++i)
      p.stream_names.emplace_back(name_of(static_cast<StreamKind>(i)));
    p.links = static_cast<std::uint32_t>(fold_.first_link.size());
    if (s_.sides.empty()) p.clock = s_.costs.clock_law();
    add_communicators();
    for (std::uint32_t d = 0; d < fold_.first_rank.size(); ++d) add_device(d);
    finalize(p);
    assert(check(p).empty());
    return std::move(out_);
  }

 private:
  // Which blocks a rank runs: its type of device, other types in its groups, its chunks and the
  // shapes of their groups.
  using Kind =
      std::tuple<std::size_t, OtherTypes, std::vector<StageSpan>, std::vector<GroupShapes>>;

  std::vector<StageSpan> spans_of(std::size_t rank) const {
    return rank_spans(s_.model, l_, table_.stage[rank]);
  }

  std::uint64_t kind_of(std::size_t rank) {
    Kind key{type_[rank], others_of(rank), spans_of(rank), shapes_of(table_, l_, rank)};
    return kinds_.emplace(std::move(key), kinds_.size()).first->second;
  }

  OtherTypes others_of(std::size_t rank) const {
    return views_.size() == 1 ? OtherTypes{} : other_types(table_, type_, rank);
  }

  // A rank's block as one of a Program with several types of device.
  void settle(std::size_t rank, std::size_t chunk, BlockTemplate& block) {
    if (views_.size() == 1) return;
    for (OpTemplate& op : block.ops)
      op.kernel_class = static_cast<std::uint16_t>(op.kernel_class + type_[rank] * kKernelClasses);
    wait_for_slowest(s_, l_, others_of(rank), shapes_of(table_, l_, rank)[chunk], costs_, block);
  }

  // What every rank's slots have of their own: durations of routed operators, shares of rows.
  void load_ranks() {
    RoutedLoads loads(s_, l_);
    std::map<std::tuple<std::uint64_t, int, RoutedLoads::Place>, std::uint32_t> known;
    std::map<OwnLoad, std::uint32_t> numbers;
    for (std::size_t r = 0; r < table_.stage.size(); ++r) {
      const RoutedLoads::Place place = expert_place(table_, s_.cluster, r);
      const auto [it, fresh] = known.try_emplace({rank_kind_[r], table_.stage[r], place});
      if (fresh) {
        const std::uint32_t first = program_of(r).first;
        const std::vector<GroupShapes> shapes = shapes_of(table_, l_, r);
        OwnLoad own;
        for (const PassSlot& slot : slots_for(table_.stage[r])) {
          const std::size_t block = first + static_cast<std::size_t>(slot.chunk) * passes_of(l_) +
                                    static_cast<std::size_t>(slot.pass);
          loads.append(static_cast<std::uint32_t>(block), out_.program.blocks[block], type_[r],
                       shapes[static_cast<std::size_t>(slot.chunk)], place, slot.micro_batch, own);
        }
        it->second = numbers.emplace(std::move(own), static_cast<std::uint32_t>(numbers.size()))
                         .first->second;
      }
      load_of_rank_.push_back(it->second);
    }
    loads_.resize(numbers.size());
    while (!numbers.empty()) {
      auto node = numbers.extract(numbers.begin());
      loads_[node.mapped()].first = std::move(node.key());
    }
    out_.routing = loads.summary();
  }

  // Where what a rank's slots have of their own begins.
  LoadsAt loads_of(std::size_t rank) {
    if (load_of_rank_.empty()) return {};
    auto& [own, at] = loads_[load_of_rank_[rank]];
    std::vector<Picoseconds>& durations = out_.program.durations;
    std::vector<std::uint32_t>& shares = out_.program.shares;
    if (at.durations == kTemplateDurations) {
      at = {static_cast<std::uint32_t>(durations.size()),
            static_cast<std::uint32_t>(shares.size())};
      durations.insert(durations.end(), own.durations.begin(), own.durations.end());
      shares.insert(shares.end(), own.shares.begin(), own.shares.end());
      own = {};
    }
    return at;
  }

  RankGraph rank_graph() {
    RankGraph g;
    for (std::size_t r = 0; r < table_.stage.size(); ++r) {
      // Equal blocks in different stages still run different slots.
      const std::uint64_t colour = rank_kind_[r] * static_cast<std::uint64_t>(l_.pp) +
                                   static_cast<std::uint64_t>(table_.stage[r]);
      g.rank_colour.push_back(
          load_of_rank_.empty() ? colour : colour * load_of_rank_.size() + load_of_rank_[r]);
    }
    for (const ProcessGroup& group : table_.groups) {
      RankGraph::Communicator c;
      c.colour = group.role;
      for (std::size_t i = 0; i < group.ranks.size(); ++i)
        c.members.push_back(
            {static_cast<std::uint32_t>(group.ranks[i]),
             static_cast<std::uint32_t>(i == 0 ? group.role : group.receiver_role)});
      c.links = links_.of(group);
      g.communicators.push_back(std::move(c));
    }
    for (std::uint32_t i = 0; i < links_.count(); ++i) g.link_colour.push_back(links_.colour(i));
    return g;
  }

  void add_communicators() {
    // How many communicators of each class draw on one link of each class.
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> multiplicity;
    std::vector<bool> first(links_.count(), false);
    for (const std::uint32_t l : fold_.first_link) first[l] = true;
    for (std::uint32_t i = 0; i < table_.groups.size(); ++i)
      for (const std::uint32_t l : links_.of(table_.groups[i]))
        if (first[l]) ++multiplicity[{fold_.class_of_communicator[i], fold_.class_of_link[l]}];

    for (std::uint32_t c = 0; c < fold_.first_communicator.size(); ++c) {
      const ProcessGroup& g = table_.groups[fold_.first_communicator[c]];
      Communicator out;
      out.ranks = static_cast<std::uint32_t>(g.ranks.size());
      out.name = std::string(name_of(g.kind)) + " of rank " + std::to_string(g.ranks.front());
      out.ranks = static_cast<std::uint32_t>(g.ranks.size());
      for (const int r : g.ranks) {
        const std::uint32_t d = fold_.class_of_rank[static_cast<std::size_t>(r)];
        if (std::find(out.members.begin(), out.members.end(), d) == out.members.end())
          out.members.push_back(d);
      }
      std::map<std::uint32_t, std::uint32_t> uses;
      for (const auto& [l, share] : links_.shares(g))
        uses[fold_.class_of_link[l]] = share * multiplicity[{c, fold_.class_of_link[l]}];
      for (const auto& [link, share] : uses) out.uses.push_back({link, share});
      out_.program.communicators.push_back(std::move(out));
    }
  }

  RankProgram& program_of(std::size_t rank) {
    const std::uint64_t kind = rank_kind_[rank];
    const auto [it, fresh] = programs_.try_emplace(kind);
    RankProgram& entry = it->second;
    if (!fresh) return entry;
    Program& p = out_.program;
    entry.first = static_cast<std::uint32_t>(p.blocks.size());
    const int stage = table_.stage[rank];
    const auto first = std::find(table_.stage.begin(), table_.stage.end(), stage);
    const auto first_rank = static_cast<std::size_t>(first - table_.stage.begin());
    entry.blocks = shared_.rank_blocks(
        s_, l_, spans_of(rank), shapes_of(table_, l_, rank),
        {stage, shapes_of(table_, l_, first_rank).front(), type_[rank], type_[first_rank]}, costs_);
    std::vector<ChunkBlocks>& chunks = entry.blocks.chunks;
    for (std::size_t k = 0; k < chunks.size(); ++k)
      for (std::size_t pass = 0; pass < passes_of(l_); ++pass) {
        Block& b = chunks[k].block[pass];
        settle(rank, k, b.body);
        counts_.resize(p.blocks.size() + 1);
        if (s_.work.routing.uneven()) counts_.back() = number_routed(b.body);
        p.blocks.push_back(std::move(b.body));
      }
    settle(rank, chunks.size() - 1, entry.blocks.optimizer.body);
    p.blocks.push_back(std::move(entry.blocks.optimizer.body));
    for (std::size_t k = 0; s_.runtime.messages_apart && k < chunks.size(); ++k)
      for (Block& b : chunks[k].message) {
        settle(rank, k, b.body);
        p.blocks.push_back(std::move(b.body));
      }
    std::vector<ProgramTensor> tensors;
    for (const Tensor& t : entry.blocks.tensors)
      tensors.push_back({t.name, t.bytes, t.scope, t.whole, t.offset});
    table_of_kind_[kind] = static_cast<std::uint32_t>(p.tensor_tables.size());
    p.tensor_tables.push_back(std::move(tensors));
    return entry;
  }

  // What a rank's blocks do on its communicator for a role.
  CommunicatorUse use_of(std::size_t rank, std::size_t role) const {
    CommunicatorUse use;
    use.shape = table_.groups[static_cast<std::size_t>(table_.group_of[rank][role])].shape;
    const RankProgram& of = programs_.at(rank_kind_[rank]);
    std::size_t last = of.optimizer(passes_of(l_));
    if (s_.runtime.messages_apart) last += of.blocks.chunks.size() * kMessages;
    for (std::size_t b = of.first; b <= last; ++b) {
      const BlockTemplate& block = out_.program.blocks[b];
      for (std::size_t i = 0; i < block.ops.size(); ++i) {
        if (block.ops[i].role != role) continue;
        const OpKind kind = block.infos[i].work.kind;
        if (rows_by_kernels(block.infos[i].work)) continue;  // buffers of its own
        // A ring over tp goes through buffers of its own (memory_parts.cpp), not through NCCL.
        if (kind == OpKind::send_recv && block.infos[i].group == CommGroup::tp) continue;
        const bool message = kind == OpKind::send_recv || kind == OpKind::all_to_all;
        use.ctas = std::max(use.ctas, static_cast<int>(block.ops[i].sms_wanted));
        (message ? use.messages : use.rings) = true;
      }
    }
    return use;
  }

  // Its blocks must be there.
  MemoryParts fixed_of(std::size_t rank) const {
    std::vector<CommunicatorUse> uses;
    // In a V, messages that go up the ranks use the buffers of those that come down.
    for (std::size_t role = 0; role < kCommGroups; ++role)
      if (table_.group_of[rank][role] >= 0) uses.push_back(use_of(rank, role));
    return fixed_memory(views_[type_[rank]], l_, parameters_of(s_.model, l_, spans_of(rank)), uses);
  }

  // What a pipeline stage's ranks run.
  const std::vector<PassSlot>& slots_for(int stage) {
    if (slots_.empty()) {
      const std::int64_t m = l_.micro_batches(s_.work.global_batch);
      const bool search = is_searched(l_.schedule);
      out_.slots = order_ ? *order_ : search ? searched(m) : slots_of(l_, m);
      for (const RankSlots& slots : out_.slots)
        slots_.push_back(with_passes(slots, l_.vpp, splits_backward(l_.schedule)));
    }
    return slots_[static_cast<std::size_t>(stage)];
  }

  // Passes and messages as a pipeline stage's ranks issue them; empty: passes alone.
  const IssueOrder& issue_order(int stage) {
    if (issued_.empty()) {
      slots_for(stage);
      issued_.resize(static_cast<std::size_t>(l_.pp));
      if (s_.runtime.messages_apart && l_.pp > 1)
        issued_ = with_message_slots(out_.slots, l_, l_.micro_batches(s_.work.global_batch));
    }
    return issued_[static_cast<std::size_t>(stage)];
  }

  // What fixed memory leaves, on the type of device that has the least, to a stage's ranks.
  Bytes room_of_stage(std::size_t first, std::size_t ranks) {
    Bytes room = 0;
    std::set<std::size_t> seen;
    for (std::size_t r = first; r < first + ranks; ++r) {
      if (!seen.insert(type_[r]).second) continue;
      program_of(r);
      const Bytes own = views_[type_[r]].cluster.device.memory - fixed_of(r).fixed();
      room = r == first ? own : std::min(room, own);
    }
    return room;
  }

  ScheduleSlots searched(std::int64_t m) {
    const std::size_t per_stage = table_.stage.size() / static_cast<std::size_t>(l_.pp);
    for (std::size_t r = 0; r < table_.stage.size(); r += per_stage) program_of(r);
    std::vector<RankOfStages> ranks;
    for (std::size_t r = 0; r < table_.stage.size(); r += per_stage) {
      RankOfStages rank;
      const BlockTemplate* block = &out_.program.blocks[program_of(r).first];
      for (int chunk = 0; chunk < l_.vpp; ++chunk, block += passes_of(l_)) {
        const auto of = [&](Pass pass) { return block + static_cast<std::size_t>(pass); };
        rank.stages.push_back({of(Pass::forward), of(Pass::backward), of(Pass::weight)});
      }
      rank.room = room_of_stage(r, per_stage);
      ranks.push_back(std::move(rank));
    }
    const Placement placement = in_a_v(l_.schedule) ? Placement::v : Placement::loop;
    return soonest_schedule(s_, l_, costs_, searched_schedules(placement, ranks, m));
  }

  // Megatron's and PyTorch's sharded data parallelism refuses a single connection
  // (megatron/training/arguments.py, validate_args), and with one nothing would run beside an
  // exchange that was issued after it; CUDA's default is 8.
  int connections() const {
    constexpr int kDefault = 8;
    const int set = s_.runtime.hardware_connections;
    return l_.zero > 1 || l_.weave ? std::max(kDefault, set) : set;
  }

  void add_device(std::uint32_t d) {
    Program& p = out_.program;
    const std::size_t rank = fold_.first_rank[d];
    const int stage = table_.stage[rank];
    RankProgram& of = program_of(rank);
    Device device;
    const DeviceType& of_device = s_.device_of_type(type_[rank]);
    device.name = "rank " + std::to_string(rank) + " (stage " + std::to_string(stage) +
                  (views_.size() > 1 ? ", " + of_device.name : "") + ")";
    device.stage = stage;
    device.multiplicity = static_cast<std::int32_t>(fold_.ranks_in_class[d]);
    device.streams = kStreamKinds;
    device.type = static_cast<std::uint16_t>(type_[rank]);
    device.sms = static_cast<std::uint16_t>(of_device.sms);
    device.hardware_connections = static_cast<std::uint16_t>(connections());
    device.tensor_table = table_of_kind_[rank_kind_[rank]];
    for (std::size_t role = 0; role < kRoles; ++role) {
      const std::int32_t g = table_.group_of[rank][role];
      device.communicator_of_role.push_back(
          g < 0 ? kNoCommunicator : fold_.class_of_communicator[static_cast<std::size_t>(g)]);
    }
    const MemoryParts memory = fixed_of(rank);
    device.static_bytes = memory.fixed();
    device.first_slot = static_cast<std::uint32_t>(p.slots.size());
    append_slots(s_, l_, slots_for(stage), issue_order(stage), of, loads_of(rank), counts_, p);
    device.slot_count = static_cast<std::uint32_t>(p.slots.size()) - device.first_slot;
    p.devices.push_back(std::move(device));
    out_.memory.push_back(memory);
    out_.first_rank.push_back(static_cast<int>(rank));
  }

  const Setting& s_;
  const Layout& l_;
  CostCache& costs_;
  const ScheduleSlots* order_;
  BlockCache& shared_;
  RankTable table_;
  std::vector<std::size_t> type_;  // by rank, of its device
  RankLinks links_;
  std::vector<Setting> views_;  // by type
  Fold fold_;
  Lowered out_;
  std::vector<std::vector<PassSlot>> slots_;  // by stage
  std::vector<IssueOrder> issued_;            // by stage
  std::map<Kind, std::uint64_t> kinds_;
  std::vector<std::uint64_t> rank_kind_;
  std::map<std::uint64_t, RankProgram> programs_;
  std::map<std::uint64_t, std::uint32_t> table_of_kind_;
  std::vector<RoutedCount> counts_;  // by block
  // Under uneven routing: by rank, and by number a load and where it lies.
  std::vector<std::uint32_t> load_of_rank_;
  std::vector<std::pair<OwnLoad, LoadsAt>> loads_;
};

}  // namespace

Lowered lower(const Setting& setting, const Layout& layout, CostCache& costs, Folding folding,
              const ScheduleSlots* order) {
  BlockCache own;
  return Lowering(setting, layout, costs, folding, order, own).run();
}

Lowered lower(const Setting& setting, const Layout& layout, CostCache& costs, BlockCache& blocks) {
  return Lowering(setting, layout, costs, Folding::folded, nullptr, blocks).run();
}

}  // namespace steploom
