#include "sim/engine.h"

#include <algorithm>

#include "sim/contention.h"
#include "sim/deadlock.h"
#include "sim/engine_contended.h"
#include "sim/engine_plain.h"
#include "sim/flat_program.h"
#include "sim/memory_balance.h"

namespace steploom {

Replay replay(const Program& program, const ReplayOptions& options) {
  const FlatProgram flat(program);
  Replay result;
  if (options.contention == nullptr) {
    if (!replay_plain(flat, result.start, result.end))
      throw_deadlock(flat, result.start, result.end);
  } else {
    const ContendedReplay done = replay_contended(
        flat, *options.contention, options.skip_periods ? Periods::filled : Periods::all,
        result.start, result.end);
    if (!done.ended) throw_deadlock(flat, result.start, result.end, done.sms_held_by);
    result.skipped = done.skipped;
  }
  if (!result.end.empty())
    result.makespan = *std::max_element(result.end.begin(), result.end.end());
  balance_memory(flat, options.record_memory, result);
  return result;
}

Picoseconds makespan(const Program& program, const ReplayOptions& options) {
  if (options.contention != nullptr && options.skip_periods) {
    const FlatProgram flat(program);
    std::vector<Picoseconds> start, end;
    const ContendedReplay done =
        replay_contended(flat, *options.contention, Periods::needed, start, end);
    if (done.ended) return done.last;
  }
  return replay(program, options).makespan;  // or what keeps it from ending
}

std::size_t dynamic_bytes_per_op(const Program& program, const ReplayOptions& options) {
  const FlatProgram flat(program);
  if (program.op_count == 0) return 0;
  const std::size_t bytes =
      options.contention == nullptr ? plain_state_bytes(flat) : contended_state_bytes(flat);
  return (bytes + program.op_count - 1) / program.op_count;
}

std::string_view engine_signature() {
  return "52212740df80391e";
}

}  // namespace steploom
