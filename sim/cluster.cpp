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

bool same(const LinkType& a, const LinkType& b) {
  return a.bandwidth == b.bandwidth && a.latency == b.latency;
}

bool alike(const NodeGroup& a, const NodeGroup& b) {
  const DeviceType &c = a.device, &d = b.device;
  return c.sms == d.sms && c.memory == d.memory && c.memory_bandwidth == d.memory_bandwidth &&
         c.peak_flops == d.peak_flops && c.bf16 == d.bf16 && c.peak_of == d.peak_of &&
         same(a.nvlink, b.nvlink) && same(a.nic, b.nic);
}

// Groups that sit side by side differ: the file's order of nodes has one reading. Those further
// apart that have one name are one type.
void read_groups(const Json& json, const Json& groups, Cluster& c) {
  for (const char* alone : {"device", "nodes"})
    if (const auto also = json.find(alone)) also->refuse("no such member beside 'groups'");
  c.nodes = 0;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const Json one = groups.at(i);
    allow_only<4>(one, {"device", "nodes", "nvlink", "nic"});
    NodeGroup& group = c.groups.emplace_back();
    group.device = read_device(one.at("device"));
    group.nodes = one.at("nodes").small_integer(1, kMostNodes);
    if (const auto link = one.find("nvlink")) group.nvlink = read_link(*link);
    if (const auto link = one.find("nic")) group.nic = read_link(*link);
    const Json name = one.at("device").at("name");
    if (i > 0 && c.groups[i - 1].device.name == group.device.name)
      name.refuse("another device than the group before has");
    for (std::size_t k = 0; k < i; ++k)
      if (c.groups[k].device.name == group.device.name && !alike(c.groups[k], group))
        name.refuse("a device and links as /groups/" + std::to_string(k) +
                    " describes them, or another name");
    c.nodes += group.nodes;
  }
  if (c.groups.empty()) groups.refuse("at least one group of nodes");
  if (c.nodes > kMostNodes) groups.refuse("at most " + std::to_string(kMostNodes) + " nodes");
  if (c.device_types().size() > kMostDeviceTypes)
    groups.refuse("at most " + std::to_string(kMostDeviceTypes) + " types of device");
  c.device = c.groups.front().device;
}

// An NVLink domain holds one type of device.
void check_domains(const Json& domain, const Cluster& c) {
  if (c.groups.size() == 1) return;
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
  if (c.groups.size() == 1) c = as_of_type(c, 0);
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

std::vector<DeviceType> Cluster::device_types() const {
  if (groups.empty()) return {device};
  std::vector<DeviceType> types;
  for (const NodeGroup& group : groups)
    if (std::none_of(types.begin(), types.end(),
                     [&](const DeviceType& t) { return t.name == group.device.name; }))
      types.push_back(group.device);
  return types;
}

std::size_t Cluster::type(int device_number) const {
  if (groups.empty()) return 0;
  std::vector<std::string_view> names;  // of the types so far
  int before = 0;
  std::size_t own = 0;
  for (const NodeGroup& group : groups) {
    before += group.nodes;
    const auto known = std::find(names.begin(), names.end(), group.device.name);
    own = static_cast<std::size_t>(known - names.begin());
    if (known == names.end()) names.emplace_back(group.device.name);
    if (node_of(device_number) < before) break;
  }
  return own;
}

Cluster as_of_type(const Cluster& cluster, std::size_t type) {
  Cluster out = cluster;
  out.groups.clear();
  if (cluster.groups.empty()) return out;
  out.device = cluster.device_types()[type];
  const auto of =
      std::find_if(cluster.groups.begin(), cluster.groups.end(),
                   [&](const NodeGroup& group) { return group.device.name == out.device.name; });
  if (of->nvlink.bandwidth > 0) out.nvlink = of->nvlink;
  if (of->nic.bandwidth > 0) out.nic = of->nic;
  return out;
}

Cluster only_of_type(const Cluster& cluster, std::size_t type) {
  Cluster out = as_of_type(cluster, type);
  if (cluster.groups.empty()) return out;
  out.nodes = 0;
  for (const NodeGroup& group : cluster.groups)
    if (group.device.name == out.device.name) out.nodes += group.nodes;
  return out;
}

double mean_peak_flops(const Cluster& cluster) {
  if (cluster.groups.empty()) return cluster.device.peak_flops;
  double sum = 0;
  for (const NodeGroup& group : cluster.groups) sum += group.nodes * group.device.peak_flops;
  return sum / cluster.nodes;
}

std::string devices_text(const Cluster& cluster) {
  std::string text;
  const std::size_t types = cluster.device_types().size();
  for (std::size_t t = 0; t < types; ++t) {
    const Cluster own = only_of_type(cluster, t);
    text += (t == 0 ? "" : " + ") + std::to_string(own.devices()) + " × " + own.device.name;
  }
  return text;
}

void need_one_type(const Cluster& cluster, const std::string& what) {
  if (cluster.groups.empty()) return;
  std::string found;
  for (const NodeGroup& group : cluster.groups)
    found += (found.empty() ? "" : ", ") + std::to_string(group.nodes) + " nodes of " +
             group.device.name;
  throw Error({"cluster " + cluster.name, "/groups", "nodes of one type of device", found,
               what + " is of one type; ask of each group as a cluster of its own"});
}

void for_each_network(Cluster& cluster, const std::function<void(LinkType&)>& change) {
  change(cluster.nic);
  for (NodeGroup& group : cluster.groups)
    if (group.nic.bandwidth > 0) change(group.nic);
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
