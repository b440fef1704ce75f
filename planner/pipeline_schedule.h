// Pipeline schedules as lists of slots: what each rank does, in order, for every number of ranks
// and micro-batches that a schedule allows.
//
// A rank holds `chunks` model chunks, each a virtual stage of the pipeline. A micro-batch passes
// every stage once forward (F) and once backward; the backward pass is one slot, or two: gradients
// of data (B), which the stage before waits for, and of weights (W), which nobody does. Stages lie
// on the ranks by placement (schedule_seats.h). A schedule is a function from a shape to the slots
// of all ranks, in a file of its own, and a row of named_schedules(); times and memory of any list
// of slots are schedule_times.h's, and schedule_search.h seeks a better list for given times.
//
// With p ranks, m micro-batches and equal stages, F, B and W the times of a rank's share of a
// micro-batch, a bubble is what the busiest rank idles between its first and its last slot:
//
//   schedule            bubble                 of
//   gpipe, 1f1b         (p − 1)(F + B + W)     arXiv 1811.06965; 2104.04473, section 2.2.1
//   interleaved         the same over v        2104.04473, section 2.2.2 (interleaved_schedule.cpp)
//   looped-bfs          the same over v        2211.05953
//   zb-h1               (p − 1)(F + B − W)     2401.10241, section 2.2
//   zb-h2               (p − 1)(F + B − 2W)    the same, with twice the activations
//   zb-v                0 where F = B = W      the same, section 6
//   v-half, v-min       about 1/2, 2/3 of      2405.15362: half, a third of 1F1B's activations
//                       1f1b's
//   interleaved-zb      as zb-h1 over v        torch.distributed.pipelining, 2.11
//   dualpipe(-v)        (p/2 − 1)(F&B + B − 2W) 2412.19437; F&B: a forward beside a backward pass
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/layout.h"
#include "sim/program.h"

namespace steploom {

struct SlotSpec {
  SlotKind kind = SlotKind::forward;
  std::int32_t micro_batch = 0;
  std::int32_t chunk = 0;    // of the rank's model chunks
  bool beside_next = false;  // a forward pass beside the backward pass that is the next slot
  bool operator==(const SlotSpec&) const = default;
};
using RankSlots = std::vector<SlotSpec>;
using ScheduleSlots = std::vector<RankSlots>;  // by rank

// Where virtual stages lie.
enum class Placement : std::uint8_t {
  loop,          // stage s on rank s mod p
  v,             // down and up again: rank r holds stages r and 2p − 1 − r
  bidirectional  // two copies of a pipeline of p stages, the second one from rank p − 1 to rank 0;
                 // half of the micro-batches go each way
};

struct ScheduleShape {
  int ranks = 2;
  int chunks = 1;
  int group = 0;  // interleaved: micro-batches in turn on a chunk; 0: as many as ranks
  std::int64_t micro_batches = 1;
};

struct NamedSchedule {
  std::string_view name;
  Placement placement = Placement::loop;
  int chunks = 1;       // a rank; 0: any number from 2
  bool splits = false;  // its backward passes are B and W, some of them at least
  bool pairs = false;   // it lays forward beside backward passes
  std::string (*refusal)(const ScheduleShape&);  // what it lacks of the shape; empty: nothing
  ScheduleSlots (*slots)(const ScheduleShape&);
};

std::span<const NamedSchedule> named_schedules();
const NamedSchedule* find_schedule(std::string_view name);  // nullptr: there is none

// Why the schedule does not exist in this shape ("zb-v needs two chunks a rank, found 3"), or "".
std::string refusal(const NamedSchedule& schedule, const ScheduleShape& shape);

// One forward and one backward slot a micro-batch; stage s of p runs p − 1 − s forward passes,
// then alternates one forward and one backward, then drains.
RankSlots one_forward_one_backward(int stage, int stages, std::int64_t micro_batches);

// As Megatron-Core 0.20 orders it (schedules.py, get_schedule_table and get_pp_rank_microbatches):
// `group` micro-batches in turn on each chunk, chunks ascending forward and descending backward;
// stage s of p warms up with 2·(p − 1 − s) + (v − 1)·group forward passes. A last group may be
// smaller. `beside`: one forward pass more to warm up, and then each beside the backward pass after
// it (its --overlap-moe-expert-parallel-comm); of one chunk a rank too, which then warms up as
// deep, so that a pair waits for no pair that runs at its own time.
struct Interleaving {
  int stages = 2;
  int chunks = 2;
  int group = 2;  // at least `stages`
  std::int64_t micro_batches = 2;
  bool beside = false;
};
RankSlots interleaved(int stage, const Interleaving& shape);

// The generators of the rows; each in the file of its name.
ScheduleSlots gpipe_schedule(const ScheduleShape& shape);
ScheduleSlots looped_bfs_schedule(const ScheduleShape& shape);
ScheduleSlots zb_h1_schedule(const ScheduleShape& shape);  // interleaved-zb where there are chunks
ScheduleSlots zb_h2_schedule(const ScheduleShape& shape);
ScheduleSlots zb_v_schedule(const ScheduleShape& shape);
ScheduleSlots v_half_schedule(const ScheduleShape& shape);
ScheduleSlots v_min_schedule(const ScheduleShape& shape);
ScheduleSlots dualpipe_schedule(const ScheduleShape& shape);
ScheduleSlots dualpipe_v_schedule(const ScheduleShape& shape);

// What the layout asks for, unless it is to be searched (planner/searched_schedule.h).
ScheduleSlots slots_of(const Layout& layout, std::int64_t micro_batches);

}  // namespace steploom
