#include "profiler/side_kernels.h"

#include <cuda_bf16.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <string_view>

#include "profiler/collectives.h"
#include "profiler/measure_check.h"

namespace steploom {
namespace {

struct Product {
  int m, n, k;  // C (m × n) = A (m × k) · B (k × n), all column-major
};
constexpr Product kLarge{8192, 8192, 4096};
constexpr Product kSmall{4096, 4096, 2048};
constexpr std::size_t kMemoryElements = 128u << 20;  // floats: 512 MiB
constexpr std::size_t kWorkspaceBytes = 64u << 20;
constexpr std::size_t kBlockerShared = 227u << 10;
constexpr int kSpinSteps = 100'000;
constexpr int kSamples = 4096;

__global__ void axpy(const float4* x, float4* y, float a) {
  const std::size_t base = static_cast<std::size_t>(blockIdx.x) * blockDim.x * 4 + threadIdx.x;
  float4 u[4], v[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    u[i] = x[base + static_cast<std::size_t>(i) * blockDim.x];
    v[i] = y[base + static_cast<std::size_t>(i) * blockDim.x];
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    y[base + static_cast<std::size_t>(i) * blockDim.x] = make_float4(
        a * u[i].x + v[i].x, a * u[i].y + v[i].y, a * u[i].z + v[i].z, a * u[i].w + v[i].w);
  }
}

__global__ void __launch_bounds__(1024, 1) spin(float* sink, int steps) {
  float value = static_cast<float>(threadIdx.x);
  for (int i = 0; i < steps; ++i) value = value * 0.999f + 0.5f;
  if (value < 0) *sink = value;  // never, but the compiler cannot know
}

// Polls device memory, seldom: polling host memory from many SMs slows every kernel's start.
__global__ void block_sms(int* resident, const int* let_go) {
  if (threadIdx.x != 0) return;
  atomicAdd_system(resident, 1);
  long long start = 0, now = 0;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
  do {
    __nanosleep(50'000);
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  } while (*static_cast<const volatile int*>(let_go) == 0 &&
           now - start < static_cast<long long>(1e9 * kBlockedSeconds));
}

__global__ void look_around(unsigned* seen) {
  unsigned sm = 0;
  asm volatile("mov.u32 %0, %smid;" : "=r"(sm));
  if (threadIdx.x == 0) seen[sm] = 1;
  __nanosleep(20000);  // long enough that the blocks spread over all SMs
}

__global__ void check_product(const __nv_bfloat16* a, const __nv_bfloat16* b,
                              const __nv_bfloat16* c, Product p, unsigned long long* worst) {
  const unsigned sample = blockIdx.x * blockDim.x + threadIdx.x;
  const std::size_t row = sample * 2654435761u % static_cast<unsigned>(p.m);
  const std::size_t column = (sample * 40503u + 7u) % static_cast<unsigned>(p.n);
  double sum = 0, size = 0;
  for (int i = 0; i < p.k; ++i) {
    const double term =
        static_cast<double>(__bfloat162float(a[row + static_cast<std::size_t>(i) * p.m])) *
        static_cast<double>(__bfloat162float(b[static_cast<std::size_t>(i) + column * p.k]));
    sum += term;
    size += fabs(term);
  }
  const double error =
      fabs(static_cast<double>(__bfloat162float(c[row + column * p.m])) - sum) / size;
  // A NaN (poison) counts as wholly wrong. Bits of non-negative doubles sort as integers.
  atomicMax(worst, __double_as_longlong(error == error ? error : 1.0));
}

__global__ void check_axpy(const float* x, const float* y, unsigned long long* wrong) {
  unsigned long long mine = 0;
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < kMemoryElements; i += stride) {
    if (y[i] != 0.5f * x[i]) ++mine;
  }
  if (mine > 0) atomicAdd(wrong, mine);
}

void multiply(SideKernels& s, const Product& p, cudaStream_t stream) {
  const float one = 1, zero = 0;
  check(cublasSetStream(s.cublas, stream));
  check(cublasSetWorkspace(s.cublas, s.workspace, kWorkspaceBytes));
  check(cublasGemmEx(s.cublas, CUBLAS_OP_N, CUBLAS_OP_N, p.m, p.n, p.k, &one, s.a, CUDA_R_16BF, p.m,
                     s.b, CUDA_R_16BF, p.k, &zero, s.c, CUDA_R_16BF, p.m, CUBLAS_COMPUTE_32F,
                     CUBLAS_GEMM_DEFAULT));
}
void launch_large(SideKernels& s, cudaStream_t stream) {
  multiply(s, kLarge, stream);
}
void launch_small(SideKernels& s, cudaStream_t stream) {
  multiply(s, kSmall, stream);
}
void launch_memory(SideKernels& s, cudaStream_t stream) {
  constexpr int threads = 256;
  constexpr unsigned blocks = kMemoryElements / 4 / 4 / threads;
  axpy<<<blocks, threads, 0, stream>>>(reinterpret_cast<const float4*>(s.x),
                                       reinterpret_cast<float4*>(s.y), 0.5f);
  check(cudaGetLastError());
}
void launch_spin(SideKernels& s, cudaStream_t stream) {
  spin<<<static_cast<unsigned>(s.sms), 1024, 0, stream>>>(s.sink, kSpinSteps);
  check(cudaGetLastError());
}
void launch_attention(SideKernels& s, cudaStream_t stream) {
  s.attention->run(Phase::forward, stream);
}
void launch_attention_backward(SideKernels& s, cudaStream_t stream) {
  s.attention->run(Phase::data_grad, stream);
}

constexpr std::array<SideKernel, 6> kSideKernels{{
    {"matmul", 690, launch_large},
    {"matmul_small", 85, launch_small},
    {"attention", 430, launch_attention},
    {"attention_backward", 1250, launch_attention_backward},
    {"memory", 370, launch_memory},
    {"spin", 480, launch_spin},
}};

bool is_attention(const SideKernel& kernel) {
  return std::string_view(kernel.name).starts_with("attention");
}

template <typename T>
T* allocate(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes));
  return static_cast<T*>(memory);
}

std::size_t product_bytes(int rows, int columns) {
  return sizeof(__nv_bfloat16) * static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
}

}  // namespace

SideKernels make_side_kernels(cudaStream_t stream, cudaStream_t other) {
  SideKernels s;
  int device = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&s.sms, cudaDevAttrMultiProcessorCount, device));
  check(cublasCreate(&s.cublas));
  s.workspace = allocate<std::byte>(kWorkspaceBytes);
  s.a = allocate<std::byte>(product_bytes(kLarge.m, kLarge.k));
  s.b = allocate<std::byte>(product_bytes(kLarge.k, kLarge.n));
  s.c = allocate<std::byte>(product_bytes(kLarge.m, kLarge.n));
  s.x = allocate<float>(kMemoryElements * sizeof(float));
  s.y = allocate<float>(kMemoryElements * sizeof(float));
  s.sink = allocate<float>(sizeof(float));
  s.let_go = allocate<int>(sizeof(int));
  s.seen = allocate<unsigned>(static_cast<std::size_t>(s.sms) * sizeof(unsigned));
  s.wrong = allocate<unsigned long long>(sizeof(unsigned long long));
  check(cudaHostAlloc(reinterpret_cast<void**>(&s.flags), 2 * sizeof(int), cudaHostAllocMapped));
  s.flags[0] = 0;
  s.flags[1] = 1;
  fill_pool(s.a, static_cast<std::int64_t>(product_bytes(kLarge.m, kLarge.k)), 0, 2, stream);
  fill_pool(s.b, static_cast<std::int64_t>(product_bytes(kLarge.k, kLarge.n)), 1, 2, stream);
  fill_pool(reinterpret_cast<std::byte*>(s.x), kMemoryElements * sizeof(float), 0, 2, stream);
  check(cudaMemsetAsync(s.y, 0, kMemoryElements * sizeof(float), stream));
  check(
      cudaFuncSetAttribute(block_sms, cudaFuncAttributeMaxDynamicSharedMemorySize, kBlockerShared));
  if (SideAttention::built_in()) s.attention = std::make_unique<SideAttention>();
  // Loads every kernel now: a module loaded beside a blocker would wait for it.
  for (const SideKernel& kernel : side_kernels_named({})) kernel.launch(s, stream);
  count_free_sms(s, stream);
  take_sms(s, 1, stream);
  release_sms(s, stream, other);
  return s;
}

std::vector<SideKernel> side_kernels_named(const std::vector<std::string>& names) {
  std::vector<SideKernel> found;
  for (const SideKernel& kernel : kSideKernels) {
    const bool asked = std::find(names.begin(), names.end(), kernel.name) != names.end();
    if (!asked && !names.empty()) continue;
    const bool missing = is_attention(kernel) && !SideAttention::built_in();
    if (missing && asked) fail(std::string(kernel.name) + ": this steploom has no cuDNN");
    if (!missing) found.push_back(kernel);
  }
  return found;
}

double error_of(SideKernels& s, const SideKernel& kernel, cudaStream_t stream) {
  const std::string_view name = kernel.name;
  if (is_attention(kernel)) {
    const std::string fault =
        s.attention->fault(name == "attention" ? Phase::forward : Phase::data_grad, stream);
    if (!fault.empty()) fail(std::string(name) + ": " + fault);
    return 0;
  }
  if (name == "spin") return 0;  // writes nothing
  const Product p = name == "matmul" ? kLarge : kSmall;
  check(cudaMemsetAsync(s.c, 0xff, product_bytes(p.m, p.n), stream));
  check(cudaMemsetAsync(s.y, 0, kMemoryElements * sizeof(float), stream));
  check(cudaMemsetAsync(s.wrong, 0, sizeof *s.wrong, stream));
  kernel.launch(s, stream);
  if (name == "memory") {
    check_axpy<<<1056, 256, 0, stream>>>(s.x, s.y, s.wrong);
  } else {
    check_product<<<kSamples / 128, 128, 0, stream>>>(
        reinterpret_cast<const __nv_bfloat16*>(s.a), reinterpret_cast<const __nv_bfloat16*>(s.b),
        reinterpret_cast<const __nv_bfloat16*>(s.c), p, s.wrong);
  }
  check(cudaGetLastError());
  unsigned long long found = 0;
  check(cudaMemcpyAsync(&found, s.wrong, sizeof found, cudaMemcpyDeviceToHost, stream));
  check(cudaStreamSynchronize(stream));
  if (name == "memory") return static_cast<double>(found) / kMemoryElements;
  double worst = 0;
  std::memcpy(&worst, &found, sizeof worst);
  return worst;
}

void take_sms(SideKernels& s, int blocks, cudaStream_t stream) {
  if (blocks == 0) return;
  volatile int* resident = s.flags;
  *resident = 0;
  check(cudaMemsetAsync(s.let_go, 0, sizeof *s.let_go, stream));
  block_sms<<<static_cast<unsigned>(blocks), 32, kBlockerShared, stream>>>(s.flags, s.let_go);
  check(cudaGetLastError());
  const auto start = std::chrono::steady_clock::now();
  while (*resident < blocks) {
    if (std::chrono::steady_clock::now() - start > std::chrono::seconds(2)) {
      fail("the SM blocker did not become resident");
    }
  }
}

void release_sms(SideKernels& s, cudaStream_t blocker, cudaStream_t other) {
  // A copy from pinned memory needs no SM.
  check(cudaMemcpyAsync(s.let_go, &s.flags[1], sizeof(int), cudaMemcpyHostToDevice, other));
  check(cudaStreamSynchronize(blocker));
}

int count_free_sms(SideKernels& s, cudaStream_t stream) {
  const auto sms = static_cast<std::size_t>(s.sms);
  check(cudaMemsetAsync(s.seen, 0, sms * sizeof(unsigned), stream));
  look_around<<<static_cast<unsigned>(8 * s.sms), 256, 0, stream>>>(s.seen);
  check(cudaGetLastError());
  std::vector<unsigned> seen(sms);
  check(
      cudaMemcpyAsync(seen.data(), s.seen, sms * sizeof(unsigned), cudaMemcpyDeviceToHost, stream));
  check(cudaStreamSynchronize(stream));
  int free = 0;
  for (const unsigned one : seen) free += one != 0 ? 1 : 0;
  return free;
}

}  // namespace steploom
