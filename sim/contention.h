// How kernels that run together slow each other: measured tables, never guessed.
//
// The local rate of an operator is g(SMs held / SMs wanted) × Π h(its class and CTA count, the
// other's class and CTA count) over the other residents of its device, as integers out of 65536. A
// kernel's CTA count is the SMs it wants. Both tables are clamped to slow-downs (at most full
// rate). A collective's rate is the least over its members, then capped by max-min sharing of the
// links it uses. A rate depends on the set of residents and the SMs they hold, never on other
// rates. Source of the form: docs/how-it-works.md, "Contention". Profiles hold such tables for the
// fabrics that were measured (profile_fabric.h).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "sim/program.h"

namespace steploom {

// h of one class beside another.
struct PairRates {
  // Increasing CTA counts of its own and of the other's; empty: that count does not matter.
  std::vector<std::uint16_t> own, other;
  // Own-major: rates[i · other + j]; linear between counts, constant beyond. Empty: full rate.
  std::vector<std::uint32_t> rates;

  // The rate at two CTA counts.
  std::uint32_t at(std::uint16_t own_ctas, std::uint16_t other_ctas) const;
  bool operator==(const PairRates&) const = default;
};

struct Contention {
  // g, one row a kernel class: rate at held/wanted = i/16, i = 0..16, linear between.
  using ShareCurve = std::array<std::uint32_t, 17>;
  std::vector<ShareCurve> share;

  std::vector<PairRates> beside;  // h, [class · classes + other class]

  // By class: a collective of higher priority gets SMs from such kernels after a wave of this
  // length, though they persist for others; 0: at their end, as for others.
  std::vector<Picoseconds> priority_wave;

  std::size_t classes() const { return share.size(); }
};

// g at held of wanted SMs.
std::uint32_t share_at(const Contention::ShareCurve& curve, std::uint32_t held,
                       std::uint32_t wanted);

// Tables that slow nothing: SMs are still admitted and links still shared.
Contention neutral_contention(std::size_t classes);

// Tables of several types of device as one: class c of the t-th has row t · (its classes) + c.
// Classes of two types never run on one device.
Contention stacked(const std::vector<const Contention*>& types);

// Nothing was measured to slow anything.
bool slows_nothing(const Contention& c);

// Throws Error unless sizes agree and every rate lies in 1..65536.
void validate(const Contention& c, const char* reading);

}  // namespace steploom
