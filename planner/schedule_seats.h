// Where the stages of a pipeline lie and which way micro-batches take.
//
// A seat is a chunk of a rank: rank·chunks + chunk. A micro-batch visits its seats in the order of
// stages; seats of one copy of the model are the same for all micro-batches, two copies
// (Placement::bidirectional) share them out, the first half to chunk 0.
#pragma once

#include <vector>

#include "planner/pipeline_schedule.h"

namespace steploom {

struct Seat {
  int rank = 0;
  int chunk = 0;
  int stage = 0;           // virtual, from 0
  int next = -1;           // the seat of stage + 1
  int previous = -1;       // of stage − 1
  std::int32_t first = 0;  // micro-batches that pass it
  std::int32_t count = 0;
};

std::vector<Seat> seats_of(Placement placement, const ScheduleShape& shape);

inline int stages_of(Placement placement, const ScheduleShape& shape) {
  return placement == Placement::bidirectional ? shape.ranks : shape.ranks * shape.chunks;
}

}  // namespace steploom
