// steploom: the command line. One row a verb; everything else is common to all.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cstdio>
#include <exception>
#include <iostream>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "models/error.h"
#include "models/nearest.h"
#include "sim/engine.h"
#include "tools/verb.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace steploom {

std::string examples_text(std::string_view lines) {
  std::string out = "  ";
  for (const char c : lines) {
    out += c;
    if (c == '\n') out += "  ";
  }
  return out + "\n";
}

namespace {

constexpr Verb kVerbs[] = {
    {"plan", "Find the fastest layout of a model on a cluster",
     "steploom plan mixtral-8x7b --cluster h100-sxm-80gb --nodes 8 --seq-length 4096 "
     "--global-batch 256\n"
     "steploom plan ./config.json --cluster my-cluster.json --nodes 4 --seq-length 8192 "
     "--global-batch 512 --top 10 -o plan.json\n"
     "steploom plan --from examples/megatron/mixtral-8x7b.yaml --cluster h100-sxm-80gb --nodes 8",
     prepare_plan},
    {"simulate", "Replay one layout's step, with its time, memory and trace",
     "steploom simulate mixtral-8x7b --cluster h100-sxm-80gb --nodes 8 --seq-length 4096 "
     "--global-batch 256 --layout tp=2,pp=2,ep=8,etp=1,sp=1\n"
     "steploom simulate plan.json --trace step.json --timeline step.timeline.json",
     prepare_simulate},
    {"run", "Execute plans on the GPUs here and compare them with their predictions",
     "steploom run plan.json\n"
     "steploom run plain.json chunked.json --trace --verify -o results\n"
     "steploom run plan.json --backend reference --steps 2",
     prepare_run},
    {"export", "Write a plan for Megatron-Core, Slurm, ASTRA-sim or a trace viewer",
     "steploom export plan.json --to megatron -o run\n"
     "steploom export plan.json --to chakra -o traces\n"
     "steploom export plan.json --to dot --stage 1 --block F",
     prepare_export},
    {"explain", "Say where a planned step's time goes",
     "steploom explain plan.json\n"
     "steploom explain plan.json --knock-out --format json",
     prepare_explain},
    {"why-not", "Say why a layout is not the plan",
     "steploom why-not plan.json --layout tp=8,pp=1,ep=8,sp=1", prepare_why_not},
    {"whatif", "Plan at every point of a sweep: nodes, network, GPUs, batch, precision",
     "steploom whatif mixtral-8x7b --cluster h100-sxm-80gb --seq-length 4096 --global-batch 256 "
     "--sweep nodes=1..64 --sweep network-gbps=100,200,400,800 --svg mixtral.svg\n"
     "steploom whatif llama-3.1-70b --nodes 16 --seq-length 8192 --global-batch 512 "
     "--sweep gpu=a100-sxm-80gb,h100-sxm-80gb,b200-sxm --format csv",
     prepare_whatif},
    {"compare", "Compare two timelines of a step, such as a predicted and a measured one",
     "steploom compare predicted.timeline.json measured.timeline.json\n"
     "steploom compare predicted.timeline.json profiler-trace.json.gz --trace both.json",
     prepare_compare},
    {"profile", "Measure the GPU at hand; show, check, merge and import profiles",
     "steploom profile -o my-h200.json --budget 12\n"
     "steploom profile --for plan.json -o my-h200.json\n"
     "steploom profile --for plan.json --list\n"
     "steploom profile show my-h200.json",
     prepare_profile},
    {"models", "List the models that ship with steploom", "steploom models", prepare_models},
    {"clusters", "List the built-in clusters", "steploom clusters", prepare_clusters},
    {"doctor", "Say what was found on this machine and which profiles would be used",
     "steploom doctor", prepare_doctor},
};

constexpr const char* kExitStatuses =
    "\nExit status: 0 done; 1 it ran, and no layout fits or a check failed; 2 input refused.\n";

// Examples come first.
class Help : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override {
    std::string text;
    if (!app->get_footer().empty()) text += "Examples:\n" + app->get_footer() + "\n";
    return text + CLI::Formatter::make_help(app, std::move(name), mode) + kExitStatuses;
  }
  std::string make_footer(const CLI::App*) const override { return ""; }
};

// CLI11 names what it did not expect; we add what is nearest.
Error unexpected(const CLI::ParseError& e, const CLI::App& verb) {
  std::string path = verb.get_name();
  const CLI::App* app = &verb;
  while (!app->get_subcommands().empty()) {  // `profile show`
    app = app->get_subcommands().front();
    path += " " + app->get_name();
  }
  const std::string what = e.what();
  std::vector<std::string> names;
  for (const CLI::Option* o : app->get_options())
    for (const std::string& n : o->get_lnames()) names.push_back("--" + n);
  for (const CLI::App* sub : app->get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(sub->get_name());
  const std::vector<std::string_view> known(names.begin(), names.end());
  const std::size_t at = what.rfind(": ");
  std::string hint;
  if (dynamic_cast<const CLI::ExtrasError*>(&e) != nullptr && at != std::string::npos) {
    std::istringstream words(what.substr(at + 2));
    for (std::string word; hint.empty() && words >> word;) {
      const std::string_view near = nearest_name(word.substr(0, word.find('=')), known);
      if (!near.empty()) hint = "did you mean '" + std::string(near) + "'?";
    }
  }
  if (hint.empty()) hint = "see steploom " + path + " --help";
  return Error({"command line", "", "", what, hint});
}

int run(int argc, char** argv) {
  CLI::App app{"steploom: how long a training step takes, and the fastest way to run it"};
  app.name("steploom");
  app.formatter(std::make_shared<Help>());
  app.footer(examples_text(kVerbs[0].examples));
  app.set_version_flag("--version", "steploom " STEPLOOM_VERSION " (engine " +
                                        std::string(engine_signature()) + ")");
  app.require_subcommand(1);
  std::vector<RunVerb> runs;
  std::vector<CLI::App*> subs;
  std::vector<std::string_view> names;
  for (const Verb& v : kVerbs) {
    CLI::App* sub = app.add_subcommand(v.name, v.summary);
    sub->footer(examples_text(v.examples));
    runs.push_back(v.prepare(*sub));
    subs.push_back(sub);
    names.emplace_back(v.name);
  }
  const auto verb_typed = [&]() -> CLI::App* {
    for (CLI::App* sub : subs)
      if (argc > 1 && sub->get_name() == argv[1]) return sub;
    return nullptr;
  };
  if (argc < 2) {
    std::cerr << app.help();
    return static_cast<int>(ExitStatus::refused);
  }
  if (argv[1][0] != '-' && verb_typed() == nullptr)
    throw Error({"command line", "", "a verb", "'" + std::string(argv[1]) + "'",
                 nearest_hint(argv[1], names)});
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    throw unexpected(e, verb_typed() != nullptr ? *verb_typed() : app);
  }
  for (std::size_t i = 0; i < subs.size(); ++i)
    if (subs[i]->parsed()) return static_cast<int>(runs[i]());
  return static_cast<int>(ExitStatus::refused);
}

}  // namespace
}  // namespace steploom

// Replay after replay takes arrays of tens of megabytes. What was given back is kept for the next:
// having the system take the pages away and clear them again was a sixth of a large search.
static void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif
}

int main(int argc, char** argv) {
  keep_freed_memory();
  try {
    return steploom::run(argc, argv);
  } catch (const steploom::Error& e) {
    std::cerr << "steploom: " << e.what() << '\n';
    return static_cast<int>(e.status());
  } catch (const std::exception& e) {
    std::cerr << "steploom: internal fault: " << e.what() << '\n';
    return 70;  // EX_SOFTWARE: ours, not the user's
  }
}
