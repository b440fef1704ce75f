#include "sim/clock_law.h"

#include <algorithm>

#include "sim/portable_math.h"

namespace steploom {

int fastest_mhz(const ClockLaw& law, int measured_mhz) {
  return std::min(law.most_mhz, static_cast<int>(law.reach * measured_mhz));
}

Picoseconds time_at(const ClockLaw& law, Picoseconds time, int measured_mhz, int mhz) {
  if (measured_mhz == 0) return time;
  const Picoseconds from = measured_mhz, to = std::min(mhz, fastest_mhz(law, measured_mhz));
  return time / to * from + (time % to * from + to - 1) / to;
}

void ClockDemand::add(const ClockDemand& other, double times) {
  fixed += other.fixed * times;
  moving += other.moving * times;
  for (const auto& [mhz, energy] : other.by) by[mhz] += energy * times;
}

double ClockDemand::at(const ClockLaw& law, int mhz) const {
  double sum = fixed + moving * mhz / law.most_mhz;
  for (const auto& [measured, energy] : by) {
    const double ratio = static_cast<double>(std::min(mhz, fastest_mhz(law, measured))) / measured;
    sum += energy * portable_exp2((law.exponent - 1) * portable_log2(ratio));
  }
  return sum;
}

int ClockDemand::highest(const ClockLaw& law, Picoseconds step) const {
  const double budget = law.budget_watts() * static_cast<double>(step) * 1e-6;
  int within = law.least_mhz, beyond = law.most_mhz + 1;
  while (beyond - within > 1) {
    const int middle = (within + beyond) / 2;
    (at(law, middle) <= budget ? within : beyond) = middle;
  }
  return within;
}

}  // namespace steploom
