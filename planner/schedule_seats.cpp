#include "planner/schedule_seats.h"

#include <cassert>
#include <cstddef>

namespace steploom {
namespace {

int stage_at(Placement placement, const ScheduleShape& shape, int rank, int chunk) {
  const int p = shape.ranks;
  switch (placement) {
    case Placement::loop:
      return chunk * p + rank;
    case Placement::v:
      return chunk % 2 == 0 ? chunk * p + rank : (chunk + 1) * p - 1 - rank;
    case Placement::bidirectional:
      return chunk == 0 ? rank : p - 1 - rank;
  }
  return 0;
}

}  // namespace

std::vector<Seat> seats_of(Placement placement, const ScheduleShape& shape) {
  assert(placement != Placement::bidirectional || shape.chunks == 2);
  const auto m = static_cast<std::int32_t>(shape.micro_batches);
  const bool copies = placement == Placement::bidirectional;
  const int stages = stages_of(placement, shape);
  std::vector<Seat> seats;
  std::vector<int> seat_of(static_cast<std::size_t>(shape.ranks * shape.chunks));
  // One copy: by stage. Two: the second one's follow.
  const auto at = [&](const Seat& s) {
    return static_cast<std::size_t>(s.stage + (copies ? s.chunk * stages : 0));
  };
  for (int rank = 0; rank < shape.ranks; ++rank)
    for (int chunk = 0; chunk < shape.chunks; ++chunk) {
      Seat s{rank, chunk, stage_at(placement, shape, rank, chunk), -1, -1, 0, m};
      if (copies) {
        s.first = chunk == 0 ? 0 : m - m / 2;
        s.count = chunk == 0 ? m - m / 2 : m / 2;
      }
      seat_of[at(s)] = static_cast<int>(seats.size());
      seats.push_back(s);
    }
  for (Seat& s : seats) {
    if (s.stage + 1 < stages) s.next = seat_of[at(s) + 1];
    if (s.stage > 0) s.previous = seat_of[at(s) - 1];
  }
  return seats;
}

}  // namespace steploom
