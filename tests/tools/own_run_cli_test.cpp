// The user's own run beside its prediction: --measured and --calibrate.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "models/json_reader.h"
#include "tests/temp_folder.h"
#include "tests/tools/cli_helper.h"

namespace steploom {
namespace {

using testing::CliRun;
using ::testing::HasSubstr;
using testing::run_cli;
using ::testing::StartsWith;
using Args = std::vector<std::string>;

Args operator+(Args a, const Args& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

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
  // Status 2 and one line that says so, nothing on standard output.
  static void expect_refused(const Args& args, const std::vector<std::string>& parts) {
    const CliRun run = run_cli(args);
    EXPECT_EQ(run.status, 2) << run.err;
    EXPECT_EQ(run.out, "");
    EXPECT_THAT(run.err, StartsWith("steploom: "));
    EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
    for (const std::string& part : parts) EXPECT_THAT(run.err, HasSubstr(part));
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

}  // namespace
}  // namespace steploom
