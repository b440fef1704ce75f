// The clock of a step: the highest at which its devices draw no more than their limit in the mean.
//
// A Program of a GPU whose clock is known (Program::clock) is lowered with durations as they were
// measured, each with its clock. How much a device may draw depends on how long the step takes, and
// that on the clock, so both are sought together: for a time T every device takes the highest clock
// at which, over T, it stays within the limit; the longer T, the higher the clocks, the shorter the
// step. What is found is the T that is not beyond the step's own makespan, but hardly below it
// (kClockTolerance). Devices that run the same templates have one clock, the lowest of theirs.
// Where types of device have laws of their own, those without one keep the times measured.
//
// Each of the two answers is a bound of the next: a relaxed Program has the shorter T.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/engine.h"
#include "sim/program.h"

namespace steploom {

// T lies within this share below its makespan, or of a T that is beyond its own.
inline constexpr Picoseconds kClockTolerance = 1024;  // 1 / this

class ClockedProgram {
 public:
  // Keeps a reference, and the durations as they were measured. A Program without a clock law, or
  // one whose clocks were found before, is left as it is.
  explicit ClockedProgram(Program& program);

  // False only if no replay at clocks that keep the limit takes less than `step`; `links_shared`:
  // only if none with contention does.
  bool may_beat(Picoseconds step, bool links_shared = false);
  // No replay at clocks that keep the limit is shorter.
  Picoseconds relaxed();
  // The step, and the Program left at its clocks (Device::mhz).
  Picoseconds makespan(const ReplayOptions& options);
  Replay replay(const ReplayOptions& options);

 private:
  struct Group {  // devices that share templates, and these; of one law, which is known
    std::vector<std::uint32_t> devices, blocks;
    std::vector<ClockDemand> demands;  // of each device
    ClockLaw law;
    int mhz = 0;
  };
  std::vector<int> clocks_for(Picoseconds step) const;  // by group
  void set(const std::vector<int>& clocks);
  template <class Makespan>
  Picoseconds settle(Picoseconds from, const Makespan& makespan);

  Program& program_;
  std::vector<std::vector<Picoseconds>> durations_, waves_;  // by block and operator, as measured
  std::vector<Picoseconds> of_slots_;                        // Program::durations, as measured
  std::vector<Group> groups_;                                // empty: no law
};

// Replays a Program at its clocks and leaves it at them.
inline Replay replay_at_clock(Program& program, const ReplayOptions& options = {}) {
  return ClockedProgram(program).replay(options);
}

}  // namespace steploom
