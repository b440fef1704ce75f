// Causal attention through cuDNN, forward and backward, bf16 with fp32 softmax.
//
// out = softmax(q·kᵀ/√d + mask)·v for grouped heads and any widths that cuDNN has a kernel for (64,
// 128, and MLA's 192 for q and k with 128 for v). Forward also saves the logarithm of every
// softmax's sum, which backward reads. A Layout says where heads lie, so that q, k, v may be parts
// of one packed tensor, and dq, dk, dv of another.
//
// Backward adds up dq from blocks in the order in which they end (fp32 atomics): the last bits
// differ from run to run. The deterministic choice has a fixed order; its workspace grows with the
// square of the sequence and it is slower.
//
// cuDNN 9.14 or newer; backward of sequences that are no multiple of 128 tokens needs 9.16.
//
// Planned once, run many times; every run needs workspace_bytes() of device memory of the caller,
// which it may use again once the run is over. One Dnn serves one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "models/shapes.h"
#include "profiler/device.h"

namespace steploom {

// The library's handle.
class Dnn {
 public:
  Dnn();
  ~Dnn();
  Dnn(const Dnn&) = delete;
  Dnn& operator=(const Dnn&) = delete;

  static int version();  // of the cuDNN that is loaded: 91900 for 9.19.0

  struct Handles;
  const Handles& handles() const { return *handles_; }

 private:
  std::unique_ptr<Handles> handles_;
};

// Element j of head h of token t (of all sequences' tokens) is at t·row + h·head + j. Gradients lie
// as the tensors themselves, d_out as out.
struct AttentionLayout {
  struct Heads {
    std::int64_t row = 0;   // elements from token to token
    std::int64_t head = 0;  // elements from head to head
  };
  Heads q, k, v, out;
};

struct AttentionTensors {
  const Bf16* q = nullptr;
  const Bf16* k = nullptr;
  const Bf16* v = nullptr;
  Bf16* out = nullptr;   // forward writes, backward reads
  float* lse = nullptr;  // [sequences, heads, sequence], likewise: max + ln Σ exp(score − max)
  const Bf16* d_out = nullptr;  // backward only, to the end
  Bf16* dq = nullptr;
  Bf16* dk = nullptr;
  Bf16* dv = nullptr;
};

// Rows of a packed tensor: heads·d of q, then kv_heads·d of k, then kv_heads·dv of v; rows of out:
// heads·dv.
AttentionLayout packed_layout(const AttentionShape& shape);
AttentionTensors packed_tensors(const AttentionShape& shape, const Bf16* qkv, Bf16* out, float* lse,
                                const Bf16* d_out = nullptr, Bf16* dqkv = nullptr);

enum class AttentionOrder { any, deterministic };

class AttentionPlan {
 public:
  // Phase::forward or Phase::data_grad. Throws DeviceError where cuDNN has no kernel.
  AttentionPlan(const Dnn& dnn, Phase phase, const AttentionShape& shape,
                const AttentionLayout& layout, AttentionOrder order = AttentionOrder::any);
  ~AttentionPlan();
  AttentionPlan(AttentionPlan&&) noexcept;
  AttentionPlan& operator=(AttentionPlan&&) noexcept;

  std::int64_t workspace_bytes() const;
  void run(const AttentionTensors& tensors, void* workspace, Stream stream) const;

 private:
  struct Plan;
  std::unique_ptr<Plan> plan_;
};

}  // namespace steploom
