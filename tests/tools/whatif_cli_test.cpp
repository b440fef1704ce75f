// steploom whatif: the best plan at every point of some sweeps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "models/json_reader.h"
#include "tests/temp_folder.h"
#include "tests/tools/cli_helper.h"

namespace steploom {
namespace {

using testing::Args;
using testing::CliRun;
using ::testing::ElementsAre;
using testing::expect_refused;
using ::testing::HasSubstr;
using testing::run_cli;
using ::testing::StartsWith;
using testing::operator+;

const Args kOnH100{"--cluster", "h100-sxm-80gb"};
const Args kSmall{"--seq-length", "512", "--global-batch", "4"};

class WhatIf : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
  std::string read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(path(name)).rdbuf();
    return text.str();
  }
  static Args gpt2(const Args& sweeps, const Args& more = {}) {
    Args args{"whatif", "gpt2"};
    for (const std::string& s : sweeps) args = args + Args{"--sweep", s};
    return args + kSmall + more;
  }
  static Json rows(const Args& args, int status = 0) {
    const CliRun run = run_cli(args + Args{"--format", "json"});
    EXPECT_EQ(run.status, status) << run.err;
    return Json::parse(run.out, "whatif").at("points");
  }
  static std::vector<double> column(const Json& rows, const std::string& key) {
    std::vector<double> out;
    for (std::size_t i = 0; i < rows.size(); ++i) out.push_back(rows.at(i).at(key).number(0, 1e18));
    return out;
  }
  const TempFolder folder_;
};

TEST_F(WhatIf, EveryRowIsThePlanOfItsPoint) {
  const Json points =
      rows(gpt2({"nodes=1..2", "network-gbps=25,400"}, kOnH100 + Args{"--gpus", "2"}));
  ASSERT_EQ(points.size(), 4U);
  for (std::size_t i = 0; i < points.size(); ++i) {
    const Json row = points.at(i);
    const CliRun planned =
        run_cli(Args{"plan", "gpt2", "--top", "1", "--gpus", "2", "--format", "json", "--nodes",
                     std::to_string(row.at("nodes").integer()), "--network-gbps",
                     std::to_string(row.at("network_gbps").integer())} +
                kSmall + kOnH100);
    ASSERT_EQ(planned.status, 0) << planned.err;
    const Json best = Json::parse(planned.out, "plan").at("rows").at(std::size_t{0});
    EXPECT_EQ(row.at("step_ps").integer(), best.at("step_ps").integer());
    EXPECT_EQ(row.at("layout").text(), best.at("layout").text());
    // The columns that the plan does not have, from those that it has.
    const double each = best.at("tokens_per_second_per_gpu").number(0, 1e12);
    const auto gpus = static_cast<double>(row.at("devices").integer());
    EXPECT_DOUBLE_EQ(row.at("tokens_per_second").number(0, 1e15), each * gpus);
    EXPECT_NEAR(row.at("gpu_hours_per_1e12_tokens").number(0, 1e12), 1e12 / each / 3600, 1e-6);
  }
  // One node has no use for the network; two are not slower on a faster one.
  const std::vector<double> step = column(points, "step_ps");
  EXPECT_EQ(step[0], step[1]);
  EXPECT_GE(step[2], step[3]);
}

TEST_F(WhatIf, RangesDoubleOrStep) {
  EXPECT_THAT(column(rows(gpt2({"gpus=1..8"}, kOnH100 + Args{"--nodes", "1"})), "gpus"),
              ElementsAre(1, 2, 4, 8));
  EXPECT_THAT(column(rows(gpt2({"gpus=1..7"}, kOnH100 + Args{"--nodes", "1"})), "gpus"),
              ElementsAre(1, 2, 4));
  EXPECT_THAT(column(rows(gpt2({"gpus=8,2..4:2"}, kOnH100 + Args{"--nodes", "1"})), "gpus"),
              ElementsAre(2, 4, 8));  // in order
  EXPECT_THAT(
      column(rows(gpt2({"network-gbps=12.5..60"}, kOnH100 + Args{"--nodes", "1"})), "network_gbps"),
      ElementsAre(12.5, 25, 50));
}

// As printed, byte for byte, where no figure of the cost model is in it.
TEST_F(WhatIf, PointsWithoutAPlanAreRowsThatSayWhy) {
  const CliRun run = run_cli(
      gpt2({"gpu=gb200,h100-sxm-80gb", "gpus=4,8"}, Args{"--nodes", "1", "--format", "csv"}));
  EXPECT_EQ(run.status, 0) << run.err;
  std::istringstream lines(run.out);
  std::vector<std::string> line(5);
  for (std::string& l : line) std::getline(lines, l);
  EXPECT_EQ(line[0],
            "gpu,gpus,devices,layout,micro_batch,recompute,step_ps,tokens_per_second,"
            "tokens_per_second_per_gpu,mfu,memory_bytes,gpu_hours_per_1e12_tokens,changed_along,"
            "failure");
  EXPECT_THAT(line[1], StartsWith("gb200,4,4,tp"));
  EXPECT_EQ(line[2], "gb200,8,,,,,,,,,,,,\"--gpus: expected 1 to 4, the GPUs of a node, found 8\"");
  EXPECT_THAT(line[3], StartsWith("h100-sxm-80gb,4,4,tp"));

  // No point has one: status 1, and the rows say why all the same.
  const CliRun none = run_cli(
      Args{"whatif", "llama-3.1-405b", "--sweep", "gpus=1,2", "--nodes", "1", "--format", "json"} +
      kSmall + kOnH100);
  EXPECT_EQ(none.status, 1);
  const Json points = Json::parse(none.out, "whatif").at("points");
  ASSERT_EQ(points.size(), 2U);
  for (std::size_t i = 0; i < points.size(); ++i)
    EXPECT_THAT(points.at(i).at("failure").text(), HasSubstr("every one out of memory"));
}

// A precision that one GPU lacks and another has.
TEST_F(WhatIf, APrecisionThatAGpuLacksFailsThereAlone) {
  const Json points = rows(gpt2({"gpu=v100-sxm-32gb,h100-sxm-80gb", "precision=fp16,bf16"},
                                Args{"--nodes", "1", "--gpus", "1"}));
  ASSERT_EQ(points.size(), 4U);
  EXPECT_EQ(points.at(0).at("failure").text(), "");
  EXPECT_THAT(points.at(1).at("failure").text(), HasSubstr("no bf16"));
  EXPECT_EQ(points.at(2).at("failure").text(), "");
  EXPECT_EQ(points.at(3).at("failure").text(), "");
}

TEST_F(WhatIf, SaysWhereTheBestLayoutChanges) {
  const CliRun run =
      run_cli(gpt2({"gpus=1..8"}, kOnH100 + Args{"--nodes", "1", "--format", "json"}));
  ASSERT_EQ(run.status, 0) << run.err;
  const Json out = Json::parse(run.out, "whatif");
  const Json points = out.at("points"), changes = out.at("changes");
  std::size_t marked = 0;
  for (std::size_t i = 0; i < points.size(); ++i)
    marked += points.at(i).at("changed_along").text() == "gpus" ? 1 : 0;
  // 4 sequences on 1 to 8 GPUs: their micro-batch must change.
  EXPECT_GT(marked, 0U);
  EXPECT_EQ(changes.size(), marked);
  for (std::size_t i = 0; i < changes.size(); ++i) {
    EXPECT_EQ(changes.at(i).at("along").text(), "gpus");
    EXPECT_NE(changes.at(i).at("layout_before").text(), changes.at(i).at("layout_after").text());
  }
}

TEST_F(WhatIf, AnswersAndPlotsAreTheSameForAnyNumberOfThreads) {
  std::vector<std::string> out;
  for (const std::string threads : {"1", "2", "5"}) {
    Args args{"whatif", "gpt2",  "--seq-length", "512",    "--nodes", "1",        "--threads",
              threads,  "--svg", path(threads),  "--plot", "mfu",     "--format", "csv"};
    for (const char* s : {"gpus=1,2", "precision=bf16,fp8", "global-batch=2,4"})
      args = args + Args{"--sweep", s};
    const CliRun ok = run_cli(args + kOnH100);
    ASSERT_EQ(ok.status, 0) << ok.err;
    EXPECT_EQ(ok.err, "");  // no progress where no terminal is
    out.push_back(ok.out);
  }
  EXPECT_EQ(out[0], out[1]);
  EXPECT_EQ(out[0], out[2]);
  EXPECT_EQ(read("1"), read("2"));
  EXPECT_EQ(read("1"), read("5"));
  for (const char* part : {"<svg", ">MFU<", ">GPUs a node<", ">bf16 · batch 2<", ">fp8 · batch 4<"})
    EXPECT_THAT(read("1"), HasSubstr(part));
}

TEST_F(WhatIf, RefusesWhatCannotBeSwept) {
  const auto sweep = [](const char* text) { return gpt2({text}, kOnH100); };
  expect_refused(sweep("ndoes=1..4"), {"'ndoes'", "did you mean 'nodes'?"});
  expect_refused(sweep("network_gbps=100"), {"did you mean 'network-gbps'?"});
  expect_refused(sweep("nodes"), {"KEY=VALUES"});
  expect_refused(sweep("nodes="), {"--sweep nodes", "values"});
  expect_refused(sweep("nodes=1,,2"), {"--sweep nodes", "values"});
  expect_refused(sweep("nodes=0..4"), {"'0'"});
  expect_refused(sweep("nodes=4..1"), {"goes up", "'4..1'"});
  expect_refused(sweep("nodes=1..4:0"), {"'0'"});
  expect_refused(sweep("nodes=1.5"), {"'1.5'"});
  expect_refused(sweep("nodes=16385"), {"16384"});
  expect_refused(sweep("nodes=1,2,1"), {"every value once"});
  expect_refused(sweep("nodes=1..1001:1"), {"at most 1000"});
  expect_refused(gpt2({"nodes=1..600:1", "gpus=1,2"}, kOnH100), {"1000 points", "1200"});
  expect_refused(gpt2({"nodes=1", "nodes=2"}, kOnH100), {"every key once"});
  expect_refused(gpt2({"nodes=1,2"}, kOnH100 + Args{"--nodes", "2"}), {"--nodes", "both"});
  expect_refused(gpt2({"gpu=b200-sxm"}, kOnH100 + Args{"--nodes", "1"}), {"--cluster", "both"});
  expect_refused(gpt2({"gpu=h100-sxm-80gb,b200-smx"}, Args{"--nodes", "1"}),
                 {"'b200-smx'", "did you mean 'b200-sxm'?"});
  expect_refused(gpt2({"precision=bf16,bf61"}, kOnH100 + Args{"--nodes", "1"}),
                 {"did you mean 'bf16'?"});
  expect_refused(gpt2({"runtime=megatron-cor"}, kOnH100 + Args{"--nodes", "1"}),
                 {"did you mean 'megatron-core'?"});
  expect_refused(gpt2({"network-gbps=-1"}, kOnH100 + Args{"--nodes", "1"}), {"'-1'", "Gb/s"});
  expect_refused(gpt2({"gpus=1,2"}, kOnH100), {"--nodes"});
  expect_refused(gpt2({"gpus=1,2"}, kOnH100 + Args{"--nodes", "1", "--plot", "mfu"}), {"--svg"});
  expect_refused(gpt2({"gpus=1"}, kOnH100 + Args{"--nodes", "1", "--plot", "mfuu", "--svg", "x"}),
                 {"did you mean 'mfu'?"});
  expect_refused({"whatif", "gtp2", "--sweep", "nodes=1", "--cluster", "h100-sxm-80gb",
                  "--seq-length", "512", "--global-batch", "8"},
                 {"did you mean 'gpt2'?"});
}

}  // namespace
}  // namespace steploom
