// Numbers from 0 to 1 that are the same on every machine: SplitMix64 (Steele, Lea and Flood, OOPSLA
// 2014).
#pragma once

#include <cstdint>

namespace steploom {

class Uniform {
 public:
  explicit Uniform(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double operator()() { return static_cast<double>(bits() >> 11) * 0x1p-53; }

 private:
  std::uint64_t state_;
};

}  // namespace steploom
