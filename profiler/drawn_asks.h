// Points to test a profile on: drawn at random, by rule, after the profile was frozen.
//
// Of n points 3/10 are products, 3/20 grouped products, 3/20 attention, 1/5 memory-bound kernels
// and 1/5 collectives (96, 48, 48, 64, 64 of 320). Each size is uniform in its logarithm between
// the bounds below, which hold what training shapes hold, and is then rounded down to its multiple:
//
//   products          tokens 256 to 65536, widths 512 to 32768, multiples of 64; the phases in turn
//   grouped products  experts 1 to 32, tokens of each 64 to 16384 (16), widths 512 to 16384 (64);
//                     the phases in turn, tokens even; two asks each, one by cublaslt-each and one
//                     by cublaslt-padded, of which the faster is the point (compare.h)
//   attention         width of a head 64, 128, 192/128 in turn, forward and data_grad; sequence 256
//                     to 32768 (64), sequences 1 to 32 with at most 65536 tokens together, heads 4
//                     to 128, a power of two; 1, 4 or 8 of them share a key-value head (192/128: 1)
//   memory-bound      every kind, phase and provider of ours in turn; rows 256 to 65536,
//                     widths 512 to 16384 (64), vocabularies 8192 to 131072, optimizers 2^20 to
//                     2^30 parameters
//   collectives       all_reduce, all_gather, reduce_scatter, all_to_all, send_recv in turn; 64 KiB
//                     to 512 MiB, whole KiB
//
// A kernel of more than 2·10¹³ FLOPs (50 ms at 400 TFLOP/s) or 2³⁵ bytes (8 ms) is drawn again, so
// the list does not depend on any profile. The same n and seed give the same list on every machine:
// splitmix64, and logarithms from sim/portable_math.h.
#pragma once

#include <cstdint>
#include <vector>

#include "profiler/asks.h"
#include "profiler/collective_asks.h"

namespace steploom {

struct DrawnAsks {
  std::vector<Ask> kernels;  // products, grouped products, attention, memory-bound
  std::vector<CollectiveAsk> collectives;
};

// Throws Error for points outside 1 to 100000.
DrawnAsks drawn_asks(std::int64_t points, std::uint64_t seed);

// splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits();
  // Uniform in the logarithm over [least, most + multiple), rounded down to a multiple that is at
  // least `least`; `least` and `most` are multiples themselves.
  std::int64_t log_uniform(std::int64_t least, std::int64_t most, std::int64_t multiple = 1);

 private:
  std::uint64_t state_;
};

}  // namespace steploom
