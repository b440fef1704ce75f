// How a budget of minutes is spent on a list of asks.
//
// A class is a kind of kernel in one phase, attention of all widths together. What a measurement of
// it is worth is its share of a step's kernel time (from lowered Programs) times how wrong the
// profile is about it. After n points of a class its error is taken to fall as 1/√(n + 1), so the
// next point gains
//
//   share · error · (1/√(n + 1) − 1/√(n + 2))
//
// of a step, and asks are taken in the order of that gain over the seconds that a point takes. The
// error is first that of the profile's leave-out figures, kUnknownError where it has none; a coarse
// pass of kCoarse points of each class replaces it by what was found: the median of
// |predicted/measured − 1| on this very GPU. A point takes kSetUpSeconds, what its replays last
// (200 ms of a product or attention, 60 ms of others), and a few shots.
//
// Deterministic: ties keep the order of the list.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "profiler/points.h"
#include "sim/cost_model.h"
#include "sim/program.h"

namespace steploom {

using KindPhase = std::pair<OpKind, Phase>;
using ByClass = std::map<KindPhase, double>;

inline constexpr int kCoarse = 4;
inline constexpr double kUnknownError = 0.25;
inline constexpr double kSetUpSeconds = 0.05;

KindPhase class_of(const Ask& ask);

// Adds the kernel time of a Program's step, over all ranks, in picoseconds.
void add_kernel_time(const Program& program, ByClass& time);
// As shares that add up to one.
ByClass shares_of(const ByClass& time);

// What the profile's leave-out figures say of the classes of these asks.
ByClass left_out_errors(const Profile& profile, const std::vector<Ask>& asks);
// What measured points say; a class with fewer than kCoarse points keeps its error.
ByClass found_errors(ByClass errors, const std::vector<MeasuredPoint>& points,
                     const CostModel& model);

double seconds_of(const Ask& ask, const CostModel& model);  // to measure it

// The first points of every class, spread over the class's asks by predicted time: shortest,
// longest, and between.
std::vector<Ask> coarse_asks(const std::vector<Ask>& asks, const CostModel& model);

// All asks, the most gain a second first. `done`: points that the classes already have.
std::vector<Ask> by_gain(const std::vector<Ask>& asks, const ByClass& shares, const ByClass& errors,
                         const std::map<KindPhase, int>& done, const CostModel& model);

}  // namespace steploom
