// From one operator's shape to its duration alone on a device.
//
// A CostQuery is a Work and, for a collective, the shape of its group on the cluster. A CostModel
// answers from a Profile (measured points or compact fits) and a Cluster, and says where each
// answer comes from. Durations are rounded to picoseconds once, computed with + − × ÷ √ and our own
// log2 and exp2 (portable_math.h), so that every machine gets the same integers.
#pragma once

#include <cstdint>
#include <string_view>

#include "models/work.h"

namespace steploom {

// Where a number comes from, from the surest to the least sure.
enum class Provenance : std::uint8_t {
  measured,      // this very shape was measured
  interpolated,  // between measured shapes
  fitted,        // from a compact fit to measurements of this kind of kernel on this GPU
  calibrated,    // scaled to a trace of the user's
  modelled,      // roofline, latency and bandwidth: no measurement of this kind
};
inline constexpr int kProvenances = static_cast<int>(Provenance::modelled) + 1;
std::string_view name_of(Provenance p);

// How a process group lies on the cluster.
struct GroupShape {
  int ranks = 1;           // members
  int nodes = 1;           // nodes that they are spread over
  int ranks_per_node = 1;  // most members on one node
  auto operator<=>(const GroupShape&) const = default;
};

struct CostQuery {
  Work work;
  GroupShape group;  // collectives only
  int ctas = 0;      // collectives only: NCCL's setting of CTAs; 0: the fastest
  int parts = 1;     // the work is one of so many equal parts of a whole, run one after the other
  // All-to-alls of uneven sizes on several nodes: `work.bytes` is the size of the even one that is
  // as much for the busiest node's NICs, this of the one that is as much for the busiest rank's
  // NVLink; 0: they are even.
  Bytes inside = 0;
};

struct Cost {
  Picoseconds time = 0;
  Provenance provenance = Provenance::modelled;
  std::uint16_t sms = 0;         // SMs it can use; a collective: its CTA count
  std::uint16_t link_share = 0;  // collectives: of its bottleneck link at full speed, out of 65535
  // What passes on the device before it starts, as OpTemplate has them; not in `time`.
  std::uint32_t stream_gap = 0, event_latency = 0;  // picoseconds
  // As OpTemplate has them (step_clock.h); 0 where the profile has no clock.
  std::uint32_t microjoules = 0;
  std::uint16_t mhz = 0;
};

}  // namespace steploom
