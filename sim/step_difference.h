// Why one Timeline's step takes longer than another's, operator by operator.
//
// An operator's time has parts, in this order: it waits for what it depends on; for its host to
// issue it (launch gap); it is ready, yet starts late, while another kernel holds its device
// (admission) or while nothing does (start delay); it waits for its last peer (peer); it runs. What
// the running part gains or loses is contention if in either Timeline something else ran beside it
// on its device, kernel if in neither. Differences are B minus A, part by part.
//
// The critical chain of a Timeline goes back from the operator that ends last, each time to what
// came last of all that it waited for: the member of its collective that came last, the operator
// before it in its stream, a dependency, its host. Its links tile [0, makespan]. The same links,
// measured in the other Timeline between the same ends, tile that step too, if with overlaps, so
// link by link the differences add up to the difference of the steps, exactly. What a link has in
// one Timeline because there the operator waited for something that is not on this chain is
// *another path*: time that this chain does not explain. Each chain tells one half of the story,
// so both are followed, and the mean of both is the answer; compare(A, B) is minus compare(B, A).
//
// Where dependencies are unknown (imported Timelines), an operator is taken to wait for whatever
// ended last on its device before it started; a late start is then never admission.
//
// Units: picoseconds.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "sim/timeline.h"
#include "sim/timeline_match.h"

namespace steploom {

enum class DifferenceCause : std::uint8_t {
  kernel,       // the operator itself took longer, alone on its device in both
  contention,   // it took longer, beside something else in at least one of both
  admission,    // ready and issued, it waited while another kernel held the device
  launch_gap,   // it waited for its host
  peer,         // it had started and waited for the last member of its collective
  start_delay,  // ready and issued, it started late while nothing else ran
  other_path,   // chains only: it waited for an operator that is not on this chain
};
inline constexpr int kDifferenceCauses = static_cast<int>(DifferenceCause::other_path) + 1;
std::string_view name_of(DifferenceCause c);  // "launch gap"
bool explains(DifferenceCause c);             // all but the last two

using CauseTimes = std::array<Picoseconds, kDifferenceCauses>;

// One part of one operator.
struct OperatorDifference {
  std::uint32_t event_a = 0;
  std::uint32_t event_b = 0;
  DifferenceCause cause = DifferenceCause::kernel;
  Picoseconds a = 0;  // the part's time
  Picoseconds b = 0;
  bool on_chain_a = false;  // is the operator on A's critical chain?
  bool on_chain_b = false;
  Picoseconds difference() const { return b - a; }
};

struct StepDifference {
  Picoseconds difference = 0;  // of the makespans
  CauseTimes along_a{};        // by cause, along A's critical chain; adds up to `difference`
  CauseTimes along_b{};        // along B's
  std::vector<OperatorDifference> operators;  // no zeros, the largest first, then by event

  Picoseconds mean(DifferenceCause c) const;  // of both chains, half picoseconds dropped
  Picoseconds explained() const;              // what the means explain
  Picoseconds left() const { return difference - explained(); }
};

// `match` must be of these two and same().
StepDifference step_difference(const Timeline& a, const Timeline& b, const TimelineMatch& match);

}  // namespace steploom
