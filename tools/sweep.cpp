#include "tools/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "models/error.h"
#include "models/nearest.h"

namespace steploom {
namespace {

enum class Kind { integer, decimal, name };

struct Key {
  std::string_view name;
  std::string_view flag;
  std::string_view title;  // of an axis
  std::string_view label;  // of one value
  Kind kind;
  std::int64_t most;  // of integers
  void (*set)(QuestionFlags&, const std::string&, double);
};

constexpr std::int64_t kMostLong = std::int64_t{1} << 40;

constexpr std::array<Key, 8> kKeys{{
    {"nodes", "--nodes", "nodes", "{} nodes", Kind::integer, 16384,
     [](QuestionFlags& f, const std::string&, double v) { f.nodes = static_cast<int>(v); }},
    {"gpus", "--gpus", "GPUs a node", "{} GPUs a node", Kind::integer, 256,
     [](QuestionFlags& f, const std::string&, double v) { f.gpus = static_cast<int>(v); }},
    {"network-gbps", "--network-gbps", "network, Gb/s a NIC", "{} Gb/s", Kind::decimal, 0,
     [](QuestionFlags& f, const std::string&, double v) { f.network_gbps = v; }},
    {"gpu", "--cluster", "cluster", "{}", Kind::name, 0,
     [](QuestionFlags& f, const std::string& v, double) { f.cluster = v; }},
    {"seq-length", "--seq-length", "sequence length, tokens", "sequence {}", Kind::integer,
     kMostLong,
     [](QuestionFlags& f, const std::string&, double v) {
       f.seq_length = static_cast<std::int64_t>(v);
     }},
    {"global-batch", "--global-batch", "global batch, sequences", "batch {}", Kind::integer,
     kMostLong,
     [](QuestionFlags& f, const std::string&, double v) {
       f.global_batch = static_cast<std::int64_t>(v);
     }},
    {"precision", "--precision", "precision", "{}", Kind::name, 0,
     [](QuestionFlags& f, const std::string& v, double) { f.precision = v; }},
    {"runtime", "--runtime", "runtime", "{}", Kind::name, 0,
     [](QuestionFlags& f, const std::string& v, double) { f.runtime = v; }},
}};

constexpr std::size_t kMostValues = 1000;

const Key* find_key(std::string_view name) {
  const auto at =
      std::find_if(kKeys.begin(), kKeys.end(), [&](const Key& k) { return k.name == name; });
  return at == kKeys.end() ? nullptr : &*at;
}

const Key& key_of(const Sweep& sweep) {
  return *find_key(sweep.key);
}

// Reads one sweep's numbers.
class Numbers {
 public:
  Numbers(const Key& key, std::string reading) : key_(key), reading_(std::move(reading)) {}

  void add(std::string_view item) {
    const std::size_t dots = item.find("..");
    if (dots == std::string_view::npos) {
      push(number(item));
      return;
    }
    std::string_view last = item.substr(dots + 2);
    std::optional<double> step;
    if (const std::size_t colon = last.find(':'); colon != std::string_view::npos) {
      step = number(last.substr(colon + 1));
      last = last.substr(0, colon);
    }
    const double from = number(item.substr(0, dots)), to = number(last);
    if (from > to) refuse("a range that goes up", item);
    // Of a step, each value by itself: sums of fractions drift.
    constexpr double kSlack = 1 + 1e-12;
    for (std::size_t i = 0; values.size() <= kMostValues; ++i) {
      const double value =
          step ? from + static_cast<double>(i) * *step : std::ldexp(from, static_cast<int>(i));
      if (value > to * kSlack) return;
      push(value);
    }
    refuse(fmt::format("at most {} values", kMostValues), item);
  }

  std::vector<double> values;

 private:
  [[noreturn]] void refuse(std::string expected, std::string_view found) const {
    throw Error({reading_, "", std::move(expected), "'" + std::string(found) + "'", ""});
  }

  double number(std::string_view text) const {
    if (key_.kind == Kind::decimal) return parse_gbps(std::string(text), reading_);
    std::int64_t read = 0;
    const char* end = text.data() + text.size();
    const auto [at, fault] = std::from_chars(text.data(), end, read);
    if (fault != std::errc{} || at != end || read < 1 || read > key_.most)
      refuse(fmt::format("an integer from 1 to {}, or a range a..b or a..b:step", key_.most), text);
    return static_cast<double>(read);
  }

  void push(double value) { values.push_back(value); }

  const Key& key_;
  std::string reading_;
};

std::vector<std::string_view> items_of(std::string_view list) {
  std::vector<std::string_view> items;
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t comma = std::min(list.find(',', at), list.size());
    items.push_back(list.substr(at, comma - at));
    at = comma + 1;
  }
  return items;
}

}  // namespace

Sweep parse_sweep(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos)
    throw Error({"--sweep", "", "KEY=VALUES, such as nodes=1..64", "'" + text + "'", ""});
  Sweep sweep{text.substr(0, equals), {}, {}};
  const Key* key = find_key(sweep.key);
  if (key == nullptr) {
    std::vector<std::string_view> known;
    for (const Key& k : kKeys) known.push_back(k.name);
    throw Error({"--sweep", "", "a key that can be swept", "'" + sweep.key + "'",
                 nearest_hint(sweep.key, known)});
  }
  const std::string reading = "--sweep " + sweep.key;
  Numbers numbers(*key, reading);
  for (const std::string_view item : items_of(std::string_view(text).substr(equals + 1))) {
    if (item.empty())
      throw Error({reading, "", "values with commas between", "'" + text + "'", ""});
    if (key->kind == Kind::name)
      sweep.values.emplace_back(item);
    else
      numbers.add(item);
  }
  std::sort(numbers.values.begin(), numbers.values.end());
  sweep.numbers = numbers.values;
  for (const double n : sweep.numbers)
    sweep.values.push_back(key->kind == Kind::integer ? std::to_string(static_cast<std::int64_t>(n))
                                                      : fmt::format("{:g}", n));
  std::vector<std::string> ordered = sweep.values;
  std::sort(ordered.begin(), ordered.end());
  if (const auto twice = std::adjacent_find(ordered.begin(), ordered.end()); twice != ordered.end())
    throw Error({reading, "", "every value once", "'" + *twice + "' twice", ""});
  return sweep;
}

std::string flag_of(const Sweep& sweep) {
  return std::string(key_of(sweep).flag);
}

void apply(const Sweep& sweep, std::size_t value, QuestionFlags& flags) {
  key_of(sweep).set(flags, sweep.values[value], sweep.numbers.empty() ? 0 : sweep.numbers[value]);
}

std::string label_of(const Sweep& sweep, std::size_t value) {
  return fmt::format(fmt::runtime(key_of(sweep).label), sweep.values[value]);
}

std::string title_of(const Sweep& sweep) {
  return std::string(key_of(sweep).title);
}

}  // namespace steploom
