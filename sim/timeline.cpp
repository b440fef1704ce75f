#include "sim/timeline.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <unordered_map>

namespace steploom {
namespace {

constexpr std::array<std::string_view, kTimelineSources> kSources{"simulated", "executed",
                                                                  "imported"};

constexpr std::array<std::string_view, kSlotKinds> kSlots{"forward", "backward", "backward_data",
                                                          "backward_weight", "pair",
                                                          "optimizer"};

class Names {
 public:
  explicit Names(std::vector<std::string>& table) : table_(table) {}
  std::uint32_t id(const std::string& name) {
    const auto [it, is_new] = known_.try_emplace(name, static_cast<std::uint32_t>(table_.size()));
    if (is_new) table_.push_back(name);
    return it->second;
  }

 private:
  std::vector<std::string>& table_;
  std::unordered_map<std::string, std::uint32_t> known_;
};

// What an operator's event says whatever its slot, by block and template index.
std::vector<std::vector<TimelineEvent>> event_templates(const Program& p, Names& names) {
  std::vector<std::vector<TimelineEvent>> blocks(p.blocks.size());
  for (std::size_t b = 0; b < p.blocks.size(); ++b)
    for (std::size_t i = 0; i < p.blocks[b].ops.size(); ++i) {
      const OpInfo& info = p.blocks[b].infos[i];
      TimelineEvent e;
      e.name = names.id(info.name);
      e.layer = info.layer;
      e.stream = p.blocks[b].ops[i].stream;
      e.kind = info.work.kind;
      e.phase = info.work.phase;
      e.precision = info.work.precision;
      e.group_kind = info.group;
      e.provenance = info.provenance;
      e.sender = p.blocks[b].ops[i].sender;
      e.recompute = info.recompute;
      e.host_waits = p.blocks[b].ops[i].host_waits;
      e.bytes = info.work.bytes;
      e.flops = info.work.flops;
      blocks[b].push_back(e);
    }
  return blocks;
}

// A rendezvous of two of which one sends is a message.
void join_messages(const Program& p, std::vector<TimelineEvent>& events) {
  for (std::size_t r = 0; r + 1 < p.rendezvous_ops.first.size(); ++r) {
    const std::uint32_t at = p.rendezvous_ops.first[r];
    if (p.rendezvous_ops.first[r + 1] != at + 2) continue;
    const std::uint32_t a = p.rendezvous_ops.items[at], b = p.rendezvous_ops.items[at + 1];
    if (events[a].sender == events[b].sender) continue;
    events[a].peer = b;
    events[b].peer = a;
  }
}

// The host issues one operator after another, each for its launch time, and stops where it waits.
void add_issue_times(const Program& p, Timeline& t) {
  for (const Device& device : p.devices) {
    Picoseconds clock = 0;
    for (std::uint32_t s = device.first_slot; s < device.first_slot + device.slot_count; ++s) {
      const std::vector<OpTemplate>& ops = p.blocks[p.slots[s].block].ops;
      for (std::size_t i = 0; i < ops.size(); ++i) {
        TimelineEvent& e = t.events[p.slots[s].first_op + i];
        e.issued = clock += ops[i].launch;
        if (ops[i].host_waits) clock = e.end;
      }
    }
  }
}

// A member can progress once all others have started; the receiver of an eager message once the
// sender, which waits for nobody, has finished.
void add_join_times(const Program& p, std::vector<TimelineEvent>& events) {
  const auto eager = [&p](std::uint32_t op) {
    const std::uint32_t slot = slot_of_op(p, op);
    return p.blocks[p.slots[slot].block].ops[op - p.slots[slot].first_op].eager;
  };
  for (std::size_t r = 0; r + 1 < p.rendezvous_ops.first.size(); ++r) {
    const auto begin = p.rendezvous_ops.items.begin() + p.rendezvous_ops.first[r];
    const auto end = p.rendezvous_ops.items.begin() + p.rendezvous_ops.first[r + 1];
    if (begin == end) continue;
    const bool is_eager = eager(*begin);
    Picoseconds last = 0;
    for (auto op = begin; op != end; ++op) {
      const TimelineEvent& e = events[*op];
      if (!is_eager || e.sender) last = std::max(last, is_eager ? e.end : e.start);
    }
    for (auto op = begin; op != end; ++op) {
      TimelineEvent& e = events[*op];
      e.joined = is_eager && e.sender ? e.start : std::max(last, e.start);
    }
  }
}

// Dependencies inside blocks and slot edges, by event.
void add_waits(const Program& p, Timeline& t) {
  t.first_wait.reserve(t.events.size() + 1);
  for (std::uint32_t s = 0; s < p.slots.size(); ++s) {
    const BlockTemplate& block = p.blocks[p.slots[s].block];
    std::uint32_t edge = p.edges_into_slot.first[s];
    for (std::uint32_t i = 0; i < block.ops.size(); ++i) {
      t.first_wait.push_back(static_cast<std::uint32_t>(t.waits.size()));
      const OpTemplate& op = block.ops[i];
      for (std::uint32_t d = op.first_dep; d < op.first_dep + op.deps; ++d)
        t.waits.push_back(p.slots[s].first_op + block.deps[d]);
      for (; edge < p.edges_into_slot.first[s + 1]; ++edge) {
        const SlotEdge& e = p.edges[edge];
        if (e.to_op != i) break;
        t.waits.push_back(p.slots[e.from_slot].first_op + e.from_op);
      }
    }
  }
  t.first_wait.push_back(static_cast<std::uint32_t>(t.waits.size()));
}

}  // namespace

std::string_view name_of(TimelineSource s) {
  return kSources.at(static_cast<std::size_t>(s));
}

std::string_view name_of(SlotKind k) {
  return kSlots.at(static_cast<std::size_t>(k));
}

Timeline make_timeline(const Program& p, const Replay& replay) {
  assert(replay.start.size() == p.op_count && replay.end.size() == p.op_count);
  Timeline t;
  Names names(t.names);
  t.makespan = replay.makespan;
  t.origin.engine = engine_signature();
  t.origin.step = replay.makespan;
  t.memory = replay.memory;
  t.streams = p.stream_names;
  for (std::size_t d = 0; d < p.devices.size(); ++d) {
    const Device& device = p.devices[d];
    for (std::size_t s = t.streams.size(); s < device.streams; ++s)
      t.streams.push_back("stream " + std::to_string(s));
    t.devices.push_back({device.name, device.stage, device.multiplicity, device.sms,
                         d < replay.peak_memory.size() ? replay.peak_memory[d] : 0,
                         device.static_bytes, device.mhz});
  }
  for (const Communicator& c : p.communicators)
    t.groups.push_back(
        {c.name, c.ranks > 0 ? c.ranks : static_cast<std::uint32_t>(c.members.size()), c.members});

  const auto templates = event_templates(p, names);
  t.events.reserve(p.op_count);
  for (std::uint32_t s = 0; s < p.slots.size(); ++s) {
    const Slot& slot = p.slots[s];
    const std::uint32_t device = p.device_of_slot[s];
    t.slots.push_back({device, names.id(p.blocks[slot.block].name), slot.micro_batch, slot.kind,
                       slot.beside});
    const std::vector<OpTemplate>& ops = p.blocks[slot.block].ops;
    for (std::size_t i = 0; i < ops.size(); ++i) {
      TimelineEvent e = templates[slot.block][i];
      e.start = replay.start[t.events.size()];
      e.end = replay.end[t.events.size()];
      e.device = device;
      e.slot = s;
      if (ops[i].role != kNoRole) e.group = p.devices[device].communicator_of_role[ops[i].role];
      t.events.push_back(e);
    }
  }
  join_messages(p, t.events);
  add_issue_times(p, t);
  add_join_times(p, t.events);
  add_waits(p, t);
  return t;
}

}  // namespace steploom
