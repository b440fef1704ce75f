// All-to-alls before gradient collectives (Layout::a2a_first).
//
// An all-to-all that shares links with a gradient's reduction takes longer, and a layer waits for
// it (1.83 times in the median of Lina's runs, 4.14 at worst). Lina (Li et al., arXiv 2210.17223,
// section 5) has one queue of communication on each device: all-to-alls come first; a reduction,
// cut into micro-operators (Layout::grad_micro), starts only while none waits or runs; and none
// starts once the backward pass has reached the computation that the next all-to-all sends the
// result of. What has started is not stopped.
//
// In a Program that is fixed beforehand the queue becomes edges: the block's times say in which
// space between two all-to-alls each reduction starts, and it is issued behind the one before that
// space and waits for it. It keeps its stream and communicator, so reductions of dense and of
// expert parameters still run beside each other, and an all-to-all that comes early does not wait
// for a reduction under way but shares its links (Lina's single queue would hold it up).
#pragma once

#include "planner/backward_order.h"
#include "planner/pass_context.h"

namespace steploom {

struct DeferredGradients {
  TimedGraph times;  // reductions wait for the all-to-alls before them
  std::vector<OpId> order;
};

DeferredGradients defer_gradients(const OpGraph& graph, TimedGraph times);

// The pass, over one of a chunk's backward graphs.
OpGraph put_exchanges_first(const OpGraph& backward, const std::vector<Tensor>& tensors,
                            const PassContext& context);

}  // namespace steploom
