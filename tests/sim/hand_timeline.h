// Timelines written by hand: times as one wants them, in microseconds.
//
//     HandTimeline t;
//     t.kernel("fc1", 0, 4);                        // on stream "compute" of device 0
//     t.collective("a2a", 0, 4, 6, {.joined = 5});  // on stream "comm"
//     t.timeline()
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "sim/timeline.h"

namespace steploom::testing {

inline constexpr Picoseconds kMicro = 1'000'000;

// In microseconds, but for `waits`.
struct HandTimes {
  double issued = -1;                     // -1: at once, at 0
  double joined = -1;                     // -1: at its start
  std::vector<std::uint32_t> waits = {};  // events, by index
  bool host_waits = false;
};

class HandTimeline {
 public:
  explicit HandTimeline(std::uint32_t devices = 1) {
    t_.streams = {"compute", "comm"};
    t_.names = {"F"};
    TimelineGroup all{"ep", devices, {}};
    for (std::uint32_t d = 0; d < devices; ++d) {
      t_.devices.push_back({"gpu" + std::to_string(d), 0, 1, 132, 100, 40});
      t_.slots.push_back({d, 0, 0, SlotKind::forward});
      all.members.push_back(d);
    }
    t_.groups.push_back(all);
    t_.first_wait.push_back(0);
  }

  void kernel(const std::string& name, std::uint32_t device, double start, double end,
              const HandTimes& more = {}) {
    add(name, OpKind::matmul, 0, device, start, end, more);
  }
  void collective(const std::string& name, std::uint32_t device, double start, double end,
                  const HandTimes& more = {}) {
    add(name, OpKind::all_to_all, 1, device, start, end, more);
    TimelineEvent& e = t_.events.back();
    e.group = 0;
    e.group_kind = CommGroup::ep;
    e.joined = more.joined < 0 ? e.start : ps(more.joined);
  }

  const Timeline& timeline() const { return t_; }

 private:
  static Picoseconds ps(double micros) {
    return static_cast<Picoseconds>(micros * static_cast<double>(kMicro));
  }

  void add(const std::string& name, OpKind kind, std::uint16_t stream, std::uint32_t device,
           double start, double end, const HandTimes& more) {
    auto at = std::find(t_.names.begin(), t_.names.end(), name);
    if (at == t_.names.end()) at = t_.names.insert(at, name);
    TimelineEvent e;
    e.name = static_cast<std::uint32_t>(at - t_.names.begin());
    e.kind = kind;
    e.stream = stream;
    e.device = e.slot = device;
    e.start = ps(start);
    e.end = ps(end);
    e.issued = more.issued < 0 ? 0 : ps(more.issued);
    e.host_waits = more.host_waits;
    t_.events.push_back(e);
    t_.waits.insert(t_.waits.end(), more.waits.begin(), more.waits.end());
    t_.first_wait.push_back(static_cast<std::uint32_t>(t_.waits.size()));
    t_.makespan = std::max(t_.makespan, e.end);
    t_.origin.step = t_.makespan;
  }

  Timeline t_;
};

}  // namespace steploom::testing
