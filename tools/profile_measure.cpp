// steploom profile without a verb: a measuring session, then the profile that it makes.
#include "models/error.h"
#include "tools/profile_verbs.h"

#ifndef STEPLOOM_HAS_CUDA

namespace steploom {

ExitStatus measure_profile(const ProfileFlags&) {
  throw Error({"profile", "", "a steploom that was built with CUDA", "one built without",
               "this build cannot measure; show, check, merge, import and --list work"});
}

}  // namespace steploom

#else

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <optional>

#include "planner/plan_file.h"
#include "profiler/fit_fabric.h"
#include "profiler/fit_measured.h"
#include "profiler/gpu.h"
#include "profiler/profile_of_points.h"
#include "tools/profile_asks.h"
#include "tools/profile_collectives.h"
#include "tools/report.h"

namespace steploom {
namespace {

volatile std::sig_atomic_t interrupted = 0;

// The first Ctrl-C ends the session between two points; the second ends the program.
class UntilInterrupted {
 public:
  UntilInterrupted() {
    std::signal(SIGINT, [](int) {
      interrupted = 1;
      std::signal(SIGINT, SIG_DFL);
    });
  }
  ~UntilInterrupted() { std::signal(SIGINT, SIG_DFL); }
  UntilInterrupted(const UntilInterrupted&) = delete;
  UntilInterrupted& operator=(const UntilInterrupted&) = delete;
};

SessionTools tools_of(const Gpu& gpu) {
  SessionTools tools;
  tools.time = [&gpu](const Ask& ask) { return gpu.time(ask); };
  tools.others = [&gpu] { return gpu.launches_and_copies(); };
  tools.seconds = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  };
  tools.stopped = [] { return interrupted != 0; };
  if (isatty(STDERR_FILENO) != 0)
    tools.progress = [](std::size_t done, std::size_t all, double left) {
      const int seconds = left > 0 ? static_cast<int>(left) : 0;
      fmt::print(stderr, "\r\033[K{} of {} points · {}:{:02d} left", done, all, seconds / 60,
                 seconds % 60);
    };
  return tools;
}

// The command that measures the kernels.
std::string command_of(const ProfileFlags& f, const std::string& output) {
  std::string text = fmt::format("steploom profile -o {} --budget {}", output, f.budget_minutes);
  if (!f.base.empty()) text += " --base " + f.base;
  if (!f.plan.empty()) text += " --for " + f.plan;
  if (!f.asks.empty()) text += " --asks " + f.asks;
  if (!f.only.empty()) text += " --only " + f.only;
  return text;
}

void say(const SessionResult& r, const std::string& raw) {
  for (const MeasuredPoint& p : r.not_well)
    fmt::print(stderr, "warning: {}: {}\n", to_text(p.ask), p.note);
  fmt::print(stderr, "{} points measured, {} were there, {} left; raw points in {}\n", r.timed,
             r.resumed, r.left, raw);
}

Table errors_table(const Profile& p) {
  Table t({{"what was left out"},
           {"points", CellKind::integer},
           {"median error", CellKind::share},
           {"95th percentile", CellKind::share},
           {"worst", CellKind::share}});
  for (const LeaveOut& e : p.leave_out)
    if (e.what.starts_with("hot card: ")) t.add({e.what, e.points, e.median, e.p95, e.worst});
  return t;
}

// The built-in profile that fits, or --base, which then must fit.
Profile base_of(const ProfileFlags& f, const std::string& gpu, int sms) {
  Profile base = f.base.empty() ? fitting_profile(gpu, sms, "--base") : load_profile(f.base);
  if (!fits(base.device, gpu, sms))
    throw Error({"--base", "", fmt::format("a profile of {} with {} SMs", gpu, sms),
                 fmt::format("{} with {}", base.device.name, base.device.sms), ""});
  return base;
}

// What would be refused only after minutes of measuring collectives.
void refuse_early(const ProfileFlags& f) {
  if (!f.base.empty()) load_profile(f.base);
  if (!f.plan.empty()) load_plan(f.plan);
  if (!f.asks.empty()) refuse_pytorch(read_asks(f.asks), f.asks);
  if (!f.only.empty()) kind_of(f.only, "command line", "--only");
}

// Before any kernel: a process that has used CUDA cannot start others that do.
std::optional<CollectivePoints> measure_fabric(const ProfileFlags& f) {
  if (f.output.empty())
    throw Error({"command line", "--fabric", "-o with the profile to write", "none", ""});
  MeasureOptions options;
  options.fabric = f.fabric;
  options.out = f.output + ".collectives.jsonl";
  options.budget_seconds = 60 * f.fabric_minutes;
  check_collectives(options);
  std::optional<CollectivePoints> points = collectives_for_profile(
      options, fmt::format("steploom profile -o {} --fabric {} --fabric-budget {}", f.output,
                           f.fabric, f.fabric_minutes));
  if (points) fit_fabrics({*points});  // refuses a file that lacks a table
  return points;
}

std::string on_base(const Profile& base) {
  return ", on the profile " + base.name + " (" + base.digest + ")";
}

// The profile with the fabric's tables and no other change.
ExitStatus lay_collectives(const ProfileFlags& f, const CollectivePoints& points,
                           TableFormat format) {
  const Profile base = base_of(f, points.gpu, points.sms);
  Profile profile = base;
  add_fabrics(profile, {points});
  profile.date = points.date.substr(0, 10);
  profile.made = points.command + on_base(base);
  save_profile(profile, f.output);
  Report report(fmt::format("{} · collectives of {} GPUs of {} over {} · NCCL {}", f.output,
                            points.ranks, points.gpu, points.fabric, points.nccl));
  report.note("use it: steploom plan ... --profile " + f.output);
  report.print(format);
  return ExitStatus::done;
}

ExitStatus measure_kernels(const ProfileFlags& f,
                           const std::optional<CollectivePoints>& collectives, TableFormat format) {
  const Gpu gpu;
  MeasuredOn on = gpu.describe("");
  const Profile base = base_of(f, on.gpu, on.sms);
  if (collectives && collectives->gpu != on.gpu)
    throw Error({collectives->reading, "/gpu", "'" + on.gpu + "', as on this machine",
                 "'" + collectives->gpu + "'", "remove the file to measure it again"});
  const std::string output = f.output.empty() ? base.name + ".profile.json" : f.output;
  const std::string raw = f.raw.empty() ? output + ".points.jsonl" : f.raw;
  on.command = command_of(f, output);
  AsksOfSession session = asks_of_session(f, base);
  session.plan.budget_seconds = 60 * f.budget_minutes;
  const CostModel model(base, cluster_for(base));
  const UntilInterrupted until;
  const SessionResult result = run_session(raw, on, session.plan, model, tools_of(gpu));
  if (isatty(STDERR_FILENO) != 0) std::fputs("\r\033[K", stderr);
  say(result, raw);
  if (result.interrupted) {
    fmt::print(stderr, "interrupted; the same command goes on from there\n");
    return ExitStatus::negative;
  }
  Profile profile = base;
  lay_points(profile, {result.measured}, true);
  if (collectives) add_fabrics(profile, {*collectives});
  profile.date = on.date.substr(0, 10);
  profile.made = on.command + on_base(base);
  save_profile(profile, output);
  Report report(fmt::format("{} · {} points of {} · driver {}, CUDA {}, cuBLAS {}", output,
                            profile.points.kernels.size(), on.gpu, on.driver, on.cuda_runtime,
                            on.cublas));
  report.add("errors", "Corrections, on points left out of the fit:", errors_table(profile));
  if (collectives)
    report.note(fmt::format("collectives of {} GPUs over {}, NCCL {}", collectives->ranks,
                            collectives->fabric, collectives->nccl));
  report.note("use it: steploom plan ... --profile " + output);
  report.print(format);
  return result.faulty ? ExitStatus::negative : ExitStatus::done;
}

}  // namespace

ExitStatus measure_profile(const ProfileFlags& f) {
  const TableFormat format = parse_table_format(f.format, "--format");
  const bool writes = place_from(environment()).rank == 0;  // of a launcher's ranks the first
  std::optional<CollectivePoints> collectives;
  if (!f.fabric.empty()) {
    refuse_early(f);
    collectives = measure_fabric(f);
    if (!collectives) return ExitStatus::negative;
  }
  if (!writes) return ExitStatus::done;
  if (f.collectives_only) return lay_collectives(f, *collectives, format);
  return measure_kernels(f, collectives, format);
}

}  // namespace steploom

#endif
