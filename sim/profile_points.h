// Exact points of a profile: kernels that were timed on the very shapes that a step needs.
//
// Surfaces and corrections (profile.h) answer for every shape; a measured point answers for one,
// with its own median, and is never smoothed or extended. A Work and a point are the same kernel
// when these agree: kind, phase and
//   products                     m, n, k and the groups
//   attention                    m, n, heads, kv_heads, head_dim and v_head_dim, no window
//   router, permute, norm        m, bytes and k (experts chosen for a token; a row's statistics)
//   other kernels that move data m and bytes
// where bytes are those that the operator is known by (operator_bytes.h), in every runtime's graph.
// Points are of bf16, experts evenly loaded, sorted by that key, each key once. Times in
// microseconds.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "models/work.h"

namespace steploom {

struct KernelPoint {
  Work work;             // its shape; FLOPs are not kept
  std::string provider;  // whose kernel: "cublaslt"
  double median_us = 0;
  double q1_us = 0;
  double q3_us = 0;
  std::int64_t samples = 0;
};

// What the points were measured on; two sets may be merged only if all but the date agree,
// and cuDNN's version where both have one.
struct PointsOn {
  std::string gpu;  // as the driver names it
  std::string driver;
  std::string cuda_runtime;
  std::string cublas;
  std::string cudnn;  // empty: not in the program that measured
  int sms = 0;
  std::string method;  // how a point is measured, in words
  std::string date;    // ISO 8601, of the latest measurement
};

struct ProfilePoints {
  PointsOn on;
  std::vector<KernelPoint> kernels;  // empty: the profile holds no points
};

// Equal for Works that a point cannot tell apart; ordered as points are sorted.
using PointKey = std::array<std::int64_t, 8>;
PointKey point_key(const Work& work);

// Finds points by Work; keeps pointers into what it was built from.
class PointIndex {
 public:
  explicit PointIndex(const std::vector<KernelPoint>& points);
  const KernelPoint* find(const Work& work) const;  // nullptr: not measured

 private:
  struct Hash {
    std::size_t operator()(const PointKey& key) const;
  };
  std::unordered_map<PointKey, const KernelPoint*, Hash> by_key_;
};

}  // namespace steploom
