#include "tools/report.h"

#include <iostream>

#include "traces/json_text.h"

namespace steploom {

void Report::add(std::string key, std::string title, Table table) {
  sections_.push_back({std::move(key), std::move(title), std::move(table)});
}

void Report::print(TableFormat format) const {
  std::ostream& out = std::cout;
  if (format == TableFormat::json) {
    out << "{\n\"headline\": " << json_string(headline_);
    for (const auto& [key, number] : values_) out << ",\n" << json_string(key) << ": " << number;
    for (const Section& s : sections_) {
      out << ",\n" << json_string(s.key) << ": ";
      steploom::print(out, s.table, format);
    }
    out << ",\n\"notes\": [";
    const char* between = "";
    for (const std::string& n : notes_) {
      if (n.empty()) continue;  // only sets paragraphs apart in text
      out << between << json_string(n);
      between = ", ";
    }
    out << "]\n}\n";
  } else {
    const bool text = format == TableFormat::text;
    const bool styled = text && styles_wanted(1);
    if (text && !headline_.empty()) out << headline_ << '\n';
    for (std::size_t i = 0; i < sections_.size(); ++i) {
      if (i > 0) out << '\n';
      if (text && !sections_[i].title.empty()) out << sections_[i].title << '\n';
      steploom::print(out, sections_[i].table, format, styled);
    }
    if (text)
      for (const std::string& n : notes_) out << n << '\n';
  }
  out.flush();
  for (const std::string& w : warnings_) std::cerr << "warning: " << w << '\n';
}

void add_format_flag(CLI::App& app, std::string& format) {
  app.add_option("--format", format, "How to print: table, json or csv")->capture_default_str();
}

}  // namespace steploom
