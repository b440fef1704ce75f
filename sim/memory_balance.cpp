#include "sim/memory_balance.h"

#include <algorithm>

namespace steploom {
namespace {

// The frees (or the allocations) of one stream, in time order: a stream's operators are.
class Changes {
 public:
  Changes(const FlatProgram& flat, std::uint32_t device, std::uint32_t stream, bool free,
          const std::vector<Picoseconds>& time)
      : flat_(flat), stream_(stream), free_(free), time_(time) {
    const Device& d = flat.program.devices[device];
    slot_ = d.first_slot;
    end_slot_ = d.first_slot + d.slot_count;
    settle();
  }
  Picoseconds at() const { return at_; }  // kUnknown: no more
  Bytes bytes() const { return size_; }
  void next() {
    ++position_;
    settle();
  }

 private:
  void settle() {
    for (; slot_ < end_slot_; ++slot_, position_ = 0) {
      const Slot& slot = flat_.program.slots[slot_];
      const auto list = flat_.stream_ops(slot_, stream_);
      const std::vector<OpTemplate>& ops = flat_.program.blocks[slot.block].ops;
      for (; position_ < list.size(); ++position_) {
        const OpTemplate& op = ops[list[position_]];
        if ((free_ ? op.free : op.alloc) == 0 && op.routed == kNotRouted) continue;
        size_ = changed_in(flat_.program, slot, list[position_], free_);
        if (size_ == 0) continue;
        at_ = time_[slot.first_op + list[position_]];
        return;
      }
    }
    at_ = kUnknown;
  }

  const FlatProgram& flat_;
  std::uint32_t stream_;
  bool free_;
  const std::vector<Picoseconds>& time_;
  std::uint32_t slot_ = 0, end_slot_ = 0;
  std::size_t position_ = 0;
  Picoseconds at_ = kUnknown;
  Bytes size_ = 0;
};

}  // namespace

void balance_memory(const FlatProgram& flat, bool record, Replay& replay) {
  const Program& p = flat.program;
  replay.peak_memory.clear();
  std::vector<Changes> frees, allocs;
  for (std::uint32_t d = 0; d < p.devices.size(); ++d) {
    frees.clear();
    allocs.clear();
    for (std::uint32_t s = 0; s < p.devices[d].streams; ++s) {
      frees.emplace_back(flat, d, s, true, replay.end);
      allocs.emplace_back(flat, d, s, false, replay.start);
    }
    Bytes balance = p.devices[d].static_bytes, peak = balance;
    if (record) replay.memory.push_back({d, 0, balance});
    for (;;) {
      Picoseconds now = kUnknown;
      for (const Changes& c : frees) now = std::min(now, c.at());
      for (const Changes& c : allocs) now = std::min(now, c.at());
      if (now == kUnknown) break;
      for (Changes& c : frees)
        for (; c.at() == now; c.next()) balance -= c.bytes();
      for (Changes& c : allocs)
        for (; c.at() == now; c.next()) balance += c.bytes();
      peak = std::max(peak, balance);
      if (!record) continue;
      if (now == replay.memory.back().time && replay.memory.back().device == d)
        replay.memory.back().bytes = balance;
      else
        replay.memory.push_back({d, now, balance});
    }
    replay.peak_memory.push_back(peak);
  }
  std::stable_sort(replay.memory.begin(), replay.memory.end(),
                   [](const MemorySample& a, const MemorySample& b) { return a.time < b.time; });
}

}  // namespace steploom
