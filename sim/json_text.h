// Pieces of the JSON text of profiles.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace steploom {

inline std::string json_string(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      result += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      result += c;
    }
  }
  return result + "\"";
}

// Numbers in lines that fit the screen.
template <class Numbers>
std::string json_list(const Numbers& numbers) {
  constexpr std::size_t kWidth = 96;
  std::string result = "[";
  std::string line;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const std::string next = fmt::format("{}{}", numbers[i], i + 1 < numbers.size() ? "," : "");
    if (line.size() + next.size() > kWidth) {
      result += line + "\n";
      line.clear();
    }
    line += next;
  }
  return result + line + "]";
}

}  // namespace steploom
