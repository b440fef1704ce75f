// A step time over the draws of a random routing.
//
// A quantile q of n draws is the ⌈q·n⌉-th smallest. Where each draw's time is bounded from below,
// so is their quantile by that of the bounds: the ladder of bounds holds draw by draw. A candidate
// is given up as soon as so many draws cannot beat a time that their quantile cannot.
#pragma once

#include <vector>

#include "planner/search.h"
#include "planner/setting.h"

namespace steploom {

// Is there more than one draw to look at?
bool has_samples(const Setting& setting);

// The same setting, of one draw.
Setting of_sample(const Setting& setting, int sample);

// Counted from 1.
int quantile_rank(double quantile, int draws);

enum class Sampled {
  all,      // every draw was replayed, and all but the closed form is filled
  relaxed,  // given up by the longest paths alone
  replayed  // given up by replays
};

// Relaxes and replays the draws of the candidate's layout, until they show that it cannot beat
// `to_beat`.
Sampled sample_steps(const Setting& setting, CostCache& costs, Picoseconds to_beat, Candidate& c);

}  // namespace steploom
