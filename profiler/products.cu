#include "profiler/products.h"

#include <cublasLt.h>
#include <cublas_v2.h>

#include <algorithm>
#include <array>
#include <utility>

#include "profiler/device_check.cuh"

namespace steploom {
namespace {

constexpr std::int64_t kWorkspace = std::int64_t{32} << 20;
constexpr int kMostChoices = 8;  // of algorithms

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const std::string message = std::string(what) + ": " + cublasGetStatusString(status);
  if (status == CUBLAS_STATUS_ALLOC_FAILED) throw OutOfDeviceMemory(message);
  throw DeviceError(message);
}

// A phase as cuBLAS sees it. Its matrices are column-major, so each of ours is its transpose and
// the product is asked for as (result)ᵀ = left · right.
struct Roles {
  cublasOperation_t left_op, right_op;
  std::int64_t rows, columns, depth;     // of the transposed result
  std::int64_t left_width, right_width;  // leading dimensions: widths of our rows
  bool left_is_a;                        // the caller's a, else b
  bool accumulates;                      // into fp32
};

Roles roles_of(Phase phase, std::int64_t tokens, std::int64_t outputs, std::int64_t inputs) {
  switch (phase) {
    case Phase::forward:
      return {CUBLAS_OP_T, CUBLAS_OP_N, outputs, tokens, inputs, inputs, inputs, false, false};
    case Phase::data_grad:
      return {CUBLAS_OP_N, CUBLAS_OP_N, inputs, tokens, outputs, inputs, outputs, false, false};
    case Phase::weight_grad:
      return {CUBLAS_OP_N, CUBLAS_OP_T, inputs, outputs, tokens, inputs, outputs, true, true};
    case Phase::optimizer:
      break;
  }
  throw DeviceError("a product has no optimizer phase");
}

cudaDataType_t result_type(const Roles& r) {
  return r.accumulates ? CUDA_R_32F : CUDA_R_16BF;
}

// Elements of (result, a, b) that one expert or one layer of a batch takes.
struct Extents {
  std::int64_t result, a, b;
};

Extents extents_of(Phase phase, std::int64_t tokens, std::int64_t outputs, std::int64_t inputs) {
  const std::int64_t x = tokens * inputs;
  const std::int64_t y = tokens * outputs;
  const std::int64_t w = outputs * inputs;
  if (phase == Phase::forward) return {y, x, w};
  if (phase == Phase::data_grad) return {x, y, w};
  return {w, x, y};
}

std::int64_t result_bytes(Phase phase) {
  return phase == Phase::weight_grad ? 4 : 2;
}

class MatrixLayout {
 public:
  MatrixLayout(cudaDataType_t type, std::int64_t rows, std::int64_t columns, std::int64_t width,
               std::int64_t batch, std::int64_t stride) {
    check(cublasLtMatrixLayoutCreate(&layout_, type, static_cast<std::uint64_t>(rows),
                                     static_cast<std::uint64_t>(columns), width),
          "matrix layout");
    if (batch == 1) return;
    const auto count = static_cast<std::int32_t>(batch);
    check(cublasLtMatrixLayoutSetAttribute(layout_, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                           sizeof(count)),
          "batch count");
    check(cublasLtMatrixLayoutSetAttribute(layout_, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                           &stride, sizeof(stride)),
          "batch stride");
  }
  ~MatrixLayout() { cublasLtMatrixLayoutDestroy(layout_); }
  MatrixLayout(const MatrixLayout&) = delete;
  MatrixLayout& operator=(const MatrixLayout&) = delete;
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

class Description {
 public:
  explicit Description(const Roles& r) {
    check(cublasLtMatmulDescCreate(&description_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "matmul");
    check(cublasLtMatmulDescSetAttribute(description_, CUBLASLT_MATMUL_DESC_TRANSA, &r.left_op,
                                         sizeof(r.left_op)),
          "transpose");
    check(cublasLtMatmulDescSetAttribute(description_, CUBLASLT_MATMUL_DESC_TRANSB, &r.right_op,
                                         sizeof(r.right_op)),
          "transpose");
  }
  void add_bias() {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    check(cublasLtMatmulDescSetAttribute(description_, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                         sizeof(epilogue)),
          "bias");
  }
  void set_bias(const Bf16* bias) const {
    check(cublasLtMatmulDescSetAttribute(description_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                         sizeof(bias)),
          "bias");
  }
  ~Description() { cublasLtMatmulDescDestroy(description_); }
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;
  cublasLtMatmulDesc_t get() const { return description_; }

 private:
  cublasLtMatmulDesc_t description_ = nullptr;
};

class Preference {
 public:
  Preference() {
    check(cublasLtMatmulPreferenceCreate(&preference_), "preference");
    const auto bytes = static_cast<std::size_t>(kWorkspace);
    check(cublasLtMatmulPreferenceSetAttribute(
              preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes)),
          "workspace");
  }
  ~Preference() { cublasLtMatmulPreferenceDestroy(preference_); }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  cublasLtMatmulPreference_t get() const { return preference_; }

 private:
  cublasLtMatmulPreference_t preference_ = nullptr;
};

}  // namespace

struct Blas::Handles {
  DeviceBuffer workspace{kWorkspace};
  cublasLtHandle_t lt = nullptr;
  cublasHandle_t blas = nullptr;
  Handles() {
    check(cublasLtCreate(&lt), "cublasLtCreate");
    check(cublasCreate(&blas), "cublasCreate");
  }
  ~Handles() {
    cublasDestroy(blas);
    cublasLtDestroy(lt);
  }
  Handles(const Handles&) = delete;
  Handles& operator=(const Handles&) = delete;
};

Blas::Blas() : handles_(std::make_unique<Handles>()) {}
Blas::~Blas() = default;

int Blas::version() {
  int parts[3] = {};
  check(cublasGetProperty(MAJOR_VERSION, &parts[0]), "cuBLAS version");
  check(cublasGetProperty(MINOR_VERSION, &parts[1]), "cuBLAS version");
  check(cublasGetProperty(PATCH_LEVEL, &parts[2]), "cuBLAS version");
  return parts[0] * 10000 + parts[1] * 100 + parts[2];
}

std::int64_t Blas::workspace_bytes() {
  return kWorkspace;
}

struct Product::Plan {
  const Blas::Handles* handles;
  Roles roles;
  Description description;
  MatrixLayout left, right, result;
  cublasLtMatmulAlgo_t algorithm{};
  bool bias;

  Plan(const Blas& blas, Phase phase, const LinearShape& s, const Roles& r, const Extents& e,
       const ProductOptions& options)
      : handles(&blas.handles()),
        roles(r),
        description(r),
        left(CUDA_R_16BF, r.left_op == CUBLAS_OP_N ? r.rows : r.depth,
             r.left_op == CUBLAS_OP_N ? r.depth : r.rows, r.left_width, s.batch,
             r.left_is_a ? e.a : e.b),
        right(CUDA_R_16BF, r.right_op == CUBLAS_OP_N ? r.depth : r.columns,
              r.right_op == CUBLAS_OP_N ? r.columns : r.depth, r.right_width, s.batch,
              r.left_is_a ? e.b : e.a),
        result(result_type(r), r.rows, r.columns, r.rows, s.batch, e.result),
        bias(options.bias) {
    if (bias) description.add_bias();
    const Preference preference;
    std::array<cublasLtMatmulHeuristicResult_t, kMostChoices> found{};
    const int asked = std::clamp(options.choice + 1, 1, kMostChoices);
    int count = 0;
    check(cublasLtMatmulAlgoGetHeuristic(handles->lt, description.get(), left.get(), right.get(),
                                         result.get(), result.get(), preference.get(), asked,
                                         found.data(), &count),
          "cuBLASLt's heuristics");
    while (count > 1 && found[static_cast<std::size_t>(count - 1)].state != CUBLAS_STATUS_SUCCESS) {
      --count;
    }
    if (count == 0) {
      throw DeviceError("cuBLASLt has no algorithm for this " + std::string(name_of(phase)));
    }
    const auto& chosen = found[static_cast<std::size_t>(count - 1)];
    check(chosen.state, "cuBLASLt's algorithm");
    algorithm = chosen.algo;
  }
};

Product::Product(const Blas& blas, Phase phase, const LinearShape& s, const ProductOptions& options)
    : plan_(std::make_unique<Plan>(blas, phase, s, roles_of(phase, s.tokens, s.outputs, s.inputs),
                                   extents_of(phase, s.tokens, s.outputs, s.inputs), options)) {
  if (options.bias && (phase != Phase::forward || s.batch != 1)) {
    throw DeviceError("a bias is added in the forward pass of one layer alone");
  }
}
Product::~Product() = default;
Product::Product(Product&&) noexcept = default;
Product& Product::operator=(Product&&) noexcept = default;

void Product::run(void* result, const Bf16* a, const Bf16* b, Stream stream,
                  const Bf16* bias) const {
  const Plan& p = *plan_;
  if (p.bias) p.description.set_bias(bias);
  const float one = 1;
  const float beta = p.roles.accumulates ? 1 : 0;
  check(cublasLtMatmul(p.handles->lt, p.description.get(), &one, p.roles.left_is_a ? a : b,
                       p.left.get(), p.roles.left_is_a ? b : a, p.right.get(), &beta, result,
                       p.result.get(), result, p.result.get(), &p.algorithm,
                       p.handles->workspace.data(), static_cast<std::size_t>(kWorkspace), stream),
        "cublasLtMatmul");
}

struct GroupedProduct::Plan {
  const Blas::Handles* handles;
  Phase phase;
  ExpertShape shape;
  cudaDataType_t type = CUDA_R_16BF;
  bool left_is_a = false;
  std::vector<cublasOperation_t> left_ops, right_ops;
  std::vector<int> rows, columns, depths, left_widths, right_widths, result_widths, sizes;
  std::vector<float> ones, betas;
};

GroupedProduct::GroupedProduct(const Blas& blas, Phase phase, const ExpertShape& shape)
    : plan_(std::make_unique<Plan>()) {
  Plan& p = *plan_;
  p.handles = &blas.handles();
  p.phase = phase;
  p.shape = shape;
  for (const std::int64_t tokens : shape.tokens) {
    if (tokens == 0) continue;
    const Roles r = roles_of(phase, tokens, shape.outputs, shape.inputs);
    p.type = result_type(r);
    p.left_is_a = r.left_is_a;
    p.left_ops.push_back(r.left_op);
    p.right_ops.push_back(r.right_op);
    p.rows.push_back(static_cast<int>(r.rows));
    p.columns.push_back(static_cast<int>(r.columns));
    p.depths.push_back(static_cast<int>(r.depth));
    p.left_widths.push_back(static_cast<int>(r.left_width));
    p.right_widths.push_back(static_cast<int>(r.right_width));
    p.result_widths.push_back(static_cast<int>(r.rows));
    p.sizes.push_back(1);
    p.ones.push_back(1);
    p.betas.push_back(r.accumulates ? 1.0F : 0.0F);
  }
}
GroupedProduct::~GroupedProduct() = default;
GroupedProduct::GroupedProduct(GroupedProduct&&) noexcept = default;

DeviceBuffer GroupedProduct::addresses(void* result, const Bf16* a, const Bf16* b) const {
  const Plan& p = *plan_;
  std::vector<const void*> lefts;
  std::vector<const void*> rights;
  std::vector<const void*> results;
  // cuBLAS takes them all as lists of addresses on the device: lefts, rights, results.
  auto* to = static_cast<const char*>(result);
  for (const std::int64_t tokens : p.shape.tokens) {
    const Extents e = extents_of(p.phase, tokens, p.shape.outputs, p.shape.inputs);
    if (tokens > 0) {
      lefts.push_back(p.left_is_a ? a : b);
      rights.push_back(p.left_is_a ? b : a);
      results.push_back(to);
    }
    to += e.result * result_bytes(p.phase);
    a += e.a;
    b += e.b;
  }
  lefts.insert(lefts.end(), rights.begin(), rights.end());
  lefts.insert(lefts.end(), results.begin(), results.end());
  DeviceBuffer out(static_cast<std::int64_t>(lefts.size() * sizeof(void*)));
  copy_to_device(out.data(), lefts.data(), out.bytes());
  return out;
}

void GroupedProduct::run(const DeviceBuffer& addresses, Stream stream) const {
  const Plan& p = *plan_;
  const std::size_t count = p.rows.size();
  auto* const* list = static_cast<void* const*>(addresses.data());
  check(cublasSetStream(p.handles->blas, stream), "cublasSetStream");
  check(cublasSetWorkspace(p.handles->blas, p.handles->workspace.data(),
                           static_cast<std::size_t>(kWorkspace)),
        "cublasSetWorkspace");
  check(cublasGemmGroupedBatchedEx(
            p.handles->blas, p.left_ops.data(), p.right_ops.data(), p.rows.data(), p.columns.data(),
            p.depths.data(), p.ones.data(), list, CUDA_R_16BF, p.left_widths.data(), list + count,
            CUDA_R_16BF, p.right_widths.data(), p.betas.data(), list + 2 * count, p.type,
            p.result_widths.data(), static_cast<int>(count), p.sizes.data(), CUBLAS_COMPUTE_32F),
        "cublasGemmGroupedBatchedEx");
}

EachProduct::EachProduct(const Blas& blas, Phase phase, const ExpertShape& shape) {
  std::int64_t result = 0;
  std::int64_t a = 0;
  std::int64_t b = 0;
  for (const std::int64_t tokens : shape.tokens) {
    const Extents e = extents_of(phase, tokens, shape.outputs, shape.inputs);
    if (tokens > 0) {
      experts_.push_back(
          {Product(blas, phase, {tokens, shape.outputs, shape.inputs, 1}), result, a, b});
    }
    result += e.result * result_bytes(phase);
    a += e.a;
    b += e.b;
  }
}

void EachProduct::run(void* result, const Bf16* a, const Bf16* b, Stream stream) const {
  for (const Expert& e : experts_) {
    e.product.run(static_cast<char*>(result) + e.result_bytes, a + e.a_elements, b + e.b_elements,
                  stream);
  }
}

}  // namespace steploom
