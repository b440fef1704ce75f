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

#include "profiler/fit_measured.h"
#include "profiler/gpu.h"
#include "profiler/profile_of_points.h"
#include "tools/profile_asks.h"
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

std::string command_of(const ProfileFlags& f, const std::string& output) {
  std::string text = fmt::format("steploom profile -o {} --budget {}", output, f.budget_minutes);
  if (!f.base.empty()) text += " --base " + f.base;
  if (!f.plan.empty()) text += " --for " + f.plan;
  if (!f.asks.empty()) text += " --asks " + f.asks;
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

}  // namespace

ExitStatus measure_profile(const ProfileFlags& f) {
  const TableFormat format = parse_table_format(f.format, "--format");
  const Gpu gpu;
  MeasuredOn on = gpu.describe("");
  const Profile base =
      f.base.empty() ? fitting_profile(on.gpu, on.sms, "--base") : load_profile(f.base);
  if (!fits(base.device, on.gpu, on.sms))
    throw Error({"--base", "", fmt::format("a profile of {} with {} SMs", on.gpu, on.sms),
                 fmt::format("{} with {}", base.device.name, base.device.sms), ""});
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
  lay_points(profile, result.measured, true);
  profile.date = on.date.substr(0, 10);
  profile.made = on.command + ", on the profile " + base.name + " (" + base.digest + ")";
  save_profile(profile, output);
  Report report(fmt::format("{} · {} points of {} · driver {}, CUDA {}, cuBLAS {}", output,
                            profile.points.kernels.size(), on.gpu, on.driver, on.cuda_runtime,
                            on.cublas));
  report.add("errors", "Corrections, on points left out of the fit:", errors_table(profile));
  report.note("use it: steploom plan ... --profile " + output);
  report.print(format);
  return result.faulty ? ExitStatus::negative : ExitStatus::done;
}

}  // namespace steploom

#endif
