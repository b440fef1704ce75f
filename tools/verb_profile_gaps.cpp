// steploom profile gaps: the raw lines of what lies between kernels, without a profile.
#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include "models/error.h"
#include "models/nearest.h"
#include "profiler/fork_local.h"
#include "sim/cluster.h"
#include "tools/profile_collectives.h"
#include "tools/profile_verbs.h"
#ifdef STEPLOOM_HAS_NCCL
#include "profiler/measure_fail.h"
#include "profiler/measure_gaps.h"
#endif

namespace steploom {
namespace {

struct Flags {
  std::string fabric, out;
  std::vector<std::string> parts{"memory", "host", "gaps"};
};

void check_flags(const Flags& f) {
  Cluster any;
  use_fabric(any, f.fabric);  // refuses unknown ones
  constexpr std::array<std::string_view, 3> kParts{"memory", "host", "gaps"};
  for (const std::string& part : f.parts)
    if (std::find(kParts.begin(), kParts.end(), part) == kParts.end())
      throw Error(
          {"--parts", "", "memory, host or gaps", "'" + part + "'", nearest_hint(part, kParts)});
}

#ifdef STEPLOOM_HAS_NCCL

std::string command_of(const Flags& f) {
  std::string parts;
  for (const std::string& part : f.parts) parts += (parts.empty() ? "" : ",") + part;
  return fmt::format("steploom profile gaps --fabric {} -o {} --parts {}", f.fabric, f.out, parts);
}

ExitStatus run(const Flags& f) {
  check_flags(f);
  // As `steploom run` has it; read when the device is first used.
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 1);
  const auto rank = [&](const Place& mine) {
    const auto peers = Peers::join(mine, kMeasurePatienceSeconds);
    try {
      return measure_gaps({f.fabric, f.out, f.parts}, command_of(f), *peers);
    } catch (const std::exception& e) {
      fail(e.what());  // ends every rank with this one message
    }
  };
  return run_on_local_gpus(f.fabric, rank) == 0 ? ExitStatus::done : ExitStatus::negative;
}

#else

ExitStatus run(const Flags& f) {
  check_flags(f);
  throw Error({"profile gaps", "", "a steploom that was built with CUDA, CUPTI and NCCL",
               "one built without", ""});
}

#endif

}  // namespace

RunVerb prepare_profile_gaps(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  app.add_option("--fabric", f->fabric,
                 "nvlink: NCCL as it is; host: NCCL_P2P_DISABLE=1; sockets: NCCL_SHM_DISABLE=1 too")
      ->required();
  app.add_option("-o,--output", f->out, "The raw lines to write (.jsonl)")->required();
  app.add_option("--parts", f->parts, "Only these of memory, host, gaps")->delimiter(',');
  return [f] { return run(*f); };
}

}  // namespace steploom
