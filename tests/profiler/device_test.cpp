// Every kernel on small and odd shapes, checked against double precision: needs a GPU, and says so
// where there is none.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "profiler/measure.h"
#include "profiler/trial.h"

namespace steploom {
namespace {

constexpr const char* kAsks = STEPLOOM_SOURCE_DIR "/tests/profiler/data/small.asks";

class Device : public ::testing::Test {
 protected:
  void SetUp() override {
    if (device_count() == 0) GTEST_SKIP() << "no GPU here: kernels are not run";
  }
};

TEST_F(Device, KernelsComputeWhatTheyShould) {
  const Blas blas;
  const MeasuringStream stream;
  for (const Ask& ask : read_asks(kAsks)) {
    EXPECT_EQ(make_trial(ask, blas, 1 << 20).prove(stream.get()), "") << to_text(ask);
  }
}

TEST_F(Device, AWrongKernelIsNotTimed) {
  const MeasuringStream stream;
  const Nvml nvml(device_facts().pci);
  Trial trial;
  trial.launch = [](int, Stream) { FAIL() << "timed"; };
  trial.prove = [](Stream) { return std::string("off by one"); };
  const Timing timing = measure(trial, nvml, stream.get());
  EXPECT_EQ(timing.stats.samples, 0);
  EXPECT_EQ(timing.note, "wrong: off by one");
}

TEST_F(Device, OutOfMemoryIsSaidAndSurvived) {
  EXPECT_THROW(DeviceBuffer(std::int64_t{1} << 45), OutOfDeviceMemory);
  const DeviceBuffer small(1 << 20);
  EXPECT_EQ(small.bytes(), 1 << 20);
}

// Without a GPU too: the list names every kernel that can be measured.
TEST(DeviceAsks, TheListIsReadable) {
  EXPECT_GT(read_asks(kAsks).size(), 40U);
}

}  // namespace
}  // namespace steploom
