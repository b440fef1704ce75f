// Scripts that start a Megatron-Core run on the nodes it was planned for: by hand, or under Slurm.
//
// On each node torchrun starts a process a GPU. By hand, MASTER_ADDR names the first node and
// NODE_RANK this one; under Slurm one task a node does, and all meet at the allocation's first
// node. DRY_RUN=1 prints the command instead of running it. Flags and environment can be read again
// (models/megatron_args.h), as those of any script.
#pragma once

#include <string>

#include "models/megatron_args.h"

namespace steploom {

struct MegatronJob {
  std::string name;  // "mixtral-8x7b"
  int nodes = 1;
  int gpus_per_node = 8;
  std::string comment;  // what the run is, lines without "#"; may be empty
};

std::string shell_script(const MegatronArgs& args, const MegatronJob& job);
std::string slurm_script(const MegatronArgs& args, const MegatronJob& job);

}  // namespace steploom
