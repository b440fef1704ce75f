#include "profiler/budget.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>

namespace steploom {
namespace {

constexpr double kHotSeconds = 0.2;
constexpr double kOtherSeconds = 0.06;
constexpr double kShots = 15;  // the proof, the estimate, and what the last replays run over

double predicted_us(const Ask& ask, const CostModel& model) {
  return static_cast<double>(model.cost({ask.work, {}}).time) * 1e-6;
}

// What the leave-out rows over all points of a class say together: those of corrections first,
// then those of the tables' fits.
double left_out_error(const Profile& profile, const KindPhase& c) {
  const OpClass group = class_of(c.first);
  std::string hot = "hot card: " + std::string(name_of(group));
  if (group != OpClass::memory && group != OpClass::optimizer)
    hot += " " + std::string(name_of(c.second));
  std::vector<std::string> begins{hot + ", "};  // attention has a row for every width of heads
  if (c.second == Phase::forward) {
    if (group == OpClass::matmul) begins.emplace_back("bf16 products, ");
    if (group == OpClass::grouped_matmul) begins.emplace_back("expert layers, ");
    if (group == OpClass::attention) begins.emplace_back("attention forward, ");
  }
  for (const std::string& begin : begins) {
    double sum = 0;
    std::int64_t points = 0;
    for (const LeaveOut& row : profile.leave_out) {
      if (!row.what.starts_with(begin) || row.what.find(", all") == std::string::npos) continue;
      sum += row.median * static_cast<double>(row.points);
      points += row.points;
    }
    if (points > 0) return sum / static_cast<double>(points);
  }
  return kUnknownError;
}

double gain(int points) {
  return 1 / std::sqrt(points + 1.0) - 1 / std::sqrt(points + 2.0);
}

double at(const ByClass& values, const KindPhase& c) {
  const auto found = values.find(c);
  return found == values.end() ? 0 : found->second;
}

}  // namespace

KindPhase class_of(const Ask& ask) {
  return {ask.work.kind, ask.work.phase};
}

void add_kernel_time(const Program& program, ByClass& time) {
  for (const Device& d : program.devices)
    for (std::uint32_t s = 0; s < d.slot_count; ++s) {
      const BlockTemplate& block = program.blocks[program.slots[d.first_slot + s].block];
      for (std::size_t i = 0; i < block.ops.size(); ++i) {
        const Work& w = block.infos[i].work;
        if (!is_communication(w.kind))
          time[{w.kind, w.phase}] += static_cast<double>(block.ops[i].duration) * d.multiplicity;
      }
    }
}

ByClass shares_of(const ByClass& time) {
  double sum = 0;
  for (const auto& [c, t] : time) sum += t;
  ByClass shares = time;
  for (auto& [c, share] : shares) share = sum > 0 ? share / sum : 0;
  return shares;
}

ByClass left_out_errors(const Profile& profile, const std::vector<Ask>& asks) {
  ByClass errors;
  for (const Ask& ask : asks) errors.try_emplace(class_of(ask), 0);
  for (auto& [c, error] : errors) error = left_out_error(profile, c);
  return errors;
}

ByClass found_errors(ByClass errors, const std::vector<MeasuredPoint>& points,
                     const CostModel& model) {
  std::map<KindPhase, std::vector<double>> found;
  for (const MeasuredPoint& p : points)
    if (p.stats.samples > 0)
      found[class_of(p.ask)].push_back(
          std::abs(predicted_us(p.ask, model) / p.stats.median_us - 1));
  for (auto& [c, list] : found) {
    if (list.size() < static_cast<std::size_t>(kCoarse)) continue;
    std::sort(list.begin(), list.end());
    errors[c] = list[list.size() / 2];
  }
  return errors;
}

double seconds_of(const Ask& ask, const CostModel& model) {
  return kSetUpSeconds + (is_hot(ask) ? kHotSeconds : kOtherSeconds) +
         kShots * predicted_us(ask, model) * 1e-6;
}

std::vector<Ask> coarse_asks(const std::vector<Ask>& asks, const CostModel& model) {
  std::map<KindPhase, std::vector<std::size_t>> members;
  for (std::size_t i = 0; i < asks.size(); ++i) members[class_of(asks[i])].push_back(i);
  std::vector<std::size_t> chosen;
  for (auto& [c, list] : members) {
    std::stable_sort(list.begin(), list.end(), [&](std::size_t a, std::size_t b) {
      return predicted_us(asks[a], model) < predicted_us(asks[b], model);
    });
    const std::size_t most = std::min<std::size_t>(list.size(), kCoarse);
    for (std::size_t i = 0; i < most; ++i)
      chosen.push_back(list[most == 1 ? 0 : i * (list.size() - 1) / (most - 1)]);
  }
  std::sort(chosen.begin(), chosen.end());
  std::vector<Ask> coarse;
  for (const std::size_t i : chosen) coarse.push_back(asks[i]);
  return coarse;
}

std::vector<Ask> by_gain(const std::vector<Ask>& asks, const ByClass& shares, const ByClass& errors,
                         const std::map<KindPhase, int>& done, const CostModel& model) {
  struct Valued {
    std::size_t index;
    double value;
  };
  std::map<KindPhase, int> points = done;
  std::vector<Valued> valued;
  for (std::size_t i = 0; i < asks.size(); ++i) {
    const KindPhase c = class_of(asks[i]);
    const double worth = at(shares, c) * at(errors, c) * gain(points[c]++);
    valued.push_back({i, worth / seconds_of(asks[i], model)});
  }
  std::stable_sort(valued.begin(), valued.end(),
                   [](const Valued& a, const Valued& b) { return a.value > b.value; });
  std::vector<Ask> order;
  for (const Valued& v : valued) order.push_back(asks[v.index]);
  return order;
}

}  // namespace steploom
