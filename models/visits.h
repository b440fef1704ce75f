// How many ranks and nodes the experts of a token lie on.
//
// A token's `choices` experts are any of `experts`, all alike and no expert twice, which lie in
// blocks of equally many on each of `places` (ranks, nodes). A place is missed with probability
// C(E − E/p, k) / C(E, k). DeepSeek-V3 (arXiv 2412.19437, section 3.2.2) first picks the nodes, at
// most so many, by their best experts: where that leaves some out, a token visits all that it
// picked.
#pragma once

namespace steploom {

// On the mean; 1 at the least, no more than places or choices.
double places_visited(int places, int experts, int choices);

// Of a group of `ranks`, equally many on each of `nodes`. limit: most nodes of a token; 0: any.
struct Visits {
  double ranks = 1;
  double nodes = 1;
};
Visits visits_of(int ranks, int nodes, int experts, int choices, int limit);

}  // namespace steploom
