#include "tools/profile_collectives.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string_view>

#include "models/error.h"
#include "models/nearest.h"
#include "profiler/fork_local.h"
#include "sim/cluster.h"

namespace steploom {

void check_collectives(const MeasureOptions& options) {
  Cluster any;
  use_fabric(any, options.fabric);  // refuses unknown ones
  const auto known = [](const char* option, const std::vector<std::string>& asked,
                        std::span<const std::string_view> names) {
    for (const std::string& name : asked)
      if (std::find(names.begin(), names.end(), name) == names.end())
        throw Error({option, "", fmt::format("of {}", fmt::join(names, ", ")), "'" + name + "'",
                     nearest_hint(name, names)});
  };
  known("--parts", options.parts, kMeasureParts);
  known("--kernels", options.kernels, kSideKernels);
#ifndef STEPLOOM_HAS_NCCL
  throw Error({"profile", "--fabric", "a steploom that was built with CUDA, CUPTI and NCCL",
               "one built without", "nccl-tests and `steploom profile import` work"});
#endif
}

#ifdef STEPLOOM_HAS_NCCL

int run_on_local_gpus(const std::string& fabric, const std::function<int(const Place&)>& rank) {
  const Place place = place_from(environment());
  set_fabric(fabric);
  const auto need_two = [](int found, const std::string& of) {
    if (found < 2)
      throw Error({"profile", "", "two GPUs or more", fmt::format("{}{}", found, of), ""});
  };
  if (!place.launcher.empty()) {
    need_two(place.ranks, " rank that " + place.launcher + " started");
    return fork_local(1, [&](const Place&) { return rank(place); });
  }
  const int gpus = count_gpus();
  need_two(gpus, " on this machine");
  return fork_local(gpus, rank);
}

int run_collectives(const MeasureOptions& options, const std::string& command) {
  return run_on_local_gpus(options.fabric, [&](const Place& mine) {
    const auto peers = Peers::join(mine, kMeasurePatienceSeconds);
    return measure_collectives(options, command, *peers);
  });
}

#else

int run_collectives(const MeasureOptions& options, const std::string&) {
  check_collectives(options);
  return 2;
}

#endif

std::optional<CollectivePoints> collectives_for_profile(const MeasureOptions& options,
                                                        const std::string& command) {
  namespace fs = std::filesystem;
  if (fs::exists(options.out) && !fs::is_empty(options.out)) {
    CollectivePoints there = load_collective_points(options.out);
    if (there.fabric != options.fabric)
      throw Error({options.out, "/fabric", "'" + options.fabric + "', as asked for",
                   "'" + there.fabric + "'", "measure into another file, or remove this one"});
    if (there.complete) {
      fmt::print(stderr, "collectives over {} were there: {}\n", there.fabric, options.out);
      return there;
    }
  }
  const int status = run_collectives(options, command);
  if (status == 0) return load_collective_points(options.out);
  fmt::print(stderr, "{}; the same command measures the collectives again\n",
             status > 128 ? "interrupted" : "measuring collectives failed");
  return std::nullopt;
}

}  // namespace steploom
