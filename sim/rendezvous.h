// Where the members of a communicator meet, when nothing slows anything down.
//
// join() is told, in any order, when each member starts. Once the last has started, every member
// ends at (last start) + (the longest of the members' durations). An eager message is different:
// its sender ends by itself, its receiver at the later of its own start and the sender's end.
// The ends of members that wait are written into `end`, and their devices are pushed on the list
// of those that can go on. Result: this member's end, kUnknown while it waits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sim/flat_program.h"
#include "sim/link_load.h"

namespace steploom {

// Devices that may be able to go on, each at most once.
class DeviceQueue {
 public:
  explicit DeviceQueue(std::size_t devices) : queued_(devices, false), ring_(devices) {}
  void push(std::uint32_t device) {
    if (queued_[device]) return;
    queued_[device] = true;
    ring_[(first_ + count_++) % ring_.size()] = device;
  }
  bool empty() const { return count_ == 0; }
  std::uint32_t pop() {
    const std::uint32_t device = ring_[first_];
    first_ = (first_ + 1) % ring_.size();
    --count_;
    queued_[device] = false;
    return device;
  }

 private:
  std::vector<bool> queued_;
  std::vector<std::uint32_t> ring_;
  std::size_t first_ = 0, count_ = 0;
};

class Meetings {
 public:
  // `links`: not nullptr: nobody goes faster than these allow, and they are told who has met.
  Meetings(const FlatProgram& flat, DeviceQueue& awake, LinkLoad* links = nullptr)
      : flat_(flat),
        awake_(awake),
        links_(links),
        meetings_(flat.program.communicator_of_rendezvous.size()) {}

  Picoseconds join(std::uint32_t slot, const FlatOp& op, std::uint32_t id, Picoseconds start,
                   Picoseconds* end) {
    const std::uint32_t rendezvous = flat_.rendezvous(slot, op);
    const Picoseconds unshared = flat_.duration(slot, op);
    Meeting& m = meetings_[rendezvous];
    const Program& p = flat_.program;
    const std::uint32_t communicator = p.communicator_of_rendezvous[rendezvous];
    const Communicator& c = p.communicators[communicator];
    const Picoseconds duration =
        links_ == nullptr ? unshared : links_->alone(communicator, op.link_share, unshared);
    if (op.eager) {
      const Picoseconds mine = op.sender ? start + duration : start;
      if (links_ != nullptr && op.sender)
        links_->add(communicator, op.link_share, unshared, start);
      m.last = std::max(m.last, mine);
      if (++m.arrived == 1) return op.sender ? mine : kUnknown;
      if (!op.sender) return m.last;
      tell(rendezvous, c, id, m.last, end);
      return mine;
    }
    m.last = std::max(m.last, start);
    m.work = std::max(m.work, duration);
    if (++m.arrived < c.members.size()) return kUnknown;
    if (links_ != nullptr) links_->add(communicator, op.link_share, unshared, m.last);
    tell(rendezvous, c, id, m.last + m.work, end);
    return m.last + m.work;
  }

  static constexpr std::size_t bytes_each() { return sizeof(Meeting); }

 private:
  struct Meeting {
    Picoseconds last = 0;  // latest start so far; eager: see join()
    Picoseconds work = 0;  // longest duration so far
    std::uint32_t arrived = 0;
  };

  void tell(std::uint32_t rendezvous, const Communicator& c, std::uint32_t but, Picoseconds at,
            Picoseconds* end) {
    const Program::Adjacency& all = flat_.program.rendezvous_ops;
    for (std::uint32_t i = all.first[rendezvous]; i < all.first[rendezvous + 1]; ++i)
      if (all.items[i] != but) end[all.items[i]] = at;
    for (const std::uint32_t device : c.members) awake_.push(device);
  }

  const FlatProgram& flat_;
  DeviceQueue& awake_;
  LinkLoad* links_;
  std::vector<Meeting> meetings_;
};

}  // namespace steploom
