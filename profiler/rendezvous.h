// Rendezvous: how the processes of one run find each other, before there are Peers.
//
// Rank 0 listens at the first free one of its place's ports and speaks first: a greeting that names
// the run. A rank that reads another run's greeting, or none, goes on to the next port, so runs
// side by side do not mix, and a service of somebody else's is sent nothing. Whoever connects to
// rank 0 and does not answer as a missing rank of this run is dropped. Ends the process, with one
// message over all ranks, if not all have come in time.
#pragma once

#include <vector>

#include "profiler/frames.h"
#include "profiler/place.h"

namespace steploom {

struct Link {
  Socket socket;
  FrameReader reader;
};

// Kinds of frames between ranks.
enum FrameKind : std::uint32_t {
  kWelcome,  // rank 0: all have come
  kPart,     // to rank 0: what a rank brings to the round
  kReply,    // rank 0: what comes of it
  kDoing,    // to rank 0: text
  kFailed,   // to rank 0: text
  kEnded,    // rank 0: the run has failed, and the message is said
};

// Rank 0 decides after this part of the patience, so that it speaks before the others lose theirs.
inline constexpr double kFirstShare = 0.8;

// At rank 0 one link a rank (none to itself); elsewhere the link to rank 0.
std::vector<Link> find_peers(const Place& place, double patience_seconds);

}  // namespace steploom
