#include "sim/deadlock.h"

#include <algorithm>
#include <cassert>

#include "models/error.h"

namespace steploom {
namespace {

// What an operator waits for: another operator, or a member that never comes (kNoOp).
struct Wait {
  std::uint32_t op = kNoOp;
  std::string reason;
};

class Explainer {
 public:
  Explainer(const FlatProgram& flat, std::span<const Picoseconds> start,
            std::span<const Picoseconds> end, std::span<const std::uint32_t> sms_held_by)
      : flat_(flat), p_(flat.program), start_(start), end_(end), sms_held_by_(sms_held_by) {}

  std::string explain() const {
    std::uint32_t op = 0;
    while (end_[op] != kUnknown) ++op;
    // Every operator that has not ended waits for one thing: follow until one comes again.
    std::vector<std::uint32_t> path;
    std::vector<Wait> waits;
    std::size_t from = 0;
    for (;;) {
      path.push_back(op);
      waits.push_back(wait_of(op));
      op = waits.back().op;
      if (op == kNoOp) break;
      const auto seen = std::find(path.begin(), path.end(), op);
      from = static_cast<std::size_t>(seen - path.begin());
      if (seen != path.end()) break;
    }
    if (op == kNoOp) from = path.size() - 1;
    std::string text;
    for (std::size_t i = from; i < path.size(); ++i) {
      if (!text.empty()) text += "; ";
      text += name(path[i]) + " waits for ";
      text +=
          waits[i].op == kNoOp ? waits[i].reason : name(waits[i].op) + " (" + waits[i].reason + ")";
    }
    return text;
  }

 private:
  // Device, stream and operator.
  std::string name(std::uint32_t op) const {
    const std::uint32_t s = slot_of_op(p_, op);
    const std::uint16_t stream = flat_.block_ops(s)[op - p_.slots[s].first_op].stream;
    const std::string of = stream < p_.stream_names.size() ? p_.stream_names[stream]
                                                           : "stream " + std::to_string(stream);
    return describe_op(p_, op) + " [" + of + "]";
  }

  Wait wait_of(std::uint32_t id) const {
    const std::uint32_t s = slot_of_op(p_, id);
    const std::uint32_t d = p_.device_of_slot[s];
    const std::uint32_t first = p_.slots[s].first_op;
    const FlatOp& op = flat_.block_ops(s)[id - first];
    if (start_[id] != kUnknown) return partner(s, op);
    const std::uint32_t head = stream_head(d, op.stream);
    if (head != id) return {head, "stream order"};
    for (std::uint32_t k = op.first_dep; k < op.first_dep + op.deps; ++k)
      if (end_[first + flat_.deps[k]] == kUnknown) return {first + flat_.deps[k], "dependency"};
    for (std::uint32_t e = p_.edges_into_slot.first[s]; e < p_.edges_into_slot.first[s + 1]; ++e)
      if (p_.edges[e].to_op == id - first && end_[flat_.edge_source[e]] == kUnknown)
        return {flat_.edge_source[e], "dependency"};
    if (Wait wait = host(d, id); wait.op != kNoOp) return wait;
    assert(!sms_held_by_.empty());
    const std::uint32_t holder = sms_held_by_[flat_.first_stream[d] + op.stream];
    return {holder, start_[holder] == kUnknown ? "before it in line for SMs" : "holds the SMs"};
  }

  // A member that has started waits for one that has not.
  Wait partner(std::uint32_t slot, const FlatOp& op) const {
    const std::uint32_t r = flat_.rendezvous(slot, op);
    const Program::Adjacency& all = p_.rendezvous_ops;
    const Communicator& c = p_.communicators[p_.communicator_of_rendezvous[r]];
    std::vector<std::uint32_t> absent = c.members;
    std::sort(absent.begin(), absent.end());
    for (std::uint32_t i = all.first[r]; i < all.first[r + 1]; ++i) {
      const std::uint32_t other = all.items[i];
      if (start_[other] == kUnknown) return {other, "rendezvous on " + c.name};
      std::erase(absent, p_.device_of_slot[slot_of_op(p_, other)]);
    }
    const std::string who = absent.empty() ? "a peer" : p_.devices[absent.front()].name;
    return {kNoOp, who + ", which issues no such operator on " + c.name};
  }

  std::uint32_t stream_head(std::uint32_t d, std::uint16_t stream) const {
    const Device& device = p_.devices[d];
    for (std::uint32_t s = device.first_slot; s < device.first_slot + device.slot_count; ++s)
      for (const std::uint32_t i : flat_.stream_ops(s, stream))
        if (end_[p_.slots[s].first_op + i] == kUnknown) return p_.slots[s].first_op + i;
    return kNoOp;
  }

  // Whether the host has not issued it, or one hardware connection keeps it back.
  Wait host(std::uint32_t d, std::uint32_t id) const {
    const Device& device = p_.devices[d];
    for (std::uint32_t s = device.first_slot; s < device.first_slot + device.slot_count; ++s) {
      const FlatBlock& block = flat_.blocks[p_.slots[s].block];
      const auto count = static_cast<std::uint32_t>(p_.blocks[p_.slots[s].block].ops.size());
      for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint32_t before = p_.slots[s].first_op + i;
        if (before >= id) return {};
        if (flat_.ops[block.first_op + i].host_waits && end_[before] == kUnknown)
          return {before, "the host waits"};
        if (device.hardware_connections == 1 && start_[before] == kUnknown)
          return {before, "issue order on one hardware connection"};
      }
    }
    return {};
  }

  const FlatProgram& flat_;
  const Program& p_;
  std::span<const Picoseconds> start_, end_;
  std::span<const std::uint32_t> sms_held_by_;
};

}  // namespace

void throw_deadlock(const FlatProgram& flat, std::span<const Picoseconds> start,
                    std::span<const Picoseconds> end, std::span<const std::uint32_t> sms_held_by) {
  throw Error({"replay", "", "every operator to end",
               "a deadlock: " + Explainer(flat, start, end, sms_held_by).explain(), ""},
              ExitStatus::negative);
}

}  // namespace steploom
