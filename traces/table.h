// One record, many printers: a table that comes out as aligned text, CSV or JSON.
//
// A Table has typed columns and rows of raw values: picoseconds, bytes, shares of 1. Text is for
// people: values with their units (units.h), a header, columns lined up. CSV (quoted as in RFC
// 4180, lines end in LF) and JSON (an array of objects) are for machines: raw values under names
// that carry the unit, "step_time_ps", "memory_bytes", "exposed_share".
//
//     Table table({{"layout"}, {"step time", CellKind::time}, {"memory", CellKind::bytes}});
//     table.add({"tp1 pp4", step.makespan, peak});
//     print(std::cout, table, TableFormat::text);
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace steploom {

enum class CellKind : std::uint8_t {
  text,     // std::string, set to the left; all others to the right
  integer,  // std::int64_t
  number,   // double with Column::precision decimals
  count,    // std::int64_t or double: "46.7 B"
  time,     // std::int64_t, picoseconds: "41.2 ms"
  bytes,    // std::int64_t: "71.2 GiB"
  share,    // double, of 1: "12.3%"
};

struct Column {
  std::string title;  // as people read it: "step time"
  CellKind kind = CellKind::text;
  int precision = 2;   // number only: decimals in text
  std::string unit{};  // number only: "TFLOP/s"; printed after the title
  std::string key{};   // name for machines; empty: from title, kind and unit
};

// std::monostate: no value. "-" in text, nothing in CSV, null in JSON.
using Cell = std::variant<std::monostate, std::string, std::int64_t, double>;

class Table {
 public:
  explicit Table(std::vector<Column> columns);
  void add(std::vector<Cell> row);  // one cell a column, of the column's type (asserted)

  const std::vector<Column>& columns() const { return columns_; }
  const std::vector<std::vector<Cell>>& rows() const { return rows_; }
  std::string key(std::size_t column) const;  // its name for machines

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

enum class TableFormat : std::uint8_t { text, csv, json };

// "table", "csv" or "json"; else throws Error that names `reading`.
TableFormat parse_table_format(std::string_view name, std::string_view reading);

// `styled`: a text header in bold (see styles_wanted).
void print(std::ostream& out, const Table& table, TableFormat format, bool styled = false);

// May what goes to this file descriptor be styled? Only on a terminal that is not dumb, and unless
// NO_COLOR is set to anything.
bool styles_wanted(int file_descriptor);

}  // namespace steploom
