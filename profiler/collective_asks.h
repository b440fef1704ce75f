// Which collectives to measure, at which sizes: a list, as text a line  collective bytes , in which
// '#' begins a comment. bytes count as Work::bytes does and are whole KiB, the grain of
// `steploom profile collectives`.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "models/work.h"

namespace steploom {

struct CollectiveAsk {
  OpKind kind = OpKind::all_reduce;
  Bytes bytes = 0;
  bool operator==(const CollectiveAsk&) const = default;
};

std::string to_text(const CollectiveAsk& ask);
// Throw Error naming the line; an empty list is refused.
std::vector<CollectiveAsk> parse_collective_asks(std::string_view text, const std::string& reading);
std::vector<CollectiveAsk> read_collective_asks(const std::filesystem::path& file);

}  // namespace steploom
