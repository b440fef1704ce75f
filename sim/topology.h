// The cluster as a graph: devices, NVSwitches, NICs, leaf switches and a spine, with capacities.
//
// A node's devices hang on one NVSwitch, in a domain of several nodes with those of the others. A
// device has a NIC of its own, or shares one with its neighbours; NIC i of every node of a leaf
// group is wired to leaf switch i of that group (a *rail*); all leaf switches meet in one spine
// whose inside is non-blocking, so that a cluster's oversubscription is the capacity of the links
// between leaf and spine. Every cable is two links, one a direction. Where a node has more NICs
// than devices, a device's NICs count as one.
//
// A route goes the way NCCL sends with PXN (https://developer.nvidia.com/blog/
// doubling-all2all-performance-with-nvidia-collective-communication-library-2-12): over NVLink to
// the local device on the destination's rail, then that rail's leaf switch, so that traffic
// inside a leaf group never crosses the spine.
//
// Bandwidths in bytes a second, one direction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "sim/cluster.h"

namespace steploom {

using LinkId = std::uint32_t;

class Topology {
 public:
  struct Link {
    std::string from;  // "node 0 · device 3"
    std::string to;    // "node 0 · NVSwitch"
    double capacity = 0;
    Picoseconds latency = 0;
  };

  explicit Topology(const Cluster& cluster);
  ~Topology();
  Topology(const Topology&) = delete;
  Topology& operator=(const Topology&) = delete;

  std::size_t vertices() const;
  std::size_t links() const;
  Link link(LinkId id) const;

  // The links between two devices in the order of travel; empty if they are one.
  std::vector<LinkId> route(int from, int to) const;

  // The least capacity on a route; infinite on an empty one.
  double bottleneck(std::span<const LinkId> route) const;

  // What each of several flows (from, to) gets if all run at once at one rate: the least over all
  // links of capacity over the flows that cross it.
  double equal_rate(std::span<const std::pair<int, int>> flows) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What `ranks` devices of an NVLink domain (mostly: of a node), spread evenly over it, send
// together to their peers of the same number in another domain, while every node under the leaf
// switches does the same. `leaves_leaf`: the peer is under other leaf switches.
double node_egress(const Cluster& cluster, int ranks, bool leaves_leaf);

}  // namespace steploom
