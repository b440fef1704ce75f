// bf16 products of a linear layer y = x·Wᵀ through cuBLASLt and cuBLAS, in its three phases.
//
// Tensors are row-major and dense, as PyTorch and Megatron hold them: x tokens × inputs, W outputs
// × inputs, y tokens × outputs. Products are summed in fp32:
//
//   phase        | result            | operands a, b
//   forward      | y, bf16           | x, W
//   data_grad    | dx = dy·W, bf16   | dy, W
//   weight_grad  | dW += dyᵀ·x, fp32 | x, dy
//
// The algorithm is the first of cuBLASLt's heuristics with 32 MiB of workspace, as frameworks
// choose. One Blas serves one stream at a time (its workspace).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "models/work.h"
#include "profiler/buffer.h"
#include "profiler/device.h"

namespace steploom {

// The libraries' handles and the workspace.
class Blas {
 public:
  Blas();
  ~Blas();
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;

  static int version();  // of the cuBLAS that is loaded: 130100 for 13.1.0
  static std::int64_t workspace_bytes();

  struct Handles;
  const Handles& handles() const { return *handles_; }

 private:
  std::unique_ptr<Handles> handles_;
};

struct LinearShape {
  std::int64_t tokens = 0;
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  std::int64_t batch = 1;  // so many such layers side by side, each tensor dense over the batch
  auto operator<=>(const LinearShape&) const = default;
};

struct ProductOptions {
  bool bias = false;  // forward only: run() adds a row to every row of y
  // Of the heuristics' algorithms; one that is not there is the last. Another one sums in another
  // order.
  int choice = 0;
};

// One planned product (or strided batch of them), used many times.
class Product {
 public:
  Product(const Blas& blas, Phase phase, const LinearShape& shape,
          const ProductOptions& options = {});  // throws DeviceError
  ~Product();
  Product(Product&&) noexcept;
  Product& operator=(Product&&) noexcept;

  void run(void* result, const Bf16* a, const Bf16* b, Stream stream,
           const Bf16* bias = nullptr) const;

 private:
  struct Plan;
  std::unique_ptr<Plan> plan_;
};

// Experts' products of one layer, expert e with tokens[e] rows; rows of all experts lie one after
// the other, and so do their weights.
struct ExpertShape {
  std::vector<std::int64_t> tokens;
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
};

// All experts in one call of cublasGemmGroupedBatchedEx.
class GroupedProduct {
 public:
  GroupedProduct(const Blas& blas, Phase phase, const ExpertShape& shape);
  ~GroupedProduct();
  GroupedProduct(GroupedProduct&&) noexcept;

  // The experts' addresses, which must be on the device: made once for a set of tensors.
  DeviceBuffer addresses(void* result, const Bf16* a, const Bf16* b) const;
  void run(const DeviceBuffer& addresses, Stream stream) const;

 private:
  struct Plan;
  std::unique_ptr<Plan> plan_;
};

// One cuBLASLt product an expert, one after the other; an expert without tokens is left out.
class EachProduct {
 public:
  EachProduct(const Blas& blas, Phase phase, const ExpertShape& shape);
  void run(void* result, const Bf16* a, const Bf16* b, Stream stream) const;

 private:
  struct Expert {
    Product product;
    std::int64_t result_bytes, a_elements, b_elements;  // where its tensors begin
  };
  std::vector<Expert> experts_;
};

}  // namespace steploom
