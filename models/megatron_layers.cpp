// --moe-layer-freq: a period, or a Python expression of lists of 0 and 1 with + and *.
#include <charconv>
#include <optional>

#include "models/from_megatron.h"

namespace steploom {
namespace {

class ListSum {
 public:
  ListSum(std::string_view text, std::size_t most) : rest_(text), most_(most) {}

  std::optional<std::vector<bool>> value() {
    auto v = sum();
    skip();
    return rest_.empty() ? v : std::nullopt;
  }

 private:
  using List = std::optional<std::vector<bool>>;

  void skip() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\t'))
      rest_.remove_prefix(1);
  }
  bool take(char c) {
    skip();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  std::optional<std::size_t> number() {
    skip();
    std::size_t n = 0;
    const auto [end, fault] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), n);
    if (fault != std::errc{}) return std::nullopt;
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return n;
  }
  List bracketed() {
    if (take('(')) {
      if (depth_ == kDeepest) return std::nullopt;
      ++depth_;
      List v = sum();
      --depth_;
      return take(')') ? v : std::nullopt;
    }
    if (!take('[')) return std::nullopt;
    std::vector<bool> v;
    while (!take(']')) {
      if (!v.empty() && !take(',')) return std::nullopt;
      const auto n = number();
      if (!n || *n > 1 || v.size() == most_) return std::nullopt;
      v.push_back(*n == 1);
    }
    return v;
  }
  List product() {
    List v = bracketed();
    while (v && take('*')) {
      const auto n = number();
      if (!n || (!v->empty() && *n > most_ / v->size())) return std::nullopt;
      std::vector<bool> all;
      for (std::size_t i = 0; i < *n; ++i) all.insert(all.end(), v->begin(), v->end());
      v = std::move(all);
    }
    return v;
  }
  List sum() {
    List v = product();
    while (v && take('+')) {
      const List more = product();
      if (!more || v->size() + more->size() > most_) return std::nullopt;
      v->insert(v->end(), more->begin(), more->end());
    }
    return v;
  }

  static constexpr int kDeepest = 16;
  std::string_view rest_;
  std::size_t most_;
  int depth_ = 0;
};

}  // namespace

std::vector<bool> expert_layers(std::string_view frequency, int layers, std::size_t most) {
  int every = 0;
  const auto [end, fault] =
      std::from_chars(frequency.data(), frequency.data() + frequency.size(), every);
  if (fault == std::errc{} && end == frequency.data() + frequency.size()) {
    std::vector<bool> is_moe;
    if (every >= 1)
      for (int i = 0; i < layers; ++i) is_moe.push_back(i % every == 0);
    return is_moe;
  }
  return ListSum(frequency, most).value().value_or(std::vector<bool>{});
}

}  // namespace steploom
