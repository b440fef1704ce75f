// The partition pass: forward operators around the experts' exchanges in parts, so that one part is
// computed while another travels (Lancet, arXiv 2404.19429, section 5).
//
// An operator of a range becomes `parts` operators on slices of its tensors, issued in the order
// (stage, part); what reads such a tensor outside of the range waits for all its slices. An
// all-to-all whose rows are cut irregularly sends sizes first, for which the host waits, since
// NCCL's calls name them, and then data; the mean over routings of a part's rows is an equal part
// of the micro-batch's, and so they are costed. The backward pass is as it was: its rows are
// assumed to lie in the experts' order, as an exchange that writes to each row's place leaves them.
#pragma once

#include <vector>

#include "models/layout.h"
#include "models/op_graph.h"
#include "planner/block.h"
#include "planner/range_program.h"
#include "planner/setting.h"

namespace steploom {

// What the layout's partition cuts in `forward`, one range a layer that exchanges rows.
std::vector<CutRange> named_ranges(const OpGraph& forward, const Partition& partition);
// The same of a lowered forward pass that has the whole graph's operators.
std::vector<CutRange> named_ranges(const std::vector<OpInfo>& forward, const Partition& partition);

// Cuts the forward graphs of a rank's chunks (build_chunks()). `ranges`: by chunk, in numbers of
// Chunk::forward. Every range must have axes by `rules`, whose parts are not looked at. `experts`:
// of the model. Returns the new numbers of the tensors of the last chunk's table; the other graphs
// have them.
std::vector<TensorId> cut_forward(std::vector<Chunk>& chunks,
                                  const std::vector<std::vector<CutRange>>& ranges,
                                  const PartRules& rules, int experts);

// The pass: what the layout's partition says, of the chunks of a rank whose groups have these
// shapes. The layout must keep all layout rules. Returns what cut_forward() does.
std::vector<TensorId> partition_forward(const Setting& setting, const Layout& layout,
                                        const GroupShapes& shapes, CostCache& costs,
                                        std::vector<Chunk>& chunks);

}  // namespace steploom
