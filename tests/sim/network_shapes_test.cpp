// Networks as a cluster file describes them, and what they make of an all-to-all.
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "sim/collective_model.h"
#include "sim/topology.h"
#include "tests/temp_folder.h"

namespace steploom {
namespace {

constexpr Bytes kHuge = Bytes{1} << 36;  // where latencies no longer count

// The shipped H100 cluster with another network, read from a file as a user writes it.
class NetworkShapes : public ::testing::Test {
 protected:
  Cluster cluster(int nics, double nic_bandwidth, int nodes_per_leaf, double oversubscription) {
    const std::string file = (folder_.path() / "cluster.json").string();
    std::ofstream(file) << R"({"steploom_cluster": 1, "name": "own", "nodes": 64,
      "device": {"name": "h100-sxm-80gb", "sms": 132, "memory_bytes": 84934656000,
                 "memory_bandwidth": 3.35e12, "peak_flops": 989.4e12},
      "devices_per_node": 8, "nvlink": {"bandwidth": 450e9, "latency_us": 0.5},
      "nics_per_node": )"
                        << nics << R"(, "nic": {"bandwidth": )" << nic_bandwidth
                        << R"(, "latency_us": 2.5}, "nodes_per_leaf": )" << nodes_per_leaf
                        << R"(, "oversubscription": )" << oversubscription << "}";
    return load_cluster(file, 0);
  }
  static double all_to_all(const Cluster& c, int nodes, int ranks_per_node) {
    const CollectiveModel model(built_in_profile("h100-sxm-80gb"), c);
    return model.time(OpKind::all_to_all, kHuge, {nodes * ranks_per_node, nodes, ranks_per_node}, 0)
        .seconds;
  }
  const TempFolder folder_;
};

// Two links down for one up: across leaves an all-to-all has half, under one leaf all of it.
TEST_F(NetworkShapes, AnOversubscribedCoreHalvesAllToAllAcrossLeaves) {
  const Cluster full = cluster(8, 50e9, 4, 1), half = cluster(8, 50e9, 4, 2),
                third = cluster(8, 50e9, 4, 3);
  for (const int ranks : {1, 8}) {
    EXPECT_NEAR(all_to_all(half, 16, ranks) / all_to_all(full, 16, ranks), 2, 1e-3);
    EXPECT_NEAR(all_to_all(third, 16, ranks) / all_to_all(full, 16, ranks), 3, 1e-3);
    EXPECT_DOUBLE_EQ(all_to_all(half, 4, ranks), all_to_all(full, 4, ranks));
  }
}

// Eight GPUs on one NIC: each has an eighth of it, and of what each has with a NIC of its own.
TEST_F(NetworkShapes, OneNicOfANodeGivesEachOfItsGpusAnEighth) {
  const Cluster one = cluster(1, 50e9, 32, 1), eight = cluster(8, 50e9, 32, 1);
  EXPECT_NEAR(all_to_all(one, 4, 8) / all_to_all(eight, 4, 8), 8, 1e-3);
  // A rank of each node has the NIC for itself.
  EXPECT_DOUBLE_EQ(all_to_all(one, 4, 1), all_to_all(eight, 4, 1));
  std::vector<std::pair<int, int>> flows;
  for (int i = 0; i < 8; ++i) flows.emplace_back(i, 8 + i);
  Cluster pair = one;
  pair.nodes = 2;
  EXPECT_DOUBLE_EQ(Topology(pair).equal_rate(flows), 50e9 / 8);
}

// On rails, GPU i of two nodes meets under leaf i: the spine carries nothing, whatever its width.
TEST_F(NetworkShapes, RailsKeepALeafGroupOffTheSpine) {
  Cluster c = cluster(8, 50e9, 2, 4);
  c.nodes = 4;
  const Topology t(c);
  std::vector<std::pair<int, int>> within, across;
  for (int i = 0; i < 16; ++i) {
    within.emplace_back(i, (i + 8) % 16);
    across.emplace_back(i, i + 16);
  }
  EXPECT_DOUBLE_EQ(t.equal_rate(within), 50e9);
  EXPECT_DOUBLE_EQ(t.equal_rate(across), 50e9 / 4);
}

}  // namespace
}  // namespace steploom
