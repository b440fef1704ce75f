// What a verb prints: a headline, tables with titles, and lines of prose, as text, CSV or JSON.
//
// As text everything is printed, to be read. As CSV the tables alone, one after another with an
// empty line between. As JSON one object: "headline", single numbers, a list for each table under
// its key, and "notes". Warnings go to standard error in every format.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/App.hpp>

#include "traces/table.h"

namespace steploom {

class Report {
 public:
  explicit Report(std::string headline = "") : headline_(std::move(headline)) {}

  // `key`: the table's name in JSON; `title`: printed above it, may be empty.
  void add(std::string key, std::string title, Table table);
  // A number for machines alone.
  void value(std::string key, std::int64_t number) { values_.emplace_back(std::move(key), number); }
  void note(std::string line) { notes_.push_back(std::move(line)); }
  void warn(std::string line) { warnings_.push_back(std::move(line)); }

  void print(TableFormat format) const;  // to standard output, warnings to standard error

 private:
  struct Section {
    std::string key, title;
    Table table;
  };
  std::string headline_;
  std::vector<Section> sections_;
  std::vector<std::pair<std::string, std::int64_t>> values_;
  std::vector<std::string> notes_;
  std::vector<std::string> warnings_;
};

// Adds --format; the value is read by parse_table_format(flag, "--format").
void add_format_flag(CLI::App& app, std::string& format);

}  // namespace steploom
