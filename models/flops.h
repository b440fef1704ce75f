// Model FLOPs: the work that a training step is credited with, however it is executed.
//
// Megatron-Core's convention (num_floating_point_operations in megatron/training/training.py,
// 0.20): matrix products only, a multiply-add is two; causal attention counts half of the square,
// local attention the pairs in its windows (shapes.h); a token meets top_k routed experts and the
// shared one; the backward pass is twice the forward pass; recomputation, routers and gates are not
// counted; the logits run over the vocabulary padded to 128, and again for every
// multi-token-prediction module. It divides by time and peak to MFU. It is not what a device
// executes: that stands in each Work.
#pragma once

#include <cstdint>
#include <vector>

#include "models/model_spec.h"
#include "models/workload.h"

namespace steploom {

double model_flops(const ModelSpec& m, const Workload& w);  // of one optimizer step

// Multiply-adds of one token forward, by layer and in the head: what stages are balanced by.
struct TokenWork {
  std::vector<double> layers;
  double head = 0;
};
TokenWork token_work(const ModelSpec& m, std::int64_t seq_length);

}  // namespace steploom
