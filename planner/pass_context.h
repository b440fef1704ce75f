// What a pass over an operator graph is told, and what every pass is: a graph in, a graph out.
//
// A pass that needs durations runs between build_chunks and lower_block. Ranks of a stage must
// issue the collectives of a group in one order, so every rank's passes see the groups of the
// stage's first rank.
#pragma once

#include <vector>

#include "models/layout.h"
#include "models/op_graph.h"
#include "planner/block.h"
#include "planner/setting.h"

namespace steploom {

struct PassContext {
  const Setting& setting;
  const Layout& layout;
  GroupShapes shapes;  // of the stage's first rank
  CostCache& costs;
  Bytes room = 0;  // for what a backward pass allocates, beside what lies there when it begins
};

}  // namespace steploom
