#include "sim/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "models/error.h"
#include "tests/sim/text_edits.h"
#include "tests/temp_folder.h"

namespace steploom {
namespace {

using testing::HasSubstr;

constexpr const char* kSmall = R"({
  "steploom_cluster": 1, "name": "small",
  "device": {"name": "h100-sxm-80gb", "sms": 132, "memory_bytes": 84934656000,
             "memory_bandwidth": 3.35e12, "peak_flops": 989.4e12},
  "nodes": 3, "devices_per_node": 4, "nics_per_node": 2,
  "nvlink": {"bandwidth": 450e9, "latency_us": 0.5},
  "nic": {"bandwidth": 25e9, "latency_us": 1.25},
  "nodes_per_leaf": 2, "oversubscription": 1.5
})";

Cluster load_text(const std::string& text, int nodes = 0) {
  const TempFolder own;
  const std::filesystem::path file = own / "steploom_cluster_test.json";
  std::ofstream(file) << text;
  return load_cluster(file.string(), nodes);
}

TEST(Cluster, BuiltInsHaveTheDataSheetsNumbers) {
  EXPECT_THAT(cluster_names(), testing::ElementsAre("h100-sxm-80gb", "h200-sxm-141gb"));
  const Cluster h100 = load_cluster("h100-sxm-80gb", 4);
  EXPECT_EQ(h100.devices(), 32);
  EXPECT_EQ(h100.node_of(31), 3);
  EXPECT_EQ(h100.device.sms, 132);
  EXPECT_EQ(h100.device.peak_flops, 989.4e12);
  EXPECT_EQ(h100.device.memory_bandwidth, 3.35e12);
  EXPECT_EQ(h100.nvlink.bandwidth, 450e9);
  EXPECT_EQ(h100.nic.bandwidth, 50e9);
  EXPECT_LT(h100.device.memory, Bytes{85} * 1000 * 1000 * 1000);
  const Cluster h200 = load_cluster("h200-sxm-141gb", 1);
  EXPECT_EQ(h200.device.memory, 150109880320);
  EXPECT_EQ(h200.device.memory_bandwidth, 4.8e12);
}

TEST(Cluster, ReadsAFileAndReplacesItsNodes) {
  const Cluster c = load_text(kSmall);
  EXPECT_EQ(c.name, "small");
  EXPECT_EQ(c.nodes, 3);
  EXPECT_EQ(c.devices(), 12);
  EXPECT_EQ(c.nic.latency, 1250000);
  EXPECT_EQ(c.oversubscription, 1.5);
  EXPECT_EQ(load_text(kSmall, 7).nodes, 7);
}

TEST(Cluster, RefusesAbsurdFiles) {
  const auto refused = [](const std::string& from, const std::string& to) {
    return refusal([&] { load_text(replaced(kSmall, from, to)); });
  };
  EXPECT_THAT(refused("\"nodes\": 3", "\"nodes\": 0"), HasSubstr("/nodes"));
  EXPECT_THAT(refused("\"nodes\": 3", "\"nodes\": -1"), HasSubstr("/nodes"));
  EXPECT_THAT(refused("\"nodes\": 3", "\"nodes\": 16385"), HasSubstr("/nodes"));
  EXPECT_THAT(refused("\"nodes\": 3", "\"node\": 3"), HasSubstr("nodes"));
  EXPECT_THAT(refused("25e9", "-25e9"), HasSubstr("/nic/bandwidth"));
  EXPECT_THAT(refused("\"latency_us\": 0.5", "\"latency\": 0.5"), HasSubstr("latency_us"));
  EXPECT_THAT(refused("84934656000", "0"), HasSubstr("/device/memory_bytes"));
  EXPECT_THAT(refused("1.5", "0.5"), HasSubstr("/oversubscription"));
  EXPECT_THAT(refused("\"nics_per_node\": 2", "\"nics_per_node\": 3"),
              HasSubstr("a divisor or a multiple of devices_per_node (4)"));
  EXPECT_THAT(refused("\"steploom_cluster\": 1", "\"steploom_cluster\": 9"),
              HasSubstr("version 1"));
}

TEST(Cluster, RefusesUnknownNamesAndCounts) {
  EXPECT_THAT(refusal([] { load_cluster("h10-sxm-80gb", 1); }),
              HasSubstr("did you mean 'h100-sxm-80gb'"));
  EXPECT_THAT(refusal([] { load_cluster("h100-sxm-80gb", -1); }), HasSubstr("1 to 16384"));
  EXPECT_THAT(refusal([] { load_cluster("h100-sxm-80gb", 20000); }), HasSubstr("20000"));
}

TEST(Cluster, ShapeCountsNodesAndTheFullestOne) {
  const Cluster c = load_cluster("h100-sxm-80gb", 4);
  EXPECT_EQ(shape_of(c, std::array{0, 1, 2, 3}), (GroupShape{4, 1, 4}));
  EXPECT_EQ(shape_of(c, std::array{0, 8, 16, 24}), (GroupShape{4, 4, 1}));
  EXPECT_EQ(shape_of(c, std::array{6, 7, 8}), (GroupShape{3, 2, 2}));
}

TEST(Cluster, HasAFabric) {
  EXPECT_EQ(load_text(kSmall).fabric, "nvlink");
  const auto with = [](const std::string& fabric) {
    return replaced(kSmall, "\"oversubscription\": 1.5",
                    "\"oversubscription\": 1.5, \"fabric\": \"" + fabric + "\"");
  };
  EXPECT_EQ(load_text(with("sockets")).fabric, "sockets");
  EXPECT_THAT(refusal([&] { load_text(with("socket")); }),
              testing::AllOf(HasSubstr("/fabric"), HasSubstr("did you mean 'sockets'?")));
  Cluster c = load_text(kSmall);
  use_fabric(c, "host");
  EXPECT_EQ(c.fabric, "host");
  EXPECT_THAT(refusal([&] { use_fabric(c, "nvlnk"); }), HasSubstr("did you mean 'nvlink'?"));
}

// Four GPUs share two NICs: one GPU keeps one, two keep one, four both; three would share 1.5.
TEST(Cluster, SomeGpusOfANodeKeepTheirNics) {
  const auto nics = [](int gpus) {
    Cluster c = load_text(kSmall);
    use_gpus(c, gpus);
    EXPECT_EQ(c.devices_per_node, gpus);
    return c.nics_per_node;
  };
  EXPECT_EQ(nics(1), 1);
  EXPECT_EQ(nics(2), 1);
  EXPECT_EQ(nics(4), 2);
  Cluster c = load_cluster("h200-sxm-141gb", 1);
  use_gpus(c, 2);
  EXPECT_EQ(c.devices(), 2);
  EXPECT_EQ(c.nics_per_node, 2);
  for (const int gpus : {0, 5})
    EXPECT_THAT(refusal([&] { nics(gpus); }), HasSubstr("1 to 4, the GPUs of a node"));
}

}  // namespace
}  // namespace steploom
