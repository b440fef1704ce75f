#include "tools/run_prediction.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "models/error.h"
#include "planner/make_plan.h"
#include "sim/check.h"
#include "sim/contention.h"
#include "sim/step_clock.h"

namespace steploom {
namespace {

Picoseconds issue_time(const Program& p) {
  Picoseconds most = 0;
  for (const Device& d : p.devices) {
    Picoseconds sum = 0;
    for (std::uint32_t s = d.first_slot; s < d.first_slot + d.slot_count; ++s)
      for (const OpTemplate& op : p.blocks[p.slots[s].block].ops) sum += op.launch;
    most = std::max(most, sum);
  }
  return most;
}

}  // namespace

std::array<Picoseconds, kOpClasses> busy_times(const Program& p, const Replay& r) {
  std::array<Picoseconds, kOpClasses> busy{};
  for (const Slot& slot : p.slots) {
    const std::vector<OpInfo>& infos = p.blocks[slot.block].infos;
    for (std::size_t i = 0; i < infos.size(); ++i) {
      const std::size_t op = slot.first_op + i;
      busy[static_cast<std::size_t>(class_of(infos[i].work.kind))] += r.end[op] - r.start[op];
    }
  }
  for (Picoseconds& b : busy) b /= static_cast<Picoseconds>(p.devices.size());
  return busy;
}

namespace {

std::string text_of(const RunPlan& run) {
  const Prediction& p = run.prediction;
  std::vector<int> mhz;
  for (const Device& d : run.lowered.program.devices) mhz.push_back(d.mhz);
  std::string busy;
  for (std::size_t c = 0; c < p.busy.size(); ++c)
    busy +=
        fmt::format("{}\"{}\": {}", c > 0 ? ", " : "", name_of(static_cast<OpClass>(c)), p.busy[c]);
  return fmt::format(
      "{{\n  \"steploom_prediction\": 1,\n  \"plan_digest\": \"{}\",\n  \"layout\": \"{}\",\n"
      "  \"profile\": \"{}\",\n  \"profile_digest\": \"{}\",\n  \"engine\": \"{}\",\n"
      "  \"step_ps\": {}, \"mhz\": [{}],\n  \"issue_ps\": {},\n  \"memory_bytes\": [{}],\n"
      "  \"busy_ps\": {{{}}}\n}}\n",
      digest_of(to_json(run.plan)), to_text(run.layout), run.question->profile_name(),
      run.question->profile_digest(), engine_signature(), p.replay.makespan, fmt::join(mhz, ", "),
      p.issue, fmt::join(p.replay.peak_memory, ", "), busy);
}

}  // namespace

BindInput RunPlan::input() const {
  const Setting& s = question->setting();
  return {s.model, s.work, layout, s.runtime, lowered.program};
}

std::unique_ptr<RunPlan> load_run_plan(const std::string& file, bool rebase) {
  auto run = std::make_unique<RunPlan>();
  run->name = std::filesystem::path(file).stem().string();
  run->plan = load_plan(file);
  QuestionFlags flags;
  flags.rebase = rebase;
  run->question = Question::from_plan(run->plan, flags, file);
  if (run->plan.calibration)
    throw Error({file, "/calibration", "a plan of the profile alone, which a run can test",
                 "durations scaled to " + run->plan.calibration->trace,
                 "plan again without --calibrate"});
  const Setting& s = run->question->setting();
  need_one_type(s.cluster, "a run of GPUs at hand");
  if (!s.runtime.complete_operands)
    throw Error({file, "/runtime", "steploom, whose operators can be executed",
                 "'" + s.runtime.name + "'", "plan again with --runtime steploom"});
  if (s.work.routing.uneven())
    throw Error({file, "/workload/routing", "balanced routing, as the kernels here route",
                 "'" + to_text(s.work.routing) + "'", "plan again without --routing"});
  run->layout = run->plan.rows.front().layout;
  require_valid(s, run->layout, file);
  run->costs = std::make_unique<CostCache>(s.costs);
  run->lowered = lower(s, run->layout, *run->costs, Folding::unfolded);
  const std::vector<std::string> faults = check(run->lowered.program);
  if (!faults.empty()) throw Error({file, "", "a Program that is sound", faults.front(), ""});
  Prediction& p = run->prediction;
  p.replay = replay_at_clock(run->lowered.program, s.replaying());
  p.issue = issue_time(run->lowered.program);
  p.busy = busy_times(run->lowered.program, p.replay);
  p.memory = *std::max_element(p.replay.peak_memory.begin(), p.replay.peak_memory.end());
  p.text = text_of(*run);
  p.digest = digest_of(p.text);
  return run;
}

}  // namespace steploom
