// What is kept of every parameter, and what an optimizer's kernels move to update one.
//
// 16-bit parameters (bf16, fp16, and fp8, whose parameters stay bf16) have an fp32 master copy;
// fp32 and tf32 ones are their own master. Moments are fp32. Bytes a parameter.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "models/work.h"

namespace steploom {

enum class Optimizer : std::uint8_t {
  adam,           // one kernel, as Megatron-Core's (Transformer Engine's or Apex's FusedAdam)
  adamw_foreach,  // torch.optim.AdamW's default on GPUs: a kernel list per arithmetic step
  adamw_fused,    // torch.optim.AdamW(fused=True): one kernel
  sgd,            // torch.optim.SGD with momentum, its default on GPUs: kernel lists
};
inline constexpr int kOptimizers = static_cast<int>(Optimizer::sgd) + 1;
std::string_view name_of(Optimizer o);                                       // "adamw-foreach"
Optimizer optimizer_named(std::string_view name, std::string_view reading);  // else Error

Bytes master_bytes(Precision p);  // 4, or 0 where parameters are fp32 themselves
Bytes moment_bytes(Optimizer o);  // 8, SGD 4
Bytes moved_bytes(Optimizer o, Precision p, Bytes gradient);  // by an update, gradient in bytes
Bytes scratch_bytes(Optimizer o);  // held besides while it runs: foreach's square roots, 4

}  // namespace steploom
