#include "sim/cluster.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <map>
#include <string>
#include <vector>

#include "models/embedded.h"
#include "models/error.h"
#include "models/file_name.h"
#include "models/json_reader.h"
#include "models/nearest.h"

namespace steploom {
namespace {

constexpr int kVersion = 1;
constexpr int kMostNodes = 16384;
constexpr int kMostDevicesPerNode = 256;
constexpr double kPicosecondsPerMicrosecond = 1e6;

constexpr std::array<std::string_view, 3> kFabrics{kDefaultFabric, "host", "sockets"};

bool is_known_fabric(std::string_view name) {
  return std::find(kFabrics.begin(), kFabrics.end(), name) != kFabrics.end();
}

template <std::size_t N>
void allow_only(const Json& json, const std::array<std::string_view, N>& known) {
  json.allow_only(known);
}

DeviceType read_device(const Json& json) {
  allow_only<5>(json, {"name", "sms", "memory_bytes", "memory_bandwidth", "peak_flops"});
  DeviceType d;
  d.name = json.at("name").text();
  d.sms = json.at("sms").small_integer(1, 4096);
  d.memory = json.at("memory_bytes").integer(Bytes{1} << 20, Bytes{1} << 50);
  d.memory_bandwidth = json.at("memory_bandwidth").number(1e9, 1e16);
  d.peak_flops = json.at("peak_flops").number(1e9, 1e18);
  return d;
}

LinkType read_link(const Json& json) {
  allow_only<2>(json, {"bandwidth", "latency_us"});
  LinkType link;
  link.bandwidth = json.at("bandwidth").number(1e6, 1e15);
  link.latency = static_cast<Picoseconds>(
      json.at("latency_us").number(0, 1e6) * kPicosecondsPerMicrosecond + 0.5);
  return link;
}

Cluster read_cluster(const Json& json) {
  const Json version = json.at("steploom_cluster");
  if (version.integer() != kVersion) version.refuse("version " + std::to_string(kVersion));
  allow_only<12>(
      json, {"steploom_cluster", "name", "sources", "device", "nodes", "devices_per_node",
             "nics_per_node", "nvlink", "nic", "nodes_per_leaf", "oversubscription", "fabric"});
  Cluster c;
  c.name = json.at("name").text();
  if (const auto sources = json.find("sources")) {  // for people: where the numbers come from
    for (std::size_t i = 0; i < sources->size(); ++i) sources->at(i).text();
  }
  c.device = read_device(json.at("device"));
  c.nodes = json.at("nodes").small_integer(1, kMostNodes);
  c.devices_per_node = json.at("devices_per_node").small_integer(1, kMostDevicesPerNode);
  const Json nics = json.at("nics_per_node");
  c.nics_per_node = nics.small_integer(1, kMostDevicesPerNode);
  if (c.devices_per_node % c.nics_per_node != 0 && c.nics_per_node % c.devices_per_node != 0) {
    nics.refuse("a divisor or a multiple of devices_per_node (" +
                std::to_string(c.devices_per_node) + ")");
  }
  c.nvlink = read_link(json.at("nvlink"));
  c.nic = read_link(json.at("nic"));
  c.nodes_per_leaf = json.at("nodes_per_leaf").small_integer(1, kMostNodes);
  c.oversubscription = json.at("oversubscription").number(1, 1000);
  if (const auto fabric = json.find("fabric")) {
    c.fabric = fabric->text();
    if (!is_known_fabric(c.fabric))
      fabric->refuse("a fabric", nearest_hint(c.fabric, fabric_names()));
  }
  return c;
}

}  // namespace

std::span<const std::string_view> cluster_names() {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> all;
    for (const EmbeddedFile& file : embedded_clusters()) all.push_back(file.name);
    return all;
  }();
  return names;
}

Cluster load_cluster(std::string_view name_or_path, int nodes) {
  if (nodes < 0 || nodes > kMostNodes) {
    throw Error({"--nodes", "", "1 to " + std::to_string(kMostNodes), std::to_string(nodes), ""});
  }
  const auto with_nodes = [nodes](Cluster cluster) {
    if (nodes > 0) cluster.nodes = nodes;
    return cluster;
  };
  if (names_a_file(name_or_path)) {
    return with_nodes(read_cluster(Json::load(std::filesystem::path(name_or_path))));
  }
  for (const EmbeddedFile& file : embedded_clusters()) {
    if (file.name == name_or_path) {
      return with_nodes(read_cluster(Json::parse(file.text, std::string(file.name))));
    }
  }
  throw Error({"--cluster", "", "a built-in cluster or the path of a JSON file",
               "'" + std::string(name_or_path) + "'", nearest_hint(name_or_path, cluster_names())});
}

std::span<const std::string_view> fabric_names() {
  return kFabrics;
}

void use_fabric(Cluster& cluster, std::string_view fabric) {
  if (!is_known_fabric(fabric))
    throw Error({"--fabric", "", "a fabric", "'" + std::string(fabric) + "'",
                 nearest_hint(fabric, fabric_names())});
  cluster.fabric = fabric;
}

void use_gpus(Cluster& cluster, int gpus) {
  const int all = cluster.devices_per_node;
  if (gpus < 1 || gpus > all)
    throw Error({"--gpus", "", "1 to " + std::to_string(all) + ", the GPUs of a node",
                 std::to_string(gpus), ""});
  // A NIC that the GPUs share stays theirs while any of them is left.
  const int nics = std::max(1, gpus * cluster.nics_per_node / all);
  if (gpus % nics != 0 && nics % gpus != 0)
    throw Error(
        {"--gpus", "",
         "GPUs that share the node's " + std::to_string(cluster.nics_per_node) + " NICs evenly",
         std::to_string(gpus), ""});
  cluster.devices_per_node = gpus;
  cluster.nics_per_node = nics;
}

GroupShape shape_of(const Cluster& cluster, std::span<const int> devices) {
  std::map<int, int> members_of_node;
  for (const int device : devices) {
    assert(device >= 0 && device < cluster.devices());
    ++members_of_node[cluster.node_of(device)];
  }
  GroupShape shape{static_cast<int>(devices.size()), static_cast<int>(members_of_node.size()), 0};
  for (const auto& [node, members] : members_of_node) {
    shape.ranks_per_node = std::max(shape.ranks_per_node, members);
  }
  return shape;
}

}  // namespace steploom
