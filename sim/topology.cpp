#include "sim/topology.h"

#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <cassert>
#include <limits>

namespace steploom {
namespace {

struct VertexData {
  std::string name;
};
struct LinkData {
  LinkId id = 0;
  double capacity = 0;
  Picoseconds latency = 0;
};
using Graph =
    boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS, VertexData, LinkData>;
using Vertex = boost::graph_traits<Graph>::vertex_descriptor;
using Edge = boost::graph_traits<Graph>::edge_descriptor;

}  // namespace

struct Topology::Impl {
  Graph graph;
  std::vector<Edge> edges;         // by LinkId
  std::vector<Vertex> devices;     // by device number
  std::vector<Vertex> nvswitches;  // by domain
  std::vector<Vertex> nics;        // node · rails + rail
  std::vector<Vertex> leaves;      // leaf group · rails + rail
  Vertex spine = 0;
  int devices_per_node = 0;
  int nodes_per_domain = 1;
  int rails = 0;  // NICs of a node, those of one device as one
  int nodes_per_leaf = 0;

  Vertex add(std::string name) { return boost::add_vertex(VertexData{std::move(name)}, graph); }

  void join(Vertex a, Vertex b, double capacity, Picoseconds latency) {
    for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)}) {
      const auto id = static_cast<LinkId>(edges.size());
      edges.push_back(boost::add_edge(from, to, LinkData{id, capacity, latency}, graph).first);
    }
  }

  LinkId between(Vertex from, Vertex to) const {
    const auto [edge, found] = boost::edge(from, to, graph);
    assert(found);
    return graph[edge].id;
  }

  int node_of(int device) const { return device / devices_per_node; }
  int domain_of(int device) const { return node_of(device) / nodes_per_domain; }
  // Devices of a node share its NICs in order.
  int rail_of(int device) const { return device % devices_per_node * rails / devices_per_node; }
  Vertex nic(int node, int rail) const {
    return nics[static_cast<std::size_t>(node * rails + rail)];
  }
  Vertex leaf(int node, int rail) const {
    return leaves[static_cast<std::size_t>(node / nodes_per_leaf * rails + rail)];
  }
  Vertex device(int number) const { return devices[static_cast<std::size_t>(number)]; }
};

Topology::Topology(const Cluster& c) : impl_(std::make_unique<Impl>()) {
  Impl& t = *impl_;
  t.devices_per_node = c.devices_per_node;
  t.nodes_per_domain = c.nodes_per_domain;
  t.rails = std::min(c.nics_per_node, c.devices_per_node);
  t.nodes_per_leaf = c.nodes_per_leaf;
  const double nic_bandwidth = c.nic.bandwidth * c.nics_per_node / t.rails;
  const int groups = (c.nodes + c.nodes_per_leaf - 1) / c.nodes_per_leaf;

  t.spine = t.add("spine");
  for (int group = 0; group < groups; ++group) {
    for (int rail = 0; rail < t.rails; ++rail) {
      t.leaves.push_back(
          t.add("leaf group " + std::to_string(group) + " · leaf " + std::to_string(rail)));
      // The group's nodes could all send at once; latency is counted at the NICs.
      t.join(t.leaves.back(), t.spine, nic_bandwidth * c.nodes_per_leaf / c.oversubscription, 0);
    }
  }
  for (int node = 0; node < c.nodes; ++node) {
    const std::string name = "node " + std::to_string(node) + " · ";
    if (node % c.nodes_per_domain == 0) t.nvswitches.push_back(t.add(name + "NVSwitch"));
    for (int rail = 0; rail < t.rails; ++rail) {
      t.nics.push_back(t.add(name + "NIC " + std::to_string(rail)));
      t.join(t.nics.back(), t.leaf(node, rail), nic_bandwidth, c.nic.latency);
    }
    for (int i = 0; i < c.devices_per_node; ++i) {
      const int number = node * c.devices_per_node + i;
      t.devices.push_back(t.add(name + "device " + std::to_string(i)));
      t.join(t.devices.back(), t.nvswitches.back(), c.nvlink.bandwidth, c.nvlink.latency);
      t.join(t.devices.back(), t.nic(node, t.rail_of(number)), nic_bandwidth, 0);
    }
  }
}

Topology::~Topology() = default;

std::size_t Topology::vertices() const {
  return boost::num_vertices(impl_->graph);
}
std::size_t Topology::links() const {
  return impl_->edges.size();
}

Topology::Link Topology::link(LinkId id) const {
  const Graph& graph = impl_->graph;
  const Edge edge = impl_->edges.at(id);
  return {graph[boost::source(edge, graph)].name, graph[boost::target(edge, graph)].name,
          graph[edge].capacity, graph[edge].latency};
}

std::vector<LinkId> Topology::route(int from, int to) const {
  const Impl& t = *impl_;
  assert(from >= 0 && to >= 0 && static_cast<std::size_t>(std::max(from, to)) < t.devices.size());
  if (from == to) return {};
  const int here = t.node_of(from), there = t.node_of(to);
  std::vector<Vertex> stops{t.device(from)};
  const Vertex nvswitch = t.nvswitches[static_cast<std::size_t>(t.domain_of(from))];
  if (t.domain_of(from) == t.domain_of(to)) {
    stops.push_back(nvswitch);
  } else {
    const int rail = t.rail_of(to);
    if (t.rail_of(from) != rail) {
      // PXN: the local device in the destination's place.
      stops.push_back(nvswitch);
      stops.push_back(t.device(here * t.devices_per_node + to % t.devices_per_node));
    }
    stops.push_back(t.nic(here, rail));
    stops.push_back(t.leaf(here, rail));
    if (t.leaf(here, rail) != t.leaf(there, rail)) {
      stops.push_back(t.spine);
      stops.push_back(t.leaf(there, rail));
    }
    stops.push_back(t.nic(there, rail));
  }
  stops.push_back(t.device(to));
  std::vector<LinkId> links;
  for (std::size_t i = 1; i < stops.size(); ++i) links.push_back(t.between(stops[i - 1], stops[i]));
  return links;
}

double Topology::bottleneck(std::span<const LinkId> route) const {
  double least = std::numeric_limits<double>::infinity();
  for (const LinkId id : route) least = std::min(least, impl_->graph[impl_->edges.at(id)].capacity);
  return least;
}

double Topology::equal_rate(std::span<const std::pair<int, int>> flows) const {
  std::vector<int> crossing(links(), 0);
  for (const auto& [from, to] : flows) {
    for (const LinkId id : route(from, to)) ++crossing[id];
  }
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t id = 0; id < crossing.size(); ++id) {
    if (crossing[id] == 0) continue;
    least = std::min(least, impl_->graph[impl_->edges[id]].capacity / crossing[id]);
  }
  return least;
}

double node_egress(const Cluster& cluster, int ranks, bool leaves_leaf) {
  // Two domains stand for all: where every node under a leaf sends, each has its share of the
  // uplinks, which is what it has alone under a leaf of one domain.
  Cluster pair = cluster;
  pair.nodes = 2 * cluster.nodes_per_domain;
  pair.nodes_per_leaf = (leaves_leaf ? 1 : 2) * cluster.nodes_per_domain;
  const Topology topology(pair);
  std::vector<std::pair<int, int>> flows;
  for (int i = 0; i < ranks; ++i) {
    const int device = i * cluster.devices_per_domain() / ranks;
    flows.emplace_back(device, cluster.devices_per_domain() + device);
  }
  return topology.equal_rate(flows) * ranks;
}

}  // namespace steploom
