// The measured tables that profiles are fitted to: CSV, plain or gzip.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace steploom {

struct MeasuredTable {
  std::string reading;  // the file's name, for messages
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;

  std::size_t column(std::string_view name) const;           // throws Error if absent
  double number(std::size_t row, std::size_t column) const;  // throws Error unless it is one
};

// Throws Error if the file cannot be read or a row is too short or too long.
MeasuredTable read_table(const std::filesystem::path& file);
MeasuredTable parse_table(std::string_view text, std::string reading);

}  // namespace steploom
