#include "sim/slow_down.h"

#include <algorithm>
#include <map>

#include "models/error.h"

namespace steploom {
SlowDown::SlowDown(const FlatProgram& flat, const Contention& contention)
    : first_(flat.ops.data()), contention_(contention) {
  validate(contention, "contention tables");
  std::map<std::pair<std::uint16_t, std::uint16_t>, std::uint32_t> parties;
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
      needs.priority_wave = contention.priority_wave[op.kernel_class];
      needs.party = parties
                        .try_emplace({op.kernel_class, op.sms_wanted},
                                     static_cast<std::uint32_t>(parties.size()))
                        .first->second;
      needs_.push_back(needs);
    }
  parties_ = parties.size();
  beside_.resize(parties_ * parties_);
  for (const auto& [own, mine] : parties)
    for (const auto& [other, theirs] : parties)
      beside_[mine * parties_ + theirs] =
          contention.beside[own.first * contention.classes() + other.first].at(own.second,
                                                                               other.second);
}

std::uint32_t SlowDown::on(const KernelNeeds& needs, std::uint32_t held,
                           std::uint32_t wanted) const {
  return share_at(contention_.share[needs.kernel_class], held, wanted);
}

}  // namespace steploom
