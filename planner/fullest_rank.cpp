#include "planner/fullest_rank.h"

namespace steploom {

FullestRank fullest_rank(const Setting& s, const Program& p, const std::vector<Bytes>& peaks) {
  FullestRank out;
  for (std::size_t d = 0; d < peaks.size(); ++d) {
    const Bytes limit = s.device_of_type(p.devices[d].type).memory;
    if (d == 0 || peaks[d] - limit > out.peak - out.limit) out = {d, peaks[d], limit};
  }
  return out;
}

}  // namespace steploom
