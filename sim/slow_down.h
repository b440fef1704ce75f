// The rate at which a resident kernel works, from the Contention tables.
//
// Every template operator gets a row: what it needs of its device, and which *party* it is to
// others, that is, which (kernel class, CTA count) pair. h is tabulated by party and other party
// once, so that a rate costs a multiplication a neighbour.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/contention.h"
#include "sim/flat_program.h"

namespace steploom {

struct KernelNeeds {
  Picoseconds wave = 0;
  Picoseconds priority_wave = 0;  // for collectives of higher priority, where it persists; 0: none
  std::uint32_t party = 0;
  std::uint16_t sms_wanted = 0;
  std::uint16_t sms_least = 0;  // a collective: its CTA count
  std::uint16_t kernel_class = 0;
  std::uint16_t link_share = 0;
  std::int8_t priority = 0;
  bool hands_over = false;  // gives up what it has above its least at its wave boundaries
  bool collective = false;
};

class SlowDown {
 public:
  // Throws Error if an operator's class is not in the tables.
  SlowDown(const FlatProgram& flat, const Contention& contention);

  const KernelNeeds& needs(const FlatOp* op) const {
    return needs_[static_cast<std::size_t>(op - first_)];
  }
  // g: the rate on `held` of the `wanted` SMs.
  std::uint32_t on(const KernelNeeds& needs, std::uint32_t held, std::uint32_t wanted) const;
  // h: the rate beside another kernel.
  std::uint32_t beside(const KernelNeeds& victim, const KernelNeeds& other) const {
    return beside_[victim.party * parties_ + other.party];
  }

 private:
  const FlatOp* first_;
  const Contention& contention_;
  std::size_t parties_ = 0;
  std::vector<KernelNeeds> needs_;     // by FlatProgram::ops
  std::vector<std::uint32_t> beside_;  // party x other party
};

}  // namespace steploom
