#include "models/workload.h"

#include <fmt/format.h>

#include "models/error.h"

namespace steploom {
namespace {

constexpr std::int64_t kMostTokens = std::int64_t{1} << 40;  // in a step

void check_positive(std::int64_t value, const char* name, const char* reading) {
  if (value >= 1 && value <= kMostTokens) return;
  throw Error({reading, name, fmt::format("an integer from 1 to {}", kMostTokens),
               fmt::format("{}", value), ""});
}

}  // namespace

void validate(const Workload& w, const char* reading) {
  check_positive(w.seq_length, "sequence length", reading);
  check_positive(w.global_batch, "global batch", reading);
  if (w.seq_length <= kMostTokens / w.global_batch) return;
  throw Error({reading, "global batch", fmt::format("at most {} tokens in a step", kMostTokens),
               fmt::format("{} sequences of {} tokens", w.global_batch, w.seq_length), ""});
}

}  // namespace steploom
