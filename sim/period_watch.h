// Finds out during a replay that everything is as it was some periods ago.
//
// Each group of devices that repeat together (steady_state.h) has a watch. Whenever the group's
// first device comes to a new period of its slots, the engine writes down a *moment*: for every
// stream of the group the slot of its head, and all else that its future depends on, in times
// relative to now. Two moments with the same contents, whose slots lie whole periods apart, are
// followed by the same, shifted, as long as the slots recur. The last few moments are kept, so a
// state that recurs every few periods only is found too.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "sim/frontier.h"
#include "sim/steady_state.h"

namespace steploom {

struct Moment {
  Picoseconds at = 0;
  // By the group's streams, device after device: the head's slot; kNoOp: the stream is done.
  std::vector<std::uint32_t> slots;
  std::vector<std::uint32_t> issuing;  // by the group's devices: Frontier::issuing_slot
  std::vector<std::int64_t> state;
};

class PeriodWatch {
 public:
  PeriodWatch(const FlatProgram& flat, SteadyState steady);

  const SteadyState& steady() const { return steady_; }
  // Whose next operator says whether a moment is due; kNoOp: never.
  std::uint32_t stream() const { return stream_; }
  // Is a moment wanted now?
  bool due(const Frontier& frontier) const { return frontier.head(stream_).slot >= next_slot_; }

  // How far back ends matter: the longest gap or latency.
  Picoseconds window() const { return window_; }

  struct Found {
    std::vector<Skip> by;       // by the group's devices, the whole skip; empty: nothing found
    Moment from;                // the period before, of which the skip is a multiple
    std::uint32_t times = 0;    // how many of it
    std::uint32_t periods = 0;  // in all
    // Of the periods skipped, the first whose ends anything later reads.
    std::vector<std::uint32_t> first_read;  // by the group's devices, from 1
  };
  // Compares with the moments before and keeps it. After a find nothing more is due.
  Found look(Moment now, const Frontier& frontier);

 private:
  // Of `now` after `then`, periods apart: how often that may be repeated; 0: not the same.
  std::uint32_t repeats(const Moment& then, const Moment& now, std::uint32_t periods,
                        const Frontier& frontier) const;

  const FlatProgram& flat_;
  SteadyState steady_;
  std::uint32_t stream_ = kNoOp;  // whose head says that a period begins
  std::uint32_t next_slot_ = 0;   // kNoOp: no moment is wanted any more
  Picoseconds window_ = 0;
  std::deque<Moment> moments_;
};

}  // namespace steploom
