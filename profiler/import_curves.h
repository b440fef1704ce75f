// Curves of collectives for a profile, from sizes and times that others measured.
//
// Every measured size is a knot, with its own time. Times that fall as sizes grow (noise) are the
// one thing that a profile does not take: neighbours that fall are joined at the mean of their
// logarithms (pool adjacent violators), and how much that moved is told.
#pragma once

#include <string>
#include <vector>

#include "sim/profile.h"

namespace steploom {

struct MeasuredCurve {
  OpKind collective = OpKind::all_reduce;
  int ranks = 0;
  int nodes = 1;
  std::vector<double> bytes;  // ascending, positive
  std::vector<double> us;     // positive
  std::string source;         // "nccl-tests 2.19.6, NCCL 2.29.7, …"
};

struct LaidCurve {
  int joined = 0;         // sizes whose time was moved
  double most_moved = 0;  // |moved/measured − 1| at worst
  bool replaced = false;  // the profile had a curve of these ranks and nodes
};

LaidCurve lay_curve(Profile& profile, const MeasuredCurve& curve);

}  // namespace steploom
