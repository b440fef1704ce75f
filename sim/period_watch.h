// Finds out during a replay that everything is as it was some periods ago.
//
// Whenever the Program's first device comes to a new period of its slots, the engine writes down a
// *moment*: for every stream the slot of its head, and all else that the future depends on, in
// times relative to now. Two moments with the same contents, whose slots lie whole periods apart,
// are followed by the same, shifted, as long as the slots recur. The last few moments are kept, so
// a state that recurs every few periods only is found too.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "sim/frontier.h"
#include "sim/steady_state.h"

namespace steploom {

struct Moment {
  Picoseconds at = 0;
  std::vector<std::uint32_t> slots;    // by stream: its head's; kNoOp: the stream is done
  std::vector<std::uint32_t> issuing;  // by device: Frontier::issuing_slot
  std::vector<std::int64_t> state;
};

class PeriodWatch {
 public:
  explicit PeriodWatch(const FlatProgram& flat);

  // Is a moment wanted now?
  bool due(const Frontier& frontier) const { return frontier.head(stream_).slot >= next_slot_; }

  // How far back ends matter: the longest gap or latency.
  Picoseconds window() const { return window_; }

  struct Found {
    std::vector<Skip> by;                   // by device, the whole skip; empty: nothing found
    std::vector<std::uint32_t> rendezvous;  // by communicator, likewise
    Moment from;                            // the period before, of which the skip is a multiple
    std::uint32_t times = 0;                // how many of it
    // Of the periods skipped, the first whose ends anything later reads.
    std::vector<std::uint32_t> first_read;  // by device, from 1
    bool moves(std::uint32_t stream, const Moment& now) const {
      return now.slots[stream] != from.slots[stream];
    }
  };
  // Compares with the moments before and keeps it. After a find nothing more is due.
  Found look(Moment now, const Frontier& frontier);

 private:
  // Of `now` after `then`, periods apart: how often that may be repeated; 0: not the same.
  std::uint32_t repeats(const Moment& then, const Moment& now, std::uint32_t periods,
                        const Frontier& frontier) const;

  const FlatProgram& flat_;
  SteadyState steady_;
  std::uint32_t stream_ = 0;     // whose head says that a period begins
  std::uint32_t next_slot_ = 0;  // kNoOp: no moment is wanted any more
  Picoseconds window_ = 0;
  std::deque<Moment> moments_;
};

}  // namespace steploom
