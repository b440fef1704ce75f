// steploom profile and its verbs, as far as they need no GPU: real runs of the built program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "models/embedded.h"
#include "models/json_reader.h"
#include "tests/temp_folder.h"
#include "tests/tools/cli_helper.h"

namespace steploom {
namespace {

using testing::CliRun;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::run_cli;
using ::testing::StartsWith;
namespace fs = std::filesystem;

using testing::Args;

const std::string kRaw = STEPLOOM_SOURCE_DIR "/profiler/data/h200-sxm-141gb/kernels.jsonl";

// Two products and a norm, as a session on a made-up card would leave them in a profile.
const std::string kPoints =
    R"("points": {"version": 1, "gpu": "NVIDIA H200", "driver": "580.1", "cuda_runtime": "13.0",
"cublas": "13.1.0", "sms": 132, "date": "2026-11-22T18:00:00Z", "method": "made up",
"kernels": [
{"kind":"matmul","phase":"forward","m":4096,"n":4096,"k":4096,"groups":1,"bytes":100663296,"provider":"cublaslt","median_us":220,"q1_us":219,"q3_us":221,"samples":20},
{"kind":"norm","phase":"forward","m":8192,"n":4096,"k":0,"groups":1,"bytes":134217728,"provider":"steploom-rms","median_us":35,"q1_us":34,"q3_us":36,"samples":20}
]},
)";

class ProfileVerb : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name)) << text;
    return path(name);
  }
  std::string read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(path(name)).rdbuf();
    return text.str();
  }
  static std::string built_in() {
    for (const EmbeddedFile& file : embedded_profiles())
      if (file.name == "h200-sxm-141gb") return std::string(file.text);
    return {};
  }
  static std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return at == std::string::npos ? text : text.replace(at, from.size(), to);
  }
  // The built-in profile with kPoints.
  std::string with_points(const std::string& name, const std::string& points = kPoints) const {
    return write(name,
                 replaced(built_in(), "\"attention_backward\"", points + "\"attention_backward\""));
  }
  // Run in the folder of the test, where no file may be left.
  void expect_refused(const Args& args, const std::vector<std::string>& parts,
                      int status = 2) const {
    testing::expect_refused(args, parts, folder_.string(), status);
  }

  const TempFolder own_;
  const fs::path folder_ = own_.path();
};

TEST_F(ProfileVerb, HelpBeginsWithExamples) {
  for (const Args& verb :
       {Args{"show"}, {"check"}, {"merge"}, {"import"}, {"draw"}, {"collectives"}}) {
    const CliRun run = run_cli({"profile", verb[0], "--help"});
    EXPECT_EQ(run.status, 0);
    EXPECT_THAT(run.out, StartsWith("Examples:\n  steploom profile " + verb[0]));
    EXPECT_THAT(run.out, HasSubstr("Exit status: 0 done"));
  }
}

TEST_F(ProfileVerb, WrongWordsNameTheNearest) {
  expect_refused({"profile", "shw", "h200-sxm-141gb"}, {"did you mean 'show'?"});
  expect_refused({"profile", "--bugdet", "3"}, {"did you mean '--budget'?"});
  expect_refused({"profile", "check", "x.json", "--profil", "y"}, {"did you mean '--profile'?"});
  expect_refused({"profile", "show", "h200-sxm-141g"}, {"did you mean 'h200-sxm-141gb'?"});
  expect_refused({"profile", "show", "h200-sxm-141gb", "--format", "jsn"}, {"--format"});
  expect_refused({"profile", "show"}, {"profile"});
  expect_refused({"profile", "import", "ncl-tests", "x", "--base", "h200-sxm-141gb", "-o", "y"},
                 {"did you mean 'nccl-tests'?"});
}

// On a machine with a GPU this would measure; there it is not run.
TEST_F(ProfileVerb, SaysWhyItCannotMeasureHere) {
  if (fs::exists("/dev/nvidiactl")) GTEST_SKIP() << "there is a GPU here";
  const CliRun run = run_cli({"profile", "-o", path("p.json")});
  EXPECT_EQ(run.status, 2);
  EXPECT_TRUE(run.err.find("built with CUDA") != std::string::npos ||
              run.err.find("a CUDA device and its driver") != std::string::npos)
      << run.err;
  EXPECT_FALSE(fs::exists(path("p.json")));
}

TEST_F(ProfileVerb, ShowsWhatAProfileHolds) {
  const CliRun run = run_cli({"profile", "show", with_points("p.json")});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("device              h200-sxm-141gb, 132 SMs, 989.4 TFLOP/s, 4800 "
                                 "GB/s"));
  EXPECT_THAT(run.out, HasSubstr("points measured on  NVIDIA H200, driver 580.1, CUDA 13.0, "
                                 "cuBLAS 13.1.0, 2026-11-22T18:00:00Z"));
  const CliRun json = run_cli({"profile", "show", path("p.json"), "--format", "json"});
  const Json kernels = Json::parse(json.out, "show").at("kernels");
  std::int64_t points = 0;
  for (std::size_t i = 0; i < kernels.size(); ++i) points += kernels.at(i).at("points").integer(0);
  EXPECT_EQ(points, 2);
  EXPECT_EQ(run_cli({"profile", "show", "h100-sxm-80gb", "--format", "csv"}).status, 0);
}

TEST_F(ProfileVerb, RefusesBrokenProfiles) {
  const std::string good = read(fs::path(with_points("good.json")).filename().string());
  const auto broken = [&](const char* from, const char* to) {
    return Args{"profile", "show", write("bad.json", replaced(good, from, to))};
  };
  write("bad.json", "");
  expect_refused({"profile", "show", write("bad.json", good.substr(0, good.size() / 2))},
                 {"bad.json"});
  expect_refused(broken("\"steploom_profile\": 1", "\"steploom_profile\": 0"), {"version 1"});
  expect_refused(broken("\"version\": 1", "\"version\": 7"), {"points of version 1"});
  expect_refused(broken("\"samples\"", "\"sample\""), {"samples"});
  expect_refused(broken("\"median_us\":220", "\"median_us\":-1"), {"/points/kernels/0/median_us"});
  expect_refused(broken("\"median_us\":220", "\"median_us\":1e300"), {"median_us"});
  expect_refused(broken("\"m\":4096", "\"m\":99999999999999999999"), {"/points/kernels/0/m"});
  expect_refused(broken("\"sms\": 132, \"date\"", "\"sms\": 108, \"date\""), {"sms", "108"});
}

// What a plan costs with points is theirs, and another device's profile is refused.
TEST_F(ProfileVerb, APlanTakesAProfileWithPoints) {
  const Args question{"plan", "llama-3.1-8b",   "--nodes", "1",        "--seq-length",
                      "2048", "--global-batch", "32",      "--format", "json"};
  const auto with = [&](const char* cluster, const std::string& profile) {
    Args args = question;
    args.insert(args.end(), {"--cluster", cluster, "--profile", profile});
    return args;
  };
  const CliRun run = run_cli(with("h200-sxm-141gb", with_points("p.json")));
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_GT(Json::parse(run.out, "plan").at("shapes_to_measure").integer(), 10);
  expect_refused(with("h100-sxm-80gb", path("p.json")), {"/device/name", "h100-sxm-80gb"});
}

// The residuals of the built-in profile on the file that it was fitted to.
TEST_F(ProfileVerb, ChecksAProfileAgainstRawPoints) {
  const CliRun run = run_cli({"profile", "check", kRaw});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("NVIDIA H200, driver 580.159.04, CUDA 13.0, cuBLAS 13.1.0"));
  EXPECT_THAT(run.out, HasSubstr("matmul forward "));
  EXPECT_THAT(run.out, HasSubstr("cublaslt-padded"));
  const CliRun json = run_cli({"profile", "check", kRaw, "--format", "json"});
  const Json classes = Json::parse(json.out, "check").at("classes");
  std::int64_t products = 0;
  for (std::size_t i = 0; i < classes.size(); ++i)
    if (classes.at(i).at("predicted_measured_1").text() == "all matmul")
      products = classes.at(i).at("points").integer();
  EXPECT_EQ(products, 576);
  expect_refused({"profile", "check", kRaw, "--profile", "h100-sxm-80gb"},
                 {"/gpu", "h100-sxm-80gb", "NVIDIA H200"});
  const std::string cut = write("cut.points.jsonl", [] {
    std::ifstream in(kRaw);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str().substr(0, 5000);
  }());
  expect_refused({"profile", "check", cut}, {"cut.points.jsonl", "cut short"});
}

TEST_F(ProfileVerb, ChecksAProfilesOwnPointsOneByOne) {
  std::string points;
  for (int i = 1; i <= 6; ++i)
    points += (i > 1 ? ",\n" : "") + std::string(R"({"kind":"norm","phase":"forward","m":)") +
              std::to_string(1024 * i) + R"(,"n":4096,"k":0,"groups":1,"bytes":)" +
              std::to_string(1024LL * i * 16384) + R"(,"provider":"steploom-rms","median_us":)" +
              std::to_string(2 + 4 * i) + R"(,"q1_us":1,"q3_us":99,"samples":20})";
  const std::size_t at = kPoints.find("{\"kind\"");
  with_points("p.json", kPoints.substr(0, at) + points + "]},\n");
  const CliRun run = run_cli({"profile", "check", path("p.json"), "--format", "csv"});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("\nnorm forward,6,"));
  expect_refused({"profile", "check", "h100-sxm-80gb"}, {"/points", "profile show"});
}

TEST_F(ProfileVerb, MergesTheLaterWinning) {
  with_points("a.json");
  with_points("b.json",
              replaced(replaced(kPoints, "2026-11-22T18", "2026-11-23T18"),
                       "\"median_us\":220,\"q1_us\":219", "\"median_us\":210,\"q1_us\":20"));
  const CliRun run =
      run_cli({"profile", "merge", path("b.json"), path("a.json"), "-o", path("c.json")});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(read("c.json"), HasSubstr("\"median_us\":210"));
  EXPECT_THAT(read("c.json"), Not(HasSubstr("\"median_us\":220")));
  EXPECT_EQ(run_cli({"profile", "show", path("c.json")}).status, 0);
  with_points("d.json", replaced(kPoints, "\"driver\": \"580.1\"", "\"driver\": \"590.2\""));
  expect_refused({"profile", "merge", path("a.json"), path("d.json"), "-o", path("e.json")},
                 {"/points/driver", "580.1", "590.2"});
  expect_refused({"profile", "merge", path("a.json"), "h100-sxm-80gb", "-o", path("e.json")},
                 {"/device/name"});
}

TEST_F(ProfileVerb, ListsWhatAPlanLacks) {
  // A layout given, not searched, so that the test is short.
  const CliRun planned =
      run_cli({"simulate", "mixtral-8x7b", "--cluster", "h200-sxm-141gb", "--nodes", "8",
               "--seq-length", "4096", "--global-batch", "256", "--layout",
               "tp=2,pp=1,ep=8,sp=1,mbs=2", "-o", path("plan.json")});
  ASSERT_EQ(planned.status, 0) << planned.err;
  const CliRun list = run_cli({"profile", "--for", path("plan.json"), "--list"});
  ASSERT_EQ(list.status, 0) << list.err;
  EXPECT_THAT(list.out, HasSubstr("kernels to measure on h200-sxm-141gb"));
  const CliRun json =
      run_cli({"profile", "--for", path("plan.json"), "--list", "--format", "json"});
  const Json all = Json::parse(json.out, "list");
  const Json kernels = all.at("kernels");
  ASSERT_GT(kernels.size(), 20U);
  EXPECT_EQ(all.at("kernels_to_measure").integer(), static_cast<std::int64_t>(kernels.size()));
  // The experts' products take the most time. What is listed can be asked for by --asks.
  EXPECT_THAT(kernels.at(0).at("ask").text(), HasSubstr("grouped_matmul"));
  std::string asks;
  for (std::size_t i = 0; i < kernels.size(); ++i) asks += kernels.at(i).at("ask").text() + "\n";
  write("all.asks", asks);
  const CliRun again = run_cli({"profile", "--asks", path("all.asks"), "--list", "--base",
                                "h200-sxm-141gb", "--format", "csv"});
  EXPECT_EQ(std::count(again.out.begin(), again.out.end(), '\n'),
            static_cast<std::ptrdiff_t>(kernels.size()) + 1);
  EXPECT_GT(all.at("collectives").size(), 0U);
  expect_refused({"profile", "--for", path("plan.json"), "--list", "--base", "h100-sxm-80gb"},
                 {"plan.json", "h200-sxm-141gb"});
  expect_refused({"profile", "--for", path("plan.json"), "--asks", "x"}, {"both"});
}

TEST_F(ProfileVerb, APlanSaysHowManyShapesWouldMakeItSurer) {
  const CliRun planned =
      run_cli({"plan", "gpt2", "--cluster", "h100-sxm-80gb", "--nodes", "1", "--gpus", "1",
               "--seq-length", "512", "--global-batch", "8", "-o", path("plan.json")});
  ASSERT_EQ(planned.status, 0) << planned.err;
  const CliRun list =
      run_cli({"profile", "--for", path("plan.json"), "--list", "--format", "json"});
  const std::size_t kernels = Json::parse(list.out, "list").at("kernels").size();
  ASSERT_GT(kernels, 10U);
  EXPECT_THAT(planned.out, HasSubstr("to be surer, measure " + std::to_string(kernels) +
                                     " shapes: steploom profile --for " + path("plan.json")));
}

TEST_F(ProfileVerb, ListsKernelsThatAreNamed) {
  const std::string asks = write("two.asks",
                                 "matmul forward 8192 6144 4096 1 even cublaslt  # Mixtral's qkv\n"
                                 "norm forward 8192 4096 0 1 even steploom-rms\n");
  const CliRun list = run_cli({"profile", "--asks", asks, "--list", "--base", "h100-sxm-80gb"});
  EXPECT_EQ(list.status, 0) << list.err;
  EXPECT_EQ(list.out,
            "2 kernels to measure on h100-sxm-80gb, about 0.0 minutes\n"
            "ask                                            predicted  of step\n"
            "matmul forward 8192 6144 4096 1 even cublaslt     525 us        -\n"
            "norm forward 8192 4096 0 1 even steploom-rms     53.1 us        -\n");
  expect_refused({"profile", "--asks", write("bad.asks", "norm forward 8 8 0 1 even steploom-rm\n"),
                  "--list", "--base", "h100-sxm-80gb"},
                 {"bad.asks", "line 1", "steploom-rms"});
}

TEST_F(ProfileVerb, DrawsTheSameTwice) {
  const Args draw{"profile", "draw", "40", "--seed", "7", "-o", path("drawn")};
  ASSERT_EQ(run_cli(draw).status, 0);
  const std::string asks = read("drawn.asks"), collectives = read("drawn.collectives");
  EXPECT_THAT(asks, StartsWith("# steploom profile draw 40 --seed 7\n"));
  EXPECT_EQ(std::count(collectives.begin(), collectives.end(), '\n'), 1 + 40 / 5);
  ASSERT_EQ(run_cli(draw).status, 0);
  EXPECT_EQ(read("drawn.asks"), asks);
  const CliRun list =
      run_cli({"profile", "--asks", path("drawn.asks"), "--list", "--base", "h200-sxm-141gb"});
  EXPECT_EQ(list.status, 0) << list.err;
  expect_refused({"profile", "draw", "0", "--seed", "1", "-o", path("x")}, {"0"});
  expect_refused({"profile", "draw", "40", "-o", path("x")}, {"--seed"});
}

// Kernels and collectives by class, and how much of a draw they are.
TEST_F(ProfileVerb, ChecksKernelsAndCollectivesTogether) {
  const std::string data = STEPLOOM_SOURCE_DIR "/profiler/data/h200-sxm-141gb/";
  const Args check{"profile", "check", data + "attention.jsonl", "--collectives",
                   data + "nvlink.jsonl"};
  const CliRun run = run_cli(check);
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("\nattention "));
  EXPECT_THAT(run.out, HasSubstr("\ncollectives "));
  EXPECT_THAT(run.out, HasSubstr("The worst points:"));
  EXPECT_THAT(run.out, HasSubstr("nvlink.jsonl: 2 ranks, nvlink, NCCL 2.28.3"));
  Args draw = check;
  draw.insert(draw.end(), {"--draw", "20", "--seed", "1"});
  // 3 grouped products are asked of two providers; none of it was measured there.
  EXPECT_THAT(run_cli(draw).out, HasSubstr("draw of 20 points, seed 1: 0 of 23 measured"));
  draw.resize(draw.size() - 2);
  expect_refused(draw, {"--seed"});
  expect_refused({"profile", "check", "h200-sxm-141gb", "--collectives", data + "nvlink.jsonl"},
                 {"--collectives", "raw points"});
  expect_refused({"profile", "check", data + "attention.jsonl", "--collectives", kRaw},
                 {"kernels.jsonl", "line 1"});
}

TEST_F(ProfileVerb, OnlyOneKindAndNotPyTorchs) {
  const CliRun list = run_cli(
      {"profile", "--list", "--only", "attention", "--base", "h200-sxm-141gb", "--format", "csv"});
  EXPECT_THAT(list.out, HasSubstr("\nattention data_grad "));
  EXPECT_THAT(list.out, Not(HasSubstr("matmul")));
  expect_refused({"profile", "--list", "--only", "atention", "--base", "h200-sxm-141gb"},
                 {"--only", "did you mean 'attention'?"});
  expect_refused({"profile", "--list", "--only", "all_reduce", "--base", "h200-sxm-141gb"},
                 {"--only", "all_reduce"});
  const std::string torch =
      write("torch.asks", "norm forward 8192 4096 0 1 even torch-eager-rms\n");
  expect_refused({"profile", "--asks", torch, "--list", "--base", "h200-sxm-141gb"},
                 {"torch.asks", "PyTorch", "profiler/torch_eager.py"});
}

TEST_F(ProfileVerb, RefusesCollectivesThatMeanNothing) {
  expect_refused({"profile", "--collectives-only", "-o", path("p.json")}, {"--fabric"});
  const auto with = [&](const char* fabric, const char* flag, const char* value) {
    return Args{"profile", "collectives", "-o", path("c"), "--fabric", fabric, flag, value};
  };
  expect_refused(with("nvlnk", "--every", "1"), {"--fabric", "did you mean 'nvlink'?"});
  expect_refused(with("nvlink", "--parts", "swep"), {"--parts", "did you mean 'sweep'?"});
  expect_refused(with("nvlink", "--every", "0"), {"--every"});
}

// The order of the whole catalogue is the same each time.
TEST_F(ProfileVerb, ListsTheCatalogueInTheOrderOfGain) {
  const Args args{"profile", "--list", "--base", "h100-sxm-80gb", "--format", "csv"};
  const CliRun list = run_cli(args);
  ASSERT_EQ(list.status, 0) << list.err;
  EXPECT_GT(std::count(list.out.begin(), list.out.end(), '\n'), 1000);
  EXPECT_EQ(list.out, run_cli(args).out);
  expect_refused({"profile", "--list"}, {"--base"});
}

const std::string kHead =
    "# nccl-tests version 2.19.6 nccl-headers=22907 nccl-library=22907\n"
    "# Collective test starting: all_reduce_perf\n"
    "#  Rank  0 Group  0 Pid   6899 on      node1 device  0 [0000:04:00] NVIDIA H200\n"
    "#  Rank  1 Group  0 Pid   7001 on      node2 device  0 [0000:04:00] NVIDIA H200\n"
    "#       size         count      type   redop    root     time   algbw   busbw  #wrong     "
    "time "
    "  algbw   busbw  #wrong \n";
const std::string kRows =
    "1024 256 float sum -1 20.00 0.05 0.07 0 19.25 0.05 0.08 0\n"
    "2048 512 float sum -1 30.00 0.02 0.03 0 21.00 0.10 0.15 0\n"
    "4096 1024 float sum -1 28.00 0.02 0.03 0 22.00 0.10 0.15 0\n";
const std::string kFoot = "# Out of bounds values : 0 OK\n# Avg bus bandwidth    : 0.05 \n";

TEST_F(ProfileVerb, ImportsWhatNcclTestsPrints) {
  write("all_reduce.txt", kHead + kRows + kFoot);
  write("alltoall.txt", replaced(kHead, "all_reduce", "alltoall") + kRows + kFoot);
  const CliRun run =
      run_cli({"profile", "import", "nccl-tests", path("all_reduce.txt"), path("alltoall.txt"),
               "--base", "h200-sxm-141gb", "-o", path("c.json"), "--format", "csv"});
  ASSERT_EQ(run.status, 0) << run.err;
  // 30 and 28 are joined at √(30·28) = 28.98.
  EXPECT_THAT(run.out, HasSubstr("\nall_reduce,2,2,3,1024,4096,2,0.035"));
  EXPECT_THAT(run.out, HasSubstr("\nall_to_all,2,2,3,1024,4096,2,0.035"));
  const CliRun shown = run_cli({"profile", "show", path("c.json")});
  ASSERT_EQ(shown.status, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr("nccl-tests 2.19.6, NCCL 2.29.7, NVIDIA H200, float sum, out of "
                                   "place; all_reduce.txt"));
  // In place nothing falls; the second time the curve is there.
  const CliRun in_place = run_cli({"profile", "import", "nccl-tests", path("all_reduce.txt"),
                                   "--in-place", "--base", path("c.json"), "-o", "d.json"},
                                  folder_.string());
  EXPECT_EQ(in_place.out,
            "1 curve(s) into d.json\n"
            "collective  ranks  nodes  sizes   from     to  made to rise  most moved  was there\n"
            "all_reduce      2      2      3  1 KiB  4 KiB             0        0.0%  yes\n");
}

TEST_F(ProfileVerb, RefusesWhatIsNoOutputOfNcclTests) {
  const auto import = [&](const std::string& text, const char* base = "h200-sxm-141gb") {
    return Args{"profile", "import", "nccl-tests", write("x.txt", text),
                "--base",  base,     "-o",         path("o.json")};
  };
  expect_refused(import(kHead + kRows), {"x.txt", "line 8", "cut short"});
  expect_refused(import("hello\n"), {"x.txt", "line 1", "'hello'"});
  expect_refused(import(kHead + kRows + kFoot, "h100-sxm-80gb"), {"NVIDIA H200", "h100-sxm-80gb"});
  expect_refused(import(kHead + kRows + kFoot + kHead + kRows + kFoot), {"a second one"});
  expect_refused({"profile", "import", "nccl-tests", path("absent"), "--base", "h200-sxm-141gb",
                  "-o", path("o.json")},
                 {"absent", "no such file"});
}

}  // namespace
}  // namespace steploom
