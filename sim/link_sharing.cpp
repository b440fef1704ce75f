#include "sim/link_sharing.h"

#include <algorithm>

namespace steploom {

void LinkSharing::clear() {
  flows_.clear();
  draws_.clear();
  for (const std::uint32_t link : used_) links_[link] = Link{};
  used_.clear();
}

void LinkSharing::add_flow(std::uint32_t cap) {
  flows_.push_back({cap, 0, static_cast<std::uint32_t>(draws_.size()), 0});
}

void LinkSharing::add_draw(std::uint32_t link, std::uint64_t weight) {
  if (weight == 0) return;
  draws_.push_back({link, weight});
  ++flows_.back().draws;
  if (!links_[link].used) {
    links_[link].used = true;
    links_[link].free = std::uint64_t{kFullRate} * kFullRate;
    used_.push_back(link);
  }
  links_[link].rising += weight;
}

void LinkSharing::fix(Flow& flow, std::uint32_t rate) {
  flow.rate = std::max(rate, 1u);
  for (std::uint32_t d = flow.first_draw; d < flow.first_draw + flow.draws; ++d) {
    Link& link = links_[draws_[d].link];
    link.free -= std::min(link.free, draws_[d].weight * rate);
    link.rising -= draws_[d].weight;
  }
}

void LinkSharing::solve() {
  std::size_t rising = flows_.size();
  while (rising > 0) {
    // How far all that still rise can rise together.
    std::uint64_t level = kFullRate;
    for (const Flow& flow : flows_)
      if (flow.rate == 0) level = std::min<std::uint64_t>(level, flow.cap);
    for (const std::uint32_t l : used_)
      if (links_[l].rising > 0) level = std::min(level, links_[l].free / links_[l].rising);
    const auto rate = static_cast<std::uint32_t>(level);
    // Full links are found before any flow is fixed, so that the order of flows has no say.
    for (const std::uint32_t l : used_)
      links_[l].full = links_[l].rising > 0 && links_[l].free / links_[l].rising <= level;
    for (Flow& flow : flows_) {
      if (flow.rate != 0) continue;
      bool stop = flow.cap <= rate;
      for (std::uint32_t d = flow.first_draw; d < flow.first_draw + flow.draws; ++d)
        stop = stop || links_[draws_[d].link].full;
      if (!stop) continue;
      fix(flow, rate);
      --rising;
    }
  }
}

}  // namespace steploom
