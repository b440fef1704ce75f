// What a build without CUDA or NCCL says.
#include "models/error.h"
#include "profiler/run_gpus.h"
#include "profiler/verify_step.h"

namespace steploom {
namespace {

[[noreturn]] void absent() {
  throw Error({"steploom run", "", "a build with CUDA, cuDNN, NCCL and CUPTI", "one without",
               "--backend reference needs none of them"});
}

}  // namespace

int gpus_here() {
  return 0;
}

bool can_run_on_gpus() {
  return false;
}

std::vector<MeasuredRun> run_on_gpus(Peers&, std::span<const BindInput>, const GpuRunOptions&) {
  absent();
}

std::vector<Verification> verify_on_gpus(Peers&, std::span<const BindInput>, const VerifyOptions&) {
  absent();
}

}  // namespace steploom
