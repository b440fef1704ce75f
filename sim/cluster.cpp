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

}  // namespace

std::array<double, kPrecisions> read_peaks(const Json& json) {
  allow_only<3>(json, {"fp32", "tf32", "fp8"});
  std::array<double, kPrecisions> peaks{};
  const auto read = [&](std::string_view key, std::initializer_list<Precision> of) {
    const auto peak = json.find(key);
    for (const Precision p : of)
      peaks[static_cast<std::size_t>(p)] = peak ? peak->number(1e9, 1e18) : 0;
  };
  read("fp32", {Precision::fp32});
  read("tf32", {Precision::tf32});
  read("fp8", {Precision::fp8, Precision::fp8_block});
  return peaks;
}

namespace {

DeviceType read_device(const Json& json) {
  allow_only<7>(
      json, {"name", "sms", "memory_bytes", "memory_bandwidth", "peak_flops", kPeaksKey, "bf16"});
  DeviceType d;
  d.name = json.at("name").text();
  d.sms = json.at("sms").small_integer(1, 4096);
  d.memory = json.at("memory_bytes").integer(Bytes{1} << 20, Bytes{1} << 50);
  d.memory_bandwidth = json.at("memory_bandwidth").number(1e9, 1e16);
  d.peak_flops = json.at("peak_flops").number(1e9, 1e18);
  if (const auto peaks = json.find(kPeaksKey)) d.peak_of = read_peaks(*peaks);
  if (const auto bf16 = json.find("bf16")) d.bf16 = bf16->boolean();
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

// Groups that sit side by side differ: the file's order of nodes has one reading.
void read_groups(const Json& json, const Json& groups, Cluster& c) {
  for (const char* alone : {"device", "nodes"})
    if (const auto also = json.find(alone)) also->refuse("no such member beside 'groups'");
  c.nodes = 0;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const Json one = groups.at(i);
    allow_only<2>(one, {"device", "nodes"});
    c.groups.push_back(
        {read_device(one.at("device")), one.at("nodes").small_integer(1, kMostNodes)});
    if (i > 0 && c.groups[i - 1].device.name == c.groups[i].device.name)
      one.at("device").at("name").refuse("another device than the group before has");
    c.nodes += c.groups.back().nodes;
  }
  if (c.groups.empty()) groups.refuse("at least one group of nodes");
  if (c.nodes > kMostNodes) groups.refuse("at most " + std::to_string(kMostNodes) + " nodes");
  c.device = c.groups.front().device;
  if (c.groups.size() == 1) c.groups.clear();
}

// An NVLink domain holds one type of device.
void check_domains(const Json& domain, const Cluster& c) {
  for (const NodeGroup& group : c.groups)
    if (group.nodes % c.nodes_per_domain != 0)
      domain.refuse("a divisor of every group's nodes (" + std::to_string(group.nodes) + " × " +
                    group.device.name + ")");
}

Cluster read_cluster(const Json& json) {
  const Json version = json.at("steploom_cluster");
  if (version.integer() != kVersion) version.refuse("version " + std::to_string(kVersion));
  allow_only<15>(json, {"steploom_cluster", "name", "sources", "device", "nodes", "groups",
                        "devices_per_node", "nics_per_node", "nodes_per_domain", "nvlink", "nic",
                        "host", "nodes_per_leaf", "oversubscription", "fabric"});
  Cluster c;
  c.name = json.at("name").text();
  if (const auto sources = json.find("sources")) {  // for people: where the numbers come from
    for (std::size_t i = 0; i < sources->size(); ++i) sources->at(i).text();
  }
  if (const auto groups = json.find("groups")) {
    read_groups(json, *groups, c);
  } else {
    c.device = read_device(json.at("device"));
    c.nodes = json.at("nodes").small_integer(1, kMostNodes);
  }
  c.devices_per_node = json.at("devices_per_node").small_integer(1, kMostDevicesPerNode);
  const Json nics = json.at("nics_per_node");
  c.nics_per_node = nics.small_integer(1, kMostDevicesPerNode);
  if (c.devices_per_node % c.nics_per_node != 0 && c.nics_per_node % c.devices_per_node != 0) {
    nics.refuse("a divisor or a multiple of devices_per_node (" +
                std::to_string(c.devices_per_node) + ")");
  }
  if (const auto domain = json.find("nodes_per_domain")) {
    c.nodes_per_domain = domain->small_integer(1, kMostNodes);
    if (c.devices_per_domain() > kMostDevicesPerNode)
      domain->refuse("at most " + std::to_string(kMostDevicesPerNode) +
                     " devices in an NVLink domain");
    if (c.nodes_per_domain > 1) check_domains(*domain, c);
  }
  c.nvlink = read_link(json.at("nvlink"));
  c.nic = read_link(json.at("nic"));
  if (const auto host = json.find("host")) c.host = read_link(*host);
  c.nodes_per_leaf = json.at("nodes_per_leaf").small_integer(1, kMostNodes);
  c.oversubscription = json.at("oversubscription").number(1, 1000);
  if (const auto fabric = json.find("fabric")) {
    c.fabric = fabric->text();
    if (!is_known_fabric(c.fabric))
      fabric->refuse("a fabric", nearest_hint(c.fabric, fabric_names()));
    if (c.nodes_per_domain > 1 && c.fabric != kDefaultFabric)
      fabric->refuse(std::string(kDefaultFabric) + ", which joins the nodes of a domain");
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
    if (nodes > 0 && !cluster.groups.empty())
      throw Error({"--nodes", "", "the nodes of the file's groups", std::to_string(nodes),
                   "a cluster of several types of device has a fixed number of nodes"});
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
  if (cluster.nodes_per_domain > 1 && fabric != kDefaultFabric)
    throw Error(
        {"--fabric", "",
         std::string(kDefaultFabric) + ", which joins the nodes of a domain of " + cluster.name,
         "'" + std::string(fabric) + "'", ""});
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

const DeviceType& Cluster::type_of(int device_number) const {
  int before = 0;
  for (const NodeGroup& group : groups) {
    before += group.nodes;
    if (node_of(device_number) < before) return group.device;
  }
  return device;
}

void need_one_type(const Cluster& cluster) {
  if (cluster.groups.empty()) return;
  std::string found;
  for (const NodeGroup& group : cluster.groups)
    found += (found.empty() ? "" : ", ") + std::to_string(group.nodes) + " nodes of " +
             group.device.name;
  throw Error({"cluster " + cluster.name, "/groups", "nodes of one type of device", found,
               "such a cluster can be described, but a step over several types of device cannot "
               "be costed yet; plan each group as a cluster of its own"});
}

GroupShape shape_of(const Cluster& cluster, std::span<const int> devices) {
  std::map<int, int> members_of_node;
  for (const int device : devices) {
    assert(device >= 0 && device < cluster.devices());
    ++members_of_node[cluster.domain_of(device)];
  }
  GroupShape shape{static_cast<int>(devices.size()), static_cast<int>(members_of_node.size()), 0};
  for (const auto& [node, members] : members_of_node) {
    shape.ranks_per_node = std::max(shape.ranks_per_node, members);
  }
  return shape;
}

}  // namespace steploom
