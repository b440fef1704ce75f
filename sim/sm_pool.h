// Who holds a device's SMs, and who is next.
//
// SMs are not pre-empted. Whoever lacks SMs stands in the device's line, in the order of (priority,
// ready time, issue order): operators that have not started, and kernels that started on fewer SMs
// than they want or handed some over. Free SMs go down the line. As in CUDA's block scheduler, an
// operator that cannot start keeps those behind it waiting (Amert et al., "GPU scheduling on the
// NVIDIA TX2: hidden details revealed", RTSS 2017).
//
// A kernel starts on what is free, if that is at least `sms_least`, and takes the rest as it frees.
// A collective starts on its whole CTA count or not at all; SMs that are not free it takes from
// kernels that retire in waves, each at its first wave boundary after the collective became ready,
// all at once when enough have come to theirs. A kernel keeps its `sms_least`. Some classes that
// persist for others free SMs at waves for a collective of higher priority (contention.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sim/slow_down.h"

namespace steploom {

class SmPool {
 public:
  explicit SmPool(const FlatProgram& flat);

  // The stream's operator is ready and stands in line from now on.
  void enqueue(std::uint32_t device, std::uint32_t stream, const KernelNeeds& needs,
               Picoseconds now, std::uint32_t op);

  // When admit() wants to be asked again.
  struct Admission {
    std::uint32_t asker = kNoOp;    // stream of the collective that waits for waves
    Picoseconds ask_at = kUnknown;  // when they will have come to their boundaries
  };
  // Gives out SMs; the streams that start are appended to `started`.
  Admission admit(std::uint32_t device, Picoseconds now, std::vector<std::uint32_t>& started);

  // The stream's operator has ended.
  void release(std::uint32_t device, std::uint32_t stream);

  // Streams whose operators are resident, ascending.
  std::span<const std::uint32_t> residents(std::uint32_t device) const {
    return {&residents_[devices_[device].first], devices_[device].residents};
  }
  const KernelNeeds& needs(std::uint32_t stream) const { return *uses_[stream].needs; }
  std::uint32_t held(std::uint32_t stream) const { return uses_[stream].held; }
  std::uint32_t wanted(std::uint32_t stream) const { return uses_[stream].wanted; }

  // For skipping periods (steady_state.h): what a stream in line or resident holds and waits for.
  void append_state(std::uint32_t stream, Picoseconds now, std::vector<std::int64_t>& state) const;
  void delay(std::uint32_t stream, std::uint32_t ops, Picoseconds by);

  // Streams in line that have not started, in order.
  std::vector<std::uint32_t> waiting(std::uint32_t device) const;

  static std::size_t bytes_per_stream() { return sizeof(Use) + 2 * sizeof(std::uint32_t); }

 private:
  struct Use {
    const KernelNeeds* needs = nullptr;
    Picoseconds ready = 0, start = 0;
    std::uint32_t op = kNoOp;
    std::uint16_t held = 0;
    std::uint16_t wanted = 0;  // no more than the device has
    bool resident = false, in_line = false;
  };
  struct Of {
    std::uint32_t first = 0;  // stream; its residents and its line are stored from here on
    std::uint32_t residents = 0, line = 0;
    std::uint32_t sms = 0, free = 0;
  };

  bool before(std::uint32_t a, std::uint32_t b) const;
  void stand_in_line(Of& of, std::uint32_t stream);
  void leave_line(Of& of, std::uint32_t stream);
  void start(Of& of, std::uint32_t stream, std::uint32_t sms, Picoseconds now);
  // When waves will have freed enough for the stream; takes the SMs if that is now.
  Picoseconds hand_over(Of& of, std::uint32_t stream, Picoseconds now);

  std::vector<Of> devices_;
  std::vector<Use> uses_;                 // by stream
  std::vector<std::uint32_t> residents_;  // streams, device after device
  std::vector<std::uint32_t> line_;       // likewise
};

}  // namespace steploom
