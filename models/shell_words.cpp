#include "models/shell_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>

#include "models/error.h"

namespace steploom {
namespace {

bool starts_name(char c) {
  return c == '_' || std::isalpha(static_cast<unsigned char>(c)) != 0;
}
bool in_name(char c) {
  return c == '_' || std::isalnum(static_cast<unsigned char>(c)) != 0;
}
bool blank(char c) {
  return c == ' ' || c == '\t' || c == '\r';
}

// $((…)): + - * / % and brackets over integers; nothing where it is more than that.
class Sum {
 public:
  explicit Sum(std::string_view text) : rest_(text) {}
  std::optional<std::int64_t> value() {
    const auto v = sum();
    skip();
    return rest_.empty() ? v : std::nullopt;
  }

 private:
  using Value = std::optional<std::int64_t>;

  void skip() {
    while (!rest_.empty() && blank(rest_.front())) rest_.remove_prefix(1);
  }
  bool take(char c) {
    skip();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  Value one() {
    if (take('(')) {
      const Value v = sum();
      return take(')') ? v : std::nullopt;
    }
    skip();
    std::int64_t v = 0;
    const auto [end, fault] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), v);
    if (fault != std::errc{}) return std::nullopt;
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return v;
  }
  Value product() {
    Value v = one();
    while (v) {
      Value by;
      std::int64_t out = 0;
      if (take('*')) {
        by = one();
        if (!by || __builtin_mul_overflow(*v, *by, &out)) return std::nullopt;
        v = out;
      } else if (take('/')) {
        by = one();
        if (!by || *by <= 0) return std::nullopt;
        v = *v / *by;
      } else if (take('%')) {
        by = one();
        if (!by || *by <= 0) return std::nullopt;
        v = *v % *by;
      } else {
        break;
      }
    }
    return v;
  }
  Value sum() {
    Value v = product();
    while (v) {
      const bool plus = take('+');
      if (!plus && !take('-')) break;
      const Value by = product();
      std::int64_t out = 0;
      if (!by ||
          (plus ? __builtin_add_overflow(*v, *by, &out) : __builtin_sub_overflow(*v, *by, &out)))
        return std::nullopt;
      v = out;
    }
    return v;
  }

  std::string_view rest_;
};

class Reader {
 public:
  Reader(std::string_view text, const std::string& reading) : text_(text), reading_(reading) {}

  ShellScript read() {
    while (at_ < text_.size()) command();
    return std::move(script_);
  }

 private:
  using Words = std::vector<ShellWord>;

  [[noreturn]] void refuse(int line, std::string expected, std::string found) const {
    throw Error(
        {reading_, fmt::format("line {}", line), std::move(expected), std::move(found), ""});
  }

  bool more() const { return at_ < text_.size(); }
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  char next() {
    if (text_[at_] == '\n') ++line_;
    return text_[at_++];
  }

  // Blanks, continued lines, comments; line ends too if they separate nothing (in an array).
  void skip(bool line_ends) {
    while (more()) {
      if (blank(peek()) || (line_ends && peek() == '\n')) {
        next();
      } else if (peek() == '\\' && (peek(1) == '\n' || (peek(1) == '\r' && peek(2) == '\n'))) {
        while (next() != '\n') {
        }
      } else if (peek() == '#') {
        while (more() && peek() != '\n') next();
      } else {
        break;
      }
    }
  }

  static bool ends_command(char c) {
    return c == '\n' || c == ';' || c == '&' || c == '|' || c == '(' || c == ')' || c == '<' ||
           c == '>';
  }

  Words* variable(const std::string& name) {
    for (auto& [known, words] : script_.variables)
      if (known == name) return &words;
    return nullptr;
  }

  // A variable's value for use inside a word.
  static std::string joined(const Words& words) {
    std::string text;
    for (const ShellWord& w : words) text += (text.empty() ? "" : " ") + w.text;
    return text;
  }

  // After the '$'. What it stands for, or its own text where the script does not say.
  std::string expansion() {
    const std::size_t begin = at_ - 1;
    const int line = line_;
    const auto written = [&] { return std::string(text_.substr(begin, at_ - begin)); };
    if (peek() == '(') {
      const bool arithmetic = peek(1) == '(';
      int depth = 0;
      std::string inside;
      do {
        if (!more()) refuse(line, "')'", "the end of the file");
        if (peek() == '$') {
          next();
          inside += expansion();
          continue;
        }
        const char c = next();
        depth += c == '(' ? 1 : c == ')' ? -1 : 0;
        inside += c;
      } while (depth > 0);
      if (!arithmetic) return written();
      std::string sum = inside.substr(2, inside.size() - 4);
      replace_names(sum);
      const auto value = Sum(sum).value();
      return value ? std::to_string(*value) : written();
    }
    if (peek() == '{') {
      next();
      std::string inside;
      while (more() && peek() != '}') {
        if (peek() == '$') {
          next();
          inside += expansion();
        } else {
          inside += next();
        }
      }
      if (!more()) refuse(line, "'}'", "the end of the file");
      next();
      std::size_t n = 0;
      while (n < inside.size() && in_name(inside[n])) ++n;
      const std::string rest = inside.substr(n);
      const Words* known = variable(inside.substr(0, n));
      if (known && (rest.empty() || rest.starts_with("[") || rest.starts_with(":-") ||
                    rest.starts_with("-") || rest.starts_with(":=")))
        return joined(*known);
      if (rest.starts_with(":-") || rest.starts_with(":=")) return rest.substr(2);
      if (rest.starts_with("-")) return rest.substr(1);
      return written();
    }
    if (!starts_name(peek())) {
      if (more() && !blank(peek()) && peek() != '\n' && peek() != '"') next();
      return written();
    }
    std::string name;
    while (in_name(peek())) name += next();
    const Words* known = variable(name);
    return known ? joined(*known) : written();
  }

  // Names in arithmetic need no '$'.
  void replace_names(std::string& sum) {
    std::string out;
    for (std::size_t i = 0; i < sum.size();) {
      if (!starts_name(sum[i])) {
        out += sum[i++];
        continue;
      }
      std::string name;
      while (i < sum.size() && in_name(sum[i])) name += sum[i++];
      const Words* known = variable(name);
      out += known ? joined(*known) : name;
    }
    sum = out;
  }

  // One word of the text, which unquoted expansions may cut into several, or make none of.
  void word(Words& into) {
    const int line = line_;
    std::string text;
    bool quoted = false;
    const auto flush = [&] {
      if (!text.empty() || quoted) into.push_back({text, line});
      text.clear();
      quoted = false;
    };
    while (more() && !blank(peek()) && !ends_command(peek())) {
      const char c = next();
      if (c == '\'') {
        quoted = true;
        while (more() && peek() != '\'') text += next();
        if (!more()) refuse(line, "a closing '", "the end of the file");
        next();
      } else if (c == '"') {
        quoted = true;
        in_double_quotes(line, text, into);
      } else if (c == '\\') {
        if (peek() == '\n' || peek() == '\r') {
          while (more() && next() != '\n') {
          }
          break;
        }
        if (more()) text += next();
      } else if (c == '$') {
        const std::string expanded = expansion();
        const bool known = !expanded.starts_with('$');
        for (const char e : expanded) {
          if (known && (blank(e) || e == '\n'))
            flush();
          else
            text += e;
        }
      } else {
        text += c;
      }
    }
    flush();
  }

  // "${LIST[@]}" alone gives the list's words as they are.
  void in_double_quotes(int line, std::string& text, Words& into) {
    const std::string_view rest = text_.substr(at_);
    if (text.empty() && rest.starts_with("${")) {
      std::size_t n = 2;
      while (n < rest.size() && in_name(rest[n])) ++n;
      if (rest.substr(n).starts_with("[@]}\"")) {
        if (const Words* list = variable(std::string(rest.substr(2, n - 2)))) {
          const Words words = *list;
          if (words.empty()) {
            text.clear();
          } else {
            into.insert(into.end(), words.begin(), words.end() - 1);
            text = words.back().text;
          }
          for (std::size_t i = 0; i < n + 5; ++i) next();
          return;
        }
      }
    }
    while (more() && peek() != '"') {
      const char c = next();
      if (c == '$') {
        text += expansion();
      } else if (c == '\\' && (peek() == '"' || peek() == '\\' || peek() == '$')) {
        text += next();
      } else if (c == '\\' && peek() == '\n') {
        next();
      } else {
        text += c;
      }
    }
    if (!more()) refuse(line, "a closing \"", "the end of the file");
    next();
  }

  // NAME=… or NAME+=… here? The name, and whether it adds.
  std::optional<std::pair<std::string, bool>> assignment() {
    std::size_t n = 0;
    if (!starts_name(peek())) return std::nullopt;
    while (in_name(peek(n))) ++n;
    const bool adds = peek(n) == '+' && peek(n + 1) == '=';
    if (!adds && peek(n) != '=') return std::nullopt;
    std::pair<std::string, bool> found{std::string(text_.substr(at_, n)), adds};
    at_ += n + (adds ? 2 : 1);
    return found;
  }

  void assign(const std::string& name, bool adds, bool exported) {
    const int line = line_;
    Words value;
    if (peek() == '(') {
      next();
      for (skip(true); peek() != ')'; skip(true)) {
        if (!more()) refuse(line, fmt::format("')' of {}", name), "the end of the file");
        if (ends_command(peek()))
          next();
        else
          word(value);
      }
      next();
    } else {
      Words words;
      word(words);
      // A quoted value is one word here; where it is used unquoted it is split.
      for (const ShellWord& w : words) split(w, value);
    }
    Words* known = variable(name);
    if (!known) {
      script_.variables.emplace_back(name, Words{});
      known = &script_.variables.back().second;
    }
    if (!adds) known->clear();
    known->insert(known->end(), value.begin(), value.end());
    if (exported) script_.exported.emplace_back(name, joined(value));
  }

  static void split(const ShellWord& w, Words& into) {
    std::string piece;
    for (const char c : w.text + " ") {
      if (!blank(c) && c != '\n') {
        piece += c;
      } else if (!piece.empty()) {
        into.push_back({piece, w.line});
        piece.clear();
      }
    }
  }

  void command() {
    skip(false);
    Words words;
    bool exporting = false;
    std::vector<std::string> prefix;  // variables set for one command
    while (more() && !ends_command(peek())) {
      if (words.empty() || exporting) {
        if (const auto name = assignment()) {
          assign(name->first, name->second, exporting);
          prefix.push_back(name->first);
          skip(false);
          continue;
        }
      }
      word(words);
      static constexpr std::array<std::string_view, 7> kOpening{"if",   "case",  "for", "while",
                                                                "elif", "until", "else"};
      if (words.size() == 1) {
        exporting = words[0].text == "export";
        if (std::find(kOpening.begin(), kOpening.end(), words[0].text) != kOpening.end() &&
            words[0].text != "elif" && words[0].text != "else")
          script_.conditions.push_back(words[0].line);
        // These stand before a command of their own.
        static constexpr std::array<std::string_view, 5> kBefore{"then", "else", "do", "time", "{"};
        if (std::find(kBefore.begin(), kBefore.end(), words[0].text) != kBefore.end())
          words.clear();
      }
      skip(false);
    }
    if (!words.empty() && !exporting)
      for (const std::string& name : prefix)
        script_.exported.emplace_back(name, joined(*variable(name)));
    if (!words.empty()) script_.commands.push_back(std::move(words));
    if (more()) next();  // the separator
  }

  std::string_view text_;
  const std::string& reading_;
  std::size_t at_ = 0;
  int line_ = 1;
  ShellScript script_;
};

}  // namespace

ShellScript read_shell(std::string_view text, const std::string& reading) {
  return Reader(text, reading).read();
}

}  // namespace steploom
