// The raw tables that `steploom profile collectives` writes: collectives on one fabric, and how
// they and kernels slow each other. docs/interference.md says how each was measured.
//
// A file is JSON lines: a header with the format's version, a line a point, and an end. A file
// without its end (a run that died) is read, and says so; anything else that is not as written
// here is refused with file, line and reason. Times are microseconds, the median and its quartiles;
// bytes count as Work::bytes does. `grid` is the number of blocks that CUPTI saw the collective's
// kernel run on: its CTA count.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/profile.h"

namespace steploom {

// Kernels that are measured beside collectives and copies; copies.
inline constexpr std::array<std::string_view, 6> kSideKernels{
    "matmul", "matmul_small", "attention", "attention_backward", "memory", "spin"};
inline constexpr std::array<std::string_view, 3> kSideCopies{"copy_on_device", "copy_to_device",
                                                             "copy_to_host"};

struct Quartiles {
  double first = 0, median = 0, third = 0;
};

struct CollectivePoint {
  std::string collective;  // "all_reduce"
  Bytes bytes = 0;
  std::vector<int> asked;  // CTA settings that ran on this grid
  int grid = 0;            // 0: skipped
  Quartiles us;            // in a stream of its siblings, one after the other
  double kernel_us = 0;    // from the last member's start to the last member's end
  int samples = 0;
  std::string skipped;  // why there is no measurement; empty: there is
};

// A kernel on part of the SMs; g is `us` at all SMs over `us` here.
struct SharePoint {
  std::string kernel;  // "matmul"
  int held = 0;        // SMs that were free for it
  int wanted = 0;      // SMs of the device
  Quartiles us;
};

// A kernel and a collective in saturated loops beside each other.
struct BesidePoint {
  std::string kernel, collective;
  Bytes bytes = 0;
  int grid = 0;
  Quartiles kernel_us, kernel_alone_us;
  Quartiles collective_us, collective_alone_us;
  double window_ms = 0;  // of one sample
};

// Two collectives of different communicators in saturated loops beside each other.
struct PairPoint {
  std::string collective, other;
  Bytes bytes = 0, other_bytes = 0;
  int grid = 0, other_grid = 0;
  Quartiles us, alone_us;
  Quartiles other_us, other_alone_us;
  double window_ms = 0;
};

// Single launches of a collective behind a train of kernels.
struct AdmissionPoint {
  std::string collective;
  Bytes bytes = 0;
  int grid = 0;
  std::string behind;  // "nothing" or a kernel
  bool high_priority = false;
  Quartiles wait_us;  // from the call to the last member's start
  Quartiles run_us;   // from there to the last member's end
};

// A copy alone.
struct CopyPoint {
  std::string copy;  // "copy_to_host"
  Bytes bytes = 0;
  Quartiles us;
  bool needs_sms = false;     // a blocker of all SMs' shared memory keeps it waiting
  double us_without_sms = 0;  // else: what it takes then
};

// A kernel and a copy in saturated loops beside each other.
struct CopyBesidePoint {
  std::string kernel, copy;
  Bytes bytes = 0;
  Quartiles kernel_us, kernel_alone_us;
  Quartiles copy_us, copy_alone_us;
  double window_ms = 0;
};

struct CollectivePoints {
  std::string reading;  // the file
  std::string date, command, fabric, gpu, driver, cuda_driver, cuda_runtime, nccl, cublas;
  std::string cudnn;                     // empty: of a file from before attention was measured here
  std::vector<std::string> environment;  // of NCCL
  int ranks = 0;
  int sms = 0;
  std::vector<CollectivePoint> collectives;
  std::vector<SharePoint> shares;
  std::vector<BesidePoint> besides;
  std::vector<PairPoint> pairs;
  std::vector<AdmissionPoint> admissions;
  std::vector<CopyPoint> copies;
  std::vector<CopyBesidePoint> copy_besides;
  bool complete = false;  // the run reached its end within its budget
};

// `reading` names the text in messages.
CollectivePoints parse_collective_points(std::string_view text, std::string reading);
CollectivePoints load_collective_points(const std::filesystem::path& file);

// What a collective of a point takes. The host launches one in some 7 to 12 µs, so for kernels
// below kHostBoundUs a loop of them measures the host: the kernel's own time counts there.
inline constexpr double kHostBoundUs = 20;
double duration_us(const CollectivePoint& point);

// The fastest setting of a collective at a size: what an untuned NCCL is nearest to.
std::optional<CollectivePoint> fastest(const CollectivePoints& points, std::string_view collective,
                                       Bytes bytes);

// How far a profile's curve is from the fastest measured setting of one collective at one size.
struct CollectiveError {
  OpKind kind = OpKind::all_reduce;
  Bytes bytes = 0;
  double error = 0;  // predicted/measured − 1
};

// For collectives that the profile has a curve for (or send_recv) at the measured number of ranks
// and sizes of at least `least_bytes`, by collective, in the file's order.
std::vector<CollectiveError> collective_errors(const CollectivePoints& points,
                                               const Profile& profile, Bytes least_bytes);

// The same by collective.
struct CollectiveComparison {
  std::string collective;
  int points = 0;
  double median = 0;  // of |predicted/measured − 1|
  double p95 = 0;     // 95th percentile
  double bias = 0;    // median of predicted/measured − 1
};

std::vector<CollectiveComparison> compare_with_profile(const CollectivePoints& points,
                                                       const Profile& profile, Bytes least_bytes);

}  // namespace steploom
