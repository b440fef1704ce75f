// From raw lines of collectives (collective_points.h) to the fabrics of a profile
// (profile_fabric.h).
//
// Collectives: the median duration at every setting of CTAs, as measured, and the grid that it ran
// on.
//
// g: time at all SMs over time at fewer, linear between what was measured, for i/16 of the SMs.
//
// h of a collective beside a kernel: its run alone over its run behind a train of kernels, single
// launches, so that no wait for admission is in it, of the largest size whose run the train
// outlasted.
//
// h of a kernel beside a collective: in saturated loops the kernel's mean rate R is 1 while the
// collective waits for SMs, and g·h while it runs, which is the part f of the time: its time alone
// over its own h over its period in the loop. So h = (R − (1 − f)) / (f · g).
//
// Two collectives: they share the fabric max-min. One draws (time of the fastest grid / time on its
// grid) · weight of it; the weight is such that two of a kind fill it when they slow each other. h
// is left to what that does not explain: 1, unless one of the two is slower than its fair part.
//
// A copy that slows the kernel `spin`, which moves no data, runs on SMs and takes the rows of the
// memory kernel; the others are an engine's, and h of both sides is time alone over time side by
// side.
//
// All h are clamped to 1. What was not measured is assumed (kAssumed).
#pragma once

#include <vector>

#include "profiler/collective_points.h"
#include "sim/profile.h"

namespace steploom {

// The fabrics of the files, sorted by name. One file of a fabric has the collectives alone; kernels
// beside them come from the first of its files that has the kernel. g and copies come from there
// or, where the fabric has none, from the first file that has. Throws Error if a table is missing
// or two files of one fabric have collectives alone.
std::vector<ProfiledFabric> fit_fabrics(const std::vector<CollectivePoints>& files);

// Puts them into a profile in place of those of the same names. Throws Error if the files were
// measured on another number of SMs.
void add_fabrics(Profile& profile, const std::vector<CollectivePoints>& files);

}  // namespace steploom
