// A cost model against measured points: how far the one is from the other, by class of kernel.
//
// The error of a point is predicted/measured − 1. Of grouped products only the fastest provider of
// each shape counts: that is what a runtime that measures would use. Uneven experts stand apart,
// because a Work does not say how tokens are spread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "profiler/points.h"
#include "sim/cost_model.h"

namespace steploom {

struct ClassError {
  std::string what;  // "matmul forward"
  std::int64_t points = 0;
  double bias = 0;    // median of predicted/measured − 1
  double median = 0;  // of |predicted/measured − 1|
  double p95 = 0;     // 95th percentile
  double worst = 0;
  std::string worst_point;  // as an Ask's text
};

struct PointError {
  double error = 0;   // predicted/measured − 1
  std::string point;  // as an Ask's text
};
PointError error_of(const MeasuredPoint& point, const CostModel& model);
ClassError class_error(const std::string& what, const std::vector<PointError>& errors);

// The points that count: with samples, and of a grouped shape the fastest provider's.
std::vector<MeasuredPoint> counted_points(const std::vector<MeasuredPoint>& points);

struct Comparison {
  std::vector<ClassError> classes;  // kinds and phases, then sums over classes; none is empty
  std::int64_t skipped = 0;         // points without samples
};

Comparison compare_points(const std::vector<MeasuredPoint>& points, const CostModel& model);

// For each shape of grouped product, how often each provider was the fastest.
struct ProviderWins {
  std::string what;  // "grouped_matmul forward even"
  std::string provider;
  std::int64_t shapes = 0;   // that it was measured on
  std::int64_t fastest = 0;  // of those
  double median_slower = 0;  // median of its time over the fastest's, minus 1
};
std::vector<ProviderWins> provider_wins(const std::vector<MeasuredPoint>& points);

}  // namespace steploom
