// Timelines as files: name.timeline.json, or name.timeline.json.gz.
//
// What the executor writes and `steploom simulate --timeline` does, and `steploom compare` reads.
// The format is described key by key in docs/comparing.md. Times are integer picoseconds from the
// start of the step, memory is bytes, -1 is "unknown" or "none". One operator is written once under
// "operators"; an event is a row of numbers:
//
//     [operator, slot, start, end, issued, joined, group, peer, [waits]]
//
// where a wait is the distance, in events, back to what is waited for.
#pragma once

#include <filesystem>
#include <iosfwd>
#include <string_view>

#include "models/json_reader.h"
#include "sim/timeline.h"

namespace steploom {

inline constexpr int kTimelineVersion = 1;

void write_timeline(std::ostream& out, const Timeline& timeline);

// Throws Error on anything that is not such a file: every key known, every index inside its table,
// every time inside the step. `json` may come from any text; save_timeline() writes beside and
// renames.
Timeline read_timeline(const Json& json);
void save_timeline(const Timeline& timeline, const std::filesystem::path& file);

}  // namespace steploom
