// The least that the routed operators of a layer can take, for bounds that hold under any draw.
//
// Whatever the draw, some rank of an expert-parallel group holds at least an even share of the
// rows, and all others meet it in the exchange behind its experts. So on every rank's path from
// dispatch to combine lie the kernels of that rank, at no fewer rows than an even share, and
// exchanges at least as long as the even one: the busiest node or rank has no less than the mean.
// Grouped products count what the cheapest row costs, times an even share. Weight gradients are on
// no other rank's path and count nothing; under a capacity rows are lost, under a node limit copies
// are, and nothing that they touch counts.
//
// Times of more rows than an even share are looked at a few to an octave, and between them taken
// not to fall.
#pragma once

#include "planner/block.h"
#include "planner/setting.h"

namespace steploom {

// Of a block lowered with balanced shapes: lowers its routed operators to their least.
void least_routed(Block& block, const Setting& setting, const Layout& layout,
                  const GroupShapes& shapes, CostCache& costs);

}  // namespace steploom
