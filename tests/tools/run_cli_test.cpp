// `steploom run` without a GPU: what it refuses, and a plan from file to loss on the reference
// kernels.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "sim/profile.h"
#include "tests/temp_folder.h"
#include "tests/tools/cli_helper.h"

namespace steploom {
namespace {

using testing::CliRun;
using ::testing::HasSubstr;
using testing::run_cli;

const std::string kCases = STEPLOOM_SOURCE_DIR "/profiler/closed_loop/";

std::string read_file(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

class RunVerbTest : public ::testing::Test {
 protected:
  std::string plan(const std::string& name, const std::string& model, int gpus,
                   const std::string& layout, const std::string& runtime = "steploom") {
    const std::string file = (folder_.path() / (name + ".json")).string();
    const CliRun made =
        run_cli({"simulate", kCases + "models/" + model + ".json", "--cluster",
                 kCases + "clusters/h200-" + std::to_string(gpus) + ".json", "--seq-length", "16",
                 "--global-batch", "4", "--runtime", runtime, "--layout", layout, "-o", file});
    EXPECT_EQ(made.status, 0) << made.err;
    return file;
  }
  std::filesystem::path at(const std::string& name) { return folder_.path() / name; }

  TempFolder folder_;
};

TEST_F(RunVerbTest, APlanRunsOnTheReferenceKernels) {
  const CliRun run =
      run_cli({"run", plan("two", "tiny-mixtral", 2, "tp=1,ep=2,zero=0"), "--backend", "reference",
               "--steps", "2", "--format", "csv", "-o", at("out").string()});
  ASSERT_EQ(run.status, 0) << run.err;
  // A model that knows nothing of 512 words loses ln 512 = 6.24 and a little.
  std::istringstream lines(run.out);
  std::string header, row;
  std::getline(lines, header);
  std::getline(lines, row);
  EXPECT_THAT(header, HasSubstr("first_loss,last_loss,prediction"));
  std::vector<std::string> cells;
  std::istringstream words(row);
  for (std::string cell; std::getline(words, cell, ',');) cells.push_back(cell);
  ASSERT_GE(cells.size(), 7U) << row;
  const std::size_t first = cells.size() - 3;
  EXPECT_NEAR(std::stod(cells[first]), 6.5, 0.4);
  EXPECT_LT(std::stod(cells[first + 1]), std::stod(cells[first]));
}

// The text on disk is the one whose digest was printed, before the first step.
TEST_F(RunVerbTest, ThePredictionIsWrittenAndHashed) {
  const CliRun run = run_cli({"run", plan("one", "tiny-llama", 1, "tp=1,zero=0"), "--backend",
                              "reference", "--steps", "1", "-o", at("out").string()});
  ASSERT_EQ(run.status, 0) << run.err;
  const std::string text = read_file(at("out") / "one.prediction.json");
  EXPECT_THAT(text, HasSubstr("\"step_ps\": "));
  EXPECT_THAT(run.err, HasSubstr("digest " + digest_of(text)));
  EXPECT_THAT(run.out, HasSubstr(digest_of(text)));
}

TEST_F(RunVerbTest, WhatCannotRunIsRefusedInOneMessage) {
  const std::string one = plan("one", "tiny-llama", 1, "tp=1,zero=0");
  const std::string two = plan("two", "tiny-llama", 2, "tp=2,zero=0");
  const std::string other = plan("other", "tiny-llama", 1, "tp=1,zero=0", "megatron-core");
  const auto refused = [](const std::vector<std::string>& arguments, const std::string& why) {
    const CliRun run = run_cli(arguments);
    EXPECT_EQ(run.status, 2) << run.out;
    EXPECT_THAT(run.err, HasSubstr(why));
    EXPECT_EQ(run.out, "");
  };
  refused({"run", other}, "/runtime: expected steploom");
  refused({"run", one, one}, "'one' twice");
  refused({"run", one, two}, "plans for 1 GPUs all, as 'one', found two for 2");
  refused({"run", one, "--backend", "cpu"}, "--backend: expected cuda or reference");
  refused({"run", one, "--graph", "--poison"}, "--graph");
  refused({"run", one, "--blocks", "0"}, "--blocks");
  refused({"run", at("none.json").string()}, "none.json");
}

TEST_F(RunVerbTest, TheReferenceBackendSaysThatAModelIsTooLargeForTheMachine) {
  if (sysconf(_SC_PHYS_PAGES) > (std::int64_t{128} << 30) / sysconf(_SC_PAGESIZE))
    GTEST_SKIP() << "the model fits in this machine's memory";
  const CliRun run = run_cli({"run", plan("large", "llama-7b-wide", 1, "tp=1,zero=0"), "--backend",
                              "reference", "-o", at("out").string()});
  EXPECT_EQ(run.status, 2) << run.out;
  EXPECT_THAT(run.err,
              HasSubstr("memory of all ranks in float64: expected at most this machine's"));
}

}  // namespace
}  // namespace steploom
