#include "sim/kernel_class.h"

#include <gtest/gtest.h>

namespace steploom {
namespace {

TEST(KernelClass, NamesAreReadBack) {
  for (int i = 0; i < kKernelClasses; ++i) {
    const auto c = static_cast<KernelClass>(i);
    EXPECT_EQ(kernel_class_named(name_of(c)), c);
  }
  EXPECT_FALSE(kernel_class_named("communication").has_value());
}

// Every kind has a class: collectives and copies their own, kernels that of their OpClass, and
// products two.
TEST(KernelClass, OfEveryWork) {
  for (int k = 0; k < kOpKinds; ++k) {
    Work w;
    w.kind = static_cast<OpKind>(k);
    w.m = w.n = w.k = 8192;
    EXPECT_EQ(is_collective(kernel_class_of(w)), is_communication(w.kind));
    const bool own = is_communication(w.kind) || class_of(w.kind) == OpClass::copy;
    EXPECT_EQ(is_copy(kernel_class_of(w)), class_of(w.kind) == OpClass::copy);
    EXPECT_EQ(name_of(kernel_class_of(w)), own ? name_of(w.kind) : name_of(class_of(w.kind)));
  }
  Work backward;
  backward.kind = OpKind::attention;
  backward.phase = Phase::data_grad;
  EXPECT_EQ(kernel_class_of(backward), KernelClass::attention_backward);
  // The two that were measured: 0.55 TFLOP and 0.07 TFLOP.
  const auto product = [](std::int64_t m, std::int64_t n, std::int64_t k) {
    Work w;
    w.m = m;
    w.n = n;
    w.k = k;
    return kernel_class_of(w);
  };
  EXPECT_EQ(product(8192, 8192, 4096), KernelClass::matmul);
  EXPECT_EQ(product(4096, 4096, 2048), KernelClass::matmul_small);
}

}  // namespace
}  // namespace steploom
