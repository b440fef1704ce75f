// What torch.distributed.pipelining adds to the passes of eager PyTorch: host time around each,
// and, where backward passes are split, the work of splitting them.
//
// I (stage_backward_input, pipelining/_backward.py) searches the autograd graph of the stage for
// the nodes where gradients of data and of parameters part, hooks them, and runs the gradients of
// data. W (stage_backward_weight) runs autograd once for every such node: each time it goes through
// all of the graph below, so that deeper stages take more than their share, and each time it adds 0
// to the node's gradient, a kernel over it. Host times are those of
// profiler/data/h200-sxm-141gb/torch-stages-0.jsonl (docs/measured.md).
#pragma once

#include "models/chunk_builder.h"

namespace steploom {

enum class EagerPass { forward, whole_backward, data_gradients, weight_gradients };

// The graph as the runtime launches it. `stage`: which layers it holds.
OpGraph eager_pass(const OpGraph& graph, EagerPass pass, const StageSpan& stage);

}  // namespace steploom
