// Does a step fit? Every rank's peak against the memory of its own device.
#pragma once

#include <cstddef>
#include <vector>

#include "planner/setting.h"
#include "sim/program.h"

namespace steploom {

// The rank that exceeds its device's memory the most, or comes nearest to it.
struct FullestRank {
  std::size_t device = 0;  // of the Program
  Bytes peak = 0;
  Bytes limit = 0;  // the memory of its device
};

// `peaks`: by device of the Program.
FullestRank fullest_rank(const Setting& setting, const Program& program,
                         const std::vector<Bytes>& peaks);

}  // namespace steploom
