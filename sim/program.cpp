#include "sim/program.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <tuple>

#include "models/error.h"

namespace steploom {
namespace {

constexpr Picoseconds kLongestProgram = Picoseconds{1} << 61;
constexpr Picoseconds kLongestOperator = Picoseconds{1}
                                         << 46;  // remaining work x 65536 fits 64 bits

[[noreturn]] void refuse(std::string place, std::string expected, std::string found) {
  throw Error({"program", std::move(place), std::move(expected), std::move(found), ""});
}

std::string number(std::int64_t n) {
  return std::to_string(n);
}

std::string place_in(const BlockTemplate& block, std::size_t op) {
  std::string text = "block " + block.name + ", operator " + std::to_string(op);
  if (op < block.infos.size() && !block.infos[op].name.empty())
    text += " (" + block.infos[op].name + ")";
  return text;
}

// What holds of a template whatever device runs it. Returns its time, host and device together.
Picoseconds validate_block(const BlockTemplate& block) {
  if (block.infos.size() != block.ops.size())
    refuse("block " + block.name, number(static_cast<std::int64_t>(block.ops.size())) + " infos",
           number(static_cast<std::int64_t>(block.infos.size())));
  Picoseconds total = 0;
  for (std::size_t i = 0; i < block.ops.size(); ++i) {
    const OpTemplate& op = block.ops[i];
    for (const auto& [what, time] :
         {std::pair{"duration", op.duration}, {"launch time", op.launch}, {"wave", op.wave}})
      if (time < 0 || time >= kLongestOperator)
        refuse(place_in(block, i), std::string("a ") + what + " of 0 to 2^46 ps", number(time));
    if (std::size_t{op.first_dep} + op.deps > block.deps.size())
      refuse(place_in(block, i), "dependencies inside the block's list", number(op.first_dep));
    for (std::size_t d = op.first_dep; d < std::size_t{op.first_dep} + op.deps; ++d)
      if (block.deps[d] >= i)
        refuse(place_in(block, i), "dependencies on earlier operators only",
               "a dependency on operator " + number(block.deps[d]));
    if (op.eager && op.role == kNoRole)
      refuse(place_in(block, i), "eager only on a communication operator", "a kernel");
    total += op.duration + op.launch + op.stream_gap + op.event_latency;
    if (total >= kLongestProgram) refuse(place_in(block, i), "at most 2^61 ps in all", "more");
  }
  for (std::size_t i = 0; i < block.accesses.size(); ++i) {
    const Access& access = block.accesses[i];
    if (access.op >= block.ops.size() || (i > 0 && block.accesses[i - 1].op > access.op))
      refuse(
          "block " + block.name, "accesses sorted by operator",
          "access " + number(static_cast<std::int64_t>(i)) + " to operator " + number(access.op));
  }
  return total;
}

void validate_slices(const std::vector<ProgramTensor>& table) {
  for (TensorId t = 0; t < table.size(); ++t) {
    const TensorId whole = table[t].whole;
    if (whole == kNoTensor) continue;
    const std::string place = "tensor " + table[t].name;
    if (whole >= t || table[whole].whole != kNoTensor ||
        (t - 1 != whole && table[t - 1].whole != whole))
      refuse(place, "a slice that follows its whole or another slice of it", "one elsewhere");
    const Bytes least = t - 1 == whole ? 0 : table[t - 1].offset + table[t - 1].bytes;
    if (table[t].offset < least || table[t].offset + table[t].bytes > table[whole].bytes)
      refuse(place,
             "bytes " + number(least) + " to " + number(table[whole].bytes) + " of its whole",
             number(table[t].offset) + " to " + number(table[t].offset + table[t].bytes));
  }
}

// What holds of a template on the device that runs it.
void validate_placed(const Program& program, const Device& device, const BlockTemplate& block) {
  for (std::size_t i = 0; i < block.ops.size(); ++i) {
    const OpTemplate& op = block.ops[i];
    const auto on = [&device] { return " of device " + device.name; };
    if (op.stream >= device.streams)
      refuse(place_in(block, i), "a stream below " + number(device.streams) + on(),
             number(op.stream));
    const bool communicates = op.role != kNoRole;
    if (communicates && (op.role >= device.communicator_of_role.size() ||
                         device.communicator_of_role[op.role] == kNoCommunicator))
      refuse(place_in(block, i), "a communicator role" + on(), number(op.role));
    const int least = communicates ? op.sms_wanted : std::min(op.sms_least, op.sms_wanted);
    if (least > device.sms)
      refuse(place_in(block, i), "at most the " + number(device.sms) + " SMs" + on(),
             "an operator that cannot start on fewer than " + number(least));
  }
  if (device.tensor_table >= program.tensor_tables.size()) {
    if (!block.accesses.empty())
      refuse("device " + device.name, "a tensor table", number(device.tensor_table));
    return;
  }
  for (const Access& access : block.accesses)
    if (access.tensor >= program.tensor_tables[device.tensor_table].size())
      refuse(place_in(block, access.op), "a tensor of the table of device " + device.name,
             number(access.tensor));
}

void validate_communicators(const Program& program) {
  const std::size_t devices = program.devices.size();
  std::vector<std::size_t> last_communicator(devices, program.communicators.size());
  std::vector<std::vector<bool>> member(program.communicators.size());
  for (std::size_t c = 0; c < program.communicators.size(); ++c) {
    const Communicator& communicator = program.communicators[c];
    const std::string place = "communicator " + communicator.name;
    for (const std::uint32_t device : communicator.members) {
      if (device >= devices) refuse(place, "members that exist", "device " + number(device));
      if (last_communicator[device] == c)
        refuse(place, "each member once", "device " + program.devices[device].name + " twice");
      last_communicator[device] = c;
    }
    for (const LinkUse& use : communicator.uses)
      if (use.link >= program.links) refuse(place, "links that exist", number(use.link));
  }
  for (std::size_t d = 0; d < devices; ++d)
    for (const std::uint32_t c : program.devices[d].communicator_of_role) {
      if (c == kNoCommunicator) continue;
      const std::string place = "device " + program.devices[d].name;
      if (c >= program.communicators.size()) refuse(place, "communicators that exist", number(c));
      const auto& members = program.communicators[c].members;
      if (std::find(members.begin(), members.end(), d) == members.end())
        refuse(place, "roles in communicators that it is a member of",
               program.communicators[c].name);
    }
}

void validate_edges(const Program& program, const std::vector<std::uint32_t>& device_of_slot) {
  for (const SlotEdge& edge : program.edges) {
    const auto place = [&edge] {
      return "slot edge " + number(edge.from_slot) + " -> " + number(edge.to_slot);
    };
    if (edge.to_slot >= program.slots.size() || edge.from_slot >= edge.to_slot)
      refuse(place(), "an edge from an earlier to a later slot", "this one");
    if (device_of_slot[edge.from_slot] != device_of_slot[edge.to_slot])
      refuse(place(), "both slots on one device",
             program.devices[device_of_slot[edge.from_slot]].name + " and " +
                 program.devices[device_of_slot[edge.to_slot]].name);
    const auto ops_of = [&](std::uint32_t slot) {
      return program.blocks[program.slots[slot].block].ops.size();
    };
    if (edge.from_op >= ops_of(edge.from_slot) || edge.to_op >= ops_of(edge.to_slot))
      refuse(place(), "operators of its slots", number(edge.from_op) + " -> " + number(edge.to_op));
  }
}

// Slots must be the devices' own, device after device.
std::vector<std::uint32_t> devices_of_slots(const Program& program) {
  std::vector<std::uint32_t> device_of_slot;
  device_of_slot.reserve(program.slots.size());
  for (std::size_t d = 0; d < program.devices.size(); ++d) {
    const Device& device = program.devices[d];
    if (device.first_slot != device_of_slot.size())
      refuse("device " + device.name, "its slots to begin where the last device's end",
             "slot " + number(device.first_slot));
    device_of_slot.insert(device_of_slot.end(), device.slot_count, static_cast<std::uint32_t>(d));
  }
  if (device_of_slot.size() != program.slots.size())
    refuse("slots",
           number(static_cast<std::int64_t>(device_of_slot.size())) + " as the devices say",
           number(static_cast<std::int64_t>(program.slots.size())));
  return device_of_slot;
}

// items sorted by key(item), as CSR over n keys; stable.
template <typename Key>
Program::Adjacency grouped(std::size_t n, std::size_t items, Key key) {
  Program::Adjacency out;
  out.first.assign(n + 1, 0);
  for (std::size_t i = 0; i < items; ++i) ++out.first[key(i) + 1];
  std::partial_sum(out.first.begin(), out.first.end(), out.first.begin());
  out.items.resize(items);
  std::vector<std::uint32_t> next(out.first.begin(), out.first.end() - 1);
  for (std::size_t i = 0; i < items; ++i) out.items[next[key(i)]++] = static_cast<std::uint32_t>(i);
  return out;
}

Program::Adjacency successors_of(const BlockTemplate& block) {
  std::vector<std::uint32_t> target;  // of each dependency
  std::vector<std::uint32_t> source;
  for (std::size_t i = 0; i < block.ops.size(); ++i)
    for (std::size_t d = 0; d < block.ops[i].deps; ++d) {
      target.push_back(static_cast<std::uint32_t>(i));
      source.push_back(block.deps[block.ops[i].first_dep + d]);
    }
  Program::Adjacency out =
      grouped(block.ops.size(), source.size(), [&](std::size_t i) { return source[i]; });
  for (std::uint32_t& item : out.items) item = target[item];
  return out;
}

void index_edges(Program& p) {
  const auto by_slot = [](const SlotEdge& a, const SlotEdge& b) { return a.to_slot < b.to_slot; };
  if (!std::is_sorted(p.edges.begin(), p.edges.end(), by_slot))  // as built, they are
    std::stable_sort(p.edges.begin(), p.edges.end(), by_slot);
  for (auto edge = p.edges.begin(); edge != p.edges.end();) {
    auto next = edge;
    while (next != p.edges.end() && next->to_slot == edge->to_slot) ++next;
    std::sort(edge, next, [](const SlotEdge& a, const SlotEdge& b) {
      return std::tie(a.to_op, a.from_slot, a.from_op) < std::tie(b.to_op, b.from_slot, b.from_op);
    });
    edge = next;
  }
  p.edges_into_slot =
      grouped(p.slots.size(), p.edges.size(), [&](std::size_t i) { return p.edges[i].to_slot; });
  p.edges_out_of_slot =
      grouped(p.slots.size(), p.edges.size(), [&](std::size_t i) { return p.edges[i].from_slot; });
  auto& out = p.edges_out_of_slot;
  for (std::size_t s = 0; s < p.slots.size(); ++s)
    std::stable_sort(
        out.items.begin() + out.first[s], out.items.begin() + out.first[s + 1],
        [&](std::uint32_t a, std::uint32_t b) { return p.edges[a].from_op < p.edges[b].from_op; });
}

// An eager message has one sender and one receiver, and both say that it is eager. A peer that
// never comes makes a deadlock, not a fault of form.
void validate_message(const Program& p, const Communicator& c, std::uint32_t id, int ops, int eager,
                      int senders) {
  if (eager == 0 || c.members.size() == 1) return;
  if (c.members.size() == 2 && (ops == 1 || (eager == 2 && senders == 1))) return;
  refuse(describe_op(p, id), "an eager message between one sender and one receiver",
         number(static_cast<std::int64_t>(c.members.size())) + " members of '" + c.name + "', " +
             number(eager) + " eager, " + number(senders) + " sending");
}

// The k-th operator that a member issues on a communicator meets the k-th of every other member.
void index_rendezvous(Program& p) {
  std::vector<std::vector<std::uint32_t>> communicating(p.blocks.size());  // template indices
  for (std::size_t b = 0; b < p.blocks.size(); ++b)
    for (std::size_t i = 0; i < p.blocks[b].ops.size(); ++i)
      if (p.blocks[b].ops[i].role != kNoRole)
        communicating[b].push_back(static_cast<std::uint32_t>(i));

  p.first_comm_op.assign(1, 0);
  for (const Slot& slot : p.slots)
    p.first_comm_op.push_back(p.first_comm_op.back() +
                              static_cast<std::uint32_t>(communicating[slot.block].size()));
  const std::uint32_t comm_ops = p.first_comm_op.back();
  std::vector<std::uint32_t> communicator_of(comm_ops), op_of(comm_ops);
  std::vector<const OpTemplate*> template_of(comm_ops);
  p.rendezvous_of.resize(comm_ops);  // at first k, the count on this member's communicator
  std::vector<std::uint32_t> issued(p.communicators.size()), most(p.communicators.size(), 0);
  for (const Device& device : p.devices) {
    for (const std::uint32_t c : device.communicator_of_role)
      if (c != kNoCommunicator) issued[c] = 0;
    for (std::uint32_t s = device.first_slot; s < device.first_slot + device.slot_count; ++s) {
      std::uint32_t k = p.first_comm_op[s];
      for (const std::uint32_t i : communicating[p.slots[s].block]) {
        template_of[k] = &p.blocks[p.slots[s].block].ops[i];
        const std::uint32_t c = device.communicator_of_role[template_of[k]->role];
        communicator_of[k] = c;
        op_of[k] = p.slots[s].first_op + i;
        p.rendezvous_of[k++] = issued[c]++;
      }
    }
    for (const std::uint32_t c : device.communicator_of_role)
      if (c != kNoCommunicator) most[c] = std::max(most[c], issued[c]);
  }

  std::vector<std::uint32_t> first(p.communicators.size() + 1, 0);
  p.communicator_of_rendezvous.clear();
  for (std::size_t c = 0; c < p.communicators.size(); ++c) {
    first[c + 1] = first[c] + most[c];
    p.communicator_of_rendezvous.insert(p.communicator_of_rendezvous.end(), most[c],
                                        static_cast<std::uint32_t>(c));
  }
  for (std::uint32_t k = 0; k < comm_ops; ++k) p.rendezvous_of[k] += first[communicator_of[k]];
  p.rendezvous_ops =
      grouped(first.back(), comm_ops, [&](std::size_t k) { return p.rendezvous_of[k]; });
  for (std::size_t r = 0; r < p.communicator_of_rendezvous.size(); ++r) {
    int eager = 0, senders = 0;
    for (std::uint32_t i = p.rendezvous_ops.first[r]; i < p.rendezvous_ops.first[r + 1]; ++i) {
      const std::uint32_t k = p.rendezvous_ops.items[i];
      eager += template_of[k]->eager;
      senders += template_of[k]->eager && template_of[k]->sender;
      p.rendezvous_ops.items[i] = op_of[k];
    }
    const std::uint32_t first = p.rendezvous_ops.first[r];
    validate_message(p, p.communicators[p.communicator_of_rendezvous[r]],
                     p.rendezvous_ops.items[first],
                     static_cast<int>(p.rendezvous_ops.first[r + 1] - first), eager, senders);
  }
}

// The time of those of a slot's operators that have a duration of the slot's own.
Picoseconds validate_durations(const Program& program, const Slot& slot, const std::string& place) {
  if (slot.durations == kTemplateDurations) return 0;
  Picoseconds total = 0;
  for (const OpTemplate& op : program.blocks[slot.block].ops) {
    if (op.varies == kOneDuration) continue;
    if (std::size_t{slot.durations} + op.varies >= program.durations.size())
      refuse(place, "a duration for every operator that varies",
             number(static_cast<std::int64_t>(program.durations.size())) + " in all");
    const Picoseconds time = duration_in(program, slot, op);
    if (time < 0 || time >= kLongestOperator)
      refuse(place, "durations of 0 to 2^46 ps", number(time));
    total += time;
  }
  return total;
}

void validate_shares(const Program& program, const Slot& slot, const std::string& place) {
  for (const RoutedBytes& r : program.blocks[slot.block].routed)
    if (std::size_t{slot.shares} + r.share >= program.shares.size())
      refuse(place, "a share for every layer with routed bytes",
             number(static_cast<std::int64_t>(program.shares.size())) + " in all");
}

}  // namespace

const ClockLaw& clock_of(const Program& p, const Device& d) {
  return p.clock_of_type.empty() ? p.clock : p.clock_of_type[d.type];
}

bool clocks_unknown(const Program& p) {
  return p.clock.known() || std::any_of(p.clock_of_type.begin(), p.clock_of_type.end(),
                                        [](const ClockLaw& law) { return law.known(); });
}

Bytes changed_in(const Program& program, const Slot& slot, std::uint32_t op, bool free) {
  const BlockTemplate& block = program.blocks[slot.block];
  const OpTemplate& of = block.ops[op];
  Bytes bytes = free ? of.free : of.alloc;
  if (of.routed == kNotRouted || slot.shares == kEvenShares) return bytes;
  for (std::size_t i = of.routed; i < block.routed.size() && block.routed[i].op == op; ++i)
    if (const RoutedBytes& r = block.routed[i]; r.free == free)
      bytes += routed_bytes(r.bytes, program.shares[std::size_t{slot.shares} + r.share]) - r.bytes;
  return bytes;
}

void validate(const Program& program) {
  for (const std::vector<ProgramTensor>& table : program.tensor_tables) validate_slices(table);
  validate_communicators(program);
  const std::vector<std::uint32_t> device_of_slot = devices_of_slots(program);
  std::vector<Picoseconds> time_of_block;
  for (const BlockTemplate& block : program.blocks) time_of_block.push_back(validate_block(block));
  // Devices that share a block are checked each; slots of one device that share it, once.
  std::vector<std::size_t> checked_on(program.blocks.size(), program.devices.size());
  Picoseconds total = 0;
  std::uint64_t ops = 0;
  for (std::size_t s = 0; s < program.slots.size(); ++s) {
    const std::uint32_t block = program.slots[s].block;
    const auto place = [s] { return "slot " + number(static_cast<std::int64_t>(s)); };
    if (block >= program.blocks.size()) refuse(place(), "a block that exists", number(block));
    if (checked_on[block] != device_of_slot[s])
      validate_placed(program, program.devices[device_of_slot[s]], program.blocks[block]);
    checked_on[block] = device_of_slot[s];
    total += time_of_block[block];
    if (program.slots[s].durations != kTemplateDurations)
      total += validate_durations(program, program.slots[s], place());
    if (program.slots[s].shares != kEvenShares) validate_shares(program, program.slots[s], place());
    ops += program.blocks[block].ops.size();
    if (total >= kLongestProgram) refuse(place(), "at most 2^61 ps in all", "more");
    if (ops >= std::uint64_t{1} << 31) refuse(place(), "at most 2^31 operators", "more");
  }
  validate_edges(program, device_of_slot);
}

void finalize(Program& program) {
  validate(program);
  program.device_of_slot = devices_of_slots(program);
  program.op_count = 0;
  for (Slot& slot : program.slots) {
    slot.first_op = program.op_count;
    program.op_count += static_cast<std::uint32_t>(program.blocks[slot.block].ops.size());
  }
  program.block_successors.clear();
  for (const BlockTemplate& block : program.blocks)
    program.block_successors.push_back(successors_of(block));
  index_edges(program);
  index_rendezvous(program);
}

std::uint32_t slot_of_op(const Program& program, std::uint32_t op) {
  assert(op < program.op_count);
  const auto after =
      std::upper_bound(program.slots.begin(), program.slots.end(), op,
                       [](std::uint32_t id, const Slot& s) { return id < s.first_op; });
  return static_cast<std::uint32_t>(after - program.slots.begin()) - 1;
}

std::string describe_op(const Program& program, std::uint32_t op) {
  const std::uint32_t s = slot_of_op(program, op);
  const Slot& slot = program.slots[s];
  const BlockTemplate& block = program.blocks[slot.block];
  std::string text = program.devices[program.device_of_slot[s]].name + " · " + block.name;
  if (slot.micro_batch >= 0) text += " " + std::to_string(slot.micro_batch);
  const std::string& name = block.infos[op - slot.first_op].name;
  return text + " · " + (name.empty() ? "operator " + number(op - slot.first_op) : name);
}

}  // namespace steploom
