// What is to be trained: how long, how many, how precise. Nothing about how it is laid out.
#pragma once

#include <cstdint>

#include "models/optimizer.h"
#include "models/routing.h"

namespace steploom {

struct Workload {
  std::int64_t seq_length = 4096;         // tokens in a sequence
  std::int64_t global_batch = 256;        // sequences in an optimizer step
  Precision precision = Precision::bf16;  // of products; what is stored: work.h
  Optimizer optimizer = Optimizer::adam;  // its state and masters stay fp32
  Routing routing{};                      // of tokens to experts

  std::int64_t tokens_per_step() const { return seq_length * global_batch; }
};

// Throws Error (naming `reading`) unless every field is positive and a step's tokens fit in 2^40.
void validate(const Workload& w, const char* reading);

}  // namespace steploom
