// A cuDNN operation graph, written down node by node, and the plan that runs it; for .cu files
// only.
//
// Thin owners over cuDNN's backend descriptors (docs.nvidia.com/deeplearning/cudnn, "cuDNN graph
// library"). Tensors have four dimensions, outermost first, in elements. A virtual tensor lives
// inside the fused kernel only; a constant is one fp32 number that the host hands over in every
// run. Arithmetic and virtual tensors are fp32 where nothing else is said. Every status is checked
// and thrown as DeviceError.
#pragma once

#include <cudnn.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "profiler/device.h"

namespace steploom {

void check(cudnnStatus_t status, const char* what);

class DnnDescriptor {
 public:
  explicit DnnDescriptor(cudnnBackendDescriptorType_t type);
  cudnnBackendDescriptor_t get() const { return owner_.get(); }

  void set(cudnnBackendAttributeName_t name, std::span<const std::int64_t> values);
  void set(cudnnBackendAttributeName_t name, std::int64_t value) {
    set(name, std::span(&value, 1));
  }
  void set(cudnnBackendAttributeName_t name, bool value);
  void set(cudnnBackendAttributeName_t name, const DnnDescriptor& value);
  // Enums: their type's name in cuDNN, and one value.
  template <class Enum>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, Enum value) {
    put(name, type, 1, &value);
  }
  void put(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
           const void* values);
  void finalize(const char* what);

 private:
  std::shared_ptr<void> owner_;
};

using Dimensions = std::array<std::int64_t, 4>;

// Dense, the last dimension innermost.
Dimensions dense_strides(const Dimensions& sizes);

// A graph under construction; tensors are known by their unique id.
class DnnGraph {
 public:
  struct Tensor {
    std::int64_t id = 0;
    Dimensions sizes{};
    std::shared_ptr<DnnDescriptor> descriptor;
  };

  // What the caller gives in every run, by its place in the order of these calls.
  Tensor tensor(cudnnDataType_t type, const Dimensions& sizes, const Dimensions& strides);
  Tensor constant(float value);
  Tensor inner(const Dimensions& sizes, const Dimensions& strides,
               cudnnDataType_t type = CUDNN_DATA_FLOAT);
  Tensor inner(const Dimensions& sizes) { return inner(sizes, dense_strides(sizes)); }

  void product(const Tensor& a, const Tensor& b, const Tensor& result);
  void reduce(cudnnReduceTensorOp_t by, const Tensor& x, const Tensor& result);
  void reshape(const Tensor& x, const Tensor& result);
  void pointwise_into(const Tensor& result, cudnnPointwiseMode_t mode, const Tensor& x);
  void pointwise_into(const Tensor& result, cudnnPointwiseMode_t mode, const Tensor& x,
                      const Tensor& y);
  // The same into a new inner tensor of x's sizes.
  Tensor pointwise(cudnnPointwiseMode_t mode, const Tensor& x);
  Tensor pointwise(cudnnPointwiseMode_t mode, const Tensor& x, const Tensor& y);
  // x where its row is not before its column, else `other` (rows: dimension 2, columns: 3).
  Tensor causal_select(const Tensor& x, const Tensor& other);

 private:
  friend class DnnPlan;
  Tensor make(cudnnDataType_t type, const Dimensions& sizes, const Dimensions& strides, bool inner,
              bool by_value);
  void operation(DnnDescriptor descriptor, const char* what);
  DnnDescriptor pointwise_operation(cudnnPointwiseMode_t mode, cudnnDataType_t precision,
                                    const Tensor& x, const Tensor& result, int axis = -1);

  std::int64_t next_ = 1;
  std::vector<std::int64_t> given_;                        // ids of the caller's tensors
  std::vector<std::pair<std::int64_t, float>> constants_;  // id, value
  std::vector<DnnDescriptor> operations_;
};

// The first configuration of cuDNN's heuristics that can run a graph on the current GPU, compiled
// for it (about a second). Throws DeviceError where none can; `what` names the graph.
class DnnPlan {
 public:
  DnnPlan(const DnnGraph& graph, const std::string& what);

  std::int64_t workspace_bytes() const { return workspace_; }
  // `tensors` in the order of DnnGraph::tensor's calls.
  void run(cudnnHandle_t handle, std::span<void* const> tensors, void* workspace,
           Stream stream) const;

 private:
  std::vector<std::int64_t> ids_;
  std::vector<std::pair<std::int64_t, float>> constants_;
  std::shared_ptr<DnnDescriptor> plan_;
  std::int64_t workspace_ = 0;
};

}  // namespace steploom
