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
  } else if (std::vector<std::uint32_t> sms_held_by;
             !replay_contended(flat, *options.contention, result.start, result.end, sms_held_by)) {
    throw_deadlock(flat, result.start, result.end, sms_held_by);
  }
  if (!result.end.empty())
    result.makespan = *std::max_element(result.end.begin(), result.end.end());
  balance_memory(flat, options.record_memory, result);
  return result;
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
