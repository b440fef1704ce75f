// ClockLaw: how a GPU's SM clock follows what the GPU draws, and kernels follow the clock.
//
// A card holds its mean power at its limit: where kernels would draw more, it lowers the SM clock.
// Products and attention run in proportion to the clock, and what they draw above idle grows with a
// power of it. Measured alone such a kernel is at the limit, at a clock of its own (`measured`), so
// that is known of it: at clock f it takes measured/f as long and draws
//
//   (limit − idle) · (f / measured)^exponent
//
// above idle. Beyond reach · measured nothing changes any more: the card cuts what a kernel takes
// at a time, whatever its mean. What moves bytes takes the same time at every clock; kernels draw
// in proportion to the clock then, collectives always the same. Where the numbers come from:
// docs/accuracy.md, "The clock of a step".
//
// Units: MHz, watts, picoseconds, microjoules. Portable arithmetic (portable_math.h): the same
// numbers on every machine.
#pragma once

#include <map>

#include "models/work.h"

namespace steploom {

struct ClockLaw {
  int most_mhz = 0;        // of the SMs; 0: nothing is known, times stay as they were measured
  int least_mhz = 0;       // nothing is cut below this
  double limit_watts = 0;  // mean power that the card keeps to
  double idle_watts = 0;   // drawn when nothing runs, at most_mhz
  double reach = 1;        // see above
  double exponent = 1;     // see above; not below 1

  bool known() const { return most_mhz > 0; }
  double budget_watts() const { return limit_watts - idle_watts; }
  bool operator==(const ClockLaw&) const = default;
};

// The clock beyond which a kernel measured at a clock gets no faster.
int fastest_mhz(const ClockLaw& law, int measured_mhz);

// `time` at another clock, rounded up; measured_mhz 0: the same.
Picoseconds time_at(const ClockLaw& law, Picoseconds time, int measured_mhz, int mhz);

// What a device's operators draw above idle over a step, by how it depends on the clock. Additive.
struct ClockDemand {
  double fixed = 0;          // collectives, microjoules
  double moving = 0;         // kernels that move bytes, at most_mhz
  std::map<int, double> by;  // clock measured at -> products and attention at that clock

  void add(const ClockDemand& other, double times = 1);
  double at(const ClockLaw& law, int mhz) const;  // microjoules; never falls as mhz grows

  // The highest clock at which a step of such length stays within the limit; least_mhz if none.
  int highest(const ClockLaw& law, Picoseconds step) const;
};

}  // namespace steploom
