#include "profiler/held_out.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string>
#include <string_view>

namespace steploom {
namespace {

constexpr std::size_t kWorst = 10;
constexpr std::array<std::string_view, 5> kClasses{"products", "grouped products", "attention",
                                                   "memory-bound", "collectives"};

std::size_t class_index(OpKind kind) {
  switch (class_of(kind)) {
    case OpClass::matmul:
      return 0;
    case OpClass::grouped_matmul:
      return 1;
    case OpClass::attention:
      return 2;
    case OpClass::memory:
    case OpClass::optimizer:
    case OpClass::copy:
      return 3;
    case OpClass::communication:
      break;
  }
  return 4;
}

}  // namespace

HeldOut held_out(const std::vector<MeasuredPoint>& kernels, const CollectivePoints& collectives,
                 const Profile& profile, const CostModel& model) {
  std::array<std::vector<PointError>, kClasses.size()> errors;
  for (const MeasuredPoint& p : counted_points(kernels)) {
    errors[class_index(p.ask.work.kind)].push_back(error_of(p, model));
  }
  for (const CollectiveError& e : collective_errors(collectives, profile, 0)) {
    errors[class_index(e.kind)].push_back({e.error, to_text(CollectiveAsk{e.kind, e.bytes})});
  }
  HeldOut out;
  std::vector<PointError> all;
  for (std::size_t i = 0; i < errors.size(); ++i) {
    if (errors[i].empty()) continue;
    out.classes.push_back(class_error(std::string(kClasses[i]), errors[i]));
    all.insert(all.end(), errors[i].begin(), errors[i].end());
  }
  if (all.empty()) return out;
  out.classes.push_back(class_error("total", all));
  std::stable_sort(all.begin(), all.end(), [](const PointError& a, const PointError& b) {
    return std::abs(a.error) > std::abs(b.error);
  });
  all.resize(std::min(all.size(), kWorst));
  out.worst = std::move(all);
  return out;
}

DrawCheck check_draw(const DrawnAsks& draw, const std::vector<MeasuredPoint>& kernels,
                     const CollectivePoints& collectives) {
  std::set<std::string> measured;
  for (const MeasuredPoint& p : kernels) {
    if (p.stats.samples > 0) measured.insert(to_text(p.ask));
  }
  for (const CollectivePoint& p : collectives.collectives) {
    if (p.skipped.empty()) measured.insert(p.collective + " " + std::to_string(p.bytes));
  }
  std::set<std::string> drawn;
  for (const Ask& ask : draw.kernels) drawn.insert(to_text(ask));
  for (const CollectiveAsk& ask : draw.collectives) drawn.insert(to_text(ask));
  DrawCheck check;
  check.drawn = static_cast<std::int64_t>(drawn.size());
  check.measured = std::count_if(drawn.begin(), drawn.end(),
                                 [&](const std::string& text) { return measured.contains(text); });
  check.others = static_cast<std::int64_t>(measured.size()) - check.measured;
  return check;
}

}  // namespace steploom
