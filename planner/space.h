// The space of layouts that a search goes through, and what the rules leave of it.
//
// Every combination of divisors: tp·cp·pp of the devices, with 2·cp tokens a divisor of the
// sequence and each way to communicate, ep and etp of the devices (1 in a dense model), sequence
// parallelism, ZeRO 0 to 3 as the runtime can, over all replicas or those of a node, every
// micro-batch that divides the global batch, recompute none or
// full, and selective (core attention) where attention is not one kernel: with one kernel it frees
// nothing. Chunks a pipeline rank: as many as share the layers evenly, alone or with the embedding
// and the loss counted as a layer each (Megatron's two ways of an even split). Stages hold equally
// many layers where they can; beside it, or where they cannot, the split whose largest stage does
// the fewest FLOPs; where stages lie on devices of several types, splits in proportion to these
// (proportionate_stages.h). Experts in 1, 2, 4 or 8 chunks where they exchange rows and the runtime
// can cut them; likewise ranges around the exchanges in 2, 4 or 8 parts, or as the range program
// chooses (models/partition.h). What is left open in a layout of the space: its pipeline schedule
// (schedule_choices.h) and its gradients (gradient_choices.h). Nothing is left out by a rule of
// thumb, so "best" means best of all.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "models/layout.h"
#include "planner/setting.h"

namespace steploom {

struct Space {
  std::vector<Layout> valid;                         // in canonical order
  std::int64_t enumerated = 0;                       // combinations tried
  std::map<std::string_view, std::int64_t> refused;  // rule -> how many it refused
  std::int64_t refused_total() const {
    return enumerated - static_cast<std::int64_t>(valid.size());
  }
};

Space enumerate_layouts(const Setting& setting);

}  // namespace steploom
