#include "profiler/cudnn_graph.cuh"

#include <cuda_runtime.h>

#include "profiler/device_check.cuh"

namespace steploom {
namespace {

constexpr std::int64_t kAlignment = 16;  // bytes, of every tensor that the caller gives

DnnDescriptor heuristics(const DnnDescriptor& device, const DnnDescriptor& graph,
                         cudnnBackendHeurMode_t mode) {
  DnnDescriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
  heuristic.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
  heuristic.finalize("cuDNN heuristics");
  return heuristic;
}

std::vector<DnnDescriptor> configurations(const DnnDescriptor& heuristic) {
  std::int64_t count = 0;
  check(cudnnBackendGetAttribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr),
        "cuDNN heuristics");
  std::vector<DnnDescriptor> found;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (std::int64_t i = 0; i < count; ++i) {
    found.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    raw.push_back(found.back().get());
  }
  check(cudnnBackendGetAttribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count, raw.data()),
        "cuDNN heuristics");
  found.resize(static_cast<std::size_t>(count), DnnDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
  return found;
}

// The current GPU.
DnnDescriptor this_device() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  DnnDescriptor properties(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  const std::int32_t id = device;
  properties.put(CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &id);
  properties.finalize("cuDNN device");
  return properties;
}

}  // namespace

void check(cudnnStatus_t status, const char* what) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 512> detail{};
  cudnnGetLastErrorString(detail.data(), detail.size());
  const std::string message =
      std::string(what) + ": " + cudnnGetErrorString(status) + " " + detail.data();
  if (status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED) {
    throw OutOfDeviceMemory(message);
  }
  throw DeviceError(message);
}

DnnDescriptor::DnnDescriptor(cudnnBackendDescriptorType_t type) {
  cudnnBackendDescriptor_t raw = nullptr;
  check(cudnnBackendCreateDescriptor(type, &raw), "cuDNN descriptor");
  owner_ = std::shared_ptr<void>(raw, [](void* d) { cudnnBackendDestroyDescriptor(d); });
}

void DnnDescriptor::put(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                        std::int64_t count, const void* values) {
  check(cudnnBackendSetAttribute(get(), name, type, count, values), "cuDNN attribute");
}

void DnnDescriptor::set(cudnnBackendAttributeName_t name, std::span<const std::int64_t> values) {
  put(name, CUDNN_TYPE_INT64, static_cast<std::int64_t>(values.size()), values.data());
}

void DnnDescriptor::set(cudnnBackendAttributeName_t name, bool value) {
  put(name, CUDNN_TYPE_BOOLEAN, 1, &value);
}

void DnnDescriptor::set(cudnnBackendAttributeName_t name, const DnnDescriptor& value) {
  const cudnnBackendDescriptor_t raw = value.get();
  put(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &raw);
}

void DnnDescriptor::finalize(const char* what) {
  check(cudnnBackendFinalize(get()), what);
}

Dimensions dense_strides(const Dimensions& s) {
  return {s[1] * s[2] * s[3], s[2] * s[3], s[3], 1};
}

DnnGraph::Tensor DnnGraph::make(cudnnDataType_t type, const Dimensions& sizes,
                                const Dimensions& strides, bool inner, bool by_value) {
  DnnDescriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
  d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, std::span<const std::int64_t>(sizes));
  d.set(CUDNN_ATTR_TENSOR_STRIDES, std::span<const std::int64_t>(strides));
  d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, next_);
  d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, kAlignment);
  d.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, inner);
  d.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, by_value);
  d.finalize("cuDNN tensor");
  return {next_++, sizes, std::make_shared<DnnDescriptor>(std::move(d))};
}

DnnGraph::Tensor DnnGraph::tensor(cudnnDataType_t type, const Dimensions& sizes,
                                  const Dimensions& strides) {
  given_.push_back(next_);
  return make(type, sizes, strides, false, false);
}

DnnGraph::Tensor DnnGraph::constant(float value) {
  constants_.emplace_back(next_, value);
  return make(CUDNN_DATA_FLOAT, {1, 1, 1, 1}, {1, 1, 1, 1}, false, true);
}

DnnGraph::Tensor DnnGraph::inner(const Dimensions& sizes, const Dimensions& strides,
                                 cudnnDataType_t type) {
  return make(type, sizes, strides, true, false);
}

void DnnGraph::operation(DnnDescriptor descriptor, const char* what) {
  descriptor.finalize(what);
  operations_.push_back(std::move(descriptor));
}

void DnnGraph::product(const Tensor& a, const Tensor& b, const Tensor& result) {
  DnnDescriptor how(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  how.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  how.finalize("cuDNN product");
  DnnDescriptor d(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
  d.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, *a.descriptor);
  d.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, *b.descriptor);
  d.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, *result.descriptor);
  operation(std::move(d), "cuDNN product");
}

void DnnGraph::reduce(cudnnReduceTensorOp_t by, const Tensor& x, const Tensor& result) {
  DnnDescriptor how(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  how.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, by);
  how.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  how.finalize("cuDNN reduction");
  DnnDescriptor d(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
  d.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, *x.descriptor);
  d.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, *result.descriptor);
  operation(std::move(d), "cuDNN reduction");
}

void DnnGraph::reshape(const Tensor& x, const Tensor& result) {
  DnnDescriptor d(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, *x.descriptor);
  d.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, *result.descriptor);
  operation(std::move(d), "cuDNN reshape");
}

DnnDescriptor DnnGraph::pointwise_operation(cudnnPointwiseMode_t mode, cudnnDataType_t precision,
                                            const Tensor& x, const Tensor& result, int axis) {
  DnnDescriptor how(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  how.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
  how.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, precision);
  if (axis >= 0) how.set(CUDNN_ATTR_POINTWISE_AXIS, std::int64_t{axis});
  how.finalize("cuDNN pointwise");
  DnnDescriptor d(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  d.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
  d.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, *x.descriptor);
  d.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, *result.descriptor);
  return d;
}

void DnnGraph::pointwise_into(const Tensor& result, cudnnPointwiseMode_t mode, const Tensor& x) {
  operation(pointwise_operation(mode, CUDNN_DATA_FLOAT, x, result), "cuDNN pointwise");
}

void DnnGraph::pointwise_into(const Tensor& result, cudnnPointwiseMode_t mode, const Tensor& x,
                              const Tensor& y) {
  DnnDescriptor d = pointwise_operation(mode, CUDNN_DATA_FLOAT, x, result);
  d.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *y.descriptor);
  operation(std::move(d), "cuDNN pointwise");
}

DnnGraph::Tensor DnnGraph::pointwise(cudnnPointwiseMode_t mode, const Tensor& x) {
  const Tensor result = inner(x.sizes);
  pointwise_into(result, mode, x);
  return result;
}

DnnGraph::Tensor DnnGraph::pointwise(cudnnPointwiseMode_t mode, const Tensor& x, const Tensor& y) {
  const Tensor result = inner(x.sizes);
  pointwise_into(result, mode, x, y);
  return result;
}

DnnGraph::Tensor DnnGraph::causal_select(const Tensor& x, const Tensor& other) {
  const Dimensions strides = dense_strides(x.sizes);
  const Tensor row = inner(x.sizes, strides, CUDNN_DATA_INT32);
  const Tensor column = inner(x.sizes, strides, CUDNN_DATA_INT32);
  const Tensor keep = inner(x.sizes, strides, CUDNN_DATA_BOOLEAN);
  const Tensor result = inner(x.sizes);
  operation(pointwise_operation(CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT, x, row, 2), "rows");
  operation(pointwise_operation(CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT, x, column, 3),
            "columns");
  DnnDescriptor compare =
      pointwise_operation(CUDNN_POINTWISE_CMP_GE, CUDNN_DATA_BOOLEAN, row, keep);
  compare.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *column.descriptor);
  operation(std::move(compare), "cuDNN comparison");
  DnnDescriptor select =
      pointwise_operation(CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT, x, result);
  select.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *other.descriptor);
  select.set(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, *keep.descriptor);
  operation(std::move(select), "cuDNN selection");
  return result;
}

DnnPlan::DnnPlan(const DnnGraph& graph, const std::string& what)
    : ids_(graph.given_), constants_(graph.constants_) {
  const DnnDescriptor device = this_device();
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const DnnDescriptor& d : graph.operations_) raw.push_back(d.get());
  DnnDescriptor whole(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  whole.put(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
            static_cast<std::int64_t>(raw.size()), raw.data());
  whole.finalize(what.c_str());
  std::string refusal = what + ": cuDNN has no kernel for it";
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    for (const DnnDescriptor& configuration : configurations(heuristics(device, whole, mode))) {
      DnnDescriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
      plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
      plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device);
      try {
        plan.finalize(what.c_str());
      } catch (const DeviceError& error) {
        refusal = error.what();
        continue;
      }
      std::int64_t count = 0;
      check(cudnnBackendGetAttribute(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                     CUDNN_TYPE_INT64, 1, &count, &workspace_),
            "cuDNN workspace");
      plan_ = std::make_shared<DnnDescriptor>(std::move(plan));
      return;
    }
  }
  throw DeviceError(refusal);
}

void DnnPlan::run(cudnnHandle_t handle, std::span<void* const> tensors, void* workspace,
                  Stream stream) const {
  std::vector<std::int64_t> ids = ids_;
  std::vector<void*> pointers(tensors.begin(), tensors.end());
  std::vector<std::pair<std::int64_t, float>> constants = constants_;
  for (auto& [id, value] : constants) {
    ids.push_back(id);
    pointers.push_back(&value);
  }
  DnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, std::span<const std::int64_t>(ids));
  pack.put(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
           static_cast<std::int64_t>(pointers.size()), pointers.data());
  pack.put(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
  pack.finalize("cuDNN tensors");
  check(cudnnSetStream(handle, stream), "cudnnSetStream");
  check(cudnnBackendExecute(handle, plan_->get(), pack.get()), "cuDNN run");
}

}  // namespace steploom
