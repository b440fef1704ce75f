// What eager PyTorch launches for each operator of a graph: a pass over the blocks of a chunk.
//
// Every operator becomes the kernels that torch 2.11 launches for it on an H200 (cuDNN attention,
// torch.nn.RMSNorm's one kernel, everything else as plain Python has it: profiler/torch_model.py),
// with the bytes that each moves, what autograd keeps of it for the backward pass, and its share of
// the host's time. q, k and v have a product each where queries are rotated, gate and up always;
// their input's gradient then is a sum. The optimizer is torch.optim on the parameters themselves
// after clip_grad_norm_, and zero_grad leaves no gradients to be set to zero.
//
// Not modelled: copies of gradients into buckets (DistributedDataParallel without
// gradient_as_bucket_view) and of parameters and gradients out of and into FSDP2's flat buffers.
// Pipeline stages' passes: eager_passes.h.
#pragma once

#include <vector>

#include "models/emitter.h"

namespace steploom {

// Rewrites the forward and the backward graph.
void eager_kernels(const BuildContext& c, Chunk& chunk);

// Rewrites the optimizer's graph of a rank that holds these stages.
void eager_optimizer(const BuildContext& c, const std::vector<StageSpan>& spans, Chunk& chunk);

// The same update by torch.optim's kernels.
Work eager_update(Work update, Optimizer o);

// Parameter tensors as torch has them: one a weight, one a bias.
std::int64_t parameter_tensors(const ModelSpec& m, const StageSpan& stage);

}  // namespace steploom
