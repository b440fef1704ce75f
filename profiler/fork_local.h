// Fork: the ranks of a run on this host, started by this program itself where no launcher did.
//
// The parent takes no rank: it passes SIGINT and SIGTERM on, and once a rank has died it gives the
// others kGraceSeconds to end by themselves (peers.h ends them at once) and then kills them. The
// ranks die with their parent, however that ends. CUDA does not survive a fork: the parent must not
// have used it, and asks what it needs to know with ask_child().
#pragma once

#include <functional>

#include "profiler/place.h"

namespace steploom {

inline constexpr double kGraceSeconds = 2;

// Runs rank_main in `ranks` processes and waits for them. The exit status: 0 if all ended with 0;
// 128 + n if signal n interrupted the run; else the first status of a rank that is not 0, and 1,
// with a message, if ranks only died.
int fork_local(int ranks, const std::function<int(const Place&)>& rank_main);

// What fn returns, in a process of its own; -1 if that ended without.
int ask_child(const std::function<int()>& fn);

}  // namespace steploom
