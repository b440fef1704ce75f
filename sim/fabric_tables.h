// From a profile and a cluster to the fabric that is meant, and to its contention tables.
#pragma once

#include "sim/cluster.h"
#include "sim/contention.h"
#include "sim/profile.h"

namespace steploom {

// What the profile holds of the cluster's fabric. None where it holds nothing of the default
// fabric: then its curves of collectives are all that is known. Throws Error, saying what the
// profile has, if it lacks another fabric, or lacks groups that the cluster's nodes could form.
const ProfiledFabric* fabric_of(const Profile& profile, const Cluster& cluster);

// Tables with a row for every KernelClass. Neutral where fabric_of() finds none: SMs are admitted
// and links shared, but nothing slows anything else. Throws as fabric_of() does.
Contention contention_of(const Profile& profile, const Cluster& cluster);

}  // namespace steploom
