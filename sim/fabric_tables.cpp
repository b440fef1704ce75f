#include "sim/fabric_tables.h"

#include <cstddef>
#include <string>

#include "models/error.h"

namespace steploom {
namespace {

constexpr Picoseconds kNanosecond = 1000;

std::string names_of(const std::vector<ProfiledFabric>& fabrics) {
  std::string names;
  for (const ProfiledFabric& f : fabrics) names += (names.empty() ? "" : ", ") + f.name;
  return names.empty() ? std::string(kDefaultFabric) + " alone" : names;
}

}  // namespace

const ProfiledFabric* fabric_of(const Profile& profile, const Cluster& cluster) {
  const ProfiledFabric* found = nullptr;
  for (const ProfiledFabric& f : profile.fabrics)
    if (f.name == cluster.fabric) found = &f;
  if (cluster.fabric == kDefaultFabric) return found;
  if (found == nullptr)
    throw Error({"profile " + profile.name, "/fabrics", "the fabric '" + cluster.fabric + "'",
                 names_of(profile.fabrics), "choose another --fabric or another --profile"});
  // The profile's other curves were measured over the default fabric.
  for (int ranks = 2; ranks <= cluster.devices_per_node; ++ranks) {
    if (found->measures(ranks)) continue;
    throw Error({"profile " + profile.name, "/fabrics",
                 "collectives of " + std::to_string(ranks) + " GPUs of a node over '" +
                     cluster.fabric + "'",
                 "none that were measured",
                 "use " + std::to_string(ranks - 1) + " GPUs of each node: --gpus " +
                     std::to_string(ranks - 1)});
  }
  return found;
}

Contention contention_of(const Profile& profile, const Cluster& cluster) {
  Contention c = neutral_contention(kKernelClasses);
  const ProfiledFabric* const fabric = fabric_of(profile, cluster);
  if (fabric == nullptr) return c;
  for (std::size_t i = 0; i < c.classes(); ++i) {
    const KernelClass mine = fabric->row_of(static_cast<KernelClass>(i));
    for (const ProfiledFabric::Share& s : fabric->shares) {
      if (s.of != mine) continue;
      c.share[i] = s.rates;
      c.priority_wave[i] = s.priority_wave_ns * kNanosecond;
    }
    for (std::size_t j = 0; j < c.classes(); ++j) {
      const KernelClass other = fabric->row_of(static_cast<KernelClass>(j));
      for (const ProfiledFabric::Beside& b : fabric->besides)
        if (b.own == mine && b.other == other) c.beside[i * c.classes() + j] = b.rates;
    }
  }
  return c;
}

}  // namespace steploom
