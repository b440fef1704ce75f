// Splits of the layers over stages that lie on several types of device: the faster, or larger, the
// more layers.
//
// A stage is as fast as the slowest device that runs it. By each of three measures (products per
// second, memory bandwidth, memory) a device has up to its whole ratio to the least of them, in
// sixteenths of the way from 1: what a layer takes on a device, and what memory leaves of it, lies
// between. Every split is the balanced one (balanced_stages) of such ratios.
#pragma once

#include <vector>

#include "planner/setting.h"

namespace steploom {

// Each split once, in a fixed order; none where all stages are on devices alike. Virtual stage k is
// on pipeline rank k mod pp, with two chunks a rank also in a V. Needs pp · vpp <= layers.
std::vector<std::vector<int>> proportionate_stages(const Setting& setting, int pp, int vpp);

}  // namespace steploom
