// The closed loop's scripts: plans are made, with their predictions, and they run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "models/json_reader.h"
#include "tests/temp_folder.h"
#include "tests/tools/cli_helper.h"

namespace steploom {
namespace {

using testing::CliRun;
using testing::run_program;

const std::string kFolder = STEPLOOM_SOURCE_DIR "/profiler/closed_loop/";
const std::string kSteploom = STEPLOOM_BINARY_DIR "/steploom";

class ClosedLoop : public ::testing::Test {
 protected:
  void SetUp() override {
    if (run_program("/usr/bin/env", {"python3", "--version"}).status != 0)
      GTEST_SKIP() << "no python3 here: the scripts are not run";
  }
  TempFolder folder_;
};

TEST_F(ClosedLoop, PlansAreMadeAndRunByTheScripts) {
  const std::string plans = folder_ / "plans", out = folder_ / "out";
  const CliRun made = run_program(
      "/usr/bin/env", {"python3", kFolder + "make_plans", kSteploom, plans, "deepseek-like-ep2",
                       "gpt2-s-moe-ep2", "llama-1.3b-tp2", "tiny-mixtral-ep2"});
  ASSERT_EQ(made.status, 0) << made.err;
  // A model that was changed in its plan file is planned as it was changed.
  const Json deepseek = Json::load(plans + "/deepseek-like-ep2.json");
  EXPECT_EQ(deepseek.at("model").at("moe").at("shared_width").number(0, 1e6), 2816);

  const CliRun ran = run_program(
      "/usr/bin/env", {"python3", kFolder + "run_all", kSteploom, plans, out, "--label",
                       "reference", "--only", "tiny-mixtral-ep2", "--", "--backend", "cpu"});
  EXPECT_EQ(ran.status, 1);
  EXPECT_THAT(ran.out, ::testing::HasSubstr("status 2"));
  EXPECT_THAT(ran.out, ::testing::HasSubstr("expected cuda or reference"));
  std::ifstream summary(out + "/summary.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(summary, line));
  const Json row = Json::parse(line, "summary");
  EXPECT_EQ(row.at("case").text(), "tiny-mixtral-ep2");
  EXPECT_EQ(row.at("status").number(0, 255), 2);
}

}  // namespace
}  // namespace steploom
