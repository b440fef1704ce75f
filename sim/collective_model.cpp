#include "sim/collective_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>

#include "models/error.h"
#include "sim/fabric_tables.h"
#include "sim/portable_math.h"
#include "sim/topology.h"

namespace steploom {
namespace {

// NCCL's tuning model (src/graph/tuning.cc, ncclTunerConstantsDefaults; microseconds): per
// protocol, the latency of a call and of each step over NVLink and over the network. The steps'
// latencies there include the wire; it is taken out here (kWire...) and put back from the cluster's
// links.
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

// Was this curve measured on a group that lies just so?
bool is_curve_of(const CollectiveCurve& curve, const GroupShape& group) {
  return curve.ranks == group.ranks && curve.nodes == group.nodes &&
         group.ranks == group.nodes * group.ranks_per_node;
}

struct StepLatency {
  double nvlink, net;  // seconds
};

int steps_of(OpKind collective, int members) {
  return collective == OpKind::all_reduce ? 2 * (members - 1) : members - 1;
}

}  // namespace

double bus_factor(OpKind collective, int ranks) {
  if (collective == OpKind::send_recv) return 1;
  const double others = static_cast<double>(ranks - 1) / ranks;
  return collective == OpKind::all_reduce ? 2 * others : others;
}

double ring_seconds(OpKind collective, double bytes, int ranks, const LinkType& link,
                    double share) {
  double best = 0;
  for (const Protocol& p : kProtocols) {
    const double step = std::max(
        (p.ring_nvlink - kWireNvlinkUs) * 1e-6 + static_cast<double>(link.latency) * 1e-12, 0.0);
    const double seconds =
        p.ring_base * 1e-6 + steps_of(collective, ranks) * step +
        bus_factor(collective, ranks) * bytes / (link.bandwidth * share * p.bandwidth);
    if (best == 0 || seconds < best) best = seconds;
  }
  return best;
}

CollectiveModel::CollectiveModel(const Profile& profile, const Cluster& cluster)
    : curves_(profile.collectives),
      fabric_(fabric_of(profile, cluster)),
      fabric_name_(cluster.fabric),
      nvlink_bandwidth_(cluster.nvlink.bandwidth),
      nvlink_latency_(static_cast<double>(cluster.nvlink.latency) * 1e-12),
      nic_latency_(static_cast<double>(cluster.nic.latency) * 1e-12),
      domains_per_leaf_(std::max(1, cluster.nodes_per_leaf / cluster.nodes_per_domain)),
      curves_are_modelled_(profile.is_modelled(ModelledPart::collectives)),
      egress_under_leaf_{0},
      egress_beyond_leaf_{0} {
  for (int ranks = 1; ranks <= cluster.devices_per_domain(); ++ranks) {
    egress_under_leaf_.push_back(node_egress(cluster, ranks, false));
    egress_beyond_leaf_.push_back(node_egress(cluster, ranks, true));
  }
  for (const CollectiveCurve& curve : curves_) {
    std::vector<double>& by_ranks = bus_bandwidth_[curve.collective];
    if (!by_ranks.empty() || curve.nodes > 1) continue;
    by_ranks.assign(2, 0);  // no rank, and one that moves nothing
    for (int ranks = 2; ranks <= cluster.devices_per_domain(); ++ranks) {
      by_ranks.push_back(bus_factor(curve.collective, ranks) * kLargeBytes /
                         inside_node(curve.collective, kLargeBytes, ranks));
    }
  }
}

double CollectiveModel::egress(const GroupShape& group) const {
  const std::vector<double>& table =
      group.nodes > domains_per_leaf_ ? egress_beyond_leaf_ : egress_under_leaf_;
  return table.at(static_cast<std::size_t>(group.ranks_per_node));
}

const CtaCurve* CollectiveModel::cta_curve(OpKind collective, double bytes, int ranks,
                                           int ctas) const {
  if (fabric_ == nullptr) return nullptr;
  const CtaCurve* best = nullptr;
  for (const CtaCurve& curve : fabric_->curves) {  // by CTAs
    if (curve.collective != collective || curve.ranks != ranks) continue;
    if (ctas > 0 && curve.ctas > ctas) continue;
    if (best == nullptr || ctas > 0 || curve.seconds(bytes) < best->seconds(bytes)) best = &curve;
  }
  return best;
}

const CollectiveCurve* CollectiveModel::imported_curve(OpKind collective, int ranks) const {
  if (fabric_name_ != kDefaultFabric) return nullptr;
  for (const CollectiveCurve& curve : curves_)
    if (curve.collective == collective && curve.ranks == ranks && curve.nodes == 1 &&
        !curve.source.empty())
      return &curve;
  return nullptr;
}

bool CollectiveModel::is_fitted(OpKind collective, const GroupShape& group) const {
  return std::any_of(curves_.begin(), curves_.end(), [&](const CollectiveCurve& curve) {
    return curve.collective == collective && is_curve_of(curve, group) &&
           !(curves_are_modelled_ && curve.source.empty());
  });
}

double CollectiveModel::inside_node(OpKind collective, double bytes, int ranks) const {
  if (const CollectiveCurve* curve = imported_curve(collective, ranks))
    return curve_seconds(*curve, bytes);
  if (const CtaCurve* curve = cta_curve(collective, bytes, ranks, 0)) return curve->seconds(bytes);
  // The measured numbers of ranks around this one.
  const CollectiveCurve* below = nullptr;
  const CollectiveCurve* above = nullptr;
  for (const CollectiveCurve& curve : curves_) {
    if (curve.collective != collective || curve.nodes > 1) continue;
    if (curve.ranks <= ranks) below = &curve;
    if (curve.ranks >= ranks && above == nullptr) above = &curve;
  }
  if (collective == OpKind::send_recv && below == nullptr && above == nullptr)
    return inside_node(OpKind::all_to_all, 2 * bytes, 2);
  if (below == nullptr) below = above;
  if (above == nullptr) above = below;
  assert(below != nullptr);  // a profile has curves of every collective
  if (below->ranks == ranks) return curve_seconds(*below, bytes);
  const auto bus = [&](const CollectiveCurve& curve) {
    return bus_factor(collective, curve.ranks) * bytes / curve_seconds(curve, bytes);
  };
  double bandwidth = bus(*below);
  if (above->ranks > below->ranks) {
    const double upper = static_cast<double>(ranks - below->ranks) / (above->ranks - below->ranks);
    bandwidth += upper * (bus(*above) - bandwidth);
  }
  return bus_factor(collective, ranks) * bytes / bandwidth +
         beyond_measured(collective, above->ranks, ranks);
}

double CollectiveModel::beyond_measured(OpKind collective, int measured, int ranks) const {
  if (ranks <= measured) return 0;
  const Protocol& least = kProtocols.front();
  const double step = std::max((least.ring_nvlink - kWireNvlinkUs) * 1e-6 + nvlink_latency_, 0.0);
  switch (collective) {
    case OpKind::send_recv:
      return 0;
    case OpKind::all_reduce:  // a tree
      return 2 * step * portable_log2(static_cast<double>(ranks) / measured);
    default:
      return step * (ranks - measured);
  }
}

CollectiveTime CollectiveModel::all_to_all(double inside, double outside,
                                           const GroupShape& group) const {
  const int r = group.ranks_per_node, n = group.ranks;
  const double mine = inside * (r - 1) / n;         // over NVLink, a rank
  const double others = outside * r * (n - r) / n;  // over the NICs, a node
  return messages(mine, r, {others, egress(group)}, n - r);
}

CollectiveTime CollectiveModel::messages(double mine, int r, Sent out, int peers) const {
  const double v = bus_bandwidth_.at(OpKind::all_to_all)[static_cast<std::size_t>(r)];
  const double busy = std::max(r > 1 ? mine / v : 0, out.bytes / (out.line * kNicEfficiency));
  CollectiveTime best;
  for (const Protocol& p : kProtocols) {
    const double net = std::max((p.ring_net - kWireNetUs) * 1e-6 + nic_latency_, 0.0);
    const double seconds = p.ring_base * 1e-6 + net + kPeerLatency * peers + busy / p.bandwidth;
    if (best.seconds == 0 || seconds < best.seconds)
      best = {seconds, out.bytes / out.line, 0, Provenance::modelled};
  }
  return best;
}

CollectiveTime CollectiveModel::time(const GroupStep& step, const GroupShape& group) const {
  if (group.ranks == 1 || step.bytes <= 0) return {};
  const StepMessages sent = messages_of(step, group);
  const auto message = static_cast<double>(step.bytes) * step.steps / group.ranks;
  if (sent.outside > 0) {
    const Sent node{sent.leaving * message, egress(group)};
    const Sent rank{sent.outside * message, egress({group.ranks, group.nodes, 1})};
    const bool by_rank = rank.bytes * node.line > node.bytes * rank.line;
    return messages(sent.inside * message, group.ranks_per_node, by_rank ? rank : node,
                    sent.outside);
  }
  if (sent.inside == 0) return {};
  const int ranks = sent.inside + 1;
  const auto bytes = static_cast<Bytes>(message * ranks + 0.5);
  CollectiveTime time = this->time(OpKind::all_to_all, bytes, {ranks, 1, ranks});
  if (group.nodes > 1) return time;
  const CollectiveTime whole = this->time(OpKind::all_to_all, step.bytes * step.steps, group);
  const double share = static_cast<double>(sent.inside) / (group.ranks - 1);
  if (whole.seconds * share > time.seconds) {
    time = whole;
    time.seconds *= share;
    time.link_seconds *= share;
  }
  time.provenance = std::max(time.provenance, Provenance::fitted);
  return time;
}

CollectiveTime CollectiveModel::between_nodes(OpKind collective, double bytes,
                                              const GroupShape& group, double inside) const {
  if (collective == OpKind::all_to_all) return all_to_all(inside, bytes, group);
  const int r = group.ranks_per_node, n = group.ranks, nodes = group.nodes;
  const bool point_to_point = collective == OpKind::send_recv;
  const double line = point_to_point ? egress(group) / r : egress(group);
  const double out = line * kNicEfficiency;
  const auto v = [&](OpKind kind) { return bus_bandwidth_.at(kind)[static_cast<std::size_t>(r)]; };
  // Inside a node too, an all-reduce between nodes goes round in rings, as an all-gather does.
  const OpKind in_rings = collective == OpKind::all_reduce ? OpKind::all_gather : collective;
  const double ring_bus = r > 1 && !point_to_point ? std::min(v(in_rings), out) : out;
  const int steps = point_to_point ? 1 : steps_of(collective, n);
  const int hops = point_to_point ? 1 : steps_of(collective, nodes);
  const double ring_bytes = bus_factor(collective, n) * bytes;
  const double tree_bytes = 2.0 * (nodes - 1) / nodes * bytes;

  CollectiveTime best;
  const auto take = [&best, line](double seconds, double sent) {
    if (best.seconds == 0 || seconds < best.seconds)
      best = {seconds, sent / line, 0, Provenance::modelled};
  };
  for (const Protocol& p : kProtocols) {
    const auto step = [this](double nvlink_us, double net_us) {
      return StepLatency{std::max((nvlink_us - kWireNvlinkUs) * 1e-6 + nvlink_latency_, 0.0),
                         std::max((net_us - kWireNetUs) * 1e-6 + nic_latency_, 0.0)};
    };
    const StepLatency ring = step(p.ring_nvlink, p.ring_net);
    take(p.ring_base * 1e-6 + (steps - hops) * ring.nvlink + hops * ring.net +
             ring_bytes / (ring_bus * p.bandwidth),
         ring_bytes);
    if (collective != OpKind::all_reduce) continue;
    const StepLatency tree = step(p.tree_nvlink, p.tree_net);
    const double inside = r > 1 ? bus_factor(collective, r) * bytes / v(collective) : 0;
    const double busy = std::max(tree_bytes / (out * kTreeBandwidth), inside);
    take(p.tree_base * 1e-6 + 2 * ((r - 1) * tree.nvlink + portable_log2(nodes) * tree.net) +
             busy / p.bandwidth,
         tree_bytes);
  }
  return best;
}

CollectiveTime CollectiveModel::by_ctas(const CtaCurve& curve, Bytes bytes,
                                        const GroupShape& group) const {
  const auto size = static_cast<double>(bytes);
  const OpKind collective = curve.collective;
  const double best = cta_curve(collective, size, group.ranks, 0)->seconds(size);
  const double weight = fabric_->link_weight(collective);
  if (const CollectiveCurve* own = imported_curve(collective, group.ranks)) {
    const double fastest = curve_seconds(*own, size);
    return {fastest * curve.seconds(size) / best, fastest * weight, curve.grid(size),
            Provenance::fitted};
  }
  const bool exact = std::binary_search(curve.bytes.begin(), curve.bytes.end(), bytes);
  const bool between = bytes > curve.bytes.front() && bytes < curve.bytes.back();
  return {curve.seconds(size), best * weight, curve.grid(size),
          exact     ? Provenance::measured
          : between ? Provenance::interpolated
                    : Provenance::fitted};
}

// Never below what fewer nodes were measured to take; without any curve of these ranks on several
// nodes it is what was modelled.
double CollectiveModel::measured_between(OpKind collective, double bytes, const GroupShape& group,
                                         double modelled) const {
  double seconds = modelled, least = 0;
  for (const CollectiveCurve& curve : curves_) {
    if (curve.collective != collective || curve.ranks != group.ranks || curve.nodes < 2) continue;
    if (is_curve_of(curve, group)) {
      seconds = curve_seconds(curve, bytes);
    } else if (curve.nodes <= group.nodes) {
      least = std::max(least, curve_seconds(curve, bytes));
    } else {
      continue;
    }
    if (group.ranks < static_cast<int>(egress_under_leaf_.size()))
      least = std::max(least, inside_node(collective, bytes, group.ranks));
  }
  return std::max(seconds, least);
}

CollectiveTime CollectiveModel::time(OpKind collective, Bytes bytes, const GroupShape& group,
                                     int ctas, Bytes inside) const {
  assert(is_communication(collective) && group.ranks >= 1);
  assert(inside == 0 || collective == OpKind::all_to_all);
  if (group.ranks == 1 || bytes <= 0) return {};
  const auto size = static_cast<double>(bytes);
  if (group.nodes == 1) {
    if (const CtaCurve* curve = cta_curve(collective, size, group.ranks, ctas))
      return by_ctas(*curve, bytes, group);
  }
  if (ctas > 0)
    throw Error(
        {"cost model", std::string(name_of(collective)),
         "a group whose collectives were measured by CTA count over " + fabric_name_,
         fmt::format("{} ranks on {} node(s), with ctas={}", group.ranks, group.nodes, ctas),
         "leave ctas out of the layout for this group"});
  if (group.nodes > 1) {
    const double own = inside > 0 ? static_cast<double>(inside) : size;
    CollectiveTime time = between_nodes(collective, size, group, own);
    time.seconds = measured_between(collective, size, group, time.seconds);
    if (is_fitted(collective, group)) time.provenance = Provenance::fitted;
    return time;
  }
  return {inside_node(collective, size, group.ranks),
          bus_factor(collective, group.ranks) * size / nvlink_bandwidth_, 0,
          is_fitted(collective, group) ? Provenance::fitted : Provenance::modelled};
}

CollectiveTime CollectiveModel::time(const RowsExchanged& rows, const GroupShape& group,
                                     int sms) const {
  assert(sms >= 2 && sms % 2 == 0);
  if (group.ranks == 1 || rows.tokens <= 0) return {};
  const Protocol& simple = kProtocols.back();
  const int r = group.ranks_per_node, nodes = group.nodes;
  double latency = simple.ring_base * 1e-6;
  double busy = sm_seconds(rows, nodes > 1, sms), link = 0;
  if (r > 1) {
    latency += std::max((simple.ring_nvlink - kWireNvlinkUs) * 1e-6 + nvlink_latency_, 0.0);
    const double others = rows.sent() * (r - 1) / r;
    busy =
        std::max(busy, others / bus_bandwidth_.at(OpKind::all_to_all)[static_cast<std::size_t>(r)]);
    link = others / nvlink_bandwidth_;
  }
  if (nodes > 1) {
    latency += std::max((simple.ring_net - kWireNetUs) * 1e-6 + nic_latency_, 0.0) +
               kPeerLatency * (nodes - 1);
    const double others = rows.to_nodes() * r * (nodes - 1) / nodes;
    link = others / egress(group);
    busy = std::max(busy, link / kNicEfficiency);
  }
  return {latency + busy, link, sms, Provenance::modelled};
}

}  // namespace steploom
