// The machines: device type, nodes, and the links between devices.
//
// A Cluster is a few numbers (built in, or a user's JSON file) from which the graph of devices,
// NVSwitches, NICs, leaf and spine switches is built (topology.h). Device numbers run node after
// node. Bandwidths are bytes a second in one direction, as the link is specified; what NCCL reaches
// on it is the profile's affair.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/work.h"
#include "sim/cost.h"

namespace steploom {

class Json;

struct DeviceType {
  std::string name;             // "h100-sxm-80gb"
  int sms = 0;                  // streaming multiprocessors
  Bytes memory = 0;             // usable by a process
  double memory_bandwidth = 0;  // bytes/s
  double peak_flops = 0;        // dense bf16, FLOP/s
  bool bf16 = true;             // has it bf16 matrix products? else the peak is of fp16
  // By Precision, the same of products that are not 16-bit; 0: it has none, or nobody said.
  std::array<double, kPrecisions> peak_of{};
};

struct LinkType {
  double bandwidth = 0;     // bytes/s, one direction
  Picoseconds latency = 0;  // one hop
};

// How GPUs of a node reach each other: "nvlink"; "host" (NCCL through shared host memory);
// "sockets" (NCCL over TCP). Profiles hold what was measured of them (profile_fabric.h).
inline constexpr std::string_view kDefaultFabric = "nvlink";
std::span<const std::string_view> fabric_names();

// Nodes in a row that have one type of device, and links of their own where these differ.
struct NodeGroup {
  DeviceType device;
  int nodes = 1;
  LinkType nvlink{}, nic{};  // of bandwidth 0: as the cluster's
};

struct Cluster {
  std::string name;   // "h100-sxm-80gb"
  DeviceType device;  // of every node; with `groups`, of the first group
  int nodes = 1;
  int devices_per_node = 8;
  int nics_per_node = 8;
  int nodes_per_domain = 1;     // nodes on one NVSwitch: 18 of a GB200 NVL72
  LinkType nvlink;              // a device into its domain's NVSwitch
  LinkType nic;                 // a NIC into its leaf switch, the network's latency included
  // A device and its host's memory, what a copy reaches one way while all devices copy; 0: nobody
  // said.
  LinkType host{};
  int nodes_per_leaf = 32;      // rail-optimised: NIC i of this many nodes share leaf switch i
  double oversubscription = 1;  // leaf downlinks over uplinks; 1: non-blocking fat tree
  std::string fabric{kDefaultFabric};  // between GPUs of a node, by its name in the profile

  // Types of device, node after node; empty: all have `device`. Else their nodes sum to `nodes`,
  // and groups of one device name are alike but for their nodes.
  std::vector<NodeGroup> groups{};

  int devices() const { return nodes * devices_per_node; }
  int node_of(int device_number) const { return device_number / devices_per_node; }
  int devices_per_domain() const { return devices_per_node * nodes_per_domain; }
  int domain_of(int device_number) const { return device_number / devices_per_domain(); }
  DeviceType type_of(int device_number) const { return device_types()[type(device_number)]; }

  // Types of device by number, in the order of the first group that has each.
  std::vector<DeviceType> device_types() const;
  std::size_t type(int device_number) const;
};

inline constexpr std::size_t kMostDeviceTypes = 64;

// "peak_flops_of" of a device: {"fp32": ..., "tf32": ..., "fp8": ...}, each optional; fp8 stands
// for fp8_block too.
inline constexpr const char* kPeaksKey = "peak_flops_of";
std::array<double, kPrecisions> read_peaks(const Json& json);

// Built-in names, sorted ("a100-sxm-40gb", "a100-sxm-80gb", ...).
std::span<const std::string_view> cluster_names();

// A built-in name, or the path of a JSON file (anything with '/' or ending in ".json"); nodes > 0
// replaces the file's count. Throws Error.
Cluster load_cluster(std::string_view name_or_path, int nodes);

// The cluster with all its nodes of one of its types, as that type's devices see it: their links
// are those of the groups of that type.
Cluster as_of_type(const Cluster& cluster, std::size_t type);

// The nodes of one type by themselves.
Cluster only_of_type(const Cluster& cluster, std::size_t type);

// Of a device on the mean, FLOP/s.
double mean_peak_flops(const Cluster& cluster);

// "128 × h100-sxm-80gb", "64 × h100-sxm-80gb + 64 × a100-sxm-80gb".
std::string devices_text(const Cluster& cluster);

// Throws Error, naming the file's groups, if the cluster has more than one type of device. `what`
// is meant for one type alone: "a calibration".
void need_one_type(const Cluster& cluster, const std::string& what);

// Sets or scales the NICs of all nodes.
void for_each_network(Cluster& cluster, const std::function<void(LinkType&)>& change);

// Throws Error naming the nearest known fabric.
void use_fabric(Cluster& cluster, std::string_view fabric);

// Leaves so many GPUs of each node, with the NICs that are theirs. Throws Error unless the nodes
// have them and they share NICs evenly.
void use_gpus(Cluster& cluster, int gpus_per_node);

// How the given devices lie on the cluster. To collectives a node is what NVLink joins: a domain.
GroupShape shape_of(const Cluster& cluster, std::span<const int> devices);

}  // namespace steploom
