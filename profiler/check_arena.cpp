#include "profiler/check_arena.h"

#include <algorithm>
#include <map>

#include "sim/device_clocks.h"

namespace steploom {
namespace {

constexpr std::size_t kMostFaults = 100;

struct Placed {
  Bytes from = 0, to = 0;
  std::uint32_t begin = 0, end = 0;  // operators, as DeviceClocks numbers them
};

std::vector<Placed> placed_in(const Execution& execution, const DeviceClocks& clocks) {
  std::vector<Placed> out;
  std::map<Bytes, std::size_t> alive;  // by offset; looked up only
  for (const Call& call : execution.calls) {
    for (const TensorRef& t : call.begins) {
      alive[t.offset] = out.size();
      out.push_back({t.offset, t.offset + t.bytes(), clocks.number(call.op), 0});
    }
    for (const TensorRef& t : call.ends) out[alive.at(t.offset)].end = clocks.number(call.op);
  }
  return out;
}

}  // namespace

std::vector<std::string> check_arena(const Program& program, const Execution& execution) {
  const FlatProgram flat(program);
  const DeviceClocks clocks(flat, static_cast<std::uint32_t>(execution.rank));
  std::vector<Placed> all = placed_in(execution, clocks);
  std::stable_sort(all.begin(), all.end(),
                   [](const Placed& a, const Placed& b) { return a.from < b.from; });
  std::vector<std::string> faults;
  for (std::size_t i = 0; i < all.size(); ++i)
    for (std::size_t j = i + 1; j < all.size() && all[j].from < all[i].to; ++j) {
      const bool in_order = all[i].begin < all[j].begin;
      const Placed& first = in_order ? all[i] : all[j];
      const Placed& second = in_order ? all[j] : all[i];
      if (first.end < second.begin && clocks.knows(second.begin, first.end)) continue;
      faults.push_back("'" + describe_op(program, clocks.op(second.begin)) +
                       "' may write over what '" + describe_op(program, clocks.op(first.end)) +
                       "' still uses");
      if (faults.size() == kMostFaults) return faults;
    }
  return faults;
}

}  // namespace steploom
