#include "sim/link_load.h"

#include <algorithm>

namespace steploom {
namespace {

// As flows.cpp has it: out of kFullRate.
std::uint64_t draw_of(std::uint32_t share, std::uint32_t link_share) {
  return std::uint64_t{share} * link_share / 0xffff;
}

// Rounded down: at a rate of 1 / draw of full speed, or less.
Picoseconds times(Picoseconds duration, std::uint64_t draw) {
  const auto whole = static_cast<std::uint64_t>(duration);
  return static_cast<Picoseconds>(whole / kFullRate * draw + whole % kFullRate * draw / kFullRate);
}

}  // namespace

LinkLoad::LinkLoad(const Program& program) : program_(program), loads_(program.links) {
  for (const Communicator& c : program.communicators) {
    std::uint32_t most = 0;
    for (const LinkUse& use : c.uses) most = std::max(most, use.share);
    most_.push_back(most);
  }
}

Picoseconds LinkLoad::alone(std::uint32_t communicator, std::uint32_t link_share,
                            Picoseconds duration) const {
  const std::uint64_t draw = draw_of(most_[communicator], link_share);
  return draw <= kFullRate ? duration : times(duration, draw);
}

void LinkLoad::add(std::uint32_t communicator, std::uint32_t link_share, Picoseconds duration,
                   Picoseconds start) {
  for (const LinkUse& use : program_.communicators[communicator].uses)
    if (const std::uint64_t draw = draw_of(use.share, link_share); draw > 0 && duration > 0)
      loads_[use.link].push_back({start, times(duration, draw)});
}

Picoseconds LinkLoad::end() {
  Picoseconds latest = 0;
  for (std::vector<Load>& loads : loads_) {
    std::sort(loads.begin(), loads.end(),
              [](const Load& a, const Load& b) { return a.start < b.start; });
    Picoseconds end = 0;
    for (const Load& load : loads) end = std::max(end, load.start) + load.time;
    latest = std::max(latest, end);
  }
  return latest;
}

}  // namespace steploom
