#include "models/visits.h"

#include <algorithm>

namespace steploom {

double places_visited(int places, int experts, int choices) {
  const double elsewhere = experts - static_cast<double>(experts) / places;
  double missed = 1;
  for (int i = 0; i < choices; ++i) missed *= std::max(elsewhere - i, 0.0) / (experts - i);
  return places * (1 - missed);
}

Visits visits_of(int ranks, int nodes, int experts, int choices, int limit) {
  if (limit <= 0 || nodes <= limit)
    return {places_visited(ranks, experts, choices), places_visited(nodes, experts, choices)};
  const int of_them = experts / nodes * limit;
  return {places_visited(ranks / nodes * limit, of_them, choices), static_cast<double>(limit)};
}

}  // namespace steploom
