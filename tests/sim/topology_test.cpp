#include "sim/topology.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace steploom {
namespace {

// Two leaf groups of two nodes, four devices and four NICs a node.
Cluster fabric() {
  Cluster c = load_cluster("h100-sxm-80gb", 4);
  c.devices_per_node = 4;
  c.nics_per_node = 4;
  c.nodes_per_leaf = 2;
  return c;
}

std::vector<std::string> stops(const Topology& t, int from, int to) {
  std::vector<std::string> names;
  for (const LinkId id : t.route(from, to)) {
    const Topology::Link link = t.link(id);
    if (names.empty()) names.push_back(link.from);
    EXPECT_EQ(names.back(), link.from);  // the links of a route join
    names.push_back(link.to);
  }
  return names;
}

using Names = std::vector<std::string>;

TEST(Topology, HasEveryPart) {
  const Topology t(fabric());
  // A spine, 2·4 leaves, and a node's NVSwitch, 4 NICs and 4 devices.
  EXPECT_EQ(t.vertices(), 1u + 8 + 4 * (1 + 4 + 4));
  // Cables of leaves, NICs, and two of each device; two links each.
  EXPECT_EQ(t.links(), 2u * (8 + 16 + 2 * 16));
}

TEST(Topology, InsideANodeGoesOverTheNvswitch) {
  const Topology t(fabric());
  EXPECT_EQ(stops(t, 0, 3), (Names{"node 0 · device 0", "node 0 · NVSwitch", "node 0 · device 3"}));
  EXPECT_TRUE(t.route(2, 2).empty());
}

TEST(Topology, OnOneRailStaysUnderItsLeaf) {
  const Topology t(fabric());
  EXPECT_EQ(stops(t, 1, 5), (Names{"node 0 · device 1", "node 0 · NIC 1", "leaf group 0 · leaf 1",
                                   "node 1 · NIC 1", "node 1 · device 1"}));
}

// With PXN a message changes rail over NVLink at the sender, not at the spine.
TEST(Topology, ChangesRailInsideTheNode) {
  const Topology t(fabric());
  EXPECT_EQ(stops(t, 0, 6),
            (Names{"node 0 · device 0", "node 0 · NVSwitch", "node 0 · device 2", "node 0 · NIC 2",
                   "leaf group 0 · leaf 2", "node 1 · NIC 2", "node 1 · device 2"}));
}

TEST(Topology, OtherLeafGroupsAreBeyondTheSpine) {
  const Topology t(fabric());
  EXPECT_EQ(stops(t, 0, 8),
            (Names{"node 0 · device 0", "node 0 · NIC 0", "leaf group 0 · leaf 0", "spine",
                   "leaf group 1 · leaf 0", "node 2 · NIC 0", "node 2 · device 0"}));
}

TEST(Topology, BottleneckIsTheNarrowestLink) {
  const Topology t(fabric());
  EXPECT_EQ(t.bottleneck(t.route(0, 1)), 450e9);
  EXPECT_EQ(t.bottleneck(t.route(0, 4)), 50e9);
  EXPECT_EQ(t.bottleneck(t.route(0, 0)), std::numeric_limits<double>::infinity());
}

TEST(Topology, FlowsShareALink) {
  const Topology t(fabric());
  // Both leave over NIC 0 of node 0: device 0 itself, and device 1 to a device on rail 0.
  const std::vector<std::pair<int, int>> flows{{0, 4}, {1, 8}};
  EXPECT_EQ(t.equal_rate(flows), 25e9);
}

TEST(Topology, EgressGrowsWithRanksUpToTheNics) {
  Cluster c = fabric();
  EXPECT_EQ(node_egress(c, 1, false), 50e9);
  EXPECT_EQ(node_egress(c, 4, false), 200e9);
  c.nics_per_node = 2;  // two devices share a NIC
  EXPECT_EQ(node_egress(c, 1, false), 50e9);
  EXPECT_EQ(node_egress(c, 2, false), 100e9);
  EXPECT_EQ(node_egress(c, 4, false), 100e9);
  c.nics_per_node = 8;  // a device has two
  EXPECT_EQ(node_egress(c, 1, false), 100e9);
  EXPECT_EQ(node_egress(c, 4, false), 400e9);
}

// Two nodes on one NVSwitch: between them nothing touches a NIC; both send over their own NICs.
TEST(Topology, NodesOfADomainMeetInTheirNvswitch) {
  Cluster c = fabric();
  c.nodes_per_domain = 2;
  const Topology t(c);
  EXPECT_EQ(t.vertices(), 1u + 8 + 2 + 4 * (4 + 4));
  EXPECT_EQ(stops(t, 1, 6), (Names{"node 0 · device 1", "node 0 · NVSwitch", "node 1 · device 2"}));
  // Another rail in another domain: over the local device on that rail.
  EXPECT_EQ(stops(t, 5, 10).size(), 9u);
  EXPECT_EQ(stops(t, 5, 10)[2], "node 1 · device 2");
  EXPECT_EQ(node_egress(c, 1, false), 50e9);
  EXPECT_EQ(node_egress(c, 8, false), 400e9);
  EXPECT_EQ(node_egress(c, 8, true), 400e9);
}

// The testbeds of docs/accuracy.md: eight GPUs on one NIC, eight on four.
TEST(Topology, GpusOfANodeShareItsNics) {
  const Cluster one = load_cluster("lancet-v100", 2), four = load_cluster("lancet-a100", 2);
  EXPECT_EQ(node_egress(one, 1, false), 12.5e9);
  EXPECT_EQ(node_egress(one, 8, false), 12.5e9);
  EXPECT_EQ(node_egress(four, 1, false), 12.5e9);
  EXPECT_EQ(node_egress(four, 8, false), 50e9);
}

TEST(Topology, OversubscriptionCountsOnlyBeyondTheLeaf) {
  Cluster c = fabric();
  c.oversubscription = 2;
  EXPECT_EQ(node_egress(c, 4, false), 200e9);
  EXPECT_EQ(node_egress(c, 4, true), 100e9);
  // The whole graph says the same when both nodes of a leaf group send to the other group.
  const Topology t(c);
  const std::vector<std::pair<int, int>> flows{{0, 8}, {4, 12}};
  EXPECT_EQ(t.equal_rate(flows), 25e9);
}

}  // namespace
}  // namespace steploom
