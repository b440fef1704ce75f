#include "sim/slow_down.h"

#include <algorithm>
#include <map>

#include "models/error.h"

namespace steploom {
namespace {

std::uint32_t between(std::uint32_t low, std::uint32_t high, std::int64_t part,
                      std::int64_t whole) {
  const std::int64_t rise = std::int64_t{high} - low;
  return static_cast<std::uint32_t>(low + rise * part / whole);
}

std::uint32_t rate_beside(const Contention& c, std::size_t victim, std::uint16_t other,
                          std::uint16_t ctas) {
  const std::vector<std::uint32_t>& rates = c.beside[victim * c.classes() + other];
  if (rates.empty()) return kFullRate;
  const auto after = std::lower_bound(c.cta_steps.begin(), c.cta_steps.end(), ctas);
  const auto i = static_cast<std::size_t>(after - c.cta_steps.begin());
  if (i == 0) return rates.front();
  if (i == rates.size()) return rates.back();
  return between(rates[i - 1], rates[i], ctas - c.cta_steps[i - 1],
                 c.cta_steps[i] - c.cta_steps[i - 1]);
}

}  // namespace

SlowDown::SlowDown(const FlatProgram& flat, const Contention& contention)
    : first_(flat.ops.data()), contention_(contention) {
  validate(contention, "contention tables");
  std::map<std::pair<std::uint16_t, std::uint16_t>, std::uint32_t> aggressors;
  for (const BlockTemplate& block : flat.program.blocks)
    for (const OpTemplate& op : block.ops) {
      if (op.kernel_class >= contention.classes())
        throw Error({"contention tables", "block " + block.name,
                     "kernel classes below " + std::to_string(contention.classes()),
                     std::to_string(op.kernel_class), ""});
      KernelNeeds needs;
      needs.wave = op.wave;
      needs.collective = op.role != kNoRole;
      needs.sms_wanted = op.sms_wanted;
      needs.sms_least = needs.collective ? op.sms_wanted : std::min(op.sms_least, op.sms_wanted);
      needs.kernel_class = op.kernel_class;
      needs.link_share = op.link_share;
      needs.priority = op.priority;
      needs.hands_over = !op.persistent;
      needs.aggressor = aggressors
                            .try_emplace({op.kernel_class, op.sms_wanted},
                                         static_cast<std::uint32_t>(aggressors.size()))
                            .first->second;
      needs_.push_back(needs);
    }
  aggressors_ = aggressors.size();
  beside_.resize(contention.classes() * aggressors_);
  for (std::size_t victim = 0; victim < contention.classes(); ++victim)
    for (const auto& [other, index] : aggressors)
      beside_[victim * aggressors_ + index] =
          rate_beside(contention, victim, other.first, other.second);
}

std::uint32_t SlowDown::on(const KernelNeeds& needs, std::uint32_t held,
                           std::uint32_t wanted) const {
  const Contention::ShareCurve& curve = contention_.share[needs.kernel_class];
  if (held >= wanted) return curve[16];
  const std::uint32_t step = held * 16 / wanted;
  return between(curve[step], curve[step + 1],
                 std::int64_t{held} * 16 - std::int64_t{step} * wanted, wanted);
}

}  // namespace steploom
