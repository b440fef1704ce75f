// Sessions with a GPU that is made up: budget, resuming, faults, and what is extrapolated.
#include "profiler/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "profiler/profile_of_points.h"
#include "tests/models/refusal.h"
#include "tests/temp_folder.h"

namespace steploom {
namespace {

using ::testing::HasSubstr;

class ASession : public ::testing::Test {
 protected:
  ASession() {
    on_.date = "2026-11-22T18:00:00Z";
    on_.command = "steploom profile";
    on_.gpu = "NVIDIA H200";
    on_.driver = "580.1";
    on_.cuda_runtime = "13.0";
    on_.cublas = "13.1.0";
    on_.sms = 132;
    on_.memory = 150000000000;
    on_.method = "made up";
    plan_.asks = parse_asks(
        "norm forward 1024 4096 0 1 even steploom-rms\n"
        "norm forward 2048 4096 0 1 even steploom-rms\n"
        "norm forward 4096 4096 0 1 even steploom-rms\n"
        "matmul forward 4096 4096 4096 1 even cublaslt\n",
        "test");
    plan_.in_order = true;
    tools_.seconds = [this] { return now_; };
    tools_.stopped = [this] { return stop_after_ >= 0 && calls_ >= stop_after_; };
    tools_.others = [this] {
      ++others_;
      return std::vector<MeasuredOther>{{"launch_kernel", 0, {5, 4, 6, 10, 0, 0}, ""}};
    };
    tools_.time = [this](const Ask& ask) {
      ++calls_;
      now_ += 1;
      const std::string text = to_text(ask);
      if (text == bad_) return bad_timing_;
      return Timing{{100, 99, 101, 20, 1500, 700}, "", false};
    };
  }
  SessionResult run() { return run_session(file_, on_, plan_, model_, tools_); }
  std::string text() const {
    std::ostringstream out;
    out << std::ifstream(file_).rdbuf();
    return out.str();
  }
  void write(const std::string& text) const { std::ofstream(file_) << text; }

  const TempFolder own_;
  const std::filesystem::path file_ = own_ / "p.jsonl";
  const Profile& profile_ = built_in_profile("h200-sxm-141gb");
  Cluster cluster_ = cluster_for(profile_);
  CostModel model_{profile_, cluster_};
  MeasuredOn on_;
  SessionPlan plan_;
  SessionTools tools_;
  double now_ = 0;
  int calls_ = 0, others_ = 0, stop_after_ = -1;
  std::string bad_;
  Timing bad_timing_;
};

TEST_F(ASession, WritesWhatItMeasures) {
  const SessionResult r = run();
  EXPECT_EQ(r.timed, 4U);
  EXPECT_EQ(r.left, 0U);
  EXPECT_FALSE(r.faulty);
  const Measurements read = read_points(file_);
  ASSERT_EQ(read.points.size(), 4U);
  EXPECT_EQ(read.points[3].ask, plan_.asks[3]);
  EXPECT_EQ(read.others.size(), 1U);
  EXPECT_EQ(r.measured.points.size(), 4U);
}

TEST_F(ASession, EndsWithItsBudgetAndGoesOnFromThere) {
  plan_.budget_seconds = 1.5;
  EXPECT_EQ(run().timed, 2U);
  plan_.budget_seconds = 100;
  const SessionResult r = run();
  EXPECT_EQ(r.resumed, 2U);
  EXPECT_EQ(r.timed, 2U);
  EXPECT_EQ(calls_, 4);
  EXPECT_EQ(others_, 1);
  EXPECT_EQ(r.measured.points.size(), 4U);
  EXPECT_EQ(read_points(file_).points.size(), 4U);
  EXPECT_EQ(run().timed, 0U);
}

TEST_F(ASession, AnInterruptKeepsTheFile) {
  stop_after_ = 3;
  const SessionResult r = run();
  EXPECT_TRUE(r.interrupted);
  EXPECT_EQ(r.left, 1U);
  EXPECT_EQ(read_points(file_).points.size(), 3U);
  stop_after_ = -1;
  EXPECT_EQ(run().timed, 1U);
}

TEST_F(ASession, ALastLineCutShortIsMeasuredAgain) {
  run();
  const std::string whole = text();
  write(whole.substr(0, whole.size() - 30));
  const SessionResult r = run();
  EXPECT_EQ(r.resumed, 3U);
  EXPECT_EQ(r.timed, 1U);
  EXPECT_EQ(text(), whole);
}

TEST_F(ASession, AnotherMachinesFileIsRefusedAndKept) {
  run();
  const std::string whole = text();
  const auto refused = [&](std::string MeasuredOn::*what) {
    const MeasuredOn was = on_;
    on_.*what = "other";
    const auto where = refusal([&] { run(); });
    on_ = was;
    return where.place;
  };
  EXPECT_EQ(refused(&MeasuredOn::gpu), "gpu");
  EXPECT_EQ(refused(&MeasuredOn::driver), "driver");
  EXPECT_EQ(refused(&MeasuredOn::cublas), "cublas");
  EXPECT_EQ(refused(&MeasuredOn::cuda_runtime), "cuda_runtime");
  EXPECT_EQ(refused(&MeasuredOn::method), "method");
  EXPECT_EQ(text(), whole);
  write("my shopping list");
  EXPECT_THAT(refusal([&] { run(); }).reading, HasSubstr("p.jsonl"));
  EXPECT_EQ(text(), "my shopping list");
}

TEST_F(ASession, WantOfMemoryIsSkippedAndSaid) {
  bad_ = to_text(plan_.asks[1]);
  bad_timing_.note = "skipped: out of memory";
  const SessionResult r = run();
  EXPECT_FALSE(r.faulty);
  ASSERT_EQ(r.not_well.size(), 1U);
  EXPECT_EQ(r.not_well[0].ask, plan_.asks[1]);
  EXPECT_EQ(read_points(file_).points[1].note, "skipped: out of memory");
}

TEST_F(ASession, AWrongKernelIsAFaultAndThreeInARowEndIt) {
  bad_ = to_text(plan_.asks[1]);
  bad_timing_.note = "wrong: off by one";
  EXPECT_TRUE(run().faulty);
  std::filesystem::remove(file_);
  tools_.time = [this](const Ask&) {
    ++calls_;
    return Timing{{}, "failed: the device is lost", false};
  };
  calls_ = 0;
  EXPECT_EQ(run().left, 1U);
  EXPECT_EQ(calls_, 3);
}

// 131072³ is predicted at seconds; it is scaled from the product that was measured at 100 us.
TEST_F(ASession, AShotOfOver50MillisecondsIsExtrapolatedAndMarked) {
  const Ask huge = parse_asks("matmul forward 131072 131072 131072 1 even cublaslt", "test")[0];
  plan_.asks.insert(plan_.asks.begin(), huge);
  bad_ = to_text(plan_.asks[1]);  // found too long only when tried, with no other of its kind ...
  bad_timing_ = {{}, "skipped: 63 ms a shot", true};
  const SessionResult r = run();
  EXPECT_EQ(r.timed, 3U);
  EXPECT_EQ(r.left, 0U);
  const Measurements read = read_points(file_);
  ASSERT_EQ(read.points.size(), 5U);
  const MeasuredPoint& last = read.points[3];
  EXPECT_EQ(last.ask, huge);
  EXPECT_EQ(last.stats.samples, 0);
  EXPECT_EQ(last.extrapolated_from, to_text(plan_.asks[4]));
  const auto predicted = [&](const Ask& ask) {
    return static_cast<double>(model_.cost({ask.work, {}}).time);
  };
  EXPECT_NEAR(last.extrapolated_us / (100 * predicted(huge) / predicted(plan_.asks[4])), 1, 1e-5);
  EXPECT_EQ(read.points[4].extrapolated_from, to_text(plan_.asks[2]));
  EXPECT_THAT(read.points[4].note, HasSubstr("over 50 ms"));
  // It is no measurement: no profile takes it.
  EXPECT_EQ(points_of(read).kernels.size(), 3U);
  EXPECT_EQ(run().timed, 0U);
}

// Without an order the coarse pass comes first, then the class that was found to be most wrong.
TEST_F(ASession, SpendsWhatIsLeftWhereTheProfileIsWrong) {
  plan_.asks = built_in_asks();
  plan_.in_order = false;
  const KindPhase norm{OpKind::norm, Phase::data_grad}, rotary{OpKind::rotary, Phase::forward};
  plan_.shares = {{norm, 0.1}, {rotary, 0.1}};
  plan_.errors = {{norm, 0.01}, {rotary, 0.3}};
  tools_.time = [&](const Ask& ask) {
    ++calls_;
    now_ += 1;
    // The profile is right about all but norms.
    const double us = static_cast<double>(model_.cost({ask.work, {}}).time) * 1e-6 *
                      (class_of(ask) == norm ? 1.5 : 1);
    return Timing{{us, us, us, 9, 0, 0}, "", false};
  };
  const auto coarse = coarse_asks(plan_.asks, model_).size();
  plan_.budget_seconds = static_cast<double>(coarse) + 4.5;
  const SessionResult r = run();
  ASSERT_EQ(r.timed, coarse + 5);
  for (std::size_t i = coarse; i < r.measured.points.size(); ++i)
    EXPECT_EQ(class_of(r.measured.points[i].ask), norm) << i;
}

TEST_F(ASession, SaysHowMuchIsLeft) {
  std::vector<double> left;
  tools_.progress = [&](std::size_t done, std::size_t all, double seconds) {
    EXPECT_EQ(done, left.size());
    EXPECT_EQ(all, 4U);
    left.push_back(seconds);
  };
  run();
  ASSERT_EQ(left.size(), 4U);
  EXPECT_GT(left[0], left[3]);
  EXPECT_NEAR(left[3], seconds_of(plan_.asks[3], model_), 1e-9);
}

}  // namespace
}  // namespace steploom
