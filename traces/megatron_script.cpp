#include "traces/megatron_script.h"

#include <fmt/format.h>

#include <sstream>

namespace steploom {
namespace {

constexpr int kPort = 29500;  // torchrun's own default

std::string comments(const MegatronJob& job) {
  std::string text;
  std::istringstream lines(job.comment);
  for (std::string line; std::getline(lines, line);) text += "# " + line + "\n";
  return text;
}

std::string settings(const MegatronArgs& args) {
  std::string text = "MEGATRON_PATH=${MEGATRON_PATH:-/opt/megatron-lm}\n";
  for (const auto& [name, value] : args.environment)
    text += fmt::format("export {}={}\n", name, shell_word(value));
  return text + "\n";
}

// `meeting`: torchrun's options for where its processes find each other.
std::string command(const MegatronArgs& args, const MegatronJob& job, const std::string& launcher,
                    const std::string& meeting) {
  std::string text = fmt::format(
      "${{DRY_RUN:+echo}} {}torchrun --nnodes {} --nproc-per-node {} \\\n"
      "  {} \\\n"
      "  \"$MEGATRON_PATH/pretrain_gpt.py\"",
      launcher, job.nodes, job.gpus_per_node, meeting);
  for (const MegatronArg& a : args.args) {
    text += fmt::format(" \\\n  --{}", a.name);
    for (const std::string& v : a.values) text += " " + shell_word(v);
  }
  return text + "\n";
}

}  // namespace

std::string shell_script(const MegatronArgs& args, const MegatronJob& job) {
  return "#!/bin/bash\n" + comments(job) +
         "# On every node, with MASTER_ADDR (the first node) and NODE_RANK; MEGATRON_PATH is where "
         "Megatron-LM lies.\n\n" +
         settings(args) +
         command(args, job, "",
                 fmt::format("--node-rank \"${{NODE_RANK:-0}}\" --master-addr "
                             "\"${{MASTER_ADDR:-localhost}}\" --master-port {}",
                             kPort));
}

std::string slurm_script(const MegatronArgs& args, const MegatronJob& job) {
  return fmt::format(
             "#!/bin/bash\n"
             "#SBATCH --job-name={}\n"
             "#SBATCH --nodes={}\n"
             "#SBATCH --ntasks-per-node=1\n"
             "#SBATCH --gpus-per-node={}\n"
             "#SBATCH --exclusive\n"
             "#SBATCH --time=01:00:00\n"
             "#SBATCH --output=%x-%j.out\n",
             job.name, job.nodes, job.gpus_per_node) +
         comments(job) +
         "# Partition and account are yours to add; MEGATRON_PATH is where Megatron-LM lies.\n\n" +
         settings(args) +
         "head_node=$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -n1)\n" +
         command(args, job, "srun --kill-on-bad-exit=1 ",
                 fmt::format("--rdzv-id \"$SLURM_JOB_ID\" --rdzv-backend c10d --rdzv-endpoint "
                             "\"$head_node:{}\"",
                             kPort));
}

}  // namespace steploom
