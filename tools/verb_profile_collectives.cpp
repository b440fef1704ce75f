// steploom profile collectives: the raw lines of collectives and interference, without a profile.
#include <fmt/format.h>

#include <memory>
#include <string>

#include "tools/profile_collectives.h"
#include "tools/profile_verbs.h"

namespace steploom {
namespace {

struct Flags {
  MeasureOptions options;
  std::string asks;
  double budget_minutes = 8;
};

std::string command_of(const Flags& f) {
  const MeasureOptions& o = f.options;
  std::string text = fmt::format("steploom profile collectives --fabric {} -o {} --budget {}",
                                 o.fabric, o.out, f.budget_minutes);
  if (f.asks.empty()) text += fmt::format(" --parts {}", fmt::join(o.parts, ","));
  if (!o.kernels.empty()) text += fmt::format(" --kernels {}", fmt::join(o.kernels, ","));
  if (o.every > 1) text += fmt::format(" --every {}", o.every);
  if (!f.asks.empty()) text += " --asks " + f.asks;
  return text;
}

ExitStatus run(Flags f) {
  f.options.budget_seconds = 60 * f.budget_minutes;
  if (!f.asks.empty()) {
    f.options.points = read_collective_asks(f.asks);
    f.options.parts = {"sweep"};
  }
  check_collectives(f.options);
  return run_collectives(f.options, command_of(f)) == 0 ? ExitStatus::done : ExitStatus::negative;
}

}  // namespace

RunVerb prepare_profile_collectives(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  app.add_option("--fabric", f->options.fabric,
                 "nvlink: NCCL as it is; host: NCCL_P2P_DISABLE=1; sockets: NCCL_SHM_DISABLE=1 too")
      ->required();
  app.add_option("-o,--output", f->options.out, "The raw lines to write (.jsonl)")->required();
  app.add_option("--budget", f->budget_minutes,
                 "Minutes; points that do not fit are marked or left out")
      ->check(CLI::Range(0.1, 600.0))
      ->capture_default_str();
  auto* parts = app.add_option("--parts", f->options.parts,
                               "Only these of sweep, admission, share, beside, pairs, copies")
                    ->delimiter(',');
  app.add_option("--kernels", f->options.kernels,
                 "Beside collectives and copies, only these of matmul, matmul_small, attention, "
                 "attention_backward, memory, spin")
      ->delimiter(',');
  app.add_option("--every", f->options.every, "Only every n-th size, for a quick trial")
      ->check(CLI::Range(1, 1000));
  app.add_option("--asks", f->asks,
                 "Only the sweep, and of it only these: a line 'collective bytes' each")
      ->excludes(parts);
  return [f] { return run(*f); };
}

}  // namespace steploom
