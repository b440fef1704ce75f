#include "sim/collective_model.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "sim/portable_math.h"

namespace steploom {
namespace {

constexpr std::array<OpKind, 5> kAll{OpKind::all_reduce, OpKind::all_gather, OpKind::reduce_scatter,
                                     OpKind::all_to_all, OpKind::send_recv};
constexpr Bytes kMiB = 1 << 20;
constexpr Bytes kHuge = Bytes{1} << 36;  // where latencies no longer count

class Collectives : public testing::Test {
 protected:
  double seconds(OpKind kind, Bytes bytes, GroupShape group) const {
    return model_.time(kind, bytes, group).seconds;
  }
  Cluster cluster_ = load_cluster("h100-sxm-80gb", 128);
  CollectiveModel model_{built_in_profile("h100-sxm-80gb"), cluster_};
  const double nic_ = 50e9 * kNicEfficiency;
};

TEST_F(Collectives, OneRankOrNoBytesCostNothing) {
  for (const OpKind kind : kAll) {
    EXPECT_EQ(seconds(kind, kMiB, {1, 1, 1}), 0);
    EXPECT_EQ(seconds(kind, 0, {8, 1, 8}), 0);
  }
}

// One rank a node: only the NICs carry anything, and time tends to f·S/B.
TEST_F(Collectives, LargeSizesTendToTheClosedForms) {
  const auto size = static_cast<double>(kHuge);
  for (const int n : {2, 3, 8, 32}) {
    const GroupShape rail{n, n, 1};
    const double others = static_cast<double>(n - 1) / n;
    for (const OpKind kind : {OpKind::all_gather, OpKind::reduce_scatter, OpKind::all_to_all}) {
      EXPECT_NEAR(seconds(kind, kHuge, rail) / (others * size / nic_), 1, 1e-3) << name_of(kind);
    }
    // Ring: 2(n−1)/n. A tree of two nodes may not beat it by more than its swap of halves.
    const double ring = 2 * others * size / nic_;
    EXPECT_LE(seconds(OpKind::all_reduce, kHuge, rail), ring * 1.001);
    EXPECT_GE(seconds(OpKind::all_reduce, kHuge, rail), ring * 0.999);
  }
  EXPECT_NEAR(seconds(OpKind::send_recv, kHuge, {2, 2, 1}) / (size / nic_), 1, 1e-3);
}

// Inside a node the curve at 512 MiB fixes the bus bandwidth of all larger sizes.
TEST_F(Collectives, InsideANodeTimeGrowsInProportionBeyondTheCurve) {
  for (const OpKind kind : kAll) {
    const GroupShape node{kind == OpKind::send_recv ? 2 : 8, 1, kind == OpKind::send_recv ? 2 : 8};
    EXPECT_NEAR(seconds(kind, 4 * kHuge, node) / seconds(kind, kHuge, node), 4, 1e-9);
  }
}

// The table as published (docs/accuracy.md): H100, 8 GPUs, 256 MiB, 1092.1 µs and 728.8 µs.
TEST_F(Collectives, CurvesAreNearTheMeasurements) {
  EXPECT_NEAR(seconds(OpKind::all_reduce, 256 * kMiB, {8, 1, 8}) * 1e6, 1092.1, 1092.1 * 0.08);
  EXPECT_NEAR(seconds(OpKind::all_gather, 256 * kMiB, {8, 1, 8}) * 1e6, 728.8, 728.8 * 0.08);
  EXPECT_NEAR(seconds(OpKind::all_to_all, 256 * kMiB, {4, 1, 4}) * 1e6, 702.3, 702.3 * 0.08);
}

TEST_F(Collectives, NeverFallAsBytesGrow) {
  const std::vector<GroupShape> shapes{{2, 1, 2},   {3, 1, 3},     {5, 1, 5},  {8, 1, 8},
                                       {2, 2, 1},   {16, 2, 8},    {24, 3, 8}, {64, 8, 8},
                                       {32, 32, 1}, {1024, 128, 8}};
  for (const OpKind kind : kAll) {
    for (const GroupShape& shape : shapes) {
      if (kind == OpKind::send_recv && shape.ranks != 2) continue;
      Picoseconds before = 0;
      for (Bytes bytes = 1; bytes < kHuge; bytes += bytes / 5 + 1) {
        const Picoseconds now = to_picoseconds(seconds(kind, bytes, shape));
        ASSERT_GE(now, before) << name_of(kind) << " of " << shape.ranks << " at " << bytes;
        before = now;
      }
    }
  }
}

// Numbers of ranks that were not measured lie between their neighbours.
TEST_F(Collectives, UnmeasuredRanksLieBetween) {
  for (const OpKind kind : {OpKind::all_reduce, OpKind::all_gather, OpKind::all_to_all}) {
    EXPECT_EQ(model_.time(kind, 1 << 20, {4, 1, 4}).provenance, Provenance::fitted);
    EXPECT_EQ(model_.time(kind, 1 << 20, {6, 1, 6}).provenance, Provenance::modelled);
    EXPECT_EQ(model_.time(kind, 1 << 20, {8, 8, 1}).provenance, Provenance::modelled);
    const auto bus = [&](int n) {
      return bus_factor(kind, n) / seconds(kind, 256 * kMiB, {n, 1, n});
    };
    EXPECT_NEAR(bus(6), (bus(4) + bus(8)) / 2, bus(6) * 1e-9);
    EXPECT_NEAR(bus(3), (bus(2) + bus(4)) / 2, bus(3) * 1e-9);
    EXPECT_NEAR(bus(5), bus(4) + (bus(8) - bus(4)) / 4, bus(5) * 1e-9);
  }
}

// From one full node to two, time may rise, but neither fall by much nor leap: all-to-all apart,
// whose traffic moves from NVLink to a network nine times slower.
TEST_F(Collectives, TheEdgeOfANodeIsNoCliff) {
  for (const OpKind kind : {OpKind::all_reduce, OpKind::all_gather, OpKind::reduce_scatter}) {
    for (const Bytes bytes : {kMiB, 16 * kMiB, 256 * kMiB, 1024 * kMiB}) {
      const double ratio = seconds(kind, bytes, {16, 2, 8}) / seconds(kind, bytes, {8, 1, 8});
      EXPECT_GE(ratio, 0.9) << name_of(kind) << " " << bytes;
      EXPECT_LE(ratio, 2.0) << name_of(kind) << " " << bytes;
    }
  }
}

// 16 ranks on two nodes: half of an all-to-all crosses, 8·8/16·S a node, over eight NICs.
TEST_F(Collectives, AllToAllIsBoundByTheNics) {
  const double expected = 8.0 * 8 / 16 * static_cast<double>(kHuge) / (8 * nic_);
  EXPECT_NEAR(seconds(OpKind::all_to_all, kHuge, {16, 2, 8}) / expected, 1, 1e-3);
}

// With networks faster than NVLink, the NVLink part is what is left.
TEST_F(Collectives, AllToAllIsBoundByNvlinkWhereNicsAreFast) {
  Cluster fast = cluster_;
  fast.nic.bandwidth = 1e15;
  const CollectiveModel model(built_in_profile("h100-sxm-80gb"), fast);
  const double v =
      7.0 / 8 * static_cast<double>(kHuge) / seconds(OpKind::all_to_all, kHuge, {8, 1, 8});
  const double expected = 7.0 / 16 * static_cast<double>(kHuge) / v;
  EXPECT_NEAR(model.time(OpKind::all_to_all, kHuge, {16, 2, 8}).seconds / expected, 1, 1e-3);
}

// At many ranks and few bytes the ring's latency is linear in ranks, the tree's logarithmic in
// nodes.
TEST_F(Collectives, SmallAllReducesTakeTheTree) {
  const double small = seconds(OpKind::all_reduce, 1024, {1024, 128, 8});
  EXPECT_LT(small, seconds(OpKind::all_gather, 1024, {1024, 128, 8}) / 5);
  // LL: 6.8 + 2·(7·0.6 + log2(128)·5.0)
  EXPECT_NEAR(small * 1e6, 6.8 + 2 * (7 * 0.6 + 7 * 5.0), 0.5);
}

TEST_F(Collectives, NetworkLatencyIsTheClusters) {
  Cluster far = cluster_;
  far.nic.latency += 10'000'000;  // 10 µs more a hop
  const CollectiveModel model(built_in_profile("h100-sxm-80gb"), far);
  EXPECT_NEAR(model.time(OpKind::send_recv, 8, {2, 2, 1}).seconds -
                  seconds(OpKind::send_recv, 8, {2, 2, 1}),
              10e-6, 1e-9);
  // An all-gather over four nodes hops three times.
  EXPECT_NEAR(model.time(OpKind::all_gather, 8, {4, 4, 1}).seconds -
                  seconds(OpKind::all_gather, 8, {4, 4, 1}),
              30e-6, 1e-9);
}

TEST_F(Collectives, FewerNicsAndThinSpinesAreSlower) {
  Cluster shared = cluster_;
  shared.nics_per_node = 4;
  const CollectiveModel half(built_in_profile("h100-sxm-80gb"), shared);
  EXPECT_NEAR(half.time(OpKind::all_to_all, kHuge, {16, 2, 8}).seconds /
                  seconds(OpKind::all_to_all, kHuge, {16, 2, 8}),
              2, 1e-3);
  Cluster thin = cluster_;
  thin.oversubscription = 4;
  const CollectiveModel quarter(built_in_profile("h100-sxm-80gb"), thin);
  const GroupShape inside_leaf{32, 32, 1}, beyond_leaf{64, 64, 1};
  EXPECT_EQ(quarter.time(OpKind::all_gather, kHuge, inside_leaf).seconds,
            seconds(OpKind::all_gather, kHuge, inside_leaf));
  EXPECT_NEAR(quarter.time(OpKind::all_gather, kHuge, beyond_leaf).seconds /
                  seconds(OpKind::all_gather, kHuge, beyond_leaf),
              4, 5e-3);
}

// Bus bandwidths of the tables at 512 MiB, as computed from them apart from any fit (GB/s): the
// curves keep them, and how they grow with ranks.
TEST(CollectivesElsewhere, KeepTheTablesBusBandwidths) {
  struct Published {
    const char* gpu;
    OpKind kind;
    std::vector<double> bus;  // of 2, 4 and 8 GPUs
  };
  constexpr double kSize = 512.0 * kMiB;
  for (const Published& p :
       {Published{"h100-sxm-80gb", OpKind::all_reduce, {318, 350, 445}},
        Published{"a100-sxm-80gb", OpKind::all_reduce, {193, 217, 222}},
        Published{"a100-sxm-80gb", OpKind::all_to_all, {164, 195, 203}},
        Published{"gb200", OpKind::all_reduce, {kSize / 1013e3, 1.5 * kSize / 1282e3}},
        Published{"gb200", OpKind::all_to_all, {0.5 * kSize / 808e3, 0.75 * kSize / 825e3}}}) {
    const Cluster c = load_cluster(p.gpu, 2);
    const CollectiveModel model(built_in_profile(p.gpu), c);
    int ranks = 1;
    for (const double bus : p.bus) {
      ranks *= 2;
      const double seconds = model.time(p.kind, 512 * kMiB, {ranks, 1, ranks}).seconds;
      EXPECT_NEAR(bus_factor(p.kind, ranks) * kSize / seconds * 1e-9 / bus, 1, 0.08)
          << p.gpu << " " << name_of(p.kind) << " " << ranks;
    }
  }
}

// Growth over nodes at large sizes with NICs shared by a node's GPUs. All n ranks send the part of
// an all-to-all that leaves the node, (n−r)/n, over what the node has: with N nodes the time of a
// given size a rank goes as (N−1)/N. An all-gather of so much goes as (n−1)/n.
TEST(CollectivesElsewhere, SharedNicsGrowAsTheClosedForms) {
  for (const char* name : {"lancet-v100", "lancet-a100", "lina-a100"}) {
    const Cluster c = load_cluster(name, 32);
    const CollectiveModel model(built_in_profile(c.device.name), c);
    const int r = c.devices_per_node;
    const double out = c.nics_per_node * c.nic.bandwidth * kNicEfficiency;
    for (const int nodes : {2, 4, 8, 16}) {
      const int n = nodes * r;
      const double all_to_all = model.time(OpKind::all_to_all, kHuge, {n, nodes, r}).seconds;
      const auto size = static_cast<double>(kHuge);
      EXPECT_NEAR(all_to_all / (size * r * (n - r) / n / out), 1, 1e-3) << name << " " << nodes;
      const double gather = model.time(OpKind::all_gather, kHuge, {n, nodes, r}).seconds;
      EXPECT_NEAR(gather / (size * (n - 1) / n / out), 1, 1e-3) << name << " " << nodes;
      const double reduce = model.time(OpKind::all_reduce, kHuge, {n, nodes, r}).seconds;
      EXPECT_LE(reduce, 2 * gather * 1.001) << name << " " << nodes;
    }
  }
}

// Small messages: a ring's latency is linear in the nodes, a tree's logarithmic, and an all-to-all
// pays for every peer.
TEST_F(Collectives, LatencyGrowsAsTheAlgorithmDoes) {
  const auto at = [&](OpKind kind, int nodes) {
    return seconds(kind, 1024, {8 * nodes, nodes, 8});
  };
  for (const int nodes : {4, 16, 32}) {
    const double ring = at(OpKind::all_gather, 2 * nodes) - at(OpKind::all_gather, nodes);
    EXPECT_NEAR(ring / (at(OpKind::all_gather, 4 * nodes) - at(OpKind::all_gather, 2 * nodes)), 0.5,
                0.02);
    // Two hops up and down a tree for twice the nodes: LL over the network, 5 µs each way.
    EXPECT_NEAR(at(OpKind::all_reduce, 2 * nodes) - at(OpKind::all_reduce, nodes), 2 * 5.0e-6,
                0.5e-6);
    EXPECT_NEAR(at(OpKind::all_to_all, 2 * nodes) - at(OpKind::all_to_all, nodes),
                8 * nodes * 0.5e-6, 0.2e-6);
  }
}

// 72 GPUs on one NVSwitch: what four reach is held, and what crosses racks goes over NICs.
TEST(CollectivesElsewhere, ARackIsOneNode) {
  const Cluster c = load_cluster("gb200", 72);
  const CollectiveModel model(built_in_profile("gb200"), c);
  const auto bus = [&](OpKind kind, GroupShape g) {
    return bus_factor(kind, g.ranks) * static_cast<double>(kHuge) /
           model.time(kind, kHuge, g).seconds;
  };
  for (const OpKind kind : {OpKind::all_reduce, OpKind::all_gather, OpKind::all_to_all}) {
    EXPECT_NEAR(bus(kind, {72, 1, 72}) / bus(kind, {4, 1, 4}), 1, 1e-3) << name_of(kind);
    // Every rank more costs latency.
    double before = 0;
    for (const int ranks : {4, 8, 16, 36, 72}) {
      const double now = model.time(kind, 4096, {ranks, 1, ranks}).seconds;
      EXPECT_GT(now, before) << name_of(kind) << " " << ranks;
      before = now;
    }
  }
  // Between two racks each GPU has its NIC.
  const double crossing = model.time(OpKind::all_to_all, kHuge, {144, 2, 72}).seconds;
  EXPECT_NEAR(crossing / (static_cast<double>(kHuge) / 2 / (50e9 * kNicEfficiency)), 1, 1e-3);
}

// A search's whole range: the model of 16,384 GPUs is two nodes and a table.
TEST(CollectivesElsewhere, SixteenThousandGpus) {
  const Cluster c = load_cluster("h100-sxm-80gb", 2048);
  const CollectiveModel model(built_in_profile("h100-sxm-80gb"), c);
  const double part = model.time(OpKind::all_gather, kHuge, {8192, 1024, 8}).seconds;
  const double all = model.time(OpKind::all_gather, kHuge, {16384, 2048, 8}).seconds;
  EXPECT_GT(all, part);
  EXPECT_LT(all / part, 1.1);  // twice the hops: latency alone
}

// At large sizes between nodes the NIC is busy for its efficiency's share of the time.
TEST_F(Collectives, LinkIsBusyForItsShare) {
  for (const OpKind kind : {OpKind::all_gather, OpKind::all_to_all, OpKind::all_reduce}) {
    const CollectiveTime t = model_.time(kind, kHuge, {8, 8, 1});
    EXPECT_NEAR(t.link_seconds / t.seconds, kNicEfficiency, 1e-3) << name_of(kind);
  }
  for (const OpKind kind : kAll) {
    const CollectiveTime t = model_.time(kind, 1024, {2, 2, 1});
    EXPECT_LT(t.link_seconds, t.seconds) << name_of(kind);
  }
}

}  // namespace
}  // namespace steploom
