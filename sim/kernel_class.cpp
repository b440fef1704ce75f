#include "sim/kernel_class.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace steploom {
namespace {

// In the order of KernelClass.
constexpr std::array<std::string_view, kKernelClasses> kNames{
    "matmul",     "matmul_small", "grouped_matmul", "attention",      "attention_backward",
    "memory",     "optimizer",    "copy_on_device", "copy_to_device", "copy_to_host",
    "all_reduce", "all_gather",   "reduce_scatter", "all_to_all",     "send_recv"};

}  // namespace

KernelClass kernel_class_of(const Work& w) {
  switch (class_of(w.kind)) {
    case OpClass::matmul: {
      const double flops =
          2.0 * static_cast<double>(w.m) * static_cast<double>(w.n) * static_cast<double>(w.k);
      return flops < kSmallProduct ? KernelClass::matmul_small : KernelClass::matmul;
    }
    case OpClass::grouped_matmul:
      return KernelClass::grouped_matmul;
    case OpClass::attention:
      return w.phase == Phase::forward ? KernelClass::attention : KernelClass::attention_backward;
    case OpClass::memory:
      return KernelClass::memory;
    case OpClass::optimizer:
      return KernelClass::optimizer;
    case OpClass::copy:
    case OpClass::communication:
      break;
  }
  // Copies and collectives have their kinds' names.
  return *kernel_class_named(name_of(w.kind));
}

std::string_view name_of(KernelClass c) {
  return kNames.at(static_cast<std::size_t>(c));
}

std::optional<KernelClass> kernel_class_named(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<KernelClass>(found - kNames.begin());
}

}  // namespace steploom
