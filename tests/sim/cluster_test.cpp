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
  EXPECT_THAT(cluster_names(),
              testing::ElementsAre("a100-sxm-40gb", "a100-sxm-80gb", "b200-sxm", "gb200",
                                   "h100-sxm-80gb", "h200-sxm-141gb", "lancet-a100", "lancet-v100",
                                   "lina-a100", "v100-sxm-32gb"));
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
  // 64 MiB in 1226.5 us and 1228.2 us (profiler/data/h200-sxm-141gb/copies.jsonl), the slower.
  EXPECT_NEAR(h200.host.bandwidth, 67108864 / 1228.15e-6, 0.1e9);
  EXPECT_EQ(h200.device.memory, 150109880320);
  EXPECT_EQ(h200.device.memory_bandwidth, 4.8e12);
}

// What a node sends out together, by the papers' testbeds (docs/accuracy.md): 400 and 100 Gb/s.
TEST(Cluster, TestbedsOfPublishedSystems) {
  const Cluster a100 = load_cluster("lancet-a100", 0), v100 = load_cluster("lancet-v100", 0);
  const Cluster lina = load_cluster("lina-a100", 0);
  EXPECT_EQ(a100.devices(), 64);
  EXPECT_EQ(a100.nics_per_node * a100.nic.bandwidth, 50e9);
  EXPECT_EQ(a100.device.name, "a100-sxm-80gb");
  EXPECT_EQ(v100.devices(), 64);
  EXPECT_EQ(v100.nics_per_node * v100.nic.bandwidth, 12.5e9);
  EXPECT_EQ(v100.device.name, "v100-sxm-32gb");
  EXPECT_FALSE(v100.device.bf16);
  EXPECT_EQ(lina.devices(), 16);
  EXPECT_EQ(lina.nics_per_node * lina.nic.bandwidth, 12.5e9);
  EXPECT_LT(lina.device.memory, Bytes{43} * 1000 * 1000 * 1000);
}

// A rack of 18 nodes of four GPUs is one NVLink domain; what leaves it goes over NICs.
TEST(Cluster, AnNvlinkDomainIsLargerThanANode) {
  const Cluster c = load_cluster("gb200", 36);
  EXPECT_EQ(c.devices(), 144);
  EXPECT_EQ(c.devices_per_domain(), 72);
  EXPECT_EQ(c.node_of(71), 17);
  EXPECT_EQ(c.domain_of(71), 0);
  EXPECT_EQ(c.domain_of(72), 1);
  EXPECT_EQ(shape_of(c, std::array{0, 4, 8, 71}), (GroupShape{4, 1, 4}));
  EXPECT_EQ(shape_of(c, std::array{0, 1, 72, 73}), (GroupShape{4, 2, 2}));
  Cluster one = c;
  EXPECT_THAT(refusal([&] { use_fabric(one, "host"); }), HasSubstr("joins the nodes of a domain"));
}

constexpr const char* kMixed = R"({
  "steploom_cluster": 1, "name": "mixed",
  "groups": [
    {"nodes": 2, "device": {"name": "h100-sxm-80gb", "sms": 132, "memory_bytes": 84934656000,
                            "memory_bandwidth": 3.35e12, "peak_flops": 989.4e12}},
    {"nodes": 4, "device": {"name": "a100-sxm-80gb", "sms": 108, "memory_bytes": 84934656000,
                            "memory_bandwidth": 2.039e12, "peak_flops": 312e12}}],
  "devices_per_node": 8, "nics_per_node": 8,
  "nvlink": {"bandwidth": 300e9, "latency_us": 0.5},
  "nic": {"bandwidth": 25e9, "latency_us": 1.25},
  "nodes_per_leaf": 2, "oversubscription": 1
})";

TEST(Cluster, NodeGroupsOfDifferentDevices) {
  const Cluster c = load_text(kMixed);
  EXPECT_EQ(c.nodes, 6);
  EXPECT_EQ(c.type_of(15).name, "h100-sxm-80gb");
  EXPECT_EQ(c.type_of(16).name, "a100-sxm-80gb");
  EXPECT_EQ(c.type_of(47).sms, 108);
  EXPECT_THAT(refusal([&] { need_one_type(c, "a calibration"); }),
              testing::AllOf(HasSubstr("/groups"),
                             HasSubstr("2 nodes of h100-sxm-80gb, 4 nodes of a100-sxm-80gb"),
                             HasSubstr("a calibration is of one type")));
  EXPECT_NO_THROW(need_one_type(load_cluster("gb200", 2), "a calibration"));
  const auto refused = [](const std::string& from, const std::string& to) {
    return refusal([&] { load_text(replaced(kMixed, from, to)); });
  };
  EXPECT_THAT(refused("\"a100-sxm-80gb\"", "\"h100-sxm-80gb\""),
              HasSubstr("/groups/1/device/name"));
  EXPECT_THAT(refused("\"nodes\": 4", "\"nodes\": 0"), HasSubstr("/groups/1/nodes"));
  EXPECT_THAT(
      refused("\"nodes\": 4", "\"nodes\": 4, \"nvlink\": {\"bandwidth\": 0, \"latency_us\": 1}"),
      HasSubstr("/groups/1/nvlink/bandwidth"));
  EXPECT_THAT(refused("\"nodes\": 4", "\"nodes\": 4, \"fabric\": \"host\""),
              HasSubstr("/groups/1"));
  EXPECT_THAT(refused("\"devices_per_node\": 8", "\"devices_per_node\": 8, \"nodes\": 6"),
              HasSubstr("beside 'groups'"));
  EXPECT_THAT(
      refused("\"devices_per_node\": 8", "\"devices_per_node\": 8, \"nodes_per_domain\": 4"),
      HasSubstr("/nodes_per_domain"));
  EXPECT_THAT(refusal([] { load_text(kMixed, 3); }), HasSubstr("fixed number of nodes"));
}

// What a type's devices see: a cluster of nodes like their own.
TEST(Cluster, EachTypeOfDeviceHasItsView) {
  Cluster c = load_text(replaced(
      kMixed, "\"nodes\": 4", "\"nodes\": 4, \"nic\": {\"bandwidth\": 12.5e9, \"latency_us\": 2}"));
  EXPECT_EQ(c.device_types().size(), 2U);
  EXPECT_EQ(c.type(15), 0U);
  EXPECT_EQ(c.type(16), 1U);
  EXPECT_EQ(devices_text(c), "16 × h100-sxm-80gb + 32 × a100-sxm-80gb");
  EXPECT_DOUBLE_EQ(mean_peak_flops(c) * 48, 16 * 989.4e12 + 32 * 312e12);
  const Cluster fast = as_of_type(c, 0), slow = as_of_type(c, 1);
  EXPECT_EQ(fast.devices(), 48);
  EXPECT_EQ(slow.devices(), 48);
  EXPECT_EQ(slow.device.name, "a100-sxm-80gb");
  EXPECT_EQ(fast.nic.bandwidth, 25e9);
  EXPECT_EQ(slow.nic.bandwidth, 12.5e9);
  EXPECT_EQ(slow.nvlink.bandwidth, 300e9);
  EXPECT_TRUE(slow.groups.empty());
  EXPECT_EQ(only_of_type(c, 1).devices(), 32);
  for_each_network(c, [](LinkType& nic) { nic.bandwidth *= 2; });
  EXPECT_EQ(as_of_type(c, 0).nic.bandwidth, 50e9);
  EXPECT_EQ(as_of_type(c, 1).nic.bandwidth, 25e9);
  // One type again further on is the same type, and must be described alike.
  c.groups.push_back(c.groups.front());
  c.nodes += 2;
  EXPECT_EQ(c.type(48), 0U);
  EXPECT_EQ(only_of_type(c, 0).nodes, 4);
  const std::string end = "\"peak_flops\": 312e12}}";
  const auto third = [&](const std::string& memory) {
    return load_text(replaced(kMixed, end,
                              end +
                                  ", {\"nodes\": 1, \"device\": {\"name\": \"h100-sxm-80gb\", "
                                  "\"sms\": 132, \"memory_bytes\": " +
                                  memory +
                                  ", \"memory_bandwidth\": 3.35e12, \"peak_flops\": 989.4e12}}"));
  };
  EXPECT_EQ(third("84934656000").device_types().size(), 2U);
  EXPECT_THAT(refusal([&] { third("84934656001"); }), HasSubstr("as /groups/0 describes"));
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
