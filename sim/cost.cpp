#include "sim/cost.h"

#include <array>
#include <cstddef>

namespace steploom {

std::string_view name_of(Provenance p) {
  static constexpr std::array<std::string_view, kProvenances> kNames{
      "measured", "interpolated", "fitted", "calibrated", "modelled"};
  return kNames.at(static_cast<std::size_t>(p));
}

}  // namespace steploom
