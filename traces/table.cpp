#include "traces/table.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cctype>
#include <cstdlib>
#include <ostream>

#include "models/error.h"
#include "models/nearest.h"
#include "traces/json_text.h"
#include "traces/units.h"

namespace steploom {
namespace {

constexpr std::array<std::string_view, 3> kFormats{"table", "csv", "json"};  // as TableFormat

[[maybe_unused]] bool fits(const Cell& cell, CellKind kind) {
  if (std::holds_alternative<std::monostate>(cell)) return true;
  switch (kind) {
    case CellKind::text:
      return std::holds_alternative<std::string>(cell);
    case CellKind::number:
    case CellKind::share:
      return std::holds_alternative<double>(cell);
    case CellKind::count:
      return !std::holds_alternative<std::string>(cell);
    case CellKind::integer:
    case CellKind::time:
    case CellKind::bytes:
      return std::holds_alternative<std::int64_t>(cell);
  }
  return false;
}

std::string text_of(const Cell& cell, const Column& column) {
  if (std::holds_alternative<std::monostate>(cell)) return "-";
  switch (column.kind) {
    case CellKind::text:
      return std::get<std::string>(cell);
    case CellKind::integer:
      return std::to_string(std::get<std::int64_t>(cell));
    case CellKind::number:
      return fmt::format("{:.{}f}", std::get<double>(cell), column.precision);
    case CellKind::count:
      return count_text(std::holds_alternative<double>(cell)
                            ? std::get<double>(cell)
                            : static_cast<double>(std::get<std::int64_t>(cell)));
    case CellKind::time:
      return time_text(std::get<std::int64_t>(cell));
    case CellKind::bytes:
      return bytes_text(std::get<std::int64_t>(cell));
    case CellKind::share:
      return share_text(std::get<double>(cell));
  }
  return {};
}

// Characters on a terminal, each of width 1: all bytes but the continuations of UTF-8.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

void print_text(std::ostream& out, const Table& table, bool styled) {
  std::vector<std::vector<std::string>> lines(1);
  for (const Column& c : table.columns())
    lines[0].push_back(c.unit.empty() ? c.title : c.title + " (" + c.unit + ")");
  for (const std::vector<Cell>& row : table.rows()) {
    std::vector<std::string>& line = lines.emplace_back();
    for (std::size_t c = 0; c < row.size(); ++c)
      line.push_back(text_of(row[c], table.columns()[c]));
  }
  std::vector<std::size_t> widths(table.columns().size(), 0);
  for (const auto& line : lines)
    for (std::size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], width(line[c]));

  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::string text;
    for (std::size_t c = 0; c < lines[i].size(); ++c) {
      const std::string padding(widths[c] - width(lines[i][c]), ' ');
      if (c > 0) text += "  ";
      text +=
          table.columns()[c].kind == CellKind::text ? lines[i][c] + padding : padding + lines[i][c];
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out << (styled && i == 0 ? "\x1b[1m" + text + "\x1b[0m" : text) << '\n';
  }
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == text.npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

struct RawCsv {
  std::string operator()(std::monostate) const { return ""; }
  std::string operator()(const std::string& s) const { return csv_field(s); }
  std::string operator()(std::int64_t i) const { return std::to_string(i); }
  std::string operator()(double d) const {
    const std::string text = json_number(d);
    return text == "null" ? "" : text;
  }
};

struct RawJson {
  std::string operator()(std::monostate) const { return "null"; }
  std::string operator()(const std::string& s) const { return json_string(s); }
  std::string operator()(std::int64_t i) const { return std::to_string(i); }
  std::string operator()(double d) const { return json_number(d); }
};

void print_csv(std::ostream& out, const Table& table) {
  const std::size_t columns = table.columns().size();
  for (std::size_t c = 0; c < columns; ++c) out << (c > 0 ? "," : "") << csv_field(table.key(c));
  out << '\n';
  for (const std::vector<Cell>& row : table.rows()) {
    for (std::size_t c = 0; c < columns; ++c)
      out << (c > 0 ? "," : "") << std::visit(RawCsv{}, row[c]);
    out << '\n';
  }
}

void print_json(std::ostream& out, const Table& table) {
  out << '[';
  for (std::size_t r = 0; r < table.rows().size(); ++r) {
    out << (r > 0 ? ",\n {" : "\n {");
    for (std::size_t c = 0; c < table.columns().size(); ++c)
      out << (c > 0 ? ", " : "") << json_string(table.key(c)) << ": "
          << std::visit(RawJson{}, table.rows()[r][c]);
    out << '}';
  }
  out << "\n]\n";
}

// "TFLOP/s per GPU" -> "tflop_s_per_gpu"
std::string as_key(std::string_view title) {
  std::string key;
  for (const char c : title) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0)
      key += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    else if (!key.empty() && key.back() != '_')
      key += '_';
  }
  if (!key.empty() && key.back() == '_') key.pop_back();
  return key;
}

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::add(std::vector<Cell> row) {
  assert(row.size() == columns_.size());
  for (std::size_t c = 0; c < row.size(); ++c) assert(fits(row[c], columns_[c].kind));
  rows_.push_back(std::move(row));
}

std::string Table::key(std::size_t column) const {
  const Column& c = columns_[column];
  if (!c.key.empty()) return c.key;
  const std::string name = as_key(c.title);
  switch (c.kind) {
    case CellKind::time:
      return name + "_ps";
    case CellKind::bytes:
      return name + "_bytes";
    case CellKind::share:
      return name + "_share";
    default:
      return c.unit.empty() ? name : name + "_" + as_key(c.unit);
  }
}

TableFormat parse_table_format(std::string_view name, std::string_view reading) {
  for (std::size_t i = 0; i < kFormats.size(); ++i)
    if (name == kFormats[i]) return static_cast<TableFormat>(i);
  throw Error({std::string(reading), "", "table, csv or json", "'" + std::string(name) + "'",
               nearest_hint(name, kFormats)});
}

void print(std::ostream& out, const Table& table, TableFormat format, bool styled) {
  switch (format) {
    case TableFormat::text:
      return print_text(out, table, styled);
    case TableFormat::csv:
      return print_csv(out, table);
    case TableFormat::json:
      return print_json(out, table);
  }
}

bool styles_wanted(int file_descriptor) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return isatty(file_descriptor) != 0 && (no_color == nullptr || *no_color == '\0') &&
         terminal != nullptr && std::string_view(terminal) != "dumb";
}

}  // namespace steploom
