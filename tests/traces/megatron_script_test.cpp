#include "traces/megatron_script.h"

#include <gmock/gmock.h>

#include <sstream>

namespace steploom {
namespace {

using testing::HasSubstr;

MegatronArgs sample() {
  MegatronArgs a;
  a.args = {{"num-layers", {"4"}, 0},
            {"bf16", {}, 0},
            {"pipeline-model-parallel-layout", {"Et|(t|)*2tL"}, 0},
            {"recompute-modules", {"core_attn", "mlp"}, 0}};
  a.environment = {{"CUDA_DEVICE_MAX_CONNECTIONS", "1"}, {"NOTE", "two words"}};
  return a;
}

const MegatronJob kJob{"small", 2, 4, "a model\nits layout"};

TEST(MegatronScript, IsReadAgainWithoutLoss) {
  for (const std::string& text : {shell_script(sample(), kJob), slurm_script(sample(), kJob)}) {
    const MegatronArgs again = parse_megatron_shell(text, "script");
    EXPECT_EQ(again.args, sample().args);
    EXPECT_EQ(again.environment, sample().environment);
    EXPECT_THAT(again.notes, testing::IsEmpty());
  }
}

TEST(MegatronScript, SlurmGivesEachNodeOneTaskThatStartsItsGpus) {
  const std::string text = slurm_script(sample(), kJob);
  for (const char* line :
       {"#!/bin/bash\n#SBATCH --job-name=small\n", "#SBATCH --nodes=2\n",
        "#SBATCH --ntasks-per-node=1\n", "#SBATCH --gpus-per-node=4\n", "# a model\n# its layout\n",
        "srun --kill-on-bad-exit=1 torchrun --nnodes 2 --nproc-per-node 4 "})
    EXPECT_THAT(text, HasSubstr(line));
  // #SBATCH counts only before the first command.
  std::istringstream lines(text);
  bool commands = false;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_FALSE(commands && line.starts_with("#SBATCH"));
    commands = commands || (!line.empty() && line[0] != '#');
  }
}

}  // namespace
}  // namespace steploom
