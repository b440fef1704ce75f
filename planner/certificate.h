// What stands behind a step: floors that it cannot go below, and so how much is left to gain.
//
// A floor is a resource's load or a path. The load of a stream holds whatever the order of its
// operators, and for every pass that moves but does not remove them: no overlap makes the step
// shorter than its busiest stream. A path is the step's longest one, without contention, with
// something made free: with weight gradients and the collectives of gradients free, what is left is
// what no placement of either can shorten; with all communication free, what hiding all of it would
// leave. Each is exact for this Program's order of everything else.
#pragma once

#include <string>
#include <vector>

#include "sim/program.h"

namespace steploom {

struct StepFloor {
  std::string what;        // "compute of rank 0 (stage 0)"
  Picoseconds least = 0;   // the step takes at least this
  bool any_order = false;  // whatever the order of operators
};

struct ExchangeFloor {
  Picoseconds busy = 0;    // all-to-alls of the device where they take most, one after another
  Picoseconds beside = 0;  // kernels of weight gradients there: what could lie beside them
  Picoseconds most() const { return busy < beside ? busy : beside; }  // hidden by these at most
};

struct Certificate {
  Picoseconds step = 0;
  std::vector<StepFloor> floors;  // the highest first
  ExchangeFloor backward;         // all-to-alls of the backward passes

  // The highest floor that holds for the weight gradients and gradient collectives in any order.
  Picoseconds placed = 0;
  // What placing these otherwise could still save, at most.
  Picoseconds left() const { return step > placed ? step - placed : 0; }
};

// `program` at its clocks (step_clock.h), `step` its replayed makespan.
Certificate certify(const Program& program, Picoseconds step);

}  // namespace steploom
