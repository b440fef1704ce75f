#include "traces/kineto.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "tests/models/refusal.h"
#include "tests/sim/hand_timeline.h"
#include "traces/chrome_trace.h"
#include "traces/kernel_names.h"

namespace steploom {
namespace {

using ::testing::ElementsAre;
using testing::HandTimeline;
using ::testing::HasSubstr;
using testing::kMicro;

// As the PyTorch profiler writes: ids that are strings, times of day with nanoseconds, launches on
// the host joined to kernels by "correlation". Two steps, of 100 us and of 120 us.
constexpr const char* kTrace = R"json({
"schemaVersion": 1,
"deviceProperties": [{"id": 3, "name": "NVIDIA H200", "numSms": 132}],
"distributedInfo": {"backend": "nccl", "rank": 3, "world_size": 4, "nccl_version": "2.28.9"},
"traceEvents": [
{"ph": "X", "cat": "Trace", "ts": 4473139362790.026, "dur": 6733.763, "pid": "Spans",
 "tid": "PyTorch Profiler", "name": "PyTorch Profiler (0)"},
{"ph": "M", "name": "process_name", "ts": 0, "pid": 591, "tid": 0, "args": {"name": "python"}},
{"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#1", "pid": 591, "tid": 591,
 "ts": 4473139363000.000, "dur": 100.000},
{"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#2", "pid": 591, "tid": 591,
 "ts": 4473139363100.000, "dur": 120.000},
{"ph": "X", "cat": "cuda_driver", "name": "cuLaunchKernelEx", "pid": 591, "tid": 591,
 "ts": 4473139363010.000, "dur": 4.000, "args": {"correlation": 15}},
{"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernelExC", "pid": 591, "tid": 591,
 "ts": 4473139363016.000, "dur": 20.000, "args": {"correlation": 30}},
{"ph": "X", "cat": "cuda_driver", "name": "cuLaunchKernelEx", "pid": 591, "tid": 591,
 "ts": 4473139363110.000, "dur": 4.000, "args": {"correlation": 45}},
{"ph": "X", "cat": "kernel", "name": "nvjet_sm90_tst_256x128", "pid": 3, "tid": 7,
 "ts": 4473139363020.500, "dur": 10.250, "args": {"device": 3, "stream": 7, "correlation": 15}},
{"ph": "X", "cat": "kernel", "name": "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)",
 "pid": 3, "tid": 20, "ts": 4473139363040.500, "dur": 30.000,
 "args": {"device": 3, "stream": 20, "correlation": 30, "Collective name": "all_to_allv",
  "In msg nelems": 1024, "Out msg nelems": 2048, "Group size": 4, "dtype": "BFloat16",
  "Process Group Name": "7", "Process Group Description": "EXPERT_MODEL_PARALLEL_GROUP",
  "Process Group Ranks": "[0, 1, 2, 3]"}},
{"ph": "X", "cat": "kernel", "name": "mystery", "pid": 3, "tid": 7, "ts": 4473139363120.500,
 "dur": 5.000, "args": {"device": 3, "stream": 7, "correlation": 45}}
]})json";

KinetoImport imported(const std::string& text) {
  return import_kineto(Json::parse(text, "trace.json"));
}

TEST(Kineto, TakesTheStepOfMedianDuration) {
  const KinetoImport got = imported(kTrace);
  EXPECT_EQ(got.step, "ProfilerStep#1");
  const Timeline& t = got.timeline;
  EXPECT_EQ(t.origin.source, TimelineSource::imported);
  EXPECT_EQ(t.origin.steps, 2);
  EXPECT_EQ(t.origin.step, 100 * kMicro);
  EXPECT_EQ(t.makespan, 50 * kMicro);  // from the first kernel's start to the last one's end
  ASSERT_EQ(t.events.size(), 2U);
  EXPECT_THAT(t.streams, ElementsAre("stream 7", "stream 20"));
  EXPECT_EQ(t.devices[0].name, "GPU 3");
  EXPECT_EQ(t.devices[0].sms, 132);
  EXPECT_TRUE(got.unnamed.empty());
}

TEST(Kineto, ReadsTimesKindsAndGroups) {
  const Timeline t = imported(kTrace).timeline;
  const TimelineEvent &product = t.events[0], &exchange = t.events[1];
  EXPECT_EQ(product.kind, OpKind::matmul);
  EXPECT_EQ(product.start, 0);
  EXPECT_EQ(product.end, 10'250'000);
  EXPECT_EQ(product.issued, 0);  // before the step's first kernel
  EXPECT_EQ(exchange.kind, OpKind::all_to_all);
  EXPECT_EQ(exchange.start, 20 * kMicro);
  EXPECT_EQ(exchange.issued, 15'500'000);
  EXPECT_EQ(exchange.joined, kUnknownTime);
  EXPECT_EQ(exchange.bytes, 4096);
  EXPECT_EQ(t.groups[exchange.group].name, "EXPERT_MODEL_PARALLEL_GROUP");
  EXPECT_EQ(t.groups[exchange.group].ranks, 4U);
}

TEST(Kineto, WithoutStepMarksTheWholeTraceIsOneStep) {
  std::string text = kTrace;
  for (std::size_t at; (at = text.find("ProfilerStep#")) != text.npos;)
    text.replace(at, 8, "Another ");
  const KinetoImport got = imported(text);
  EXPECT_EQ(got.step, "");
  EXPECT_EQ(got.timeline.events.size(), 3U);
  EXPECT_EQ(got.timeline.origin.step, got.timeline.makespan);
  EXPECT_THAT(got.unnamed, ElementsAre("mystery"));
  EXPECT_EQ(class_of(got.timeline.events[2].kind), OpClass::memory);
}

TEST(Kineto, RefusesWhatHasNoGpuEventsOrBadOnes) {
  EXPECT_THAT(refusal([] { imported("{\"traceEvents\": []}"); }).expected, HasSubstr("GPU events"));
  std::string text = kTrace;
  text.replace(text.find("\"dur\": 10.250"), 13, "\"dur\": -1.250");
  EXPECT_EQ(refusal([&] { imported(text); }).place, "/traceEvents/7/dur");
}

// Our own traces keep kinds, exact times and devices.
TEST(Kineto, ReadsOurOwnTraces) {
  HandTimeline hand(2);
  hand.kernel("layer 3 · fc1", 0, 0, 4.000001);
  hand.collective("a2a", 0, 5, 7);
  hand.collective("a2a", 1, 1, 7);
  std::ostringstream out;
  write_chrome_trace(out, hand.timeline());
  const KinetoImport got = imported(out.str());
  ASSERT_EQ(got.timeline.events.size(), 3U);
  EXPECT_EQ(got.timeline.events[0].kind, OpKind::matmul);
  EXPECT_EQ(got.timeline.events[0].end, 4'000'001);
  EXPECT_EQ(got.timeline.events[2].kind, OpKind::all_to_all);
  EXPECT_EQ(got.timeline.makespan, 7 * kMicro);
  EXPECT_TRUE(got.unnamed.empty());
}

// Names as profilers print them.
TEST(KernelNames, SayTheKind) {
  const std::pair<const char*, OpKind> names[] = {
      {"sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", OpKind::matmul},
      {"nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_NNT", OpKind::matmul},
      {"void cutlass::device_kernel<at::cuda::detail::enable_3x_kernel_for_sm90<cutlass::gemm::"
       "kernel::GemmUniversal<cutlass::gemm::GroupProblemShape<",
       OpKind::grouped_matmul},
      {"void flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128", OpKind::attention},
      {"void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel", OpKind::attention},
      {"void transformer_engine::normalization::rmsnorm_fwd_general_kernel", OpKind::norm},
      {"void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float", OpKind::norm},
      {"void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add",
       OpKind::residual},
      {"void at::native::(anonymous namespace)::multi_tensor_apply_kernel<at::native::(anonymous "
       "namespace)::FusedAdamMathFunctor",
       OpKind::adam},
      {"void at::native::(anonymous namespace)::multi_tensor_apply_kernel<at::native::(anonymous "
       "namespace)::LpNormFunctor",
       OpKind::grad_norm},
      {"Memcpy DtoD (Device -> Device)", OpKind::residual},
      {"Memset (Device)", OpKind::residual},
      {"ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
       OpKind::all_reduce},
      {"ncclKernel_ReduceScatter_RING_LL_Sum_half(ncclDevComm*, unsigned long, ncclWork*)",
       OpKind::reduce_scatter},
      {"ncclDevKernel_AllGather_RING_LL", OpKind::all_gather},
      {"ncclDevKernel_SendRecv", OpKind::send_recv},
      {"void deep_ep::internode::dispatch<false, 4>", OpKind::all_to_all},
  };
  for (const auto& [name, kind] : names) {
    const auto got = kind_of_kernel(name);
    ASSERT_TRUE(got) << name;
    EXPECT_EQ(name_of(*got), name_of(kind)) << name;
  }
  EXPECT_EQ(kind_of_kernel("ncclDevKernel_SendRecv", "all_to_allv"), OpKind::all_to_all);
  EXPECT_FALSE(kind_of_kernel("mystery"));
}

}  // namespace
}  // namespace steploom
