// What an exchange of experts' rows by kernels of their own asks of SMs and links (DeepEP's normal
// kernels, github.com/deepseek-ai/DeepEP, csrc/kernels: intranode.cu, internode.cu).
//
// SMs work in pairs, one channel a pair, and the two of a pair do different things at once; the
// busier one sets the pace. T tokens of a rank have experts on R ranks and N nodes on the mean
// (models/visits.h). Of rows of b bytes
//
//              one node           | several nodes
//   dispatch   T·R are sent       | T·N are sent to other nodes, T·R received over NVLink
//              T·R are received   | T·R go on from the NICs over NVLink
//   combine    T·R are sent       | T·R are sent over NVLink, T sums made of what the NICs bring
//              T sums are made    | T·N sums are made, each for another node
//
// An SM copies kCopied bytes a second, and makes sums (a row out of several, all read at once, so
// their number does not count) of kSummed bytes a second; S of them at once are each slower by
// S / kSharingSms. These three are fitted to a single node's times with 4 to 16 SMs, bf16 combine
// and fp8 dispatch; several nodes are predicted from them (docs/accuracy.md).
//
// Beside the SMs, NVLink carries the rows that are for another rank of the node and the NICs those
// for another node; the slowest of the three is the time, plus a latency (collective_model.h).
#pragma once

#include "models/visits.h"
#include "sim/cost.h"

namespace steploom {

inline constexpr double kCopied = 40.5e9;     // bytes/s of an SM
inline constexpr double kSummed = 7.73e9;     // bytes/s of an SM, of sums
inline constexpr double kSharingSms = 119.0;  // that would halve each other's rate

inline constexpr int kExchangeSms = 20;      // DeepEP's default (deep_ep/buffer.py, num_sms)
inline constexpr int kMostExchangeSms = 32;  // 24 were measured

struct RowsExchanged {
  double tokens = 0;                                               // of a rank
  double row = 0;                                                  // bytes
  Visits visits;                                                   // of a token
  bool sums = false;                                               // combine
  double sent() const { return tokens * row * visits.ranks; }      // bytes, this rank's own too
  double to_nodes() const { return tokens * row * visits.nodes; }  // likewise this node's
};

// `work` is an all_to_all that does not go in parts.
RowsExchanged rows_exchanged(const Work& work, const GroupShape& group);

// The time of the SMs alone.
double sm_seconds(const RowsExchanged& rows, bool between_nodes, int sms);

}  // namespace steploom
