// The nearest known name, for "did you mean ...?".
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace steploom {

// The candidate with the least edit distance to `word` if that is at most a third of its length
// (at least 1); else empty. Ties go to the earlier candidate.
std::string_view nearest_name(std::string_view word, std::span<const std::string_view> candidates);

// "did you mean 'x'?" or, if nothing is near, "known: a, b, c".
std::string nearest_hint(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace steploom
