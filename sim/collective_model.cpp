#include "sim/collective_model.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <span>

#include "sim/portable_math.h"
#include "sim/topology.h"

namespace steploom {
namespace {

// NCCL's tuning model (src/graph/tuning.cc of 2.18 to 2.27; microseconds): per protocol, the
// latency of a call and of each step over NVLink and over the network. The steps' latencies there
// include the wire; it is taken out here (kWire...) and put back from the cluster's links.
struct Protocol {
  double ring_base, ring_nvlink, ring_net;
  double tree_base, tree_nvlink, tree_net;
  double bandwidth;  // of what Simple reaches; LL sends a flag with every 4 bytes, LL128 8 in 128
};
constexpr std::array<Protocol, 3> kProtocols{{
    {6.6, 0.6, 2.7, 6.8, 0.6, 5.0, 0.5},      // LL
    {14.0, 1.9, 4.0, 14.0, 1.25, 8.5, 0.92},  // LL128
    {8.4, 3.4, 14.0, 8.4, 4.0, 14.0, 1.0},    // Simple
}};
constexpr double kWireNvlinkUs = 0.5;
constexpr double kWireNetUs = 2.5;
constexpr double kTreeBandwidth = 0.92;  // of a ring's, ibid.

// Assumed: a NIC's queue takes this long to post one more message of an all-to-all.
constexpr double kPeerLatency = 0.5e-6;

constexpr double kLargeBytes = 512.0 * 1024 * 1024;  // where bus bandwidth has levelled off

double curve_seconds(const CollectiveCurve& curve, double bytes) {
  const double log2_bytes = portable_log2(bytes);
  const std::array<double, 1> point{log2_bytes};
  const double beyond = log2_bytes - curve.grid.axes[0].log2_knots.back();
  return 1e-6 * portable_exp2(octaves_at(curve.grid, point) + (beyond > 0 ? beyond : 0));
}

int steps_of(OpKind collective, int members) {
  return collective == OpKind::all_reduce ? 2 * (members - 1) : members - 1;
}

}  // namespace

double bus_factor(OpKind collective, int ranks) {
  if (collective == OpKind::send_recv) return 1;
  const double others = static_cast<double>(ranks - 1) / ranks;
  return collective == OpKind::all_reduce ? 2 * others : others;
}

CollectiveModel::CollectiveModel(const Profile& profile, const Cluster& cluster)
    : profile_(&profile),
      nvlink_bandwidth_(cluster.nvlink.bandwidth),
      nvlink_latency_(static_cast<double>(cluster.nvlink.latency) * 1e-12),
      nic_latency_(static_cast<double>(cluster.nic.latency) * 1e-12),
      nodes_per_leaf_(cluster.nodes_per_leaf),
      egress_under_leaf_{0},
      egress_beyond_leaf_{0} {
  for (int ranks = 1; ranks <= cluster.devices_per_node; ++ranks) {
    egress_under_leaf_.push_back(node_egress(cluster, ranks, false));
    egress_beyond_leaf_.push_back(node_egress(cluster, ranks, true));
  }
}

double CollectiveModel::egress(const GroupShape& group) const {
  const std::vector<double>& table =
      group.nodes > nodes_per_leaf_ ? egress_beyond_leaf_ : egress_under_leaf_;
  return table.at(static_cast<std::size_t>(group.ranks_per_node));
}

bool CollectiveModel::is_measured(OpKind collective, const GroupShape& group) const {
  if (group.nodes != 1) return false;
  return std::any_of(profile_->collectives.begin(), profile_->collectives.end(),
                     [&](const CollectiveCurve& curve) {
                       return curve.collective == collective && curve.ranks == group.ranks;
                     });
}

double CollectiveModel::inside_node(OpKind collective, double bytes, int ranks) const {
  if (collective == OpKind::send_recv) return inside_node(OpKind::all_to_all, 2 * bytes, 2);
  // The measured numbers of ranks around this one.
  const CollectiveCurve* below = nullptr;
  const CollectiveCurve* above = nullptr;
  for (const CollectiveCurve& curve : profile_->collectives) {
    if (curve.collective != collective) continue;
    if (curve.ranks <= ranks) below = &curve;
    if (curve.ranks >= ranks && above == nullptr) above = &curve;
  }
  if (below == nullptr) below = above;
  if (above == nullptr) above = below;
  const auto bus = [&](const CollectiveCurve& curve) {
    return bus_factor(collective, curve.ranks) * bytes / curve_seconds(curve, bytes);
  };
  double bandwidth = bus(*below);
  if (above->ranks > below->ranks) {
    const double upper = static_cast<double>(ranks - below->ranks) / (above->ranks - below->ranks);
    bandwidth += upper * (bus(*above) - bandwidth);
  }
  return bus_factor(collective, ranks) * bytes / bandwidth;
}

double CollectiveModel::bus_bandwidth(OpKind collective, int ranks) const {
  return bus_factor(collective, ranks) * kLargeBytes / inside_node(collective, kLargeBytes, ranks);
}

double CollectiveModel::between_nodes(OpKind collective, double bytes,
                                      const GroupShape& group) const {
  const double out = egress(group) * kNicEfficiency;
  const int r = group.ranks_per_node, n = group.ranks, nodes = group.nodes;
  const double nvlink_wire = nvlink_latency_ - kWireNvlinkUs * 1e-6;
  const double net_wire = nic_latency_ - kWireNetUs * 1e-6;
  // Between the members of a node; all-reduce moves in rings here, as the other collectives do.
  const OpKind in_rings = collective == OpKind::all_reduce ? OpKind::all_gather : collective;
  double best = 0;
  const auto take = [&best](double seconds) {
    if (best == 0 || seconds < best) best = seconds;
  };
  for (const Protocol& p : kProtocols) {
    const double net = std::max(p.ring_net * 1e-6 + net_wire, 0.0);
    const double nvlink = std::max(p.ring_nvlink * 1e-6 + nvlink_wire, 0.0);
    if (collective == OpKind::send_recv) {
      take(p.ring_base * 1e-6 + net + bytes / (out / r * p.bandwidth));
    } else if (collective == OpKind::all_to_all) {
      const double inside =
          r > 1 ? bytes * (r - 1) / n / (bus_bandwidth(collective, r) * p.bandwidth) : 0;
      const double outside = bytes * r * (n - r) / n / (out * p.bandwidth);
      take(p.ring_base * 1e-6 + net + kPeerLatency * (n - r) + std::max(inside, outside));
    } else {
      const double bus = r > 1 ? std::min(bus_bandwidth(in_rings, r), out) : out;
      const int hops = steps_of(collective, nodes);
      take(p.ring_base * 1e-6 + (steps_of(collective, n) - hops) * nvlink + hops * net +
           bus_factor(collective, n) * bytes / (bus * p.bandwidth));
    }
    if (collective == OpKind::all_reduce) {
      const double up_and_down = 2.0 * (nodes - 1) / nodes * bytes / (out * kTreeBandwidth);
      const double inside =
          r > 1 ? bus_factor(collective, r) * bytes / bus_bandwidth(collective, r) : 0;
      const double tree_net = std::max(p.tree_net * 1e-6 + net_wire, 0.0);
      const double tree_nvlink = std::max(p.tree_nvlink * 1e-6 + nvlink_wire, 0.0);
      take(p.tree_base * 1e-6 + 2 * ((r - 1) * tree_nvlink + portable_log2(nodes) * tree_net) +
           std::max(up_and_down, inside) / p.bandwidth);
    }
  }
  return best;
}

double CollectiveModel::seconds(OpKind collective, Bytes bytes, const GroupShape& group) const {
  assert(is_communication(collective) && bytes >= 0 && group.ranks >= 1);
  if (group.ranks == 1 || bytes == 0) return 0;
  const auto size = static_cast<double>(bytes);
  return group.nodes == 1 ? inside_node(collective, size, group.ranks)
                          : between_nodes(collective, size, group);
}

double CollectiveModel::link_seconds(OpKind collective, Bytes bytes,
                                     const GroupShape& group) const {
  if (group.ranks == 1) return 0;
  const auto size = static_cast<double>(bytes);
  if (group.nodes == 1) return bus_factor(collective, group.ranks) * size / nvlink_bandwidth_;
  if (collective == OpKind::all_to_all) {
    const double outside = static_cast<double>(group.ranks - group.ranks_per_node) / group.ranks;
    return outside * size * group.ranks_per_node / egress(group);
  }
  const double rate =
      collective == OpKind::send_recv ? egress(group) / group.ranks_per_node : egress(group);
  return bus_factor(collective, group.ranks) * size / rate;
}

}  // namespace steploom
