// How much a test looks at. Sanitizers make tests some ten times as slow: under them large samples
// are thinned, and what must look at a whole space is left to the build without them.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <vector>

#include <gtest/gtest.h>

namespace steploom {

#ifdef __SANITIZE_ADDRESS__
inline constexpr int kOneIn = 12;
#define STEPLOOM_SKIP_UNDER_SANITIZERS() GTEST_SKIP() << "a whole space; runs without sanitizers"
#else
inline constexpr int kOneIn = 1;
#define STEPLOOM_SKIP_UNDER_SANITIZERS() static_cast<void>(0)
#endif

// Of a list of cases: all, and under the sanitizers the first of every three.
inline std::vector<const char*> some(std::initializer_list<const char*> cases) {
  std::vector<const char*> out;
  constexpr std::size_t step = kOneIn == 1 ? 1 : 3;
  for (std::size_t i = 0; i < cases.size(); i += step) out.push_back(cases.begin()[i]);
  return out;
}

// The step through a sample of `size` that looks at all of it, and under the sanitizers at `few`.
inline std::size_t step_of(std::size_t size, std::size_t few) {
  return kOneIn == 1 || size < few ? 1 : size / few;
}

}  // namespace steploom
