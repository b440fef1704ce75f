// The sweeps of `steploom whatif`: "nodes=1..64", "network-gbps=100,200,400", "gpu=a,b".
//
// A key is a flag of `plan` by another hand: each value is what that flag would be given. Values
// are a list; in one of numbers an item may be a range: a..b doubles from a while it is at most b,
// a..b:s goes in steps of s. Numbers are put in order; none may come twice.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "tools/question.h"

namespace steploom {

struct Sweep {
  std::string key;                  // "nodes"
  std::vector<std::string> values;  // as the flag would have them
  std::vector<double> numbers;      // the same, ascending; empty where they are names
};

// Throws Error naming the nearest key, or the value that is wrong.
Sweep parse_sweep(const std::string& text);

std::string flag_of(const Sweep& sweep);  // "--cluster" of gpu
void apply(const Sweep& sweep, std::size_t value, QuestionFlags& flags);
// For people, with its unit: "nodes 8", "400 Gb/s", "h100-sxm-80gb".
std::string label_of(const Sweep& sweep, std::size_t value);
std::string title_of(const Sweep& sweep);  // of an axis: "network, Gb/s a NIC"

}  // namespace steploom
