// The command line as a user meets it: real runs of the built program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "models/json_reader.h"
#include "tests/sanitized.h"
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
using testing::operator+;

const Args kOnOneNode{"--cluster",    "h100-sxm-80gb", "--nodes",        "1",
                      "--seq-length", "2048",          "--global-batch", "64"};

class Cli : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name)) << text;
  }
  std::string read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(path(name)).rdbuf();
    return text.str();
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& e : fs::directory_iterator(folder_))
      names.push_back(e.path().filename().string());
    return names;
  }
  // Run in the folder of the test, where no file may be left.
  void expect_refused(const Args& args, const std::vector<std::string>& parts,
                      int status = 2) const {
    testing::expect_refused(args, parts, folder_.string(), status);
  }
  Args plan(const Args& more) const {
    return Args{"plan"} + more + kOnOneNode + Args{"-o", path("p.json")};
  }

  const TempFolder own_;
  const fs::path folder_ = own_.path();
};

TEST_F(Cli, PlansSimulatesExplainsAndAnswersWhyNot) {
  const CliRun planned = run_cli(plan({"llama-3.1-8b"}));
  ASSERT_EQ(planned.status, 0) << planned.err;
  EXPECT_THAT(planned.out, HasSubstr("llama-3.1-8b · 8.03 B parameters · 8 × h100-sxm-80gb"));
  EXPECT_THAT(planned.out, HasSubstr("best of the whole space of"));
  ASSERT_TRUE(fs::exists(path("p.json")));

  const CliRun simulated = run_cli({"simulate", path("p.json"), "--trace", path("t.json")});
  ASSERT_EQ(simulated.status, 0) << simulated.err;
  EXPECT_THAT(simulated.out, HasSubstr("Memory of one rank of each kind"));
  const Json trace = Json::load(path("t.json"));
  EXPECT_GT(trace.at("traceEvents").size(), 1000U);

  const CliRun explained = run_cli({"explain", path("p.json"), "--knock-out", "--format", "json"});
  ASSERT_EQ(explained.status, 0) << explained.err;
  const Json e = Json::parse(explained.out, "explain");
  EXPECT_GE(e.at("knock_outs").size(), 5U);
  double path_share = 0;
  for (std::size_t i = 0; i < e.at("critical_path").size(); ++i)
    path_share += e.at("critical_path").at(i).at("of_step_share").number(0, 1);
  EXPECT_NEAR(path_share, 1, 1e-9);

  const CliRun refused = run_cli({"why-not", path("p.json"), "--layout", "tp=16"});
  EXPECT_EQ(refused.status, 2);  // 16 does not divide 8 devices
  const CliRun rule = run_cli({"why-not", path("p.json"), "--layout", "tp=8,sp=1,mbs=64"});
  EXPECT_EQ(rule.status, 0) << rule.err;
  const CliRun memory = run_cli({"why-not", path("p.json"), "--layout", "tp=1,zero=0,mbs=8"});
  EXPECT_EQ(memory.status, 0) << memory.err;
  EXPECT_THAT(memory.out, HasSubstr("out of memory"));
  const CliRun heads = run_cli({"why-not", path("p.json"), "--layout", "tp=1,ep=8"});
  EXPECT_THAT(heads.out, HasSubstr("refused by the rule \"ep needs experts\""));
}

// What is left out goes to standard error, from the config and from the plan made of it.
TEST_F(Cli, SaysWhatOfAMultimodalModelIsLeftOut) {
  write("config.json", R"({"model_type": "llama4", "vision_config": {"hidden_size": 1408},
    "text_config": {"model_type": "llama4_text", "hidden_size": 512, "intermediate_size": 512,
    "intermediate_size_mlp": 1024, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 2, "attention_chunk_size": 1024, "vocab_size": 32000,
    "max_position_embeddings": 8192}})");
  const std::string note = "vision_config is left out";
  const CliRun planned = run_cli(plan({path("config.json")}));
  ASSERT_EQ(planned.status, 0) << planned.err;
  EXPECT_THAT(planned.err, HasSubstr(note));
  EXPECT_EQ(planned.out.find(note), std::string::npos);
  const CliRun explained = run_cli({"explain", path("p.json")});
  ASSERT_EQ(explained.status, 0) << explained.err;
  EXPECT_THAT(explained.err, HasSubstr(note));
}

TEST_F(Cli, PrecisionAndOptimizerArePartOfThePlan) {
  const CliRun planned =
      run_cli(plan({"llama-3.1-8b", "--precision", "fp8", "--optimizer", "adamw-fused"}));
  ASSERT_EQ(planned.status, 0) << planned.err;
  EXPECT_THAT(planned.out, HasSubstr("fp8 · adamw-fused"));
  const CliRun simulated = run_cli({"simulate", path("p.json")});
  ASSERT_EQ(simulated.status, 0) << simulated.err;
  EXPECT_THAT(simulated.out, HasSubstr("fp8 · adamw-fused"));
  expect_refused(plan({"gpt2", "--precision", "fp9"}), {"--precision", "fp8"});
  expect_refused(plan({"gpt2", "--optimizer", "adamm"}), {"--optimizer", "did you mean 'adam'?"});
}

TEST_F(Cli, PlansAreTheSameForAnyNumberOfThreads) {
  const Args mixtral = {"mixtral-8x7b", "--cluster", "h100-sxm-80gb",  "--nodes", "2",
                        "--seq-length", "4096",      "--global-batch", "16"};
  const Args question = kOneIn == 1 ? mixtral : Args{"llama-3.1-8b"} + kOnOneNode;
  for (const char* threads : {"1", "2", "3"}) {
    const CliRun run = run_cli(Args{"plan"} + question +
                               Args{"--threads", threads, "-o", path(std::string("p") + threads)});
    ASSERT_EQ(run.status, 0) << run.err;
  }
  EXPECT_EQ(read("p1"), read("p2"));
  EXPECT_EQ(read("p1"), read("p3"));
}

TEST_F(Cli, FormatsCarryTheSameRows) {
  const CliRun json =
      run_cli(Args{"plan", "llama-3.1-8b", "--format", "json", "--top", "3"} + kOnOneNode);
  const CliRun csv =
      run_cli(Args{"plan", "llama-3.1-8b", "--format", "csv", "--top", "3"} + kOnOneNode);
  ASSERT_EQ(json.status, 0) << json.err;
  ASSERT_EQ(csv.status, 0) << csv.err;
  const Json rows = Json::parse(json.out, "plan").at("rows");
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(std::count(csv.out.begin(), csv.out.end(), '\n'), 4);
  EXPECT_THAT(csv.out, HasSubstr(std::to_string(rows.at(0).at("step_ps").integer(1))));
}

TEST_F(Cli, PlansFromAMegatronRun) {
  write("run.sh",
        "torchrun pretrain_gpt.py --num-layers 32 --hidden-size 4096 --ffn-hidden-size 14336 "
        "--num-attention-heads 32 --group-query-attention --num-query-groups 8 --swiglu "
        "--normalization RMSNorm --disable-bias-linear --untie-embeddings-and-output-weights "
        "--position-embedding-type rope --seq-length 2048 --vocab-size 128256 "
        "--tensor-model-parallel-size 8 --sequence-parallel --micro-batch-size 1 "
        "--global-batch-size 64 --bf16 --tp-comm-overlap --disable-tp-comm-bulk-wgrad "
        "--no-such-flag 3\n");
  const Args from{"plan", "--from", path("run.sh"), "--cluster", "h100-sxm-80gb", "--nodes", "1"};
  const CliRun table = run_cli(from);
  ASSERT_EQ(table.status, 0) << table.err;
  for (const char* part :
       {"The run as it is:", "overlap-grad-reduce", "tp_overlap",
        "not modelled: --disable-tp-comm-bulk-wgrad", "unknown flags: --no-such-flag 3"})
    EXPECT_THAT(table.out, HasSubstr(part));
  const CliRun json = run_cli(from + Args{"--format", "json"});
  const Json answer = Json::parse(json.out, "plan");
  const auto present = answer.at("present").at(std::size_t{0}).at("step_ps").integer(1);
  EXPECT_LT(answer.at("rows").at(std::size_t{0}).at("step_ps").integer(1), present);

  expect_refused(from + Args{"--seq-length", "4096"}, {"--from"});
  expect_refused({"plan", "--from", path("none.sh"), "--cluster", "h100-sxm-80gb", "--nodes", "1"},
                 {"none.sh"});
  expect_refused({"plan", "--cluster", "h100-sxm-80gb", "--nodes", "1"}, {"a model, or --from"});
  write("cut.yaml", "MODEL_ARGS:\n  --num-layers: [1\n");
  expect_refused({"plan", "--from", path("cut.yaml"), "--cluster", "h100-sxm-80gb", "--nodes", "1"},
                 {"cut.yaml"});

  const CliRun folder = run_cli({"plan", "--from", folder_.string(), "--format", "json"});
  ASSERT_EQ(folder.status, 0) << folder.err;
  EXPECT_EQ(Json::parse(folder.out, "folder").at("lossless").integer(), 1);
  EXPECT_EQ(Json::parse(folder.out, "folder").at("files").size(), 2U);
}

TEST_F(Cli, HelpStartsWithExamplesAndEndsWithExitStatuses) {
  for (const char* verb : {"plan", "simulate", "export", "explain", "why-not", "whatif", "profile",
                           "models", "clusters", "doctor"}) {
    const CliRun run = run_cli({verb, "--help"});
    EXPECT_EQ(run.status, 0);
    EXPECT_THAT(run.out, StartsWith("Examples:\n  steploom " + std::string(verb)));
    EXPECT_THAT(run.out, HasSubstr("Exit status: 0 done"));
  }
}

TEST_F(Cli, ListsWhatShips) {
  EXPECT_THAT(run_cli({"models"}).out, HasSubstr("mixtral-8x7b"));
  EXPECT_THAT(run_cli({"clusters"}).out, HasSubstr("h200-sxm-141gb"));
  EXPECT_THAT(run_cli({"doctor"}).out, HasSubstr("bf16 products of 0.1 ms and more"));
}

TEST_F(Cli, RefusesWrongNamesWithTheNearest) {
  expect_refused({"plam"}, {"'plam'", "did you mean 'plan'?"});
  expect_refused({"profile", "chekc", "x"}, {"did you mean 'check'?"});
  expect_refused(plan({"mixtral-8x7"}), {"mixtral-8x7b"});
  expect_refused(Args{"plan", "gpt2", "--cluster", "h100-sxm-80g", "--nodes", "1", "--seq-length",
                      "1024", "--global-batch", "8"},
                 {"h100-sxm-80gb"});
  expect_refused(plan({"gpt2", "--seq-lenght", "5"}), {"--seq-length"});
  expect_refused(plan({"gpt2", "--runtime", "megatron"}), {"megatron-core"});
  expect_refused(plan({"gpt2", "--format", "jsn"}), {"--format"});
  expect_refused(plan({"gpt2", "--precision", "int8"}), {"bf16"});
}

// Two GPUs of a node, over each fabric that was measured: the slower the fabric, the longer.
TEST_F(Cli, FabricsOfTwoGpus) {
  const auto on = [](const Args& more) {
    return Args{"gpt2",         "--cluster", "h200-sxm-141gb", "--nodes", "1",
                "--seq-length", "1024",      "--global-batch", "16"} +
           more;
  };
  const auto step = [&](const char* fabric) {
    const CliRun run = run_cli(Args{"simulate"} + on({"--gpus", "2", "--fabric", fabric, "--layout",
                                                      "mbs=8,ctas=8", "--format", "json"}));
    EXPECT_EQ(run.status, 0) << run.err;
    return Json::parse(run.out, "simulate").at("rows").at(0).at("step_ps").integer(1);
  };
  EXPECT_GT(step("host"), step("nvlink"));
  EXPECT_GT(step("sockets"), 2 * step("host"));

  const CliRun planned =
      run_cli(Args{"plan"} + on({"--gpus", "2", "--fabric", "host", "-o", path("p.json")}));
  ASSERT_EQ(planned.status, 0) << planned.err;
  EXPECT_THAT(planned.out, HasSubstr("2 × h200-sxm-141gb over host"));
  EXPECT_EQ(Json::load(path("p.json")).at("cluster").at("fabric").text(), "host");
  EXPECT_EQ(run_cli({"explain", path("p.json")}).status, 0);
  expect_refused({"simulate", path("p.json"), "--fabric", "nvlink"}, {"a plan alone"});

  expect_refused(Args{"plan"} + on({"--fabric", "hostt"}), {"'hostt'", "did you mean 'host'?"});
  expect_refused(Args{"plan"} + on({"--fabric", "host"}), {"3 GPUs of a node", "--gpus 2"});
  expect_refused(Args{"plan"} + on({"--gpus", "9"}), {"--gpus", "1 to 8"});
  expect_refused(Args{"simulate"} + on({"--layout", "ctas=8"}), {"ctas=8", "leave ctas out"});
  expect_refused(Args{"simulate"} + on({"--gpus", "2", "--layout", "ctas=3"}),
                 {"ctas is a power of two up to 32"});
  expect_refused(plan({"gpt2", "--fabric", "host"}), {"the fabric 'host'", "nvlink alone"});
}

TEST_F(Cli, RefusesAbsurdNumbers) {
  const auto with = [&](const char* nodes, const char* seq, const char* batch) {
    return Args{"plan",           "llama-3.1-8b", "--cluster",    "h100-sxm-80gb",
                "--nodes",        nodes,          "--seq-length", seq,
                "--global-batch", batch,          "-o",           path("p.json")};
  };
  expect_refused(with("0", "4096", "8"), {"--nodes", "0"});
  expect_refused(with("-3", "4096", "8"), {"-3"});
  expect_refused(with("99999999", "4096", "8"), {"99999999"});
  expect_refused(with("1", "0", "8"), {"0"});
  expect_refused(with("1", "9223372036854775808", "8"), {"9223372036854775808"});
  expect_refused(with("1", "4096", "-1"), {"-1"});
  expect_refused(with("1", "many", "8"), {"many"});
  expect_refused({"plan", "llama-3.1-8b", "--cluster", "h100-sxm-80gb", "--nodes", "1"},
                 {"--seq-length"});
}

TEST_F(Cli, RefusesBrokenConfigs) {
  const auto config = [&](const std::string& text) {
    write("config.json", text);
    return plan({path("config.json")});
  };
  expect_refused(config(R"({"model_type": "llama", "hidden_size": 40)"), {"config.json"});
  expect_refused(config(R"({"model_type": "llamma"})"), {"llamma", "llama"});
  expect_refused(config(R"({"model_type": "llama", "hidden_size": "wide"})"), {"/hidden_size"});
  expect_refused(config(R"({"model_type": "gpt2", "n_embd": -768, "n_layer": 12, "n_head": 12,
                            "n_positions": 1024, "vocab_size": 50257})"),
                 {"/n_embd", "-768"});
  expect_refused(config(R"({"model_type": "gpt2", "n_embd": 9223372036854775808, "n_layer": 12,
                            "n_head": 12, "n_positions": 1024, "vocab_size": 50257})"),
                 {"/n_embd"});
  expect_refused(plan({path("absent.json")}), {"absent.json"});
}

TEST_F(Cli, AModelThatCannotFitIsANegativeAnswer) {
  expect_refused(plan({"llama-3.1-405b"}), {"out of memory", "GiB", "more nodes"}, 1);
}

TEST_F(Cli, ALayoutThatDoesNotFitIsShownAndAnsweredWithOne) {
  const CliRun run =
      run_cli(Args{"simulate", "llama-3.1-70b", "--layout", "tp=8,sp=1"} + kOnOneNode);
  EXPECT_EQ(run.status, 1);
  EXPECT_THAT(run.out, HasSubstr("does not fit"));
}

TEST_F(Cli, RefusesImpossibleLayouts) {
  const auto layout = [&](const char* text) {
    return Args{"simulate", "llama-3.1-8b", "--layout", text} + kOnOneNode;
  };
  expect_refused(layout("tp=3"), {"tp"});
  expect_refused(layout("tp=2,sp=1,mbs=7"), {"divides global batch"});
  expect_refused(layout("tp=2,xp=1"), {"xp"});
  expect_refused(layout("tp=2,tp=4"), {"tp"});
  expect_refused(layout("pp=8,mbs=0"), {"mbs"});
}

// Weight gradients and gradient collectives of a layout on the command line.
TEST_F(Cli, LayoutsSayHowGradientsAreReduced) {
  const auto layout = [&](const char* model, const char* text) {
    return Args{"simulate",     model,       "--runtime",      "steploom", "--layout",
                text,           "--cluster", "h100-sxm-80gb",  "--nodes",  "1",
                "--seq-length", "1024",      "--global-batch", "64"};
  };
  const CliRun moved = run_cli(layout("gpt2-s-moe", "ep=8,dw=lancet,bucket=1000000,a2a_first=1"));
  EXPECT_EQ(moved.status, 0) << moved.err;
  EXPECT_THAT(moved.out, HasSubstr("dw=lancet bucket=1000000 a2a_first=1"));
  expect_refused(layout("gpt2-s-moe", "ep=8,dw=lancett"), {"'lancett'", "did you mean 'lancet'?"});
  expect_refused(layout("gpt2-s-moe", "ep=8,grad_micro=-1"), {"grad_micro", "an integer from 0"});
  expect_refused(layout("gpt2-s-moe", "ep=1,dw=solved"), {"dw needs an all-to-all", "ep > 1"});
  expect_refused(layout("gpt2", "a2a_first=1"), {"a2a_first needs an all-to-all"});
  expect_refused(layout("gpt2", "tp=4,pp=2,sp=1,bucket=100"),
                 {"gradient collectives need replicas"});
}

TEST_F(Cli, APlanOfAnotherProfileOrEngineIsRefusedUnlessRebased) {
  ASSERT_EQ(run_cli(plan({"gpt2-xl", "--seq-length", "1024"})).status, 2);  // given twice
  const CliRun made =
      run_cli({"plan", "llama-3.1-8b", "--cluster", "h100-sxm-80gb", "--nodes", "1", "--seq-length",
               "2048", "--global-batch", "64", "-o", path("p.json")});
  ASSERT_EQ(made.status, 0) << made.err;
  const std::string text = read("p.json");
  for (const std::string key : {"\"digest\": \"", "\"engine\": \""}) {
    std::string other = text;
    other.replace(other.find(key) + key.size(), 4, "beef");
    write("other.json", other);
    expect_refused({"simulate", path("other.json")}, {"other.json", "--rebase"});
    EXPECT_EQ(run_cli({"simulate", path("other.json"), "--rebase"}).status, 0);
  }
  write("cut.json", text.substr(0, text.size() / 2));
  expect_refused({"simulate", path("cut.json")}, {"cut.json"});
  std::string unknown = text;
  unknown.replace(unknown.find("\"runtime\""), 9, "\"runtine\"");
  write("unknown.json", unknown);
  expect_refused({"explain", path("unknown.json")}, {"unknown.json", "runtine"});
}

TEST_F(Cli, AnUnwritableOutputLeavesNothing) {
  expect_refused(Args{"plan", "llama-3.1-8b", "-o", path("no/such/folder/p.json")} + kOnOneNode,
                 {"no/such/folder"});
}

}  // namespace
}  // namespace steploom
