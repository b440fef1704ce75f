// One step of a group-wise exchange: who sends to whom.
//
// FasterMoE (PPoPP'22; FastMoE, cuda/fastermoe/smart_schedule.h) replaces an
// all-to-all of n ranks by `steps` of them, G. The ranks lie in G groups of n/G neighbours. In step
// i every rank sends a message of the same size to each member of the i-th group behind its own,
// round the ring of groups, and gets one from each member of the i-th before it; a rank's message
// to itself (i = 0) stays on the device. Over all steps every rank has sent one to every rank.
//
// Ranks lie on nodes in their order, as many on each but the last as GroupShape says.
#pragma once

#include "sim/cost.h"

namespace steploom {

struct GroupStep {
  int step = 0;     // i
  int steps = 1;    // G, a divisor of the ranks
  Bytes bytes = 0;  // that a rank sends in this step, to itself too
};

// The most of any rank or node. Messages.
struct StepMessages {
  int inside = 0;   // from a rank to others on its node
  int outside = 0;  // from a rank to other nodes
  int leaving = 0;  // from a node to others
};
StepMessages messages_of(const GroupStep& step, const GroupShape& group);

}  // namespace steploom
