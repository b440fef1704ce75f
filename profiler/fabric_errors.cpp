#include "profiler/fabric_errors.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "profiler/spread.h"
#include "sim/collective_model.h"
#include "sim/engine.h"
#include "sim/program.h"

namespace steploom {
namespace {

constexpr double kSteadyAfter = 0.1;  // of the time in which both are busy
constexpr int kMostCtas = 32;
constexpr double kLaunches = 60;  // at least, of the longer operator

// A train of one operator after the other on a stream of every GPU.
struct Train {
  KernelClass what = KernelClass::matmul;
  double alone_us = 0;
  std::uint16_t sms = 0;
  double link_share = 0;
  bool collective = false;
};

Picoseconds picoseconds(double us) {
  return static_cast<Picoseconds>(us * 1e6 + 0.5);
}

int launches(const Train& train, double total_us) {
  return static_cast<int>(total_us / train.alone_us) + 2;
}

// Both trains on two GPUs that share one link.
Program program_of(const Train& first, const Train& second, int gpus, int sms) {
  Program p;
  for (int c = 0; c < kKernelClasses; ++c)
    p.kernel_classes.emplace_back(name_of(static_cast<KernelClass>(c)));
  p.stream_names = {"first", "second"};
  p.links = 1;
  BlockTemplate block;
  block.name = "side by side";
  const double total = kLaunches * std::max(first.alone_us, second.alone_us);
  for (const Train* train : {&first, &second}) {
    const auto stream = static_cast<std::uint16_t>(train == &second);
    OpTemplate op;
    op.duration = picoseconds(train->alone_us);
    op.stream = stream;
    op.role = train->collective ? stream : kNoRole;
    op.kernel_class = static_cast<std::uint16_t>(train->what);
    op.sms_wanted = train->sms;
    op.sms_least = train->collective ? train->sms : std::uint16_t{1};
    op.link_share = static_cast<std::uint16_t>(std::min(train->link_share, 1.0) * 65535 + 0.5);
    op.persistent = true;
    const auto n = static_cast<std::size_t>(launches(*train, total));
    block.ops.insert(block.ops.end(), n, op);
    OpInfo info;
    info.name = name_of(train->what);
    block.infos.insert(block.infos.end(), n, info);
  }
  p.blocks.push_back(std::move(block));
  Communicator both;
  for (int d = 0; d < gpus; ++d) {
    Device device;
    device.name = "gpu " + std::to_string(d);
    device.streams = 2;
    device.sms = static_cast<std::uint16_t>(sms);
    device.first_slot = static_cast<std::uint32_t>(d);
    device.slot_count = 1;
    device.tensor_table = 0;
    device.communicator_of_role = {0, 1};
    p.devices.push_back(device);
    p.slots.push_back({});
    both.members.push_back(static_cast<std::uint32_t>(d));
  }
  both.uses.push_back({0, kFullRate});
  for (const char* name : {"first", "second"}) {
    both.name = name;
    p.communicators.push_back(both);
  }
  p.tensor_tables.emplace_back();
  finalize(p);
  return p;
}

// Operators done at a moment, parts of one included, of a train whose first has this id.
double progress(const Replay& r, std::size_t first, std::size_t count, double at) {
  double done = 0;
  for (std::size_t i = first; i < first + count; ++i) {
    const auto end = static_cast<double>(r.end[i]);
    const auto before = i == first ? 0.0 : static_cast<double>(r.end[i - 1]);
    done += std::clamp((at - before) / (end - before), 0.0, 1.0);
  }
  return done;
}

SideRates replay_of(const Train& first, const Train& second, int gpus, const Profile& profile,
                    const Cluster& cluster) {
  const Contention tables = contention_of(profile, cluster);
  const Program program = program_of(first, second, gpus, profile.device.sms);
  const Replay r = replay(program, {&tables});
  const double total = kLaunches * std::max(first.alone_us, second.alone_us);
  const auto n = static_cast<std::size_t>(launches(first, total));
  const auto m = static_cast<std::size_t>(launches(second, total));
  const auto last = static_cast<double>(std::min(r.end[n - 1], r.end[n + m - 1]));
  const double from = kSteadyAfter * last;
  const auto rate = [&](std::size_t at, std::size_t count, double alone_us) {
    return (progress(r, at, count, last) - progress(r, at, count, from)) *
           static_cast<double>(picoseconds(alone_us)) / (last - from);
  };
  return {rate(0, n, first.alone_us), rate(n, m, second.alone_us)};
}

Train train_of(const std::string& collective, Bytes bytes, int grid, double alone_us, int ranks,
               const CollectiveModel& model) {
  const KernelClass what = *kernel_class_named(collective);
  OpKind kind = OpKind::all_reduce;
  while (name_of(kind) != collective) kind = static_cast<OpKind>(static_cast<int>(kind) + 1);
  // The least setting that runs on this grid.
  int setting = grid;
  CollectiveTime time;
  do {
    time = model.time(kind, bytes, {ranks, 1, ranks}, setting);
    setting *= 2;
  } while (time.ctas < grid && setting <= kMostCtas);
  return {what, alone_us, static_cast<std::uint16_t>(grid), time.link_seconds / time.seconds, true};
}

constexpr int kRanks = 2;

class Errors {
 public:
  void add(double predicted, double measured) { ratios_.push_back(predicted / measured - 1); }
  void report(std::vector<FabricError>& rows, std::string what) const {
    if (ratios_.empty()) return;
    std::vector<double> sizes;
    for (const double r : ratios_) sizes.push_back(std::abs(r));
    std::sort(sizes.begin(), sizes.end());
    const double place = 0.95 * static_cast<double>(sizes.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, sizes.size() - 1);
    const double p95 = sizes[below] + (place - std::floor(place)) * (sizes[above] - sizes[below]);
    rows.push_back({std::move(what), static_cast<int>(ratios_.size()), spread_of(sizes).median, p95,
                    spread_of(ratios_).median});
  }

 private:
  std::vector<double> ratios_;
};

}  // namespace

SideRates replayed(const BesidePoint& p, const Profile& profile, const Cluster& cluster) {
  const CollectiveModel model(profile, cluster);
  const Train kernel{*kernel_class_named(p.kernel), p.kernel_alone_us.median,
                     static_cast<std::uint16_t>(profile.device.sms), 0, false};
  return replay_of(
      kernel, train_of(p.collective, p.bytes, p.grid, p.collective_alone_us.median, kRanks, model),
      kRanks, profile, cluster);
}

SideRates replayed(const PairPoint& p, const Profile& profile, const Cluster& cluster) {
  const CollectiveModel model(profile, cluster);
  return replay_of(
      train_of(p.collective, p.bytes, p.grid, p.alone_us.median, kRanks, model),
      train_of(p.other, p.other_bytes, p.other_grid, p.other_alone_us.median, kRanks, model),
      kRanks, profile, cluster);
}

SideRates replayed(const CopyBesidePoint& p, const Profile& profile, const Cluster& cluster) {
  const KernelClass copy = *kernel_class_named(p.copy);
  const ProfiledFabric* const fabric = fabric_of(profile, cluster);
  const auto sms = static_cast<std::uint16_t>(profile.device.sms);
  const bool needs_sms = fabric != nullptr && fabric->needs_sms(copy);
  return replay_of({*kernel_class_named(p.kernel), p.kernel_alone_us.median, sms, 0, false},
                   {copy, p.copy_alone_us.median, needs_sms ? sms : std::uint16_t{0}, 0, false},
                   kRanks, profile, cluster);
}

SideRates measured(const CopyBesidePoint& p) {
  return {p.kernel_alone_us.median / p.kernel_us.median, p.copy_alone_us.median / p.copy_us.median};
}

SideRates measured(const BesidePoint& p) {
  return {p.kernel_alone_us.median / p.kernel_us.median,
          p.collective_alone_us.median / p.collective_us.median};
}

SideRates measured(const PairPoint& p) {
  return {p.alone_us.median / p.us.median, p.other_alone_us.median / p.other_us.median};
}

std::vector<FabricError> fabric_errors(const CollectivePoints& points, const Profile& profile,
                                       const Cluster& cluster, Bytes least_bytes) {
  std::vector<FabricError> rows;
  const CollectiveModel model(profile, cluster);
  const GroupShape group{points.ranks, 1, points.ranks};
  for (const OpKind kind : {OpKind::all_reduce, OpKind::all_gather, OpKind::reduce_scatter,
                            OpKind::all_to_all, OpKind::send_recv}) {
    Errors best_errors, all_errors;
    std::set<Bytes> seen;
    for (const CollectivePoint& p : points.collectives) {
      if (p.collective != name_of(kind) || p.bytes < least_bytes || !p.skipped.empty()) continue;
      for (const int ctas : p.asked)
        all_errors.add(model.time(kind, p.bytes, group, ctas).seconds * 1e6, duration_us(p));
      if (seen.insert(p.bytes).second)
        best_errors.add(model.time(kind, p.bytes, group).seconds * 1e6,
                        duration_us(*fastest(points, p.collective, p.bytes)));
    }
    best_errors.report(rows, std::string(name_of(kind)) + ", fastest setting");
    all_errors.report(rows, std::string(name_of(kind)) + ", all settings");
  }
  const Contention tables = contention_of(profile, cluster);
  constexpr std::array kernels{KernelClass::matmul, KernelClass::matmul_small,
                               KernelClass::attention, KernelClass::attention_backward,
                               KernelClass::memory};
  for (const KernelClass kernel : kernels) {
    Errors errors;
    double whole = 0;
    for (const SharePoint& p : points.shares)
      if (p.kernel == name_of(kernel) && p.held == p.wanted) whole = p.us.median;
    for (const SharePoint& p : points.shares)
      if (p.kernel == name_of(kernel) && p.held < p.wanted)
        errors.add(
            share_at(tables.share[static_cast<std::size_t>(kernel)],
                     static_cast<std::uint32_t>(p.held), static_cast<std::uint32_t>(p.wanted)) /
                static_cast<double>(kFullRate),
            whole / p.us.median);
    errors.report(rows, "g of " + std::string(name_of(kernel)));
  }
  for (const KernelClass kernel : kernels) {
    Errors kernel_errors, collective_errors;
    for (const BesidePoint& p : points.besides) {
      if (p.kernel != name_of(kernel)) continue;
      const SideRates predicted = replayed(p, profile, cluster);
      kernel_errors.add(predicted.first, measured(p).first);
      collective_errors.add(predicted.second, measured(p).second);
    }
    kernel_errors.report(rows, std::string(name_of(kernel)) + " beside collectives");
    collective_errors.report(rows, "collectives beside " + std::string(name_of(kernel)));
  }
  Errors beside_copies, copies;
  for (const CopyBesidePoint& p : points.copy_besides) {
    if (p.kernel == "spin") continue;
    const SideRates predicted = replayed(p, profile, cluster);
    beside_copies.add(predicted.first, measured(p).first);
    copies.add(predicted.second, measured(p).second);
  }
  beside_copies.report(rows, "kernels beside copies");
  copies.report(rows, "copies beside kernels");
  Errors pairs;
  for (const PairPoint& p : points.pairs) {
    const SideRates predicted = replayed(p, profile, cluster);
    pairs.add(predicted.first, measured(p).first);
    pairs.add(predicted.second, measured(p).second);
  }
  pairs.report(rows, "collectives beside collectives");
  return rows;
}

}  // namespace steploom
