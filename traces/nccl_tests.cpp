#include "traces/nccl_tests.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <fstream>
#include <optional>
#include <regex>
#include <sstream>
#include <utility>

#include "models/error.h"
#include "traces/nccl_tests_run.h"

namespace steploom {
namespace {

using Words = std::vector<std::string>;

Words words_of(std::string_view line) {
  std::istringstream in{std::string(line)};
  Words words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

// Of the columns that the header names, which are the times and the counts of wrong elements.
struct Columns {
  std::size_t count = 0;
  std::size_t type = 0, redop = 0, root = 0;  // 0: not printed
  std::vector<std::size_t> time, wrong;       // out of place, in place
};

class TextReader {
 public:
  TextReader(const std::string& reading, std::string_view collective)
      : reading_(reading), collective_(collective) {}

  std::vector<NcclTestsRun> read(std::string_view text) {
    begin();
    while (!text.empty()) {
      ++number_;
      const std::size_t end = std::min(text.find('\n'), text.size());
      line(untagged(text.substr(0, end)));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    if (!parts_.lines.empty() || columns_)
      refuse("the footer \"# Avg bus bandwidth\"", "the end of the text",
             "the test was interrupted, or the file is cut short");
    if (runs_.empty()) refuse("the output of nccl-tests", "none");
    return std::move(runs_);
  }

 private:
  [[noreturn]] void refuse(std::string expected, std::string found, std::string hint = "") const {
    throw Error({reading_, fmt::format("line {}", std::max(number_, 1)), std::move(expected),
                 std::move(found), std::move(hint)});
  }

  void begin() {
    parts_ = {};
    parts_.collective = collective_;
    columns_.reset();
  }

  // mpirun --tag-output: "[1,0]<stdout>:".
  static std::string_view untagged(std::string_view line) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    const std::size_t tag = line.starts_with('[') ? line.find("<stdout>:") : std::string_view::npos;
    return tag == std::string_view::npos ? line : line.substr(tag + 9);
  }

  void line(std::string_view text) {
    const Words words = words_of(text);
    if (words.empty()) return;
    if (text.find(" NCCL ") != std::string_view::npos || text.starts_with("NCCL version")) return;
    if (words[0].starts_with('#')) {
      comment(std::string(text), words);
    } else {
      row(words);
    }
  }

  void comment(const std::string& text, const Words& w) {
    static const std::regex rank(
        R"(^#\s+Rank\s+(\d+)\s+(?:Group\s+\d+\s+)?Pid\s+\d+\s+on\s+(\S+)\s+device\s+\d+\s+\[[^\]]*\]\s*(.*?)\s*$)");
    static const std::regex versions(
        R"(^# nccl-tests version (\S+) nccl-headers=\d+ nccl-library=(\d+))");
    std::smatch match;
    if (parts_.place.empty()) parts_.place = fmt::format("line {}", number_);
    if (std::regex_search(text, match, rank)) {
      device(match[1], match[2], match[3]);
    } else if (std::regex_search(text, match, versions)) {
      parts_.tests = match[1];
      parts_.nccl = nccl_version(std::stol(match[2].str().substr(0, 9)));
    } else if (text.starts_with("# Collective test starting:") && w.size() == 5) {
      parts_.program = w[4];
    } else if (w.size() > 6 && w[1] == "size" && (w[2] == "count" || w[2] == "N")) {
      header(w);
    } else if (text.starts_with("# Out of bounds values")) {
      if (text.find("FAILED") != std::string::npos) refuse("right results", text.substr(2));
    } else if (text.starts_with("# Avg bus bandwidth")) {
      if (parts_.lines.empty()) refuse("rows before the footer", "none");
      runs_.push_back(make_run(parts_, reading_));
      begin();
    }
  }

  void device(const std::string& rank, const std::string& host, const std::string& name) {
    if (rank != std::to_string(parts_.hosts.size()))
      refuse(fmt::format("the device of rank {}", parts_.hosts.size()), "rank " + rank);
    if (!parts_.device.empty() && parts_.device != name)
      refuse("ranks on one type of device", "'" + parts_.device + "' and '" + name + "'");
    parts_.device = name;
    parts_.hosts.push_back(host);
  }

  void header(const Words& w) {
    Columns columns;
    for (std::size_t i = 1; i < w.size(); ++i) {
      if (w[i] == "cputime") refuse("times of the device", "'cputime'", "run the test without -C");
      if (w[i] == "type") columns.type = i - 1;
      if (w[i] == "redop") columns.redop = i - 1;
      if (w[i] == "root") columns.root = i - 1;
      if (w[i] == "time") columns.time.push_back(i - 1);
      if (w[i] == "#wrong" || w[i] == "error") columns.wrong.push_back(i - 1);
      if (w[i] == "timestamp") break;
      columns.count = i;
    }
    if (columns.time.empty() || columns.time.size() > 2 ||
        columns.wrong.size() != columns.time.size())
      refuse("columns time and #wrong, once or twice", "another header");
    columns_ = columns;
  }

  double number(const std::string& word, const char* what) const {
    double value = 0;
    const char* end = word.data() + word.size();
    const auto [at, fault] = std::from_chars(word.data(), end, value);
    if (fault != std::errc{} || at != end || !std::isfinite(value) || value < 0)
      refuse(what, "'" + word + "'");
    return value;
  }

  void row(const Words& w) {
    if (!columns_) refuse("a line of nccl-tests", "'" + w[0] + "'" + (w.size() > 1 ? " ..." : ""));
    std::int64_t bytes = 0;
    const char* end = w[0].data() + w[0].size();
    const auto [at, fault] = std::from_chars(w[0].data(), end, bytes);
    if (fault != std::errc{} || at != end || bytes < 0 || bytes > std::int64_t{1} << 50)
      refuse("a size in bytes", "'" + w[0] + "'");
    if (w.size() < columns_->count)
      refuse(fmt::format("{} columns, as the header names", columns_->count),
             fmt::format("{}", w.size()), "the line is cut short, or another's output is between");
    const auto text = [&](std::size_t column) { return column == 0 ? "" : w[column]; };
    NcclTestsLine line{fmt::format("line {}", number_),
                       bytes,
                       text(columns_->type),
                       text(columns_->redop),
                       text(columns_->root),
                       0,
                       0};
    for (const std::size_t column : columns_->wrong)
      if (w[column] != "N/A" && number(w[column], "how many elements are wrong, or N/A") != 0)
        refuse("right results", w[column] + " wrong elements");
    line.out_of_place = number(w[columns_->time[0]], "a time in us");
    if (columns_->time.size() == 2) line.in_place = number(w[columns_->time[1]], "a time in us");
    if (bytes > 0 && line.out_of_place == 0 && line.in_place == 0) refuse("a time above 0", "0");
    parts_.lines.push_back(std::move(line));
  }

  const std::string& reading_;
  std::string collective_;
  NcclTestsParts parts_;
  std::optional<Columns> columns_;
  std::vector<NcclTestsRun> runs_;
  int number_ = 0;
};

}  // namespace

std::vector<NcclTestsRun> parse_nccl_tests(std::string_view text, const std::string& reading,
                                           std::string_view collective) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && text[first] == '{')
    return parse_nccl_tests_json(text, reading, collective);
  return TextReader(reading, collective).read(text);
}

std::vector<NcclTestsRun> read_nccl_tests(const std::filesystem::path& file,
                                          std::string_view collective) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (!in || std::filesystem::is_directory(file) || !(text << in.rdbuf()))
    throw Error({file.string(), "", "a file that nccl-tests wrote",
                 std::filesystem::exists(file) ? "nothing readable" : "no such file", ""});
  return parse_nccl_tests(text.str(), file.string(), collective);
}

}  // namespace steploom
