#include "profiler/fit_table.h"

#include <zlib.h>

#include <charconv>
#include <memory>
#include <utility>

#include "models/error.h"

namespace steploom {
namespace {

std::vector<std::string> split(std::string_view line) {
  std::vector<std::string> cells;
  for (;;) {
    const std::size_t comma = line.find(',');
    cells.emplace_back(line.substr(0, comma));
    if (comma == std::string_view::npos) return cells;
    line.remove_prefix(comma + 1);
  }
}

std::string place_of(std::size_t row) {
  return "line " + std::to_string(row + 2);
}

}  // namespace

std::size_t MeasuredTable::column(std::string_view name) const {
  for (std::size_t c = 0; c < columns.size(); ++c) {
    if (columns[c] == name) return c;
  }
  throw Error({reading, "line 1", "a column '" + std::string(name) + "'", "none", ""});
}

double MeasuredTable::number(std::size_t row, std::size_t column) const {
  const std::string& cell = rows[row][column];
  double value = 0;
  const auto [end, fault] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (fault != std::errc() || end != cell.data() + cell.size()) {
    throw Error({reading, place_of(row), "a number as " + columns[column], "'" + cell + "'", ""});
  }
  return value;
}

MeasuredTable parse_table(std::string_view text, std::string reading) {
  MeasuredTable table;
  table.reading = std::move(reading);
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    std::vector<std::string> cells = split(line);
    if (table.columns.empty()) {
      table.columns = std::move(cells);
      continue;
    }
    if (cells.size() != table.columns.size()) {
      throw Error({table.reading, place_of(table.rows.size()),
                   std::to_string(table.columns.size()) + " cells", std::to_string(cells.size()),
                   ""});
    }
    table.rows.push_back(std::move(cells));
  }
  return table;
}

MeasuredTable read_table(const std::filesystem::path& file) {
  // zlib reads plain files through the same calls.
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> in(gzopen(file.c_str(), "rb"), gzclose);
  if (!in) throw Error({file.string(), "", "a readable table", "none", ""});
  std::string text;
  std::vector<char> piece(1 << 16);
  int got = 0;
  while ((got = gzread(in.get(), piece.data(), static_cast<unsigned>(piece.size()))) > 0) {
    text.append(piece.data(), static_cast<std::size_t>(got));
  }
  if (got < 0) throw Error({file.string(), "", "an intact gzip file", "a damaged one", ""});
  return parse_table(text, file.filename().string());
}

}  // namespace steploom
