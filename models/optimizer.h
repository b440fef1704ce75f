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
  adamw_loop,     // torch.optim.AdamW(foreach=False): each step of each parameter tensor by itself
  sgd,            // torch.optim.SGD with momentum, its default on GPUs: kernel lists
};
inline constexpr int kOptimizers = static_cast<int>(Optimizer::sgd) + 1;
std::string_view name_of(Optimizer o);                                       // "adamw-foreach"
Optimizer optimizer_named(std::string_view name, std::string_view reading);  // else Error

// What an optimizer keeps of parameters of a precision. Without masters it works on the parameters
// themselves, and its moments are of their precision (torch.optim on 16-bit parameters).
struct Keeping {
  Precision precision = Precision::bf16;
  bool masters = true;
};
Bytes master_bytes(const Keeping& k);               // 4; 0 where parameters are fp32 or have none
Bytes moment_bytes(Optimizer o, const Keeping& k);  // 8, SGD 4
Bytes moved_bytes(Optimizer o, const Keeping& k,
                  Bytes gradient);                   // by an update, gradient in bytes
Bytes scratch_bytes(Optimizer o, const Keeping& k);  // besides while it runs: foreach's roots, 4

}  // namespace steploom
