// Where a step's time goes, by replay.
//
// Busy times are means over all ranks. Exposed is what the step would save if that thing were free
// (knockout.h); hidden is the rest of its busy time. The critical path tiles the step, so its sums
// are shares of the whole.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "planner/knockout.h"
#include "planner/lower.h"
#include "planner/plan_file.h"
#include "sim/critical_path.h"

namespace steploom {

struct CommunicationTime {
  GroupCollective what;
  Picoseconds busy = 0;     // mean over ranks, waiting for peers included
  Picoseconds exposed = 0;  // saved if it were free
  Picoseconds hidden() const { return busy > exposed ? busy - exposed : 0; }
};

struct Saving {
  std::string what;       // "bubble"
  Picoseconds saved = 0;  // against the step; negative when freeing it lengthens the schedule
};

struct Explanation {
  Picoseconds step = 0;
  std::array<Picoseconds, kOpClasses> busy{};  // by class, mean over ranks
  Picoseconds recompute = 0;                   // of it: forward operators run again
  Picoseconds idle = 0;                        // step minus what the compute stream was busy
  std::vector<CommunicationTime> communication;
  Picoseconds communication_exposed = 0;  // saved if all of it were free
  Picoseconds bubble = 0;                 // saved if no stage waited for another
  Picoseconds optimizer = 0;              // saved if the optimizer's kernels were free
  Picoseconds host = 0;                   // saved if the host issued at once
  CriticalPath path;
};

Explanation explain(const Program& program, const ReplayOptions& options);

// Every knock-out there is: each collective, all communication, bubble, contention, host,
// imbalance.
std::vector<Saving> knock_out_all(const Program& program, const ReplayOptions& options);

// Share of the critical path that rests on durations that are not modelled.
double surely_known(const CriticalPath& path);

// What should make a reader doubt: "62 % of this step is modelled", "MFU above 70 %: check the
// profile", "the network had no effect". Empty if nothing does.
std::vector<std::string> warnings(double known_share, const PlanRow& row, int nodes);

// Where the layout cuts work to run beside communication (tp_overlap, weave, chunks), and how much these
// slow each other was not measured: what it says of that. Else nothing.
std::optional<std::string> overlap_warning(const Setting& setting, const Layout& layout);

}  // namespace steploom
