// steploom profile: measures the GPU at hand, and looks after profiles.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "models/error.h"
#include "tools/profile_asks.h"
#include "tools/profile_verbs.h"
#include "tools/report.h"

namespace steploom {
namespace {

constexpr Verb kVerbs[] = {
    {"show", "Say what a profile holds: device, versions, points, errors",
     "steploom profile show h200-sxm-141gb\n"
     "steploom profile show my-h200.json --format json",
     prepare_profile_show},
    {"check", "Say how far a profile is from measured points, by class",
     "steploom profile check my-h200.json\n"
     "steploom profile check my-h200.json.points.jsonl --profile h200-sxm-141gb\n"
     "steploom profile check drawn.jsonl --collectives drawn-nvlink.jsonl --draw 320 --seed 1",
     prepare_profile_check},
    {"merge", "Join the points of two profiles of one device",
     "steploom profile merge monday.json tuesday.json -o both.json", prepare_profile_merge},
    {"import", "Take collectives from the output of nccl-tests",
     "steploom profile import nccl-tests all_reduce.txt alltoall.json --base my-h200.json "
     "-o my-cluster.json",
     prepare_profile_import},
    {"draw", "Draw points to test a profile on", "steploom profile draw 320 --seed 1 -o drawn",
     prepare_profile_draw},
    {"collectives", "Measure collectives between the GPUs here into a raw file",
     "steploom profile collectives --fabric nvlink -o nvlink.jsonl\n"
     "mpirun -n 2 steploom profile collectives --fabric host -o host.jsonl",
     prepare_profile_collectives},
    {"gaps", "Measure gaps between kernels, host time of calls and NCCL's memory into a raw file",
     "steploom profile gaps --fabric nvlink -o gaps-nvlink.jsonl", prepare_profile_gaps},
};

ExitStatus run(const ProfileFlags& f) {
  if (!f.plan.empty() && !f.asks.empty())
    throw Error({"command line", "", "--for or --asks", "both", ""});
  if (f.collectives_only && f.fabric.empty())
    throw Error({"command line", "--collectives-only", "--fabric with it", "none", ""});
  return f.list ? list_asks(f) : measure_profile(f);
}

}  // namespace

RunVerb prepare_profile(CLI::App& app) {
  const auto f = std::make_shared<ProfileFlags>();
  app.add_option("-o,--output", f->output, "The profile to write (default: BASE.profile.json)");
  app.add_option("--points", f->raw,
                 "The raw points; what is there is gone on with (default: OUTPUT.points.jsonl)");
  app.add_option("--budget", f->budget_minutes, "Minutes after which no point is begun")
      ->check(CLI::Range(0.1, 600.0))
      ->capture_default_str();
  app.add_option("--base", f->base,
                 "Profile to start from (default: the built-in one that fits the GPU)");
  app.add_option("--for", f->plan, "Measure just what this plan's step needs and BASE lacks");
  app.add_option(
      "--asks", f->asks,
      "Measure the kernels of this file: a line each, as `steploom profile --list` shows");
  app.add_option("--only", f->only,
                 "Of all these, only kernels of this kind: attention, norm, ...");
  app.add_option("--fabric", f->fabric,
                 "Measure collectives too, on two GPUs or more: nvlink, host or sockets");
  app.add_option("--fabric-budget", f->fabric_minutes, "Minutes for the collectives")
      ->check(CLI::Range(0.1, 600.0))
      ->capture_default_str();
  app.add_flag("--collectives-only", f->collectives_only, "Measure no kernels");
  app.add_flag("--list", f->list, "Print what would be measured, and measure nothing");
  add_format_flag(app, f->format);
  app.require_subcommand(0, 1);
  std::vector<std::pair<CLI::App*, RunVerb>> verbs;
  for (const Verb& v : kVerbs) {
    CLI::App* sub = app.add_subcommand(v.name, v.summary);
    sub->footer(examples_text(v.examples));
    verbs.emplace_back(sub, v.prepare(*sub));
  }
  return [f, verbs] {
    for (const auto& [sub, run_verb] : verbs)
      if (sub->parsed()) return run_verb();
    return run(*f);
  };
}

}  // namespace steploom
