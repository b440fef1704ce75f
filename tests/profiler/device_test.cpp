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
  const Libraries libraries;
  const MeasuringStream stream;
  for (const Ask& ask : read_asks(kAsks)) {
    const bool old_cudnn = Dnn::version() < 91600 && ask.work.m % 128 != 0;
    if (ask.provider == "cudnn" && (Dnn::version() == 0 || old_cudnn)) continue;
    EXPECT_EQ(make_trial(ask, libraries, 1 << 20).prove(stream.get()), "") << to_text(ask);
  }
}

// One layer's attention, forward and backward, in the packed layout or in tensors of their own.
struct Layer {
  static constexpr AttentionShape shape{640, 2, 8, 2, 128, 128};
  static constexpr std::int64_t tokens = 2 * 640;

  DeviceBuffer qkv{tokens * 12 * 128 * 2}, out{tokens * 8 * 128 * 2}, lse{tokens * 8 * 4},
      d_out{tokens * 8 * 128 * 2}, gradients{tokens * 12 * 128 * 2};

  Layer() {
    fill_random(at(qkv), tokens * 12 * 128, 1, 1, nullptr);
    fill_random(at(d_out), tokens * 8 * 128, 2, 1, nullptr);
  }
  static Bf16* at(const DeviceBuffer& b) { return static_cast<Bf16*>(b.data()); }
  static std::vector<Bf16> read(const DeviceBuffer& b) { return to_host(at(b), b.bytes() / 2); }

  AttentionTensors packed() const {
    return packed_tensors(shape, at(qkv), at(out), static_cast<float*>(lse.data()), at(d_out),
                          at(gradients));
  }
  void run(const Dnn& dnn, Phase phase, const AttentionLayout& layout, const AttentionTensors& t,
           AttentionOrder order = AttentionOrder::any) const {
    const AttentionPlan attention(dnn, phase, shape, layout, order);
    const DeviceBuffer workspace(attention.workspace_bytes());
    poison(workspace.data(), workspace.bytes(), nullptr);
    attention.run(t, workspace.data(), nullptr);
    wait_for_device();
  }
};

class DeviceAttention : public Device {
 protected:
  void SetUp() override {
    Device::SetUp();
    if (!IsSkipped() && Dnn::version() == 0) GTEST_SKIP() << "built without cuDNN";
  }
};

TEST_F(DeviceAttention, TheDeterministicOrderGivesTheSameBitsAgain) {
  const Dnn dnn;
  const Layer layer;
  const AttentionLayout layout = packed_layout(Layer::shape);
  layer.run(dnn, Phase::forward, layout, layer.packed());
  layer.run(dnn, Phase::data_grad, layout, layer.packed(), AttentionOrder::deterministic);
  const std::vector<Bf16> first = Layer::read(layer.gradients);
  for (int again = 0; again < 3; ++again) {
    poison(layer.gradients.data(), layer.gradients.bytes(), nullptr);
    layer.run(dnn, Phase::data_grad, layout, layer.packed(), AttentionOrder::deterministic);
    EXPECT_EQ(Layer::read(layer.gradients), first);
  }
}

// Heads outermost in each of three tensors, in place of one packed row a token.
TEST_F(DeviceAttention, LayoutChangesWhereNotWhat) {
  constexpr std::int64_t kHead = Layer::tokens * 128;  // elements of a head
  const Dnn dnn;
  const Layer layer;
  layer.run(dnn, Phase::forward, packed_layout(Layer::shape), layer.packed());
  const std::vector<Bf16> want = Layer::read(layer.out);

  std::vector<Bf16> apart(12 * kHead);
  const std::vector<Bf16> packed = Layer::read(layer.qkv);
  for (std::int64_t token = 0; token < Layer::tokens; ++token) {
    for (std::int64_t i = 0; i < 12 * 128; ++i) {
      apart[static_cast<std::size_t>(i / 128 * kHead + token * 128 + i % 128)] =
          packed[static_cast<std::size_t>(token * 12 * 128 + i)];
    }
  }
  copy_to_device(layer.qkv.data(), apart.data(), layer.qkv.bytes());
  AttentionTensors t = layer.packed();
  t.k = t.q + 8 * kHead;
  t.v = t.q + 10 * kHead;
  const AttentionLayout layout{{128, kHead}, {128, kHead}, {128, kHead}, {128, kHead}};
  poison(layer.out.data(), layer.out.bytes(), nullptr);
  layer.run(dnn, Phase::forward, layout, t);
  const std::vector<Bf16> got = Layer::read(layer.out);
  for (std::int64_t token = 0; token < Layer::tokens; ++token) {
    for (std::int64_t i = 0; i < 8 * 128; ++i) {
      ASSERT_EQ(got[static_cast<std::size_t>(i / 128 * kHead + token * 128 + i % 128)],
                want[static_cast<std::size_t>(token * 8 * 128 + i)])
          << token << ' ' << i;
    }
  }
}

TEST_F(DeviceAttention, NoSuchAttentionIsRefused) {
  const Dnn dnn;
  AttentionShape shape = Layer::shape;
  shape.kv_heads = 3;
  EXPECT_THROW(AttentionPlan(dnn, Phase::forward, shape, packed_layout(shape)), DeviceError);
  shape = Layer::shape;
  EXPECT_THROW(AttentionPlan(dnn, Phase::weight_grad, shape, packed_layout(shape)), DeviceError);
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
