// Where weight gradients go, once the order of forward passes and B's is given.
//
// The slots are gone through in an order that their dependencies allow, so a rank knows when the
// input of its next slot arrives. Before that it runs W's, oldest first: those without which the
// memory limit would be passed; those that end before the input is there; and, where it would idle
// longer than it is allowed, one more, which delays the slot. What is left follows the last B.
#pragma once

#include <optional>

#include "planner/schedule_times.h"

namespace steploom {

// What a rank may idle before W's delay other slots: as much as lets it end at a common time.
struct IdleRule {
  enum class Kind : std::uint8_t {
    never,     // W's delay nothing
    always,    // a rank that has a W never idles
    deadline,  // while first start + work + idle time stay within `deadline`
    span       // the same, from the rank's first start
  } kind = Kind::never;
  Picoseconds deadline = 0;
};

// `order`: forward passes and B's (W's and pairs in it are dropped, whole backward passes split).
// nullopt: it is a deadlock or does not fit the memory. `state` holds the times of the result.
std::optional<ScheduleSlots> with_weights(const ScheduleSlots& order, const IdleRule& rule,
                                          ScheduleState& state);

// Forward passes and B's alone.
ScheduleSlots without_weights(const ScheduleSlots& slots);

}  // namespace steploom
