// How long NCCL's collectives take, inside a node and between nodes.
//
// "Node" here is what NVLink joins: a server, or the servers of a domain (Cluster).
// Sizes are S = Work::bytes, as nccl-tests counts; n ranks on N nodes, r on each (the most on one).
// The *bus factor* f turns size into the traffic that an algorithm of least traffic puts on a
// rank's link: 2(n−1)/n for all-reduce, (n−1)/n for all-gather, reduce-scatter and all-to-all
// (nccl-tests, doc/PERFORMANCE.md); bus bandwidth is f·S/time.
//
// One node, a group of a size that the profile measured by CTA count over the cluster's fabric
// (profile_fabric.h): those curves, at the CTA count asked for or the fastest. Its link share is
// the part of the fastest CTA count's speed that it reaches, times the collective's weight. A curve
// of just this collective and n that was imported (CollectiveCurve::source) is the user's own
// measurement of the default fabric and wins there: it is the time of the fastest CTA count, and
// another count takes as much longer as it does in the fabric's curves.
// One node otherwise: the profile's curves. For n between measured numbers of ranks, bus bandwidth
// is interpolated linearly in n at the same S; beyond them it is held, and every rank more adds a
// step of NCCL's LL protocol (all-reduce: every doubling adds two, as in a tree). send_recv of S
// bytes, unless it has a curve, takes as long as an all-to-all of two ranks of 2S, which sends S to
// the peer.
//
// Several nodes: the curve of just these n and N, evenly spread, where the profile has one, else
// modelled. Spreading n ranks over more nodes never makes them faster than a curve of n ranks on
// fewer nodes says, so that a search may bound a group by its densest place.
//
// Modelled: E = what the r ranks of a node send out together (topology.h) times
// kNicEfficiency; V = bus bandwidth inside the node, as measured, at r ranks and large S:
//   ring       f·S / min(V, E) + (steps − hops)·(NVLink latency) + hops·(network latency),
//              with steps 2(n−1) and hops 2(N−1) for all-reduce, n−1 and N−1 for the others
//   tree       all-reduce only: the slower of 2(N−1)/N·S / (0.92·E) (a double binary tree; two
//              nodes swap halves) and the node's own all-reduce, + 2·((r−1)·(NVLink latency) +
//              log2(N)·(network latency))
//   pairwise   all-to-all: the slower of (r−1)/n·S / V′ over NVLink and r·(n−r)/n·S / E over the
//              NICs, which run at once, + a latency and kPeerLatency for every peer outside the
//              node
//              (uneven sizes: each part for its own S, that of the even exchange which is as much
//              for the busiest rank's NVLink or for the busiest node's NICs; routed_rows.h)
//   point to point  S / (E of one rank) + a latency
// Each is the least over NCCL's protocols (LL, LL128, Simple), whose latencies and bandwidths are
// those of NCCL's own tuning model; all-reduce takes the faster of ring and tree.
//
// A step of a group-wise exchange (group_step.h) sends p messages from a rank inside the node: as
// an all-to-all of p + 1 ranks that has such parts, and never faster than p of its n − 1 messages
// are in the all-to-all of the whole group, where that is on one node. Messages that leave: as a
// pairwise all-to-all's, over the NICs of the node at E or, if a rank sends more than its share of
// them, over what it has alone; NVLink at V beside. It is over for all when it is over for the
// busiest rank.
//
// Rows that go to experts by kernels of their own (expert_exchange.h) take the longest of the SMs'
// time, of what NVLink carries at V and of what the node's NICs carry at E; their latency is that
// of NCCL's Simple, as are the rates of large sizes, and one message for every other node.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sim/cluster.h"
#include "sim/cost.h"
#include "sim/expert_exchange.h"
#include "sim/group_step.h"
#include "sim/profile.h"

namespace steploom {

// Of the NIC's line rate: 46 of 50 GB/s. NVIDIA names 46 to 48 GB/s as what to see from a 400 Gb/s
// NIC (github.com/NVIDIA/nccl-tests/issues/290).
inline constexpr double kNicEfficiency = 0.92;

// Bytes on a rank's link over size: f above; 1 for send_recv.
double bus_factor(OpKind collective, int ranks);

// A ring inside a node where nothing was measured: each of the links moves `share` of its
// bandwidth, the rest is as between nodes (above). All-to-all too: (n−1)/n·S a link. Seconds.
double ring_seconds(OpKind collective, double bytes, int ranks, const LinkType& link, double share);

struct CollectiveTime {
  double seconds = 0;
  // How long its traffic alone would keep the bottleneck link busy at line rate: NVLink inside a
  // node, the NICs between nodes.
  double link_seconds = 0;
  int ctas = 0;  // CTAs that it then runs on; 0: it was not measured by CTA count
  Provenance provenance = Provenance::modelled;
};

class CollectiveModel {
 public:
  // The profile must outlive the model. Throws Error if it lacks the cluster's fabric.
  CollectiveModel(const Profile& profile, const Cluster& cluster);

  // Measured device memory of communicators over the cluster's fabric; nullptr: not measured.
  const CommunicatorMemory* memory() const {
    return fabric_ != nullptr && fabric_->memory ? &*fabric_->memory : nullptr;
  }

  // Zero for one rank or no bytes. The group must fit on the cluster's nodes. `ctas`: NCCL's
  // setting; 0: the fastest. Throws Error if one is asked for where none was measured.
  // `inside`: as CostQuery has it.
  CollectiveTime time(OpKind collective, Bytes bytes, const GroupShape& group, int ctas = 0,
                      Bytes inside = 0) const;

  // Likewise, of a step of a group-wise exchange at the fastest setting; zero where a rank sends to
  // itself alone.
  CollectiveTime time(const GroupStep& step, const GroupShape& group) const;

  // Likewise, of an exchange of rows by so many SMs, an even number.
  CollectiveTime time(const RowsExchanged& rows, const GroupShape& group, int sms) const;

 private:
  // The curve that gives the time of so many bytes; nullptr: none of this collective and size.
  const CtaCurve* cta_curve(OpKind collective, double bytes, int ranks, int ctas) const;
  // The profile's own curve of just this group in one node, if it was imported and is of the
  // cluster's fabric; else nullptr.
  const CollectiveCurve* imported_curve(OpKind collective, int ranks) const;
  // Is there a curve of just this group?
  bool is_fitted(OpKind collective, const GroupShape& group) const;
  CollectiveTime by_ctas(const CtaCurve& curve, Bytes bytes, const GroupShape& group) const;
  double inside_node(OpKind collective, double bytes, int ranks) const;
  // What more ranks than the profile measured add to an operation's latency, in seconds.
  double beyond_measured(OpKind collective, int measured, int ranks) const;
  double measured_between(OpKind collective, double bytes, const GroupShape& group,
                          double modelled) const;
  double egress(const GroupShape& group) const;  // line rate of a node's ranks together
  CollectiveTime between_nodes(OpKind collective, double bytes, const GroupShape& group,
                               double inside) const;
  CollectiveTime all_to_all(double inside, double outside, const GroupShape& group) const;
  // What goes out over NICs of such a line rate together.
  struct Sent {
    double bytes, line;
  };
  // `mine` bytes over a rank's NVLink, of a group with r ranks a node, beside messages to so many
  // ranks of other nodes.
  CollectiveTime messages(double mine, int r, Sent out, int peers) const;

  std::vector<CollectiveCurve> curves_;
  const ProfiledFabric* fabric_;  // or nullptr
  std::string fabric_name_;
  double nvlink_bandwidth_;
  double nvlink_latency_;  // seconds
  double nic_latency_;     // seconds
  int domains_per_leaf_;
  bool curves_are_modelled_;  // no measurement behind the profile's own
  // By ranks of a node: what they send out together, and V by collective.
  std::vector<double> egress_under_leaf_;
  std::vector<double> egress_beyond_leaf_;
  std::map<OpKind, std::vector<double>> bus_bandwidth_;
};

}  // namespace steploom
