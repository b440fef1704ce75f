// How unevenly tokens lie on experts: rows of each under routing by a power law.
//
// The weight of an expert is drawn from a density x^−α between 1 and 0.8 times the tokens, and its
// rows are in proportion: the sampling with which the tables of expert layers were measured
// (NVIDIA aiconfigurator, docs/accuracy.md). α = Work::skew; 0 stands for balanced routing. Nothing
// here is random: draws come from a generator of our own with fixed seeds, so every machine gets
// the same rows.
//
// A grouped product of uneven groups takes the mean over its groups of what it would take if all
// were as long as this one, times 2^kUnevenOctaves.
#pragma once

#include <span>
#include <vector>

namespace steploom {

// What such products take more than that mean. One number for all GPUs, fitted to half of the
// tables' layers (fit_profile --uneven); docs/accuracy.md has the errors on the other half.
inline constexpr double kUnevenOctaves = 0.13;

// The weight at a quantile of that density.
double power_law_weight(double quantile, double tokens, double skew);

// Rows on the rank that has the most, of `rows` = tokens · choices that go to `experts` experts in
// blocks over `ranks` ranks: the median over draws. rows / ranks where skew is 0.
double slowest_rank_rows(double rows, double tokens, int experts, int ranks, double skew);

// The groups of one rank, from the shortest: their sum is `rows`. At most kMostLoads numbers; where
// there are more groups, each stands for equally many.
inline constexpr int kMostLoads = 32;
std::vector<double> power_law_loads(double rows, int groups, double skew);

}  // namespace steploom
