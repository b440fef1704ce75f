// The measured file of PyTorch's kernels: read by points.h, and sane line by line.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "profiler/points.h"

namespace steploom {
namespace {

Measurements torch() {
  return read_points(STEPLOOM_SOURCE_DIR "/profiler/data/h200-sxm-141gb/torch.jsonl");
}

TEST(TorchPoints, AreReadAndOfPyTorchAlone) {
  const Measurements all = torch();
  EXPECT_EQ(all.on.gpu, "NVIDIA H200");
  EXPECT_EQ(all.on.sms, 132);
  std::map<OpKind, std::set<std::string>> providers;
  for (const MeasuredPoint& p : all.points) {
    providers[p.ask.work.kind].insert(p.ask.provider);
    EXPECT_TRUE(p.ask.provider.starts_with("torch-")) << to_text(p.ask);
  }
  EXPECT_EQ(providers[OpKind::attention],
            (std::set<std::string>{"torch-sdpa-cudnn", "torch-sdpa-flash"}));
  EXPECT_EQ(providers[OpKind::norm],
            (std::set<std::string>{"torch-eager-rms", "torch-fused-layer", "torch-fused-rms"}));
  EXPECT_EQ(providers[OpKind::adam], (std::set<std::string>{"torch-foreach", "torch-fused"}));
  EXPECT_EQ(providers.size(), 10U);  // all that the script names but host and accumulate
}

TEST(TorchPoints, EveryTimeIsOrderedAndWithinTheCard) {
  const Measurements all = torch();
  std::set<std::string> seen;
  for (const MeasuredPoint& p : all.points) {
    const std::string text = to_text(p.ask);
    EXPECT_TRUE(seen.insert(text).second) << text;
    if (p.stats.samples == 0) {
      EXPECT_TRUE(p.note.starts_with("refused by this backend")) << text << ": " << p.note;
      continue;
    }
    EXPECT_GE(p.stats.samples, 5) << text;
    EXPECT_GT(p.stats.q1_us, 0) << text;
    EXPECT_LE(p.stats.q1_us, p.stats.median_us) << text;
    EXPECT_LE(p.stats.median_us, p.stats.q3_us) << text;
    EXPECT_LE(p.stats.q3_us - p.stats.q1_us, 0.1 * p.stats.median_us) << text;
    EXPECT_TRUE(p.stats.sm_mhz > 1000 && p.stats.sm_mhz <= all.on.most_sm_mhz) << text;
    // No kernel is faster than the card: 989 TFLOP/s dense bf16 and 4.8 TB/s (NVIDIA's data sheet).
    EXPECT_LT(p.ask.work.flops / p.stats.median_us, 989e6) << text;
    EXPECT_LT(static_cast<double>(p.ask.work.bytes) / p.stats.median_us, 4.8e6) << text;
  }
}

TEST(TorchPoints, MlaIsTakenByCudnnAndRefusedByFlash) {
  int taken = 0, refused = 0;
  for (const MeasuredPoint& p : torch().points) {
    if (p.ask.work.kind != OpKind::attention || p.ask.work.head_dim != 192) continue;
    EXPECT_EQ(p.stats.samples > 0, p.ask.provider == "torch-sdpa-cudnn") << to_text(p.ask);
    ++(p.stats.samples > 0 ? taken : refused);
  }
  EXPECT_EQ(taken, 4);
  EXPECT_EQ(refused, 4);
}

TEST(TorchPoints, HostTimesAreThere) {
  std::map<std::string, double> host;
  for (const MeasuredOther& other : torch().others) {
    if (!other.note.starts_with("host time")) continue;
    EXPECT_GE(other.stats.samples, 200) << other.what;
    host[other.what] = other.stats.median_us;
  }
  // Recording for autograd costs the host more than not, and both more than a microsecond.
  EXPECT_GT(host.at("torch_launch"), 1);
  EXPECT_GT(host.at("torch_launch_recording"), host.at("torch_launch"));
  EXPECT_GT(host.at("torch_backward_node"), 1);
  EXPECT_GT(host.at("torch_adam_step_foreach"), host.at("torch_adam_step_fused"));
}

}  // namespace
}  // namespace steploom
