// --routing on the command line: what is printed, kept in a plan, and refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "models/json_reader.h"
#include "tests/temp_folder.h"
#include "tests/tools/cli_helper.h"

namespace steploom {
namespace {

using testing::Args;
using testing::CliRun;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::run_cli;

Args simulate(const Args& more) {
  Args all{"simulate", "mixtral-8x7b",  "--cluster", "h100-sxm-80gb",  "--nodes",
           "1",        "--seq-length",  "4096",      "--global-batch", "8",
           "--layout", "tp=1,pp=1,ep=8"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

TEST(RoutingCli, PrintsMedianAndNinetyFifthPercentile) {
  const CliRun balanced = run_cli(simulate({}));
  EXPECT_THAT(balanced.out, Not(HasSubstr("routing")));
  const CliRun drawn =
      run_cli(simulate({"--routing", "power-law:1.2,capacity=1.25", "--routing-samples", "3"}));
  EXPECT_THAT(drawn.out, HasSubstr("· power-law:1.2,capacity=1.25 ·"));
  EXPECT_THAT(drawn.out, HasSubstr("over 3 draws of the routing: median "));
  EXPECT_THAT(drawn.out, HasSubstr("95th percentile "));
  EXPECT_THAT(drawn.out, HasSubstr("% of the rows are dropped"));
}

TEST(RoutingCli, PlansKeepIt) {
  const TempFolder folder;
  const std::string plan = (folder / "plan.json").string();
  std::ofstream loads(folder / "loads.csv");
  loads << "layer,expert,tokens\n";
  for (int layer = 0; layer < 32; ++layer)
    for (int expert = 0; expert < 8; ++expert)
      loads << layer << ',' << expert << ',' << 1 + expert % 3 << '\n';
  loads.close();
  const CliRun made = run_cli(
      simulate({"--routing", (folder / "loads.csv").string(), "-o", plan, "--format", "json"}));
  const Json rows = Json::parse(made.out, "simulate").at("rows");
  std::filesystem::remove(folder / "loads.csv");
  const CliRun again = run_cli({"simulate", plan, "--format", "json"});
  EXPECT_EQ(Json::parse(again.out, "again").at("rows").at(std::size_t{0}).at("step_ps").integer(),
            rows.at(std::size_t{0}).at("step_ps").integer())
      << again.err;
  const CliRun even = run_cli({"simulate", plan, "--routing", "balanced", "--format", "json"});
  EXPECT_LT(Json::parse(even.out, "even").at("rows").at(std::size_t{0}).at("step_ps").integer(),
            rows.at(std::size_t{0}).at("step_ps").integer());
}

TEST(RoutingCli, Refusals) {
  for (const auto& [flags, part] :
       {std::pair{Args{"--routing", "power-low:1"}, "power-law"},
        {Args{"--routing", "power-law:0"}, "a number above 0"},
        {Args{"--quantile", "0.95"}, "nothing else is drawn"},
        {Args{"--routing", "power-law:1", "--quantile", "1.5"}, "quantile"},
        {Args{"--routing", "power-law:1", "--routing-samples", "0"}, "at least one sample"}}) {
    const CliRun run = run_cli(simulate(flags));
    EXPECT_EQ(run.status, 2) << part;
    EXPECT_THAT(run.err, HasSubstr(part));
    EXPECT_EQ(run.out, "");
  }
}

}  // namespace
}  // namespace steploom
