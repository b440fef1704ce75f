// Attention beside collectives and copies: cuDNN's, as the executor runs it (attention.h).
//
// Causal, bf16, 2 sequences of 4096 tokens, 32 heads over 8 key-value heads, width 128 (a layer of
// Llama-3.1-8B): 2048 tiles of 128 queries forward, some 15 waves of an H200's SMs. Backward is
// what cuDNN launches for it: sums of rows, the gradients, dq in bf16.
#pragma once

#include <memory>
#include <string>

#include "models/work.h"
#include "profiler/device.h"

namespace steploom {

class SideAttention {
 public:
  static bool built_in();  // is there cuDNN in this build?

  // Allocates and plans. A fault of cuDNN ends the run.
  SideAttention();
  ~SideAttention();

  // phase: forward or data_grad.
  void run(Phase phase, Stream stream) const;
  // What is wrong with the rows of one run that a plain computation proves; empty: nothing. Waits
  // for the device.
  std::string fault(Phase phase, Stream stream) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace steploom
