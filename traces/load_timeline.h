// Any file that holds a Timeline: our own (timeline_file.h) or a Chrome trace (kineto.h), plain or
// gzip; told apart by their content.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "sim/timeline.h"

namespace steploom {

struct LoadedTimeline {
  Timeline timeline;
  std::optional<int> rank, world;  // of the one process that a profiler's trace is of
  std::vector<std::string> notes;  // what a reader should know of how it was read
};

LoadedTimeline load_timeline(const std::filesystem::path& file);  // throws Error

}  // namespace steploom
