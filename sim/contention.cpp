#include "sim/contention.h"

#include <algorithm>
#include <functional>

#include "models/error.h"

namespace steploom {
namespace {

void check_rate(std::uint32_t rate, const char* reading, const std::string& place) {
  if (rate < 1 || rate > kFullRate)
    throw Error({reading, place, "a rate of 1 to 65536", std::to_string(rate), ""});
}

void check_size(std::size_t found, std::size_t expected, const char* what, const char* reading,
                const std::string& place) {
  if (found != expected)
    throw Error({reading, place, std::to_string(expected) + " " + what, std::to_string(found), ""});
}

std::uint32_t between(std::uint32_t low, std::uint32_t high, std::int64_t part,
                      std::int64_t whole) {
  const std::int64_t rise = std::int64_t{high} - low;
  return static_cast<std::uint32_t>(low + rise * part / whole);
}

// Where a count lies on an axis: at `low` plus part/whole of the way to the next step.
struct Place {
  std::size_t low = 0;
  std::int64_t part = 0, whole = 1;
};
Place place_on(const std::vector<std::uint16_t>& axis, std::uint16_t ctas) {
  const auto after = std::lower_bound(axis.begin(), axis.end(), ctas);
  if (after == axis.begin()) return {};
  const auto i = static_cast<std::size_t>(after - axis.begin());
  if (after == axis.end()) return {i - 1, 0, 1};
  return {i - 1, ctas - axis[i - 1], axis[i] - axis[i - 1]};
}

}  // namespace

std::uint32_t PairRates::at(std::uint16_t own_ctas, std::uint16_t other_ctas) const {
  if (rates.empty()) return kFullRate;
  const Place mine = place_on(own, own_ctas);
  const Place theirs = place_on(other, other_ctas);
  const std::size_t columns = std::max<std::size_t>(other.size(), 1);
  const auto in_row = [&](std::size_t row) {
    const std::uint32_t* const rate = &rates[row * columns + theirs.low];
    return theirs.part == 0 ? *rate : between(rate[0], rate[1], theirs.part, theirs.whole);
  };
  if (mine.part == 0) return in_row(mine.low);
  return between(in_row(mine.low), in_row(mine.low + 1), mine.part, mine.whole);
}

std::uint32_t share_at(const Contention::ShareCurve& curve, std::uint32_t held,
                       std::uint32_t wanted) {
  if (held >= wanted) return curve[16];
  const std::uint32_t step = held * 16 / wanted;
  return between(curve[step], curve[step + 1],
                 std::int64_t{held} * 16 - std::int64_t{step} * wanted, wanted);
}

Contention neutral_contention(std::size_t classes) {
  Contention c;
  c.share.resize(classes);
  for (Contention::ShareCurve& curve : c.share) curve.fill(kFullRate);
  c.beside.resize(classes * classes);
  c.priority_wave.resize(classes);
  return c;
}

Contention stacked(const std::vector<const Contention*>& types) {
  std::size_t all = 0, first = 0;
  for (const Contention* of : types) all += of->classes();
  Contention out = neutral_contention(all);
  for (const Contention* of : types) {
    const std::size_t own = of->classes();
    for (std::size_t i = 0; i < own; ++i) {
      out.share[first + i] = of->share[i];
      out.priority_wave[first + i] = of->priority_wave[i];
      for (std::size_t j = 0; j < own; ++j)
        out.beside[(first + i) * all + first + j] = of->beside[i * own + j];
    }
    first += own;
  }
  return out;
}

bool slows_nothing(const Contention& c) {
  return std::all_of(c.share.begin(), c.share.end(),
                     [](const Contention::ShareCurve& curve) {
                       return std::all_of(curve.begin(), curve.end(),
                                          [](std::uint32_t rate) { return rate == kFullRate; });
                     }) &&
         std::all_of(c.beside.begin(), c.beside.end(),
                     [](const PairRates& pair) { return pair.rates.empty(); });
}

void validate(const Contention& c, const char* reading) {
  check_size(c.beside.size(), c.classes() * c.classes(), "pairs of classes", reading, "beside");
  check_size(c.priority_wave.size(), c.classes(), "classes", reading, "priority_wave");
  for (std::size_t i = 0; i < c.classes(); ++i)
    for (const std::uint32_t rate : c.share[i])
      check_rate(rate, reading, "share of class " + std::to_string(i));
  for (std::size_t i = 0; i < c.beside.size(); ++i) {
    const PairRates& pair = c.beside[i];
    const std::string place =
        "beside, pair " + std::to_string(i / c.classes()) + " " + std::to_string(i % c.classes());
    for (const auto* axis : {&pair.own, &pair.other})
      if (std::adjacent_find(axis->begin(), axis->end(), std::greater_equal<>()) != axis->end())
        throw Error({reading, place, "increasing CTA counts", "counts that do not increase", ""});
    const std::size_t crossings =
        std::max<std::size_t>(pair.own.size(), 1) * std::max<std::size_t>(pair.other.size(), 1);
    if (!pair.rates.empty() || !pair.own.empty() || !pair.other.empty())
      check_size(pair.rates.size(), crossings, "rates, one a crossing of CTA counts", reading,
                 place);
    for (const std::uint32_t rate : pair.rates) check_rate(rate, reading, place);
  }
}

}  // namespace steploom
