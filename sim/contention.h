// How kernels that run together slow each other: measured tables, never guessed.
//
// The local rate of an operator is g(SMs held / SMs wanted) × Π h(its class, other class, the
// other's CTA count) over the other residents of its device, as integers out of 65536. A kernel's
// CTA count is the SMs it wants. Both tables are clamped to slow-downs (at most full rate). A
// collective's rate is the least over its members, then capped by max-min sharing of the links it
// uses. A rate depends on the set of residents and the SMs they hold, never on other rates. Source
// of the form: docs/how-it-works.md, "Contention".
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "sim/program.h"

namespace steploom {

struct Contention {
  // g, one row a kernel class: rate at held/wanted = i/16, i = 0..16, linear between.
  using ShareCurve = std::array<std::uint32_t, 17>;
  std::vector<ShareCurve> share;

  // h[victim class * classes + other class]: rates at the CTA counts in `cta_steps`, linear
  // between, constant beyond; empty: full rate.
  std::vector<std::uint16_t> cta_steps;            // increasing
  std::vector<std::vector<std::uint32_t>> beside;  // one rate a step

  std::size_t classes() const { return share.size(); }
};

// Tables that slow nothing: SMs are still admitted and links still shared.
Contention neutral_contention(std::size_t classes);

// Throws Error unless sizes agree and every rate lies in 1..65536.
void validate(const Contention& c, const char* reading);

}  // namespace steploom
