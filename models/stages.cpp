#include "models/stages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstddef>
#include <limits>
#include <numeric>

#include "models/error.h"

namespace steploom {
namespace {

constexpr std::size_t kMostLetters = 1'000'000;
constexpr std::size_t kShortRun = 2;  // "tt", but "t*3"; two equal stages, but "(tt|)*3"

[[noreturn]] void refuse(std::string expected, std::string_view found, std::string hint = "") {
  throw Error(
      {"layout", "stages", std::move(expected), fmt::format("'{}'", found), std::move(hint)});
}

// The number after "*" at `at`, which moves behind it; 1 where there is none.
std::size_t times(std::string_view text, std::size_t& at) {
  if (at >= text.size() || text[at] != '*') return 1;
  std::size_t n = 0;
  const char* const from = text.data() + at + 1;
  const auto [end, error] = std::from_chars(from, text.data() + text.size(), n);
  if (error != std::errc{} || n > kMostLetters) refuse("a number after '*'", text.substr(at));
  at = static_cast<std::size_t>(end - text.data());
  return n;
}

void append(std::string& out, std::string_view what, std::size_t n) {
  if (out.size() + what.size() * n > kMostLetters) refuse("fewer layers", what);
  for (std::size_t i = 0; i < n; ++i) out += what;
}

// "t*3" -> "ttt"
std::string expand_runs(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view letter = text.substr(at++, 1);
    if (letter == "*") refuse("a letter before '*'", text);
    append(out, letter, times(text, at));
  }
  return out;
}

// "(tt|)*2" -> "tt|tt|", and the runs in it.
std::string expand(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t open = text.find('(');
    out += expand_runs(text.substr(0, open));
    if (open == std::string_view::npos) break;
    const std::size_t close = text.find(')', open);
    if (close == std::string_view::npos || text.find('(', open + 1) < close)
      refuse("every '(' closed before the next", text);
    std::size_t at = close + 1;
    const std::size_t n = times(text, at);
    append(out, expand_runs(text.substr(open + 1, close - open - 1)), n);
    text.remove_prefix(at);
  }
  return out;
}

std::string run_of(std::string_view letter, std::size_t n) {
  if (n > kShortRun) return fmt::format("{}*{}", letter, n);
  std::string out;
  append(out, letter, n);
  return out;
}

}  // namespace

std::string stage_letters_of(std::string_view text) {
  std::string bare;
  for (const char c : text)
    if (c != ',' && std::isspace(static_cast<unsigned char>(c)) == 0) bare += c;
  return expand(bare);
}

std::vector<int> parse_stages(std::string_view text) {
  const std::string letters = stage_letters_of(text);
  if (letters.empty() || letters.front() != 'E' || letters.back() != 'L')
    refuse("stages from E (embedding) to L (loss), as in 'Ett|tt|tL'", text);
  std::vector<int> layers{0};
  for (std::size_t i = 0; i < letters.size(); ++i) {
    const char c = letters[i];
    if (c == '|') {
      layers.push_back(0);
    } else if (c == 't') {
      ++layers.back();
    } else if (c == 'm') {
      refuse("letters E, t and L", text, "m: multi-token prediction is not modelled");
    } else if ((c != 'E' || i != 0) && (c != 'L' || i + 1 != letters.size())) {
      refuse("letters E, t and L, E and L once", text);
    }
  }
  return layers;
}

std::string stages_text(const std::vector<int>& layers) {
  std::vector<std::string> each;
  for (const int n : layers) each.push_back(run_of("t", static_cast<std::size_t>(n)));
  each.front() = "E" + each.front();
  each.back() += "L";
  std::string text;
  for (std::size_t i = 0; i + 1 < each.size();) {
    std::size_t end = i + 1;
    while (end + 1 < each.size() && each[end] == each[i]) ++end;
    if (end - i > kShortRun)
      text += fmt::format("({}|)*{}", each[i], end - i);
    else
      append(text, each[i] + "|", end - i);
    i = end;
  }
  return text + each.back();
}

std::vector<int> even_stages(int layers, int stages, bool count_embedding, bool count_loss) {
  const int things = layers + (count_embedding ? 1 : 0) + (count_loss ? 1 : 0);
  if (stages < 1 || things % stages != 0) return {};
  std::vector<int> split(static_cast<std::size_t>(stages), things / stages);
  if (count_embedding) --split.front();
  if (count_loss) --split.back();
  if (split.front() < 0 || split.back() < 0) return {};
  return split;
}

std::vector<int> stages_between(int layers, int stages, int first, int last) {
  const int others = stages - (first > 0 ? 1 : 0) - (last > 0 ? 1 : 0);
  const int left = layers - first - last;
  if (others < 0 || left < 0 || (others == 0 ? left != 0 : left % others != 0)) return {};
  std::vector<int> split(static_cast<std::size_t>(stages), others == 0 ? 0 : left / others);
  if (first > 0) split.front() = first;
  if (last > 0) split.back() = last;
  return split;
}

namespace {

// Loads of stages that hold layers [from, to).
class Loads {
 public:
  Loads(const std::vector<double>& cost, double embedding, double head, std::size_t stages,
        const std::vector<double>& speed = {})
      : sums_(cost.size() + 1, 0),
        embedding_(embedding),
        head_(head),
        stages_(stages),
        speed_(speed.empty() ? std::vector<double>(stages, 1.0) : speed) {
    std::partial_sum(cost.begin(), cost.end(), sums_.begin() + 1);
  }
  double operator()(std::size_t stage, std::size_t from, std::size_t to) const {
    return (sums_[to] - sums_[from] + (stage == 0 ? embedding_ : 0) +
            (stage + 1 == stages_ ? head_ : 0)) /
           speed_[stage];
  }
  double speed_from(std::size_t stage) const {
    return std::accumulate(speed_.begin() + static_cast<std::ptrdiff_t>(stage), speed_.end(), 0.0);
  }

 private:
  std::vector<double> sums_;
  double embedding_, head_;
  std::size_t stages_;
  std::vector<double> speed_;
};

}  // namespace

std::vector<int> balanced_stages(const std::vector<double>& cost, double embedding, double head,
                                 int stages, const std::vector<double>& speed) {
  const std::size_t n = cost.size(), p = static_cast<std::size_t>(stages);
  const Loads load(cost, embedding, head, p, speed);
  // least[s][i]: the largest of the stages from s on, which share the layers from i on.
  constexpr double kNever = std::numeric_limits<double>::infinity();
  std::vector<std::vector<double>> least(p + 1, std::vector<double>(n + 1, kNever));
  least[p][n] = 0;
  for (std::size_t s = p; s-- > 0;)
    for (std::size_t i = s; i + (p - s) <= n; ++i)
      for (std::size_t j = i + 1; j + (p - s - 1) <= n; ++j) {
        const double here = load(s, i, j);
        least[s][i] = std::min(least[s][i], std::max(here, least[s + 1][j]));
        if (here > least[s][i]) break;
      }
  const double most = least[0][0];
  std::vector<int> split;
  std::size_t at = 0;
  for (std::size_t s = 0; s < p; ++s) {
    double left = 0;
    for (std::size_t i = at; i < n; ++i) left += cost[i];
    const double share = (left + (s == 0 ? embedding : 0) + head) / load.speed_from(s);
    std::size_t end = at + 1;
    while (end + (p - s - 1) < n &&
           (least[s + 1][end] > most || (s + 1 < p && load(s, at, end + 1) <= share)))
      ++end;
    split.push_back(static_cast<int>(end - at));
    at = end;
  }
  return split;
}

double largest_stage(const std::vector<int>& split, const std::vector<double>& cost,
                     double embedding, double head) {
  const Loads load(cost, embedding, head, split.size());
  double most = 0;
  std::size_t at = 0;
  for (std::size_t s = 0; s < split.size(); ++s) {
    const std::size_t end = at + static_cast<std::size_t>(split[s]);
    most = std::max(most, load(s, at, end));
    at = end;
  }
  return most;
}

}  // namespace steploom
