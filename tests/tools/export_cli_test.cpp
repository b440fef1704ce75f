// steploom export: what it writes, what it refuses, and that nothing is half-written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "models/json_reader.h"
#include "tests/temp_folder.h"
#include "tests/tools/cli_helper.h"

namespace steploom {
namespace {

namespace fs = std::filesystem;
using testing::Args;
using testing::CliRun;
using testing::expect_refused;
using ::testing::HasSubstr;
using testing::run_cli;
using testing::operator+;

const Args kGpt2{"gpt2", "--cluster",    "h100-sxm-80gb", "--nodes",        "1", "--gpus",
                 "4",    "--seq-length", "512",           "--global-batch", "8"};
const Args kMoe{"gpt2-s-moe",   "--cluster", "h100-sxm-80gb",  "--nodes", "1",
                "--seq-length", "512",       "--global-batch", "16"};

std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in) << file;
  return {std::istreambuf_iterator<char>(in), {}};
}

class Export : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
  CliRun exported(const Args& what, const std::string& to, const Args& more = {}) const {
    return run_cli(Args{"export"} + what + Args{"--to", to, "-o", path("out")} + more);
  }
  const TempFolder folder_;
};

TEST_F(Export, MegatronOfAPlanIsReadAgainAsTheSameQuestion) {
  const std::string plan = path("plan.json");
  const std::string layout = "tp=1,pp=2,ep=4,etp=1,mbs=1,recompute=selective";
  const CliRun first =
      run_cli(Args{"simulate"} + kMoe + Args{"--layout", layout, "-o", plan, "--format", "json"});
  ASSERT_EQ(first.status, 0) << first.err;
  const Json simulated = Json::parse(first.out, "simulate").at("rows").at(std::size_t{0});
  const CliRun run = exported({plan}, "megatron");
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("gpt2-s-moe.sh"));
  EXPECT_THAT(run.err, HasSubstr("not expressed: balanced routing"));
  EXPECT_THAT(text_of(path("out/not-expressed.txt")), HasSubstr("balanced routing"));
  const std::string script = text_of(path("out/gpt2-s-moe.sh"));
  EXPECT_THAT(script, HasSubstr("predicted: "));
  EXPECT_THAT(script, HasSubstr("export CUDA_DEVICE_MAX_CONNECTIONS=1\n"));
  EXPECT_THAT(script, HasSubstr(" \\\n  --recompute-modules core_attn"));
  // As `plan --from` reads it: the folder is read, and every file of it counts.
  const CliRun read = run_cli({"plan", "--from", path("out"), "--format", "json"});
  EXPECT_EQ(read.status, 0) << read.err;
  for (const char* file : {"out/gpt2-s-moe.sh", "out/gpt2-s-moe.yaml"}) {
    const CliRun again =
        run_cli({"plan", "--from", path(file), "--cluster", "h100-sxm-80gb", "--nodes", "1",
                 "--top", "1", "--format", "json", "-o", path("again.json")});
    ASSERT_EQ(again.status, 0) << again.err;
    // To the picosecond: nothing of the question is lost on the way.
    const Json present = Json::parse(again.out, file).at("present").at(std::size_t{0});
    EXPECT_EQ(present.at("layout").text(), simulated.at("layout").text());
    EXPECT_EQ(present.at("step_ps").integer(), simulated.at("step_ps").integer());
    EXPECT_EQ(present.at("memory_bytes").integer(), simulated.at("memory_bytes").integer());
    const Json model = Json::load(path("again.json")).at("model");
    const Json before = Json::load(plan).at("model");
    for (const char* key : {"hidden", "layers", "vocab", "max_positions"})
      EXPECT_EQ(model.at(key).integer(), before.at(key).integer()) << key;
    EXPECT_EQ(model.at("name").text(), "gpt2-s-moe");
    EXPECT_EQ(model.at("layer_kinds").text(), before.at("layer_kinds").text());
  }
}

const Args kLlama{"llama-2-7b",
                  "--cluster",
                  "h200-sxm-141gb",
                  "--nodes",
                  "1",
                  "--gpus",
                  "2",
                  "--runtime",
                  "torch-eager",
                  "--optimizer",
                  "adamw-fused",
                  "--seq-length",
                  "512",
                  "--global-batch",
                  "4"};

// The schedule file to the byte, and the driver that is tested on GPUs, as it is.
TEST_F(Export, TorchScheduleIsThisOne) {
  const CliRun run =
      exported(kLlama + Args{"--layout", "pp=2,zero=0,mbs=1,schedule=zb-h1"}, "torch");
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(text_of(path("out/schedule.csv")),
            "0F0,0F1,0I0,0W0,0F2,0I1,0W1,0F3,0I2,0W2,0I3,0W3\n"
            "1F0,1I0,1F1,1I1,1W0,1F2,1I2,1W1,1F3,1I3,1W2,1W3\n");
  for (const char* file : {"torch_pipeline.py", "torch_model.py"})
    EXPECT_EQ(text_of(path(std::string("out/") + file)),
              text_of(fs::path(STEPLOOM_SOURCE_DIR) / "profiler" / file));
  const Json job = Json::load(path("out/job.json"));
  EXPECT_EQ(job.at("ranks").integer(), 2);
  EXPECT_EQ(job.at("format").text(), "compute_only");
  EXPECT_EQ(job.at("micro_batches").integer(), 4);
  EXPECT_EQ(job.at("model").at("ffn").integer(), 11008);
  EXPECT_EQ(job.at("stages").at(std::size_t{1}).at("first_layer").integer(), 16);
  EXPECT_EQ(text_of(path("out/not-expressed.txt")), "Everything in the plan is expressed.\n");
}

TEST_F(Export, TorchMessagesAreWrittenForAVersionThatReadsThem) {
  const CliRun run = exported(kLlama + Args{"--layout", "pp=2,zero=0,mbs=2,schedule=gpipe"},
                              "torch", {"--torch-version", "2.11"});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(text_of(path("out/schedule.csv")),
            "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1,0REDUCE_GRAD\n"
            "1RECV_F0,1F0,1RECV_F1,1F1,1B0,1SEND_B0,1B1,1SEND_B1,1REDUCE_GRAD\n");
  EXPECT_EQ(Json::load(path("out/job.json")).at("format").text(), "compute_comms");
}

TEST_F(Export, TorchRefusesWhatTheDriverCannotRun) {
  const auto refused = [&](const Args& what, const Args& layout, const char* why,
                           const Args& more = {}) {
    const CliRun run = exported(what + layout, "torch", more);
    EXPECT_EQ(run.status, 2);
    EXPECT_THAT(run.err, HasSubstr(why));
    EXPECT_FALSE(fs::exists(path("out")));
  };
  const Args pp2{"--layout", "pp=2,zero=0,mbs=1"};
  refused(kLlama, pp2, "2.10, 2.11 or later", {"--torch-version", "2.9"});
  refused(kLlama, pp2, "2.10, 2.11 or later", {"--torch-version", "2.x"});
  refused(kLlama, {"--layout", "pp=1,zero=0,mbs=1"}, "pipeline ranks alone");
  refused(kMoe, {"--gpus", "4", "--layout", "pp=4,ep=1,zero=0,mbs=1"}, "llama-like or GPT-2-like");
  const CliRun run =
      exported(kGpt2 + Args{"--layout", "pp=4,zero=0,mbs=1"}, "torch", {"--torch-version", "2.12"});
  ASSERT_EQ(run.status, 0) << run.err;
  for (const char* item : {"runtime megatron-core", "tied embeddings", "optimizer adam",
                           "PyTorch 2.12: the file is written as 2.11 reads it"})
    EXPECT_THAT(run.err, HasSubstr(item));
}

TEST_F(Export, SlurmScriptIsThisOne) {
  const CliRun run = exported(kGpt2 + Args{"--layout", "tp=2,pp=2,sp=1,mbs=2"}, "slurm");
  ASSERT_EQ(run.status, 0) << run.err;
  const std::string script = text_of(path("out/gpt2.sbatch"));
  const auto from = script.find("MEGATRON_PATH=");
  ASSERT_NE(from, script.npos);
  EXPECT_THAT(script, ::testing::StartsWith(R"(#!/bin/bash
#SBATCH --job-name=gpt2
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --exclusive
#SBATCH --time=01:00:00
#SBATCH --output=%x-%j.out
)"));
  EXPECT_EQ(script.substr(from), R"(MEGATRON_PATH=${MEGATRON_PATH:-/opt/megatron-lm}
export CUDA_DEVICE_MAX_CONNECTIONS=1

head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n1)
${DRY_RUN:+echo} srun --kill-on-bad-exit=1 torchrun --nnodes 1 --nproc-per-node 4 \
  --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$head_node:29500" \
  "$MEGATRON_PATH/pretrain_gpt.py" \
  --num-layers 12 \
  --hidden-size 768 \
  --ffn-hidden-size 3072 \
  --num-attention-heads 12 \
  --kv-channels 64 \
  --normalization LayerNorm \
  --position-embedding-type learned_absolute \
  --max-position-embeddings 1024 \
  --tokenizer-type NullTokenizer \
  --vocab-size 50257 \
  --padded-vocab-size 50432 \
  --attention-dropout 0.0 \
  --hidden-dropout 0.0 \
  --seq-length 512 \
  --micro-batch-size 2 \
  --global-batch-size 8 \
  --bf16 \
  --optimizer adam \
  --tensor-model-parallel-size 2 \
  --pipeline-model-parallel-size 2 \
  --sequence-parallel \
  --use-distributed-optimizer \
  --overlap-grad-reduce \
  --overlap-param-gather \
  --mock-data \
  --train-iters 50 \
  --lr 1e-4 \
  --eval-iters 0 \
  --log-interval 1 \
  --log-throughput
)");
  EXPECT_EQ(text_of(path("out/not-expressed.txt")), "Everything in the plan is expressed.\n");
  EXPECT_EQ(run_cli({"plan", "--from", path("out/gpt2.sbatch"), "--cluster", "h100-sxm-80gb",
                     "--nodes", "1", "--gpus", "4", "--top", "1"})
                .status,
            0);
}

TEST_F(Export, ChakraWritesAFileARank) {
  const CliRun run = exported(kMoe + Args{"--layout", "tp=1,pp=2,ep=4,etp=1,mbs=1"}, "chakra",
                              {"--format", "json"});
  ASSERT_EQ(run.status, 0) << run.err;
  const Json files = Json::parse(run.out, "export").at("files");
  ASSERT_EQ(files.size(), 9U);
  for (std::size_t rank = 0; rank < 8; ++rank)
    EXPECT_GT(fs::file_size(path("out/gpt2-s-moe." + std::to_string(rank) + ".et")), 1000U);
  EXPECT_TRUE(Json::load(path("out/gpt2-s-moe.groups.json")).is_object());
  EXPECT_THAT(run.err + run.out, HasSubstr("--workload-configuration=gpt2-s-moe"));
}

TEST_F(Export, TracesFoldUnlessAsked) {
  const Args what = kMoe + Args{"--layout", "tp=1,pp=1,ep=4,etp=1,mbs=2"};
  for (const char* to : {"chrome", "perfetto"}) {
    const std::string file =
        std::string("out/gpt2-s-moe.") + (std::string(to) == "chrome" ? "trace.json" : "pftrace");
    ASSERT_EQ(exported(what, to).status, 0);
    const auto folded = fs::file_size(path(file));
    ASSERT_EQ(exported(what, to, {"--unfold"}).status, 0);
    EXPECT_GT(fs::file_size(path(file)), 4 * folded);
  }
  EXPECT_EQ(Json::load(path("out/gpt2-s-moe.trace.json")).at("deviceProperties").size(), 8U);
}

TEST_F(Export, DotDrawsAStagesPasses) {
  const Args what = kGpt2 + Args{"--layout", "tp=2,pp=2,sp=1,mbs=2"};
  ASSERT_EQ(exported(what, "dot", {"--stage", "1", "--block", "F", "--block", "B"}).status, 0);
  const std::string dot = text_of(path("out/gpt2.dot"));
  EXPECT_THAT(dot, ::testing::StartsWith("digraph \"gpt2 tp=2,pp=2"));
  EXPECT_THAT(dot, HasSubstr("subgraph cluster_1 {"));
  EXPECT_THAT(dot, HasSubstr("layer 11 · "));
  EXPECT_THAT(dot, HasSubstr(" -> "));
  expect_refused(Args{"export"} + what + Args{"--to", "dot", "--block", "G"},
                 {"--block", "'G'", "stage"}, path(""));
  expect_refused(Args{"export"} + what + Args{"--to", "dot", "--stage", "2"}, {"--stage", "0 to 1"},
                 path(""));
}

TEST_F(Export, WhatIsRefusedLeavesNothing) {
  const Args gpt2 = Args{"export"} + kGpt2 + Args{"--layout", "tp=2,sp=1"};
  expect_refused(gpt2 + Args{"--to", "megatrn"}, {"--to", "'megatrn'", "did you mean 'megatron'?"},
                 path(""));
  expect_refused(gpt2, {"--to"}, path(""));
  expect_refused(gpt2 + Args{"--to", "megatron", "--unfold"},
                 {"--unfold", "--to chrome or --to perfetto"}, path(""));
  expect_refused(gpt2 + Args{"--to", "megatron", "--precision", "tf32"}, {"precision", "tf32"},
                 path(""));
  expect_refused(Args{"export"} + kMoe +
                     Args{"--layout", "ep=8,etp=1", "--to", "slurm", "--precision", "fp16"},
                 {"ep without fp16", "arguments.py"}, path(""));
  expect_refused({"export", "nothing.json", "--to", "chrome"}, {"nothing.json"}, path(""));
  std::ofstream(path("file")) << "here first";
  expect_refused(gpt2 + Args{"--to", "dot", "-o", path("file")}, {"--output"}, path(""));
  EXPECT_EQ(text_of(path("file")), "here first");
}

TEST_F(Export, TheDefaultFolderIsTheModelsAndTheFormats) {
  ASSERT_EQ(
      run_cli(Args{"export"} + kGpt2 + Args{"--layout", "tp=4,sp=1", "--to", "slurm"}, path(""))
          .status,
      0);
  EXPECT_TRUE(fs::exists(path("gpt2-slurm/gpt2.sbatch")));
}

}  // namespace
}  // namespace steploom
