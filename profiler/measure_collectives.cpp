// steploom-measure-collectives: collectives and interference on the GPUs of this machine, one
// process a GPU: those that a launcher started (place.h), or its own. docs/interference.md says
// what is measured and how.

#include "profiler/measure_collectives.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "models/error.h"
#include "profiler/fork_local.h"
#include "profiler/measure_fail.h"

namespace steploom {
namespace {

constexpr const char* kUsage =
    "usage: steploom-measure-collectives --fabric nvlink|host|sockets --out FILE\n"
    "         [--budget SECONDS] [--parts sweep,admission,share,beside,pairs] [--every N]\n"
    "Measures NCCL's collectives on all GPUs of this machine and writes JSON lines. Starts one\n"
    "process a GPU, or is started so by torchrun --no-python, mpirun or srun.\n"
    "  --fabric  nvlink: NCCL as it is; host: NCCL_P2P_DISABLE=1; sockets: NCCL_SHM_DISABLE=1 too\n"
    "  --budget  points that do not fit are marked or left out (default 480)\n"
    "  --every   only every N-th size (default 1)\n";

// An option that is refused. All ranks of a launcher read the same ones: rank 0 says it.
struct Refusal {
  std::string why;
};
[[noreturn]] void refuse(const std::string& why) {
  throw Refusal{why};
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  return parts;
}

const std::vector<std::string> kFabrics{"nvlink", "host", "sockets"};
const std::vector<std::string> kParts{"sweep", "admission", "share", "beside", "pairs"};

double positive(const std::string& option, const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0' || !(value >= 1 && value <= 1e6)) {
    refuse(option + " needs a number from 1 to 1000000, not '" + text + "'");
  }
  return value;
}

MeasureOptions parse(const std::vector<std::string>& arguments) {
  MeasureOptions options;
  options.parts = kParts;
  options.budget_seconds = 480;
  for (std::size_t i = 0; i < arguments.size(); i += 2) {
    const std::string& option = arguments[i];
    if (option == "--help") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    }
    if (i + 1 == arguments.size()) refuse(option + " needs a value");
    const std::string& value = arguments[i + 1];
    if (option == "--fabric") {
      options.fabric = value;
    } else if (option == "--out") {
      options.out = value;
    } else if (option == "--budget") {
      options.budget_seconds = positive(option, value);
    } else if (option == "--every") {
      options.every = static_cast<int>(positive(option, value));
    } else if (option == "--parts") {
      options.parts = split(value);
    } else {
      refuse("unknown option '" + option + "'");
    }
  }
  if (options.out.empty()) refuse("--out is missing");
  if (std::find(kFabrics.begin(), kFabrics.end(), options.fabric) == kFabrics.end()) {
    refuse("--fabric must be nvlink, host or sockets, not '" + options.fabric + "'");
  }
  for (const std::string& part : options.parts) {
    if (std::find(kParts.begin(), kParts.end(), part) == kParts.end()) {
      refuse("unknown part '" + part + "'");
    }
  }
  return options;
}

int run(const Place& place, const std::vector<std::string>& arguments) {
  const MeasureOptions options = parse(arguments);
  set_fabric(options.fabric);
  std::string command = "steploom-measure-collectives";
  for (const std::string& argument : arguments) command += " " + argument;
  const auto rank = [&](const Place& mine) {
    const auto peers = Peers::join(mine, kMeasurePatienceSeconds);
    return measure_collectives(options, command, *peers);
  };
  if (!place.launcher.empty()) {
    if (place.ranks < 2) fail("needs two ranks or more, and " + place.launcher + " started one");
    return rank(place);
  }
  const int gpus = count_gpus();
  if (gpus < 2) fail("needs two GPUs or more, and this machine has " + std::to_string(gpus));
  return fork_local(gpus, rank);
}

}  // namespace
}  // namespace steploom

int main(int argc, char** argv) {
  steploom::Place place;
  try {
    place = steploom::place_from(steploom::environment());
    return steploom::run(place, {argv + 1, argv + argc});
  } catch (const steploom::Refusal& refusal) {
    if (place.rank == 0) {
      std::fprintf(stderr, "steploom-measure-collectives: %s\n%s", refusal.why.c_str(),
                   steploom::kUsage);
    }
    return 2;
  } catch (const steploom::Error& error) {
    std::fprintf(stderr, "steploom-measure-collectives: %s\n", error.what());
    return static_cast<int>(error.status());
  }
}
