#include "models/runtime.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/models/refusal.h"

namespace steploom {
namespace {

TEST(Runtime, NamesAreUniqueAndFound) {
  std::set<std::string> names;
  for (const Runtime& runtime : built_in_runtimes()) {
    EXPECT_TRUE(names.insert(runtime.name).second) << runtime.name;
    EXPECT_EQ(&runtime_named(runtime.name), &runtime);
  }
}

TEST(Runtime, EveryFigureIsSet) {
  for (const Runtime& runtime : built_in_runtimes()) {
    EXPECT_GE(runtime.launch, 1'000'000) << runtime.name;  // a launch takes over a microsecond
    EXPECT_LE(runtime.launch, runtime.launch_collective) << runtime.name;
    EXPECT_LE(runtime.launch_collective, 100'000'000) << runtime.name;
    EXPECT_GE(runtime.workspace, Bytes{1} << 29) << runtime.name;
    EXPECT_GT(runtime.communicator_buffers, 0) << runtime.name;
    EXPECT_EQ(runtime.grad_bytes, runtime.adds_gradients ? 2 : 4) << runtime.name;
    EXPECT_TRUE(runtime.zero[0]) << runtime.name;
  }
}

TEST(Runtime, MegatronKeepsTorchsOrder) {
  const Runtime& megatron = runtime_named("megatron-core");
  EXPECT_TRUE(megatron.collective_waits_for_issued);
  EXPECT_TRUE(megatron.host_waits_for_routing);
  EXPECT_EQ(megatron.hardware_connections, 1);
  const Runtime& own = runtime_named("steploom");
  EXPECT_FALSE(own.collective_waits_for_issued);
  EXPECT_FALSE(own.host_waits_for_routing);
  EXPECT_LT(own.launch, megatron.launch);
}

TEST(Runtime, AnUnknownNameGetsTheNearest) {
  const auto where = refusal([] { runtime_named("megatroncore"); });
  EXPECT_EQ(where.hint, "did you mean 'megatron-core'?");
  EXPECT_EQ(refusal([] { runtime_named("x"); }).hint,
            "known: megatron-core, steploom, megatron-2022, torch-eager, deepspeed, raf");
}

}  // namespace
}  // namespace steploom
