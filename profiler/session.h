// A measuring session: asks in, a raw file of points out, within a budget, again and again.
//
// The raw file (points.h) is written line by line. One that is there already is gone on with, if it
// was measured on the same GPU with the same driver, libraries and method; what it holds is not
// measured again. A last line that was cut short is dropped. An ask whose shot is predicted, or
// found, to take over kMostShotMs is not measured but extrapolated at the end from the longest
// measured point of its kind, phase and provider; the line says so.
//
// What measures, the clock and the wish to stop are passed in.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "profiler/budget.h"

namespace steploom {

struct SessionTools {
  std::function<Timing(const Ask&)> time;
  std::function<std::vector<MeasuredOther>()> others;  // once a file, before the first point
  std::function<double()> seconds;                     // a clock that never goes back
  std::function<bool()> stopped;                       // asked between points
  // Points done and in all, and the seconds left, of the budget or of the list, whichever is less.
  std::function<void(std::size_t done, std::size_t all, double left)> progress;
};

struct SessionPlan {
  std::vector<Ask> asks;
  bool in_order = false;  // as listed; else a coarse pass first, then by gain (budget.h)
  ByClass shares;         // of a step
  ByClass errors;         // to begin with
  double budget_seconds = 720;
};

struct SessionResult {
  Measurements measured;                // all that the file now holds
  std::size_t resumed = 0;              // points that it held before
  std::size_t timed = 0;                // points measured now
  std::size_t left = 0;                 // asks that the budget did not reach
  std::vector<MeasuredPoint> not_well;  // wrong, failed or skipped for want of memory, this time
  bool faulty = false;                  // one of those computed something wrong or failed
  bool interrupted = false;
};

// The points of a raw file that a session on this machine may go on with; none if there is no such
// file. Throws Error naming what differs.
Measurements resumable(const std::filesystem::path& file, const MeasuredOn& on);

SessionResult run_session(const std::filesystem::path& file, const MeasuredOn& on,
                          const SessionPlan& plan, const CostModel& model,
                          const SessionTools& tools);

}  // namespace steploom
