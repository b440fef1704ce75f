// The verbs on a cluster whose nodes have several types of GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "models/json_reader.h"
#include "tests/temp_folder.h"
#include "tests/tools/cli_helper.h"

namespace steploom {
namespace {

using testing::Args;
using testing::CliRun;
using testing::expect_refused;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::run_cli;
using testing::operator+;

const std::string kExample = STEPLOOM_SOURCE_DIR "/examples/clusters/mixed/h100-a100.json";
const Args kSmall{"--seq-length", "512", "--global-batch", "8"};

// The example with one GPU of one node of each type; the second of another type.
std::string small(const std::string& device, const std::string& memory) {
  std::ostringstream text;
  text << R"({"steploom_cluster": 1, "name": "small", "groups": [
    {"nodes": 1, "device": {"name": "h100-sxm-80gb", "sms": 132, "memory_bytes": 84934656000,
                            "memory_bandwidth": 3.35e12, "peak_flops": 989.4e12}},
    {"nodes": 1, "device": {"name": ")"
       << device << R"(", "sms": 80, "memory_bytes": )" << memory
       << R"(, "memory_bandwidth": 0.9e12, "peak_flops": 125e12)"
       << (device.starts_with("v100") ? R"(, "bf16": false)" : "") << R"(}}],
    "devices_per_node": 1, "nics_per_node": 1,
    "nvlink": {"bandwidth": 300e9, "latency_us": 0.5},
    "nic": {"bandwidth": 25e9, "latency_us": 2.5}, "nodes_per_leaf": 2, "oversubscription": 1})";
  return text.str();
}

class NodeGroupsCli : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
  std::string cluster(const std::string& device, const std::string& memory = "34359738368") const {
    std::ofstream(path("cluster.json")) << small(device, memory);
    return path("cluster.json");
  }
  Args on(const std::string& device) const { return kSmall + Args{"--cluster", cluster(device)}; }
  const TempFolder folder_;
};

TEST_F(NodeGroupsCli, TheExampleIsSimulated) {
  const CliRun run =
      run_cli({"simulate", "llama-2-7b", "--cluster", kExample, "--seq-length", "4096",
               "--global-batch", "128", "--layout", "tp=4,pp=2,sp=1,mbs=1,stages=Et*22|t*10L"});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("64 × h100-sxm-80gb + 64 × a100-sxm-80gb"));
  EXPECT_THAT(run.out, Not(HasSubstr("not modelled: ")));
}

TEST_F(NodeGroupsCli, APlanIsReplayedExplainedAndExported) {
  const std::string file = path("plan.json");
  const CliRun plan = run_cli(Args{"plan", "gpt2", "-o", file} + on("a100-sxm-80gb"));
  ASSERT_EQ(plan.status, 0) << plan.err;
  EXPECT_THAT(plan.out, HasSubstr("GPUs alone"));
  EXPECT_THAT(plan.out, HasSubstr("1 × h100-sxm-80gb"));
  const Json written = Json::load(std::filesystem::path(file));
  EXPECT_EQ(written.at("profile").at("name").text(), "h100-sxm-80gb,a100-sxm-80gb");
  EXPECT_EQ(written.at("alone").size(), 2U);
  EXPECT_EQ(written.at("cluster").at("groups").size(), 2U);

  const CliRun again = run_cli({"simulate", file, "-o", path("again.json"), "--format", "json"});
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(Json::load(std::filesystem::path(path("again.json")))
                .at("rows")
                .at(std::size_t{0})
                .at("step_ps")
                .integer(),
            written.at("rows").at(std::size_t{0}).at("step_ps").integer());
  EXPECT_EQ(run_cli({"explain", file}).status, 0);
  EXPECT_EQ(run_cli({"why-not", file, "--layout", "pp=2,mbs=1"}).status, 0);
  const CliRun exported = run_cli({"export", file, "--to", "megatron", "-o", path("out")});
  ASSERT_EQ(exported.status, 0) << exported.err;
  EXPECT_THAT(exported.err, HasSubstr("ranks 0 to 0 on h100-sxm-80gb, ranks 1 to 1 on a100"));

  expect_refused({"run", file}, {"/groups", "one type of device"});
}

// Where one of them alone is faster, the plan says so.
TEST_F(NodeGroupsCli, APlanSaysWhatToLeaveOut) {
  const CliRun plan = run_cli(Args{"plan", "gpt2", "--precision", "fp16"} + on("v100-sxm-32gb"));
  ASSERT_EQ(plan.status, 0) << plan.err;
  EXPECT_THAT(plan.out + plan.err, HasSubstr("1 × h100-sxm-80gb alone take"));
  EXPECT_THAT(plan.out + plan.err, HasSubstr("leave the others out"));
}

TEST_F(NodeGroupsCli, EveryRankMustFitItsOwnDevice) {
  const Args asked{"simulate", "gpt2",     "--seq-length", "1024",        "--global-batch",
                   "8",        "--layout", "mbs=4",        "--precision", "fp16"};
  const CliRun fits = run_cli(asked + Args{"--cluster", cluster("v100-sxm-32gb")});
  EXPECT_EQ(fits.status, 0) << fits.err;
  const CliRun small = run_cli(asked + Args{"--cluster", cluster("v100-sxm-32gb", "4294967296")});
  EXPECT_EQ(small.status, 1);
  EXPECT_THAT(small.out, HasSubstr("does not fit: rank 1 (stage 0, v100-sxm-32gb) needs"));
}

TEST_F(NodeGroupsCli, WhatIsKnownOfOneTypeAloneIsSaid) {
  const CliRun run = run_cli(Args{"simulate", "gpt2", "--layout", "mbs=1"} + on("h200-sxm-141gb"));
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("not modelled: the clock under load of h100-sxm-80gb"));
  EXPECT_THAT(run.out, HasSubstr("h200-sxm-141gb: SM clock"));
}

TEST_F(NodeGroupsCli, WhatIfTakesIt) {
  const CliRun run =
      run_cli(Args{"whatif", "gpt2", "--sweep", "global-batch=2,4", "--seq-length", "512",
                   "--cluster", cluster("a100-sxm-80gb"), "--format", "json"});
  ASSERT_EQ(run.status, 0) << run.err;
  const Json points = Json::parse(run.out, "whatif").at("points");
  ASSERT_EQ(points.size(), 2U);
  EXPECT_EQ(points.at(0).at("failure").text(), "");
  EXPECT_EQ(points.at(1).at("devices").integer(), 2);
}

TEST_F(NodeGroupsCli, Refusals) {
  const Args simulate = Args{"simulate", "gpt2", "--layout", "mbs=1"} + on("a100-sxm-80gb");
  expect_refused(simulate + Args{"--nodes", "4"}, {"--nodes", "the file's groups"});
  expect_refused(simulate + Args{"--profile", "v100-sxm-32gb"}, {"--profile", "v100-sxm-32gb"});
  EXPECT_EQ(run_cli(simulate + Args{"--profile", "a100-sxm-80gb,h100-sxm-80gb"}).status, 0);
  expect_refused(Args{"simulate", "gpt2", "--layout", "mbs=1"} + on("v100-sxm-32gb"),
                 {"v100-sxm-32gb has no bf16 products"});
}

}  // namespace
}  // namespace steploom
