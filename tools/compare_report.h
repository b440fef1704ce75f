// What `compare` says of two Timelines, as tables and notes.
#pragma once

#include <string>

#include "sim/timeline.h"
#include "tools/report.h"

namespace steploom {

struct ComparedTimelines {
  const Timeline& a;
  const Timeline& b;
  std::string name_a, name_b;  // file names, for the headline
  int top = 10;                // rows of the largest differences
};

Report compare_report(const ComparedTimelines& compared);

}  // namespace steploom
