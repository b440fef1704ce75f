#include "profiler/kernel_calls.h"

#include <array>

namespace steploom {

std::string_view name_of(CollectiveKind k) {
  static constexpr std::array<std::string_view, 7> kNames{
      "all_reduce_sum", "all_reduce_max", "all_gather", "reduce_scatter",
      "all_to_all",     "send",           "receive"};
  return kNames[static_cast<std::size_t>(k)];
}

}  // namespace steploom
