// `steploom compare` as a user meets it: real runs of the built program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "models/json_reader.h"
#include "tests/temp_folder.h"
#include "tests/tools/cli_helper.h"

namespace steploom {
namespace {

using testing::CliRun;
using ::testing::HasSubstr;
using testing::run_cli;

class CompareCli : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  // A small model's step, every rank for itself.
  CliRun simulate(const std::string& batch, const std::string& timeline,
                  const std::string& unfold = "") const {
    std::vector<std::string> args{"simulate",      "gpt2",        "--cluster",
                                  "h100-sxm-80gb", "--nodes",     "1",
                                  "--seq-length",  "256",         "--global-batch",
                                  batch,           "--layout",    "tp=2,pp=2,mbs=1,sp=1",
                                  "--timeline",    path(timeline)};
    if (!unfold.empty()) args.push_back(unfold);
    return run_cli(args);
  }
  void expect_refused(const std::string& a, const std::string& b, const std::string& part) const {
    const CliRun run = run_cli({"compare", path(a), path(b), "--trace", path("refused.json")});
    EXPECT_EQ(run.status, 2);
    EXPECT_EQ(run.out, "");
    EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
    EXPECT_THAT(run.err, HasSubstr(part));
    EXPECT_FALSE(std::filesystem::exists(path("refused.json")));
  }
  const TempFolder folder_;
};

TEST_F(CompareCli, TheSamePlanTwiceIsTheSame) {
  ASSERT_EQ(simulate("8", "a.timeline.json").status, 0);
  ASSERT_EQ(simulate("8", "b.timeline.json.gz").status, 0);
  const CliRun run =
      run_cli({"compare", path("a.timeline.json"), path("b.timeline.json.gz"), "--format", "json"});
  ASSERT_EQ(run.status, 0) << run.err;
  const Json report = Json::parse(run.out, "compare");
  EXPECT_FALSE(report.has("largest"));
  for (const char* table : {"step", "operators", "streams", "idle"})
    for (std::size_t i = 0; i < report.at(table).size(); ++i)
      EXPECT_EQ(report.at(table).at(i).at("difference_ps").integer(), 0) << table;
  for (std::size_t i = 0; i < report.at("causes").size(); ++i)
    EXPECT_EQ(report.at("causes").at(i).at("mean_ps").integer(), 0);
  EXPECT_THAT(run.out, HasSubstr("the same in every operator"));
}

TEST_F(CompareCli, OneOperatorATenthLongerIsNamed) {
  ASSERT_EQ(simulate("8", "a.timeline.json").status, 0);
  // The last operator to end: a tenth longer, and the step with it.
  std::ostringstream text;
  text << std::ifstream(path("a.timeline.json")).rdbuf();
  std::string edited = text.str();
  const Json a = Json::parse(edited, "a");
  const std::int64_t step = a.at("makespan_ps").integer();
  std::size_t last = 0;
  while (a.at("events").at(last).at(3).integer() != step) ++last;
  const Json row = a.at("events").at(last);
  ASSERT_EQ(row.at(5).integer(), -1) << "a kernel ends the step";
  const std::int64_t start = row.at(2).integer(), more = (step - start) / 10;
  ASSERT_GT(more, 0);
  const auto replace = [&](const std::string& from, const std::string& to) {
    const std::size_t at = edited.find(from);
    ASSERT_NE(at, edited.npos) << from;
    edited.replace(at, from.size(), to);
  };
  const auto span = [&](std::int64_t end) {
    return std::to_string(start) + ", " + std::to_string(end) + ", ";
  };
  replace("\"makespan_ps\": " + std::to_string(step),
          "\"makespan_ps\": " + std::to_string(step + more));
  replace(span(step), span(step + more));
  std::ofstream(path("b.timeline.json")) << edited;
  const CliRun run = run_cli({"compare", path("a.timeline.json"), path("b.timeline.json"),
                              "--format", "json", "--trace", path("both.json")});
  ASSERT_EQ(run.status, 0) << run.err;
  const Json report = Json::parse(run.out, "compare");
  ASSERT_EQ(report.at("largest").size(), 1U) << run.out;
  const Json largest = report.at("largest").at(0);
  EXPECT_EQ(largest.at("cause").text(), "kernel");
  EXPECT_EQ(largest.at("difference_ps").integer(), more);
  EXPECT_EQ(largest.at("on_chain").text(), "AB");
  EXPECT_EQ(report.at("causes").at(0).at("mean_ps").integer(), more);

  const Json both = Json::load(path("both.json")).at("traceEvents");
  std::set<std::string> processes;
  for (std::size_t i = 0; i < both.size(); ++i)
    if (both.at(i).at("name").text() == "process_name")
      processes.insert(both.at(i).at("args").at("name").text().substr(0, 1));
  EXPECT_EQ(processes, (std::set<std::string>{"A", "B"}));
}

TEST_F(CompareCli, OtherProgramsAreComparedByTotals) {
  ASSERT_EQ(simulate("8", "a.timeline.json").status, 0);
  ASSERT_EQ(simulate("16", "b.timeline.json").status, 0);
  const CliRun run = run_cli({"compare", path("a.timeline.json"), path("b.timeline.json")});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("not of the same Program, so compared by totals only"));
  ASSERT_EQ(simulate("8", "c.timeline.json", "--unfold").status, 0);
  const CliRun unfolded = run_cli({"compare", path("a.timeline.json"), path("c.timeline.json")});
  ASSERT_EQ(unfolded.status, 0) << unfolded.err;
  EXPECT_THAT(unfolded.out, HasSubstr("simulate it with --unfold"));
}

TEST_F(CompareCli, WrongInputIsRefusedInOneLine) {
  ASSERT_EQ(simulate("8", "a.timeline.json").status, 0);
  const auto write = [&](const char* name, const std::string& text) {
    std::ofstream(path(name)) << text;
  };
  write("plan.json", "{\"steploom_plan\": 1}");
  write("other.json", "{\"steploom_timeline\": 99}");
  write("cut.json", "{\"steploom_timeline\": 1, ");
  expect_refused("a.timeline.json", "plan.json", "found a plan");
  expect_refused("other.json", "a.timeline.json", "version 1");
  expect_refused("a.timeline.json", "cut.json", "cut.json");
  expect_refused("none.json", "a.timeline.json", "no such file");
}

TEST_F(CompareCli, HelpStartsWithExamples) {
  const CliRun run = run_cli({"compare", "--help"});
  EXPECT_EQ(run.status, 0);
  EXPECT_THAT(run.out, ::testing::StartsWith("Examples:\n  steploom compare"));
}

}  // namespace
}  // namespace steploom
