// Offsets for tensors that come and go: one arena for a device, planned once.
//
// Two tensors may share bytes only if the Program orders the last use of the one before the first
// write of the other, whatever the timing. Largest tensors are placed first, each at the lowest
// offset that is free of all it may meet. The same input gives the same plan.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/work.h"
#include "sim/device_clocks.h"

namespace steploom {

inline constexpr Bytes kArenaAlignment = 256;

// A tensor's life on its device: operators by their number in issue order (DeviceClocks).
struct Life {
  Bytes bytes = 0;
  std::uint32_t begin = 0;  // first writer
  std::uint32_t end = 0;    // at whose end every use is over
};

struct ArenaPlan {
  std::vector<Bytes> offsets;  // by life
  Bytes bytes = 0;
  Bytes live_peak = 0;  // most bytes alive at once if operators ran in issue order
};

ArenaPlan plan_arena(std::span<const Life> lives, const DeviceClocks& clocks);

}  // namespace steploom
