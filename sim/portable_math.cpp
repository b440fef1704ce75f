#include "sim/portable_math.h"

#include <bit>
#include <cassert>
#include <limits>

namespace steploom {
namespace {

constexpr double kLog2E = 1.4426950408889634074;  // log2(e)
constexpr double kLn2 = 0.69314718055994530942;
constexpr double kSqrt2 = 1.41421356237309504880;
constexpr int kMantissaBits = 52;
constexpr int kBias = 1023;

}  // namespace

double portable_log2(double x) {
  assert(x >= std::numeric_limits<double>::min() && x <= std::numeric_limits<double>::max());
  const auto bits = std::bit_cast<std::uint64_t>(x);
  int exponent = static_cast<int>(bits >> kMantissaBits) - kBias;
  const std::uint64_t mantissa = bits & ((std::uint64_t{1} << kMantissaBits) - 1);
  double m = std::bit_cast<double>(mantissa | (std::uint64_t{kBias} << kMantissaBits));  // [1, 2)
  if (m > kSqrt2) {
    m *= 0.5;
    ++exponent;
  }
  // ln m = 2 artanh s with s = (m − 1)/(m + 1); |s| ≤ 0.172, so s^25 is below 1e-19.
  const double s = (m - 1.0) / (m + 1.0);
  const double square = s * s;
  double sum = 0.0;
  for (int odd = 23; odd >= 1; odd -= 2) sum = sum * square + 1.0 / odd;
  return static_cast<double>(exponent) + 2.0 * s * sum * kLog2E;
}

double portable_exp2(double x) {
  if (x < -1022.0) return 0.0;
  if (x >= 1024.0) return std::numeric_limits<double>::infinity();
  const int whole = static_cast<int>(x < 0.0 ? x - 0.5 : x + 0.5);
  // e^y with |y| ≤ ln(2)/2: the term y^14/14! is below 1e-17.
  const double y = (x - static_cast<double>(whole)) * kLn2;
  double sum = 1.0;
  for (int term = 13; term >= 1; --term) sum = 1.0 + sum * y / term;
  // 2^whole in two factors: whole may be 1024 with a fraction below one.
  const int half = whole / 2;
  const auto power = [](int p) {
    return std::bit_cast<double>(static_cast<std::uint64_t>(p + kBias) << kMantissaBits);
  };
  return sum * power(half) * power(whole - half);
}

Picoseconds to_picoseconds(double seconds) {
  assert(seconds >= 0.0);
  constexpr Picoseconds kMost = Picoseconds{1} << 62;
  const double ps = seconds * 1e12 + 0.5;
  return ps < static_cast<double>(kMost) ? static_cast<Picoseconds>(ps) : kMost;
}

}  // namespace steploom
