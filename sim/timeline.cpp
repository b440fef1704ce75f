#include "sim/timeline.h"

#include <cassert>
#include <unordered_map>

namespace steploom {
namespace {

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
      e.bytes = info.work.bytes;
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

}  // namespace

Timeline make_timeline(const Program& p, const Replay& replay) {
  assert(replay.start.size() == p.op_count && replay.end.size() == p.op_count);
  Timeline t;
  Names names(t.names);
  t.makespan = replay.makespan;
  t.memory = replay.memory;
  t.streams = p.stream_names;
  for (std::size_t d = 0; d < p.devices.size(); ++d) {
    const Device& device = p.devices[d];
    for (std::size_t s = t.streams.size(); s < device.streams; ++s)
      t.streams.push_back("stream " + std::to_string(s));
    t.devices.push_back({device.name, device.stage, device.multiplicity, device.sms,
                         d < replay.peak_memory.size() ? replay.peak_memory[d] : 0});
  }
  for (const Communicator& c : p.communicators)
    t.groups.push_back(
        {c.name, c.ranks > 0 ? c.ranks : static_cast<std::uint32_t>(c.members.size()), c.members});

  const auto templates = event_templates(p, names);
  t.events.reserve(p.op_count);
  for (std::uint32_t s = 0; s < p.slots.size(); ++s) {
    const Slot& slot = p.slots[s];
    const std::uint32_t device = p.device_of_slot[s];
    t.slots.push_back({device, names.id(p.blocks[slot.block].name), slot.micro_batch, slot.kind});
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
  return t;
}

}  // namespace steploom
