// From what kernels draw, and at which clocks they ran, to a profile's clock.
#include "profiler/fit_clock.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "models/error.h"
#include "tests/temp_folder.h"

namespace steploom {
namespace {

constexpr const char* kHeader =
    R"({"steploom_power": 1, "date": "2026-11-23", "gpu": "made up", "driver": "1", "torch": "2",
 "limit_watts": 500, "most_sm_mhz": 2000, "least_sm_mhz": 300})";

// A product at the limit alone, 800 µs; half the time it runs, 640 µs, the card draws 400 W: 700
// while it runs, 600 above idle in place of 400. Reach 1.25, exponent log 1.5 / log 1.25. Bytes
// take 0.3 nJ (1 GB in 1 ms at 300 W above idle) and half of that in a copy, and 0.1 nJ between
// GPUs.
std::string lines() {
  std::string header = kHeader;
  header.erase(header.find('\n'), 1);
  return header + R"(
{"kernel": "sleep", "beside": "nothing", "ratio": 0, "watts": 100, "us": 1}
{"kernel": "none", "watts": 100}
{"kernel": "norm", "beside": "nothing", "ratio": 0, "bytes": 1e9, "flops": 0, "us": 1000, "watts": 400}
{"kernel": "norm", "beside": "nothing", "ratio": 0, "bytes": 1e9, "flops": 0, "us": 1000, "watts": 400}
{"kernel": "norm", "beside": "nothing", "ratio": 1, "bytes": 1e9, "flops": 0, "us": 1000, "watts": 250, "duty": 0.5}
{"kernel": "copy", "beside": "nothing", "ratio": 0, "bytes": 1e9, "flops": 0, "us": 1000, "watts": 250}
{"kernel": "p", "beside": "nothing", "ratio": 0, "flops": 1e12, "bytes": 1, "us": 800, "watts": 500, "duty": 1, "nvml_mhz": 1500}
{"kernel": "p", "beside": "nothing", "ratio": 1, "flops": 1e12, "bytes": 1, "us": 640, "watts": 400, "duty": 0.5, "nvml_mhz": 2000}
{"kernel": "p", "beside": "copy", "ratio": 1, "flops": 1e12, "bytes": 1, "us": 700, "watts": 300, "duty": 0.5, "nvml_mhz": 1800}
{"kernel": "q", "failed": "no such kernel"}
{"kernel": "all_reduce", "fabric": "nvlink", "bytes": 1e9, "us": 1000, "watts": 200}
)";
}

// Five points of every class that has a clock, at 60 % of the peak rate, between 1400 and 1600 MHz.
Measurements points(const Profile& profile) {
  Measurements m;
  for (const char* text : {"matmul forward 4096 4096 4096 1 even cublaslt",
                           "grouped_matmul forward 4096 4096 4096 4 even cublas-grouped",
                           "attention forward 4096 2 32 8 128 128 cudnn"})
    for (const double mhz : {1400, 1450, 1500, 1590, 1600}) {
      MeasuredPoint p;
      p.ask = parse_asks(text, "asks").front();
      p.stats.median_us = p.ask.work.flops / (0.55 * profile.device.peak_flops) * 1e6;
      p.stats.samples = 9;
      p.stats.sm_mhz = mhz;
      m.points.push_back(p);
    }
  return m;
}

class FitClock : public testing::Test {
 protected:
  std::string write(const std::string& text) {
    const std::string file = (folder_.path() / "power.jsonl").string();
    std::ofstream(file) << text;
    return file;
  }
  TempFolder folder_;
  Profile profile_ = built_in_profile("h100-sxm-80gb");
};

TEST_F(FitClock, TakesTheLawFromKernelsThatHaveShares) {
  add_clock(profile_, write(lines()), {points(profile_)});
  const ProfiledClock& c = profile_.clock.value();
  EXPECT_EQ(c.law.most_mhz, 2000);
  EXPECT_EQ(c.law.least_mhz, 300);
  EXPECT_EQ(c.law.limit_watts, 500);
  EXPECT_EQ(c.law.idle_watts, 100);
  EXPECT_DOUBLE_EQ(c.law.reach, 1.25);
  EXPECT_DOUBLE_EQ(c.law.exponent, 1.82);  // 0.4055 / 0.2231
  EXPECT_DOUBLE_EQ(c.memory_nanojoules, 0.3);
  EXPECT_DOUBLE_EQ(c.optimizer_nanojoules, 0.15);
  EXPECT_DOUBLE_EQ(c.collective_nanojoules, 0.1);
  ASSERT_EQ(c.measured.size(), 3U);
  for (const MeasuredClock& m : c.measured) {
    EXPECT_EQ(m.share_of_peak, std::vector<double>{0.55});
    EXPECT_EQ(m.mhz, std::vector<double>{1500});
  }
}

TEST_F(FitClock, RefusesWhatItCannotTellFrom) {
  const std::vector<Measurements> none;
  EXPECT_THROW(add_clock(profile_, write(lines()), none), Error);
  std::string text = lines();
  text.erase(0, text.find('\n') + 1);
  EXPECT_THROW(add_clock(profile_, write(text), {points(profile_)}), Error);
  EXPECT_THROW(add_clock(profile_, folder_.path() / "missing.jsonl", {points(profile_)}), Error);
}

}  // namespace
}  // namespace steploom
