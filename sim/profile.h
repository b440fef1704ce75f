// Profile: what is known of how long kernels and collectives take on one GPU type and its fabric.
//
// A built-in profile is a compact fit to published measurements (profiler/fit_profile.cpp,
// docs/accuracy.md): a physical base with few constants, times 2^octaves from a Grid of corrections
// (grid.h). It also says where its numbers come from and how wrong it was on points left out of the
// fit. Profiles are read strictly from versioned JSON ("steploom_profile": 1). Times in
// microseconds, bandwidths in bytes a second, rates in FLOP a second, unless a name says otherwise.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/work.h"
#include "sim/clock_law.h"
#include "sim/grid.h"
#include "sim/profile_fabric.h"
#include "sim/profile_points.h"

namespace steploom {

// The device as the fit saw it: bases are computed from these numbers, never from a Cluster's.
struct ProfiledDevice {
  std::string name;             // "h100-sxm-80gb"
  int sms = 0;                  // streaming multiprocessors
  double peak_flops = 0;        // dense bf16, FLOP/s
  double memory_bandwidth = 0;  // bytes/s
  bool bf16 = true;             // has it bf16 matrix products? else peak_flops is of fp16
};

// One kernel class: time = (launch + base(shape)) · 2^octaves(shape).
struct Surface {
  double launch_us = 0;  // the least that a kernel takes
  Grid grid;
};

// Forward attention at one width of q and k per head.
struct AttentionSurface {
  int head_dim = 0;
  // Axes: tokens of a sequence, query heads times sequences, query heads of a key-value head.
  Surface surface;
};

// A collective inside one NVLink domain or, where it was measured so, evenly over several nodes.
// The grid's one axis is bytes (as Work::bytes counts them) and its values are the time itself,
// over one microsecond: log-log linear between knots, constant below the first, in proportion to
// bytes above the last. Values never fall, so time never does.
struct CollectiveCurve {
  OpKind collective = OpKind::all_reduce;
  int ranks = 0;  // members
  Grid grid;
  int nodes = 1;         // that the members are spread over, the same number on each
  std::string source{};  // where the curve was measured, if not with the profile
};

// What passes on the device between two kernels that were launched on streams, beyond what their
// durations hold: those are times back to back, of kernels in one CUDA graph and of collectives in
// one stream (below kHostBoundUs the kernel's own time). So durations and gaps of a chain add up to
// its time. Zero: not measured (profiler/fit_gaps.h).
struct Gaps {
  double kernel_us = 0;            // before a kernel, after the one before it on its stream
  double kernel_event_us = 0;      // before a kernel, after what it waits for on another stream
  double collective_event_us = 0;  // likewise before a collective
  std::string source{};            // how and where they were measured
  bool operator==(const Gaps&) const = default;
};

// The SM clock at which the profile's products, or attention, ran when they were measured, by what
// share of the device's peak rate (of their precision) they reached: the faster a kernel computes
// the more it draws, and the lower is the clock at which that is the card's limit. Linear between
// shares, constant beyond.
struct MeasuredClock {
  OpClass kernels = OpClass::matmul;
  std::vector<double> share_of_peak;  // increasing
  std::vector<double> mhz;
};

// What there is to know of a GPU's clock (clock_law.h), measured as docs/accuracy.md says.
struct ProfiledClock {
  ClockLaw law;
  std::vector<MeasuredClock> measured;  // of products, grouped products and attention
  // Drawn above idle, by byte as Work counts them, nanojoules.
  double memory_nanojoules = 0;
  double optimizer_nanojoules = 0;
  double collective_nanojoules = 0;
  std::string source;
};

// Kernels that only move data: bytes / (factor · memory bandwidth) + latency.
struct MemoryKernels {
  double bandwidth_factor = 0;
  double latency_us = 0;
};

// What measurements in the shapes and the heat of training say of one kind of kernel in one phase,
// beyond the above: its time is multiplied by 2^octaves (correction.h).
struct Correction {
  OpKind kind = OpKind::matmul;
  Phase phase = Phase::forward;
  Grid grid;  // axes as correction_axes() names them
};

// What products of another precision take beyond what the ratio of rooflines makes of the 16-bit
// product of that shape: 2^octaves times that (kernel_model.h, in_precision_seconds). Axes m, n, k.
struct PrecisionSurface {
  Precision precision = Precision::fp8;
  Grid grid;
};

// How far the fit was from measurements that it had not seen.
struct LeaveOut {
  std::string what;  // "bf16 products of 0.1 ms and more"
  std::int64_t points = 0;
  double median = 0;  // of |predicted/measured − 1|
  double p95 = 0;     // 95th percentile
  double worst = 0;
};

// Parts of a profile that no measurement of this GPU is behind: their durations are never fitted
// but modelled. In the order of the file.
enum class ModelledPart : std::uint8_t { matmul, grouped_matmul, attention, collectives };
inline constexpr int kModelledParts = static_cast<int>(ModelledPart::collectives) + 1;
std::string_view name_of(ModelledPart part);  // "grouped_matmul"

struct Profile {
  std::string name;  // "h100-sxm-80gb"
  ProfiledDevice device;
  std::string source;                 // where the measurements come from
  std::string attribution;            // whose they are, and under which licence
  std::string made;                   // how the coefficients were made from them
  std::string date;                   // of the coefficients, ISO 8601
  std::vector<std::string> software;  // versions that were measured

  Surface matmul;                            // axes m, n, k
  Surface grouped_matmul;                    // axes: tokens of an expert, n, k, experts on the rank
  std::vector<AttentionSurface> attention;   // by head_dim
  std::vector<PrecisionSurface> precisions;  // by precision; those that were measured
  Grid attention_backward;  // axis tokens: backward rate (FLOP/s) over forward rate
  MemoryKernels memory;
  Gaps gaps;
  std::optional<ProfiledClock> clock;        // none: not measured
  std::vector<CollectiveCurve> collectives;  // by (collective, ranks, nodes)
  std::vector<Correction> corrections;       // by (kind, phase); may be empty
  std::vector<ProfiledFabric> fabrics;       // by name; may be empty
  ProfilePoints points;                      // exact points; may be empty
  std::vector<LeaveOut> leave_out;
  std::vector<ModelledPart> modelled;  // parts without a measurement of this GPU; mostly empty

  bool is_modelled(ModelledPart part) const {
    return std::find(modelled.begin(), modelled.end(), part) != modelled.end();
  }

  std::string digest;  // FNV-1a 64 of the text it was read from, 16 hexadecimal digits
};

std::vector<std::string_view> profile_names();  // built in, sorted

// Throws Error naming the nearest known name.
const Profile& built_in_profile(std::string_view name);

// A built-in name, or the path of a JSON file (anything with '/' or ending in ".json").
Profile load_profile(std::string_view name_or_path);

// `reading` names the text in messages.
Profile parse_profile(std::string_view text, std::string reading);

// The JSON text that parse_profile reads back.
std::string to_json(const Profile& profile);

// FNV-1a 64 of a text as 16 hexadecimal digits.
std::string digest_of(std::string_view text);

}  // namespace steploom
