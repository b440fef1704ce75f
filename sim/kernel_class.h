// The rows of the contention tables of lowered Programs: which kernels slow each other alike.
//
// Products fall into two classes, because a short product suffers more beside a collective than a
// long one; attention into two, because its backward pass is other kernels; every kind of
// collective is a class of its own, and every direction of a copy. No operator of a model is a copy
// on the device.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "models/work.h"

namespace steploom {

enum class KernelClass : std::uint8_t {
  matmul,
  matmul_small,  // products of less than kSmallProduct
  grouped_matmul,
  attention,  // forward
  attention_backward,
  memory,
  optimizer,
  copy_on_device,
  copy_to_device,
  copy_to_host,
  all_reduce,
  all_gather,
  reduce_scatter,
  all_to_all,
  send_recv,
};
inline constexpr int kKernelClasses = static_cast<int>(KernelClass::send_recv) + 1;

// FLOPs between those of the two products that were measured beside collectives (0.55 and
// 0.07 TFLOP): their geometric mean (docs/interference.md).
inline constexpr double kSmallProduct = 1.94e11;

KernelClass kernel_class_of(const Work& work);
std::string_view name_of(KernelClass c);  // "matmul_small"
std::optional<KernelClass> kernel_class_named(std::string_view name);
inline bool is_collective(KernelClass c) {
  return c >= KernelClass::all_reduce;
}

inline bool is_copy(KernelClass c) {
  return c >= KernelClass::copy_on_device && c <= KernelClass::copy_to_host;
}

}  // namespace steploom
