// Is what a user typed the name of something shipped, or of a file?
#pragma once

#include <string_view>

namespace steploom {

// A file's name has a '/' or ends in ".json"; shipped names have neither.
inline bool names_a_file(std::string_view text) {
  return text.find('/') != std::string_view::npos || text.ends_with(".json");
}

}  // namespace steploom
