// The operator graph of one device's blocks as a Graphviz file, for people.
//
// A block (a pass of the schedule, such as "F" or "B") is a cluster; an operator is a node with its
// name, kind, stream and duration, coloured by class; solid arrows are what it waits for in its
// block, dashed ones what it waits for in another pass. Stream order is not drawn.
#pragma once

#include <cstddef>
#include <iosfwd>
#include <string>
#include <vector>

#include "sim/program.h"

namespace steploom {

// Graphviz lays out so many in about a minute, and nobody looks at more.
inline constexpr std::size_t kMostDotNodes = 2000;

struct DotOptions {
  std::uint32_t device = 0;
  std::vector<std::string> blocks;  // by name; empty: all
  std::string title = "steploom";
};

// Names of the blocks that a device runs, in the order of their first slot.
std::vector<std::string> block_names(const Program& program, std::uint32_t device);

// Throws Error, naming how many operators each block has, if they are more than kMostDotNodes, or
// if the device runs no block of a name.
void check_dot(const Program& program, const DotOptions& options);
void write_dot(std::ostream& out, const Program& program, const DotOptions& options);

}  // namespace steploom
