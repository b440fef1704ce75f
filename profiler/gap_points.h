// The raw lines of `steploom profile gaps`, read back strictly (measure_gaps.h says what they are).
//
// The first line is the header ("steploom_gaps": 1); every other names its table: chain, host,
// memory, end. Times in microseconds a link or a call, sizes in bytes.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "models/work.h"
#include "profiler/collective_points.h"

namespace steploom {

// A link of a chain: a kernel, a collective, or one after the other on two streams.
struct ChainPoint {
  std::string chain;       // "kernels", "kernels_in_graph", "kernels_across_streams", ...
  std::string kernel;      // empty: none in it
  std::string collective;  // as name_of(OpKind); empty: none in it
  Bytes bytes = 0;         // of the collective
  int ctas = 0;            // of the collective
  Quartiles us;
  std::map<std::string, double> traced;  // by CUPTI: "kernel_us", "kernel_to_collective_us", ...

  double traced_us(const std::string& what) const;  // 0: not there
};

struct HostPoint {
  std::string call;
  Quartiles us;
};

// What the device's free memory fell by in one step of a communicator's life.
struct MemoryStep {
  int communicator = 0;  // 0: that of all ranks, then numbered from 1
  int ctas = 0;          // asked for; 0: NCCL's choice
  std::string step;      // "context", "world", "made", or a collective's name
  Bytes bytes = 0;       // of the collective
  Bytes taken = 0;
};

struct GapPoints {
  std::string reading;  // the file's name
  std::string date, command, fabric, gpu, driver, cuda, nccl;
  int ranks = 0, sms = 0;
  std::vector<ChainPoint> chains;
  std::vector<HostPoint> host;
  std::vector<MemoryStep> memory;
  bool complete = false;  // measured from end to end
};

// Throw Error naming the line.
GapPoints parse_gap_points(std::string_view text, std::string reading);
GapPoints load_gap_points(const std::filesystem::path& file);

}  // namespace steploom
