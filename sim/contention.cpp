#include "sim/contention.h"

#include "models/error.h"

namespace steploom {
namespace {

void check_rate(std::uint32_t rate, const char* reading, const std::string& place) {
  if (rate < 1 || rate > kFullRate)
    throw Error({reading, place, "a rate of 1 to 65536", std::to_string(rate), ""});
}

}  // namespace

Contention neutral_contention(std::size_t classes) {
  Contention c;
  c.share.resize(classes);
  for (Contention::ShareCurve& curve : c.share) curve.fill(kFullRate);
  c.beside.resize(classes * classes);
  return c;
}

void validate(const Contention& c, const char* reading) {
  if (c.beside.size() != c.classes() * c.classes())
    throw Error({reading, "beside", std::to_string(c.classes() * c.classes()) + " pairs of classes",
                 std::to_string(c.beside.size()), ""});
  for (std::size_t i = 0; i < c.classes(); ++i)
    for (const std::uint32_t rate : c.share[i])
      check_rate(rate, reading, "share of class " + std::to_string(i));
  for (std::size_t i = 1; i < c.cta_steps.size(); ++i)
    if (c.cta_steps[i] <= c.cta_steps[i - 1])
      throw Error({reading, "cta_steps", "increasing counts", std::to_string(c.cta_steps[i]), ""});
  for (std::size_t i = 0; i < c.beside.size(); ++i) {
    const std::string place =
        "beside, pair " + std::to_string(i / c.classes()) + " " + std::to_string(i % c.classes());
    if (!c.beside[i].empty() && c.beside[i].size() != c.cta_steps.size())
      throw Error({reading, place, std::to_string(c.cta_steps.size()) + " rates, one a CTA count",
                   std::to_string(c.beside[i].size()), ""});
    for (const std::uint32_t rate : c.beside[i]) check_rate(rate, reading, place);
  }
}

}  // namespace steploom
