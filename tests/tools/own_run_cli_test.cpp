// The user's own run beside its prediction: --measured and --calibrate.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "models/json_reader.h"
#include "models/work.h"
#include "tests/temp_folder.h"
#include "tests/tools/cli_helper.h"

namespace steploom {
namespace {

using testing::Args;
using testing::CliRun;
using testing::expect_refused;
using ::testing::HasSubstr;
using testing::run_cli;
using ::testing::StartsWith;
using testing::operator+;

const Args kGpt2{"gpt2", "--cluster",    "h100-sxm-80gb", "--nodes",        "1", "--gpus",
                 "2",    "--seq-length", "512",           "--global-batch", "8", "--layout"};

class OwnRun : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name)) << text;
  }
  Args simulate(const std::string& layout, const Args& more) const {
    return Args{"simulate"} + kGpt2 + Args{layout} + more;
  }

  const TempFolder folder_;
};

TEST_F(OwnRun, MeasuredStandsBesidePredicted) {
  const CliRun run =
      run_cli(simulate("tp=2", {"--measured", "0.5s", "-o", path("p.json"), "--format", "json"}));
  ASSERT_EQ(run.status, 0) << run.err;
  const Json out = Json::parse(run.out, "simulate");
  const auto step = out.at("rows").at(0).at("step_ps").integer(1);
  const Json row = out.at("measured").at(std::size_t{0});
  EXPECT_EQ(row.at("predicted_ps").integer(), step);
  EXPECT_EQ(row.at("measured_ps").integer(), 500'000'000'000);
  EXPECT_EQ(row.at("difference_ps").integer(), step - 500'000'000'000);
  EXPECT_DOUBLE_EQ(row.at("error_share").number(-1, 1), static_cast<double>(step) / 5e11 - 1);
  // The plan keeps it, and what reads the plan shows it.
  EXPECT_EQ(Json::load(path("p.json")).at("measured").at("step_ps").integer(), 500'000'000'000);
  for (const char* verb : {"explain", "simulate"})
    EXPECT_THAT(run_cli({verb, path("p.json")}).out, HasSubstr("500 ms"));
}

TEST_F(OwnRun, MeasuredOfAMegatronRunIsOfTheRunNotOfThePlan) {
  const Args from{
      "plan",      "--from",        STEPLOOM_SOURCE_DIR "/examples/megatron/dense-7b.sh",
      "--cluster", "h100-sxm-80gb", "--nodes",
      "8",         "--top",         "1"};
  const CliRun run =
      run_cli(from + Args{"--measured", "1900ms", "-o", path("p.json"), "--format", "json"});
  ASSERT_EQ(run.status, 0) << run.err;
  const Json out = Json::parse(run.out, "plan");
  EXPECT_EQ(out.at("measured").at(0).at("predicted_ps").integer(),
            out.at("present").at(0).at("step_ps").integer());
  EXPECT_THAT(Json::load(path("p.json")).at("measured").at("layout").text(), StartsWith("tp=4"));
}

TEST_F(OwnRun, MeasuredIsReadStrictly) {
  for (const char* text : {"13.75", "-1s", "5h", "nan", "0s", ""})
    expect_refused(simulate("tp=2", {"--measured", text}), {"--measured", "such as 13.75s"});
  expect_refused({"plan", "gpt2", "--cluster", "h100-sxm-80gb", "--nodes", "1", "--seq-length",
                  "512", "--global-batch", "8", "--measured", "1s"},
                 {"--measured", "--from"});
}

// One rank's trace as the PyTorch profiler writes it: of three steps the one of median duration
// counts, whose products take `us` in all. `with_kernels` false: a trace without GPU activities.
std::string trace_of(double us, bool with_kernels = true, int world = 2) {
  std::string text =
      R"({"distributedInfo": {"rank": 1, "world_size": )" + std::to_string(world) +
      R"(}, "traceEvents": [{"ph": "M", "name": "process_name", "pid": 1, "tid": 1, "args": {}})";
  double at = 1000;
  int correlation = 0;
  for (const double share : {0.2, 1.0, 9.0}) {
    const double length = share * us * 2;
    text += R"(,{"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#)" +
            std::to_string(++correlation) + R"(", "pid": 1, "tid": 1, "ts": )" +
            std::to_string(at) + R"(, "dur": )" + std::to_string(length) + "}";
    constexpr int kKernels = 40;  // issued 10 us apart
    for (int i = 0; i < kKernels; ++i) {
      const std::string id = std::to_string(++correlation);
      const double launched = at + 10 + 10 * i;
      text += R"(,{"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 1, "tid": 1,
 "ts": )" + std::to_string(launched - 4) +
              R"(, "dur": 4, "args": {"correlation": )" + id + "}}";
      if (with_kernels)
        text += R"(,{"ph": "X", "cat": "kernel", "name": "nvjet_hsh_256x128", "pid": 1, "tid": 7,
 "ts": )" + std::to_string(launched + 1 + i * share * us / kKernels) +
                R"(, "dur": )" + std::to_string(share * us / kKernels) +
                R"(, "args": {"device": 1, "stream": 7, "correlation": )" + id + "}}";
    }
    at += length + 1000;
  }
  return text + "]}";
}

Picoseconds busy(const Json& explained, const std::string& what) {
  const Json rows = explained.at("operators");
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (rows.at(i).at("operators").text() == what) return rows.at(i).at("busy_ps").integer();
  return 0;
}

TEST_F(OwnRun, CalibratesOnTheMedianStepOfATrace) {
  const Args plain = simulate("tp=1,mbs=4", {});
  Args explain = plain;
  explain[0] = "explain";
  const CliRun before = run_cli(explain + Args{"--format", "json"});
  ASSERT_EQ(before.status, 0) << before.err;
  const Json explained = Json::parse(before.out, "explain");
  const auto products = static_cast<double>(busy(explained, "matmul")) * 1e-6;
  write("trace.json", trace_of(1.25 * products));

  const CliRun run = run_cli(plain + Args{"--calibrate", path("trace.json"), "-o", path("p.json")});
  ASSERT_EQ(run.status, 0) << run.err;
  for (const char* part :
       {"Calibrated on trace.json", "1.250", "attention", "not in the trace", "10 us",
        "ProfilerStep#42, the step of median duration of 3", "rests on calibrated or fitted"})
    EXPECT_THAT(run.out, HasSubstr(part)) << run.out;

  // Its plan is costed so by whoever reads it: products take 1.25 times as long.
  const CliRun after = run_cli({"explain", path("p.json"), "--format", "json"});
  ASSERT_EQ(after.status, 0) << after.err;
  const Json calibrated = Json::parse(after.out, "explain");
  EXPECT_NEAR(static_cast<double>(busy(calibrated, "matmul")) * 1e-6, 1.25 * products,
              1e-3 * products);
  EXPECT_EQ(busy(calibrated, "attention"), busy(explained, "attention"));
  EXPECT_NEAR(calibrated.at("calibration").at(std::size_t{0}).at("factor").number(0, 2), 1.25,
              1e-5);
  EXPECT_THAT(after.out, HasSubstr("\"calibrated\""));  // what durations rest on

  // Another profile or engine makes it meaningless; a run cannot test it.
  std::string text;
  {
    std::ostringstream all;
    all << std::ifstream(path("p.json")).rdbuf();
    text = all.str();
  }
  text.replace(text.find("\"engine\": \"") + 11, 4, "beef");
  write("other.json", text);
  expect_refused({"explain", path("other.json"), "--rebase"}, {"/calibration", "trace.json"});
  expect_refused({"run", path("p.json")}, {"/calibration", "without --calibrate"});
}

// Our own export of the same step: every factor is 1, and the step stays as it was.
TEST_F(OwnRun, ATraceOfThePredictionChangesNothing) {
  const CliRun made = run_cli(simulate("tp=2", {"--trace", path("t.json"), "--format", "json"}));
  ASSERT_EQ(made.status, 0) << made.err;
  const CliRun run = run_cli(simulate("tp=2", {"--calibrate", path("t.json"), "--format", "json"}));
  ASSERT_EQ(run.status, 0) << run.err;
  const Json a = Json::parse(made.out, "a"), b = Json::parse(run.out, "b");
  const Json rows = b.at("calibration");
  ASSERT_GE(rows.size(), 5U);
  for (std::size_t i = 0; i + 1 < rows.size(); ++i)
    EXPECT_EQ(rows.at(i).at("factor").number(0, 2), 1) << rows.at(i).at("class").text();
  EXPECT_EQ(a.at("rows").at(std::size_t{0}).at("step_ps").integer(),
            b.at("rows").at(std::size_t{0}).at("step_ps").integer());
}

TEST_F(OwnRun, RefusesTracesThatCannotBeOfTheRun) {
  const auto with = [&](const std::string& file) {
    return simulate("tp=1,mbs=4", {"--calibrate", path(file)});
  };
  write("short.json", trace_of(10));
  expect_refused(with("short.json"), {"short.json", "class matmul", "0.5 to 2"});
  write("no-gpu.json", trace_of(10, false));
  expect_refused(with("no-gpu.json"), {"no-gpu.json", "GPU events"});
  write("world.json", trace_of(10, true, 16));
  expect_refused(with("world.json"), {"one of 2 ranks", "rank 1 of 16"});
  write("cut.json", trace_of(10).substr(0, 500));
  expect_refused(with("cut.json"), {"cut.json"});
  write("cut.json.gz", std::string("\x1f\x8b\x08\x00\x00", 5));
  expect_refused(with("cut.json.gz"), {"cut.json.gz", "gzip"});
  expect_refused(with("none.json"), {"none.json"});
  // Two devices in one file, and a timeline that is no profiler's.
  ASSERT_EQ(run_cli(simulate("pp=2", {"--trace", path("pp.json")})).status, 0);
  expect_refused(simulate("pp=2", {"--calibrate", path("pp.json")}), {"a trace of one rank"});
  ASSERT_EQ(run_cli(simulate("tp=2", {"--timeline", path("t.timeline.json")})).status, 0);
  expect_refused(with("t.timeline.json"), {"a trace of the PyTorch profiler", "simulated"});
  expect_refused({"plan", "gpt2", "--cluster", "h100-sxm-80gb", "--nodes", "1", "--seq-length",
                  "512", "--global-batch", "8", "--calibrate", path("t.json")},
                 {"--calibrate", "--from"});
}

}  // namespace
}  // namespace steploom
