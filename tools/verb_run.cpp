// steploom run: plans, executed and measured.
#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <memory>
#include <set>
#include <utility>

#include "models/atomic_file.h"
#include "profiler/fork_local.h"
#include "profiler/measure_fail.h"
#include "profiler/place.h"
#include "profiler/run_reference.h"
#include "tools/run_report.h"
#include "tools/verb.h"
#include "traces/timeline_file.h"
#include "traces/units.h"

namespace steploom {
namespace {

struct Flags {
  std::vector<std::string> plans;
  std::string out;
  std::string backend = "cuda";
  GpuRunOptions gpu;
  bool trace = false;
  bool verify = false;
  bool rebase = false;
  int drop_edges = 0;  // self-test: so many waits are left out, one at a time
  std::uint64_t seed = 1;
  double delay_ms = 20;
  std::string format = "table";
};

constexpr int kTracedSteps = 5;

[[noreturn]] void refuse(std::string place, std::string expected, std::string found,
                         std::string hint = "") {
  throw Error(
      {"steploom run", std::move(place), std::move(expected), std::move(found), std::move(hint)});
}

RunPlans load(const Flags& f) {
  RunPlans plans;
  std::set<std::string> names;
  for (const std::string& file : f.plans) {
    plans.push_back(load_run_plan(file, f.rebase));
    if (!names.insert(plans.back()->name).second)
      refuse(file, "plan files of different names", "'" + plans.back()->name + "' twice");
  }
  return plans;
}

int devices_of(const RunPlans& plans) {
  const int devices = plans.front()->question->setting().cluster.devices();
  for (const auto& p : plans) {
    const int own = p->question->setting().cluster.devices();
    if (own != devices)
      refuse("plans", fmt::format("plans for {} GPUs all, as '{}'", devices, plans.front()->name),
             fmt::format("{} for {}", p->name, own));
  }
  return devices;
}

std::string file_in(const std::string& folder, const std::string& name) {
  return (std::filesystem::path(folder) / name).string();
}

// Before the first step.
void announce(const Flags& f, const RunPlans& plans) {
  for (const auto& p : plans) {
    std::cerr << fmt::format("predicted {}: {} a step, {} on the fullest GPU, digest {}\n", p->name,
                             time_text(p->prediction.replay.makespan),
                             bytes_text(p->prediction.memory), p->prediction.digest);
    if (f.out.empty()) continue;
    write_file_atomically(file_in(f.out, p->name + ".prediction.json"),
                          [&](std::ostream& out) { out << p->prediction.text; });
  }
}

ExitStatus run_reference(const Flags& f, const RunPlans& plans, TableFormat format) {
  announce(f, plans);
  Table t({{"plan"},
           {"layout"},
           {"predicted", CellKind::time, 0, "", "predicted_ps"},
           {"steps", CellKind::integer, 0, "", "steps"},
           {"first loss", CellKind::number, 6, "", "first_loss"},
           {"last loss", CellKind::number, 6, "", "last_loss"},
           {"prediction", CellKind::text, 0, "", "prediction_digest"}});
  bool finite = true;
  for (const auto& p : plans) {
    ReferenceRun run(p->input());
    const double first = run.step().loss;
    double last = first;
    for (int i = 1; i < f.gpu.steps; ++i) last = run.step().loss;
    finite = finite && std::isfinite(last);
    t.add({p->name, short_name(p->layout), p->prediction.replay.makespan,
           static_cast<std::int64_t>(f.gpu.steps), first, last, p->prediction.digest});
  }
  Report report(plans.front()->question->headline());
  report.add("runs", "Steps on the float64 reference kernels, without a GPU:", std::move(t));
  report.print(format);
  return finite ? ExitStatus::done : ExitStatus::negative;
}

void report_run(const Flags& f, const RunPlans& plans, const std::vector<MeasuredRun>& runs,
                const std::vector<Verification>& verified, TableFormat format) {
  Report report(plans.front()->question->headline());
  report.add("runs", "", measured_table(plans, runs));
  report.add("memory", "Device memory by rank:", measured_memory_table(plans, runs));
  if (f.trace)
    report.add("classes", "Time of operators by class, mean over ranks, peers' waiting included:",
               classes_table(plans, runs));
  if (f.verify)
    report.add("verification", "Gradients of the first step:", verification_table(plans, verified));
  report.note("");
  report.note("measured: median of the blocks; r: half the blocks' range over it");
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const MeasuredRun& r = runs[i];
    if (r.issue_us > r.step_us.median)
      report.warn(fmt::format("{}: the host takes longer to issue a step than the GPU to run it",
                              plans[i]->name));
    if (r.traced.start.empty()) continue;
    report.note(fmt::format("{}: tracing slows a step by {}", plans[i]->name,
                            share_text(r.traced_us / r.step_us.median - 1)));
    if (f.out.empty()) continue;
    const std::string file = file_in(f.out, plans[i]->name + ".timeline.json.gz");
    save_timeline(executed_timeline(*plans[i], r), file);
    report.note("timeline written to " + file);
  }
  report.print(format);
  std::cout.flush();
}

// The plan as it is; whole, with every drawn wait's producer held back; then without each wait in
// turn.
bool self_test(const Flags& f, const RunPlan& plan, Peers& peers, TableFormat format) {
  const std::vector<CrossEdge> edges = draw_edges(plan.input(), f.drop_edges, f.seed);
  VerifyOptions options;
  options.patience = f.gpu.patience;
  options.tampering.resize(2, {edges, std::nullopt, f.delay_ms});
  options.tampering[0] = {};
  for (const CrossEdge& e : edges) options.tampering.push_back({{e}, e, f.delay_ms});
  const std::vector<BindInput> inputs(options.tampering.size(), plan.input());
  const std::vector<Verification> found = verify_on_gpus(peers, inputs, options);
  if (!peers.first()) return true;
  Table t({{"step"},
           {"should"},
           {"did"},
           {"beyond", CellKind::integer, 0, "", "beyond"},
           {"worst tensor"},
           {"error", CellKind::number, 6, "", "error"},
           {"bound", CellKind::number, 6, "", "bound"}});
  bool right = !edges.empty();
  for (std::size_t i = 0; i < found.size(); ++i) {
    const Verification& v = found[i];
    const std::optional<CrossEdge>& e = options.tampering[i].dropped;
    const auto says = [](bool passes) { return std::string(passes ? "pass" : "fail"); };
    right = right && v.passes() == !e;
    t.add({e ? "without " + describe(plan.lowered.program, bind(plan.input(), e->rank), *e)
             : std::string(i == 0 ? "whole" : "whole, producers held back"),
           says(!e), says(v.passes()),
           static_cast<std::int64_t>(
               std::count_if(v.tensors.begin(), v.tensors.end(),
                             [](const TensorError& error) { return !error.passes(); })),
           v.worst().name, v.worst().error, v.worst().bound});
  }
  Report report(plan.question->headline());
  report.add("dropped",
             fmt::format("Waits between streams left out, seed {}, producers held back {} ms:",
                         f.seed, f.delay_ms),
             std::move(t));
  report.print(format);
  std::cout.flush();
  return right;
}

int run_rank(const Flags& f, const RunPlans& plans, const Place& place, TableFormat format) {
  // CUDA's most, as the runtime's row in models/runtime.cpp says; read when the device is first
  // used.
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 1);
  const auto peers = Peers::join(place, f.gpu.patience);
  try {
    if (f.drop_edges > 0)
      return peers->share(self_test(f, *plans.front(), *peers, format) ? "0" : "1") == "0" ? 0 : 1;
    std::vector<BindInput> inputs;
    for (const auto& p : plans) inputs.push_back(p->input());
    if (peers->first()) announce(f, plans);
    std::vector<Verification> verified;
    if (f.verify) verified = verify_on_gpus(*peers, inputs, {true, f.gpu.patience});
    const std::vector<MeasuredRun> runs = run_on_gpus(*peers, inputs, f.gpu);
    bool right = true;
    if (peers->first()) {
      peers->doing("reporting");
      report_run(f, plans, runs, verified, format);
      right = std::all_of(verified.begin(), verified.end(),
                          [](const Verification& v) { return v.passes(); });
    }
    return peers->share(right ? "0" : "1") == "0" ? 0 : 1;
  } catch (const std::exception& e) {
    fail(e.what());  // ends every rank with this one message
  }
}

ExitStatus run_cuda(const Flags& f, const RunPlans& plans, TableFormat format) {
  const int devices = devices_of(plans);
  if (!can_run_on_gpus())
    refuse("", "a build with CUDA, cuDNN, NCCL and CUPTI", "one without",
           "--backend reference needs none of them");
  const Place place = place_from(environment());
  if (!place.launcher.empty()) {
    if (place.ranks != devices)
      refuse("", fmt::format("{} ranks, one for each GPU of the plan", devices),
             fmt::format("{} that {} started", place.ranks, place.launcher));
    return static_cast<ExitStatus>(run_rank(f, plans, place, format));
  }
  const int here = gpus_here();
  if (here < devices)
    refuse("", fmt::format("{} GPUs for this plan", devices), fmt::format("{} here", here),
           "start one process a GPU with mpirun, srun or torchrun, or use --backend reference");
  if (devices == 1) return static_cast<ExitStatus>(run_rank(f, plans, place, format));
  return static_cast<ExitStatus>(
      fork_local(devices, [&](const Place& mine) { return run_rank(f, plans, mine, format); }));
}

ExitStatus run(Flags f) {
  const TableFormat format = parse_table_format(f.format, "--format");
  if (f.backend != "cuda" && f.backend != "reference")
    refuse("--backend", "cuda or reference", "'" + f.backend + "'");
  if (f.gpu.graph && f.gpu.poison)
    refuse("--graph", "steps without --poison, which would be captured too", "both");
  if (f.drop_edges > 0 && (f.backend != "cuda" || f.plans.size() != 1))
    refuse("--drop-edges", "one plan, on GPUs", fmt::format("{} plans", f.plans.size()));
  f.gpu.traced_steps = f.trace ? kTracedSteps : 0;
  const RunPlans plans = load(f);
  if (!f.out.empty()) std::filesystem::create_directories(f.out);
  if (f.drop_edges > 0 && flops_of(plans.front()->lowered.program) > kReferenceFlops)
    refuse("--drop-edges", "a step small enough for the float64 reference", plans.front()->name);
  if (f.backend == "reference") return run_reference(f, plans, format);
  return run_cuda(f, plans, format);
}

}  // namespace

RunVerb prepare_run(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  app.add_option("plans", f->plans, "plan.json files; several alternate block by block")
      ->required();
  app.add_option("-o,--output", f->out, "Folder for predictions and timelines");
  app.add_option("--backend", f->backend,
                 "cuda, or reference: float64 on the CPU, all ranks in one process")
      ->capture_default_str();
  app.add_option("--blocks", f->gpu.blocks, "Blocks of back-to-back steps that are timed")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--steps", f->gpu.steps, "Steps of a block (with --backend reference: in all)")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--seconds", f->gpu.seconds,
                 "For the blocks of a plan: longer steps get fewer (default: no bound)")
      ->check(CLI::Range(0.1, 1e5));
  app.add_option("--patience", f->gpu.patience, "Seconds after which a run that stands still ends")
      ->check(CLI::Range(5.0, 1e5))
      ->capture_default_str();
  app.add_flag("--graph", f->gpu.graph, "Steps are replays of a CUDA graph");
  app.add_flag("--poison", f->gpu.poison, "NaNs into every tensor before its first write");
  app.add_flag("--trace", f->trace, "Time every operator too, in steps of their own");
  app.add_flag("--verify", f->verify, "First compare the gradients of a step with the reference's");
  constexpr const char* kSelfTest = "Self-test";
  app.add_option("--drop-edges", f->drop_edges,
                 "Leave out so many waits between streams, one at a time: verification must fail")
      ->check(CLI::Range(1, 1000))
      ->group(kSelfTest);
  app.add_option("--seed", f->seed, "Which ones")->capture_default_str()->group(kSelfTest);
  app.add_option("--delay", f->delay_ms, "Milliseconds that their producers are held back")
      ->check(CLI::Range(0.1, 5000.0))
      ->capture_default_str()
      ->group(kSelfTest);
  app.add_flag("--rebase", f->rebase, "Accept a plan made with another profile or engine");
  add_format_flag(app, f->format);
  return [f] { return run(*f); };
}

}  // namespace steploom
