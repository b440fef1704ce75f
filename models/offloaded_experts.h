// Routed experts that lie in host memory and are copied in for their use (Layout::offload).
//
// Lina (Li et al., arXiv 2210.17223, expert packing) packs more experts on a device until they
// compute as long as their all-to-all takes, and keeps in host memory what the device has no room
// for. Here the host has the parameters and the optimizer's state of all routed experts of the
// rank, and on the device are those of two layers at most, in turn:
//
// * Each use of a layer's experts in a pass, forward, run again or backward, is preceded by a copy
//   of their parameters, one layer ahead: that of the (j + 2)-th begins when the j-th are used no
//   more, those of the first two with the pass. Nothing is brought for a pass before it begins.
// * A step of one micro-batch has no gradients to add up: each layer's go to the host when they are
//   there, reduced if there are replicas, and their squares are summed before. Those of several
//   micro-batches are added up, and stay, on the device.
// * The update runs on the device, a layer at a time: state (and gradients) in, update, state and
//   new parameters out, two layers at once. That is ZeRO-Infinity's (Rajbhandari et al., arXiv
//   2104.07857) for state on slow memory, with the GPU in place of the CPU's
//   optimizer, whose speed is another machine's figure.
//
// Copies in and copies out each have an engine and a stream.
#pragma once

#include "models/step_parts.h"

namespace steploom {

// Where no gradients are added up: they go to the host.
bool gradients_leave(const Layout& l, std::int64_t global_batch);

// All four passes of a chunk whose gradients are in buckets, first_forward excepted. Where
// gradients leave, chunk.gradients names what is on the host.
void offload_experts(const BuildContext& c, const StageSpan& stage, Chunk& chunk);

// Bytes of state that an update reads and writes of every parameter: with masters the parameters
// themselves are written alone.
struct StreamedState {
  Bytes in = 0, out = 0;
};
StreamedState streamed_state(const BuildContext& c);

// The experts' part of the optimizer of a rank with these chunks; `norm`: what an update reads.
void update_offloaded(Emitter& out, const std::vector<StageSpan>& spans, const Chunk& chunk,
                      TensorId norm);

}  // namespace steploom
