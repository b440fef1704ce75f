#include "profiler/fit_fabric.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "models/error.h"
#include "profiler/spread.h"
#include "sim/link_sharing.h"

namespace steploom {
namespace {

// "spin" is no kernel of a training step.
constexpr std::array kKernels{KernelClass::matmul, KernelClass::matmul_small, KernelClass::memory};
// Measured only where there is cuDNN.
constexpr std::array kAttention{KernelClass::attention, KernelClass::attention_backward};
constexpr std::array kMeasuredCollectives{OpKind::all_reduce, OpKind::all_to_all,
                                          OpKind::send_recv};
constexpr std::array kCollectives{OpKind::all_reduce, OpKind::all_gather, OpKind::reduce_scatter,
                                  OpKind::all_to_all, OpKind::send_recv};
// What was not measured, in order; later rows see what earlier ones were assumed as.
constexpr std::array<ProfiledFabric::Assumed, 6> kAssumed{
    {{KernelClass::grouped_matmul, KernelClass::matmul},
     {KernelClass::attention, KernelClass::matmul},
     {KernelClass::attention_backward, KernelClass::attention},
     {KernelClass::optimizer, KernelClass::memory},
     {KernelClass::all_gather, KernelClass::all_reduce},
     {KernelClass::reduce_scatter, KernelClass::all_reduce}}};

// A train of kernels was as long as this times the collective's time alone, and this
// (profiler/measure_admission.cpp).
constexpr double kTrainTimes = 3;
constexpr double kTrainUs = 1500;

constexpr double kTakesSms = 1.1;    // times as long as alone: what slows `spin` so holds SMs
constexpr double kExplained = 0.98;  // of what link sharing alone predicts: no h is needed

std::uint32_t rate_of(double share) {
  return static_cast<std::uint32_t>(
      std::lround(std::clamp(share * kFullRate, 1.0, static_cast<double>(kFullRate))));
}
double share_of(std::uint32_t rate) {
  return static_cast<double>(rate) / kFullRate;
}

[[noreturn]] void missing(const CollectivePoints& points, const std::string& what) {
  throw Error({points.reading, "", what, "none", "measure every part of it, with a longer budget"});
}

KernelClass class_of_collective(OpKind kind) {
  return *kernel_class_named(name_of(kind));
}

double median(std::vector<double> values) {
  return spread_of(std::move(values)).median;
}

// "580.159.04" of "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release
// ...".
std::string driver_version(const std::string& line) {
  std::istringstream words(line);
  for (std::string word; words >> word;)
    if (word.find_first_not_of("0123456789.") == std::string::npos) return word;
  return line;
}

std::vector<CtaCurve> curves_of(const CollectivePoints& points) {
  std::map<std::pair<OpKind, int>, std::map<Bytes, const CollectivePoint*>> found;
  for (const CollectivePoint& p : points.collectives) {
    if (!p.skipped.empty()) continue;
    for (const OpKind kind : kCollectives)
      for (const int ctas : p.asked)
        if (name_of(kind) == p.collective) found[{kind, ctas}][p.bytes] = &p;
  }
  std::vector<CtaCurve> curves;
  for (const auto& [key, by_size] : found) {
    CtaCurve curve{key.first, points.ranks, key.second, {}, {}, {}};
    for (const auto& [bytes, point] : by_size) {
      curve.bytes.push_back(bytes);
      curve.grids.push_back(static_cast<std::uint16_t>(point->grid));
      curve.ns.push_back(std::llround(duration_us(*point) * 1000));
    }
    curves.push_back(std::move(curve));
  }
  return curves;
}

// The files that a fabric is made from.
struct Sources {
  std::vector<const CollectivePoints*> own;  // the one with collectives alone first
  std::vector<const CollectivePoints*> all;  // and after them those of other fabrics

  // The first file that has it, or else the fabric's main one, in which it is then missing.
  template <class Has>
  static const CollectivePoints& first(const std::vector<const CollectivePoints*>& files,
                                       const Has& has) {
    for (const CollectivePoints* file : files)
      if (has(*file)) return *file;
    return *files.front();
  }
};

bool has_beside(const CollectivePoints& points, KernelClass kernel) {
  return std::any_of(points.besides.begin(), points.besides.end(),
                     [kernel](const BesidePoint& p) { return p.kernel == name_of(kernel); });
}
bool has_share(const CollectivePoints& points, KernelClass kernel) {
  return std::any_of(points.shares.begin(), points.shares.end(),
                     [kernel](const SharePoint& p) { return p.kernel == name_of(kernel); });
}

std::string file_name(const CollectivePoints& points) {
  return std::filesystem::path(points.reading).filename().string();
}

// What a fit has found so far, and the raw tables.
class Fit {
 public:
  explicit Fit(Sources sources) : sources_(std::move(sources)), points_(*sources_.own.front()) {}

  ProfiledFabric run() {
    describe();
    fabric_.curves = curves_of(points_);
    kernels_.assign(kKernels.begin(), kKernels.end());
    for (const KernelClass kernel : kAttention)
      if (has_beside(beside_source(kernel), kernel)) kernels_.push_back(kernel);
    for (const KernelClass kernel : kernels_) add_share(kernel);
    for (const OpKind kind : kMeasuredCollectives)
      for (const KernelClass kernel : kernels_) add_beside(kind, kernel);
    assume();
    add_copies();
    std::sort(fabric_.shares.begin(), fabric_.shares.end(),
              [](const auto& a, const auto& b) { return a.of < b.of; });
    add_weights();
    for (const OpKind own : kMeasuredCollectives)
      for (const OpKind other : kMeasuredCollectives) add_pair(own, other);
    std::sort(fabric_.besides.begin(), fabric_.besides.end(), [](const auto& a, const auto& b) {
      return std::tuple(a.own, a.other) < std::tuple(b.own, b.other);
    });
    return std::move(fabric_);
  }

 private:
  void describe() {
    fabric_.name = points_.fabric;
    fabric_.date = points_.date;
    fabric_.measured = points_.command;
    fabric_.made = "fit_profile";
    for (const CollectivePoints* file : sources_.own)
      fabric_.made += " --fabric " + file_name(*file);
    fabric_.made += "; see docs/interference.md";
    for (std::size_t i = 1; i < sources_.own.size(); ++i)
      fabric_.measured += "; " + sources_.own[i]->command;
    fabric_.attribution = "measured by steploom's authors; under the licence of steploom";
    fabric_.software = {points_.gpu + ", " + std::to_string(points_.ranks) + " GPUs of one node",
                        "driver " + driver_version(points_.driver), "CUDA " + points_.cuda_runtime,
                        "NCCL " + points_.nccl, "cuBLAS " + points_.cublas};
    const CollectivePoints& dnn =
        Sources::first(sources_.own, [](const CollectivePoints& p) { return !p.cudnn.empty(); });
    if (!dnn.cudnn.empty()) fabric_.software.push_back("cuDNN " + dnn.cudnn);
    for (const std::string& variable : points_.environment) fabric_.software.push_back(variable);
  }

  const CollectivePoints& beside_source(KernelClass kernel) const {
    return Sources::first(sources_.own,
                          [kernel](const CollectivePoints& p) { return has_beside(p, kernel); });
  }

  void add_share(KernelClass kernel) {
    const CollectivePoints& shares = Sources::first(
        sources_.all, [kernel](const CollectivePoints& p) { return has_share(p, kernel); });
    if (shares.fabric != points_.fabric && has_share(shares, kernel)) borrowed("g was", shares);
    std::map<double, double> us;  // by share of the SMs
    for (const SharePoint& p : shares.shares)
      if (p.kernel == name_of(kernel)) us[static_cast<double>(p.held) / p.wanted] = p.us.median;
    if (us.empty() || us.rbegin()->first != 1)
      missing(shares, "times of " + std::string(name_of(kernel)) + " on all SMs and on fewer");
    const double whole = us.rbegin()->second;
    ProfiledFabric::Share share;
    share.of = kernel;
    for (std::size_t i = 0; i < share.rates.size(); ++i) {
      const double at = static_cast<double>(i) / 16;
      const auto above = us.lower_bound(at);
      // Below the fewest SMs that were measured, in proportion.
      const auto [low, low_rate] =
          above == us.begin()
              ? std::pair(0.0, 0.0)
              : std::pair(std::prev(above)->first, whole / std::prev(above)->second);
      const double part = (at - low) / (above->first - low);
      share.rates[i] = rate_of(low_rate + part * (whole / above->second - low_rate));
    }
    share.priority_wave_ns = priority_wave_ns(kernel);
    fabric_.shares.push_back(share);
  }

  // Blocks that retire before the kernel's end let a collective of higher priority in, half a wave
  // after its call on average; others make it wait as long as at equal priority.
  std::int64_t priority_wave_ns(KernelClass kernel) {
    std::vector<double> nothing, equal, high;
    const CollectivePoints& source = beside_source(kernel);
    for (const AdmissionPoint& p : source.admissions) {
      if (p.behind == "nothing") nothing.push_back(p.wait_us.median);
      if (p.behind != name_of(kernel)) continue;
      (p.high_priority ? high : equal).push_back(p.wait_us.median);
    }
    if (nothing.empty() || equal.empty() || high.empty())
      missing(source, "admission behind nothing and behind " + std::string(name_of(kernel)));
    const double launch = median(nothing);
    const double wait = std::max(median(high) - launch, 0.0);
    if (wait > 0.5 * (median(equal) - launch)) return 0;
    return std::llround(2 * wait * 1000);
  }

  // Grids on which a collective was measured behind a kernel, and its rate there: at the largest
  // size whose run the train outlasted.
  std::map<int, double> collective_rates(OpKind kind, KernelClass kernel) {
    const CollectivePoints& source = beside_source(kernel);
    std::map<std::pair<int, Bytes>, double> alone;
    std::map<std::pair<int, Bytes>, std::vector<double>> behind;  // priorities differ in waits only
    for (const AdmissionPoint& p : source.admissions) {
      if (p.collective != name_of(kind)) continue;
      if (p.behind == "nothing") alone[{p.grid, p.bytes}] = p.run_us.median;
      if (p.behind == name_of(kernel)) behind[{p.grid, p.bytes}].push_back(p.run_us.median);
    }
    std::map<int, double> rates;
    for (const auto& [key, runs] : behind) {  // larger sizes come later
      if (alone.count(key) == 0) missing(source, "a run behind nothing");
      const double run = median(runs);
      if (run > kTrainTimes * alone[key] + kTrainUs && rates.count(key.first) > 0) continue;
      rates[key.first] = std::min(1.0, alone[key] / run);
    }
    if (rates.empty())
      missing(source, fmt::format("runs of {} behind {}", name_of(kind), name_of(kernel)));
    return rates;
  }

  void add_beside(OpKind kind, KernelClass kernel) {
    const KernelClass collective = class_of_collective(kind);
    const Contention::ShareCurve& g =
        std::find_if(fabric_.shares.begin(), fabric_.shares.end(), [kernel](const auto& s) {
          return s.of == kernel;
        })->rates;
    PairRates mine, theirs;
    for (const auto& [grid, rate] : collective_rates(kind, kernel)) {
      mine.own.push_back(static_cast<std::uint16_t>(grid));
      mine.rates.push_back(rate_of(rate));
    }
    std::map<int, double> kernel_rates;
    const CollectivePoints& source = beside_source(kernel);
    for (const BesidePoint& p : source.besides) {
      if (p.collective != name_of(kind) || p.kernel != name_of(kernel)) continue;
      const double rate = p.kernel_alone_us.median / p.kernel_us.median;
      const double run =
          p.collective_alone_us.median / share_of(mine.at(static_cast<std::uint16_t>(p.grid), 0));
      const double part = std::min(1.0, run / p.collective_us.median);
      const auto sms = static_cast<std::uint32_t>(source.sms);
      const double on_fewer = share_of(share_at(g, sms - static_cast<std::uint32_t>(p.grid), sms));
      kernel_rates[p.grid] = (rate - (1 - part)) / (part * on_fewer);
    }
    if (kernel_rates.empty())
      missing(source, fmt::format("{} beside {}", name_of(kernel), name_of(kind)));
    for (const auto& [grid, rate] : kernel_rates) {
      theirs.other.push_back(static_cast<std::uint16_t>(grid));
      theirs.rates.push_back(rate_of(rate));
    }
    fabric_.besides.push_back({collective, kernel, std::move(mine)});
    fabric_.besides.push_back({kernel, collective, std::move(theirs)});
  }

  void assume() {
    for (const ProfiledFabric::Assumed& a : kAssumed)
      if (std::find(kernels_.begin(), kernels_.end(), a.of) == kernels_.end())
        fabric_.assumed.push_back({a.of, fabric_.row_of(a.as)});
  }

  void borrowed(const std::string& what, const CollectivePoints& from) {
    const std::string text = fmt::format("; {} measured with {}", what, from.fabric);
    if (fabric_.made.find(text) == std::string::npos) fabric_.made += text;
  }

  // A copy that an engine does holds no SM and waits for none: h is the rate itself. One that slows
  // `spin`, which moves no data, runs on SMs: it is a kernel that moves data.
  void add_copies() {
    const CollectivePoints& source = Sources::first(
        sources_.all, [](const CollectivePoints& p) { return !p.copy_besides.empty(); });
    if (source.copy_besides.empty()) return;
    if (source.fabric != points_.fabric) borrowed("copies were", source);
    for (const CopyPoint& copy : source.copies) {
      const KernelClass of = *kernel_class_named(copy.copy);
      const CopyBesidePoint& spin = beside_copy(source, "spin", copy.copy);
      if (copy.needs_sms || spin.kernel_us.median > kTakesSms * spin.kernel_alone_us.median) {
        fabric_.assumed.push_back({of, KernelClass::memory});
        continue;
      }
      for (const KernelClass kernel : kernels_) {
        const CopyBesidePoint& p = beside_copy(source, name_of(kernel), copy.copy);
        const auto h = [](const Quartiles& alone, const Quartiles& beside) {
          return PairRates{{}, {}, {rate_of(alone.median / beside.median)}};
        };
        fabric_.besides.push_back({kernel, of, h(p.kernel_alone_us, p.kernel_us)});
        fabric_.besides.push_back({of, kernel, h(p.copy_alone_us, p.copy_us)});
      }
    }
    std::sort(fabric_.assumed.begin(), fabric_.assumed.end(),
              [](const auto& a, const auto& b) { return a.of < b.of; });
  }

  static const CopyBesidePoint& beside_copy(const CollectivePoints& source, std::string_view kernel,
                                            std::string_view copy) {
    for (const CopyBesidePoint& p : source.copy_besides)
      if (p.kernel == kernel && p.copy == copy) return p;
    missing(source, fmt::format("{} beside {}", kernel, copy));
  }

  // Speed on a grid over that of the fastest grid.
  double reach(OpKind kind, int grid, Bytes bytes) const {
    double best = 0, here = 0;
    for (const CtaCurve& c : fabric_.curves) {
      if (c.collective != kind) continue;
      const double speed = 1 / c.seconds(static_cast<double>(bytes));
      best = std::max(best, speed);
      if (c.grid(static_cast<double>(bytes)) == grid) here = speed;
    }
    if (here == 0) missing(points_, fmt::format("{} on {} CTAs", name_of(kind), grid));
    return here / best;
  }

  // One of the two collectives of a pair, and the other.
  struct Half {
    int grid = 0, other_grid = 0;
    double reach = 0, other_reach = 0;  // of the fastest grid's speed, alone
    double rate = 0;                    // measured, of its own speed alone
  };
  std::vector<Half> halves(OpKind own, OpKind other) const {
    std::vector<Half> found;
    for (const PairPoint& p : points_.pairs) {
      if (p.collective == name_of(own) && p.other == name_of(other))
        found.push_back({p.grid, p.other_grid, reach(own, p.grid, p.bytes),
                         reach(other, p.other_grid, p.other_bytes),
                         p.alone_us.median / p.us.median});
      if (p.other == name_of(own) && p.collective == name_of(other))
        found.push_back({p.other_grid, p.grid, reach(own, p.other_grid, p.other_bytes),
                         reach(other, p.grid, p.bytes),
                         p.other_alone_us.median / p.other_us.median});
    }
    if (found.empty()) missing(points_, fmt::format("{} beside {}", name_of(own), name_of(other)));
    return found;
  }

  // Two of a kind together go at most so many times as fast as one on its fastest grid.
  void add_weights() {
    std::map<OpKind, double> weights;
    for (const OpKind kind : kMeasuredCollectives) {
      std::map<std::pair<int, int>, std::vector<double>> together;
      for (const Half& h : halves(kind, kind))
        together[std::minmax(h.grid, h.other_grid)].push_back(h.reach * h.rate);
      double most = 1;
      for (const auto& [grids, speeds] : together) {
        double sum = 0;
        for (const double speed : speeds) sum += speed;
        most = std::max(most, 2 * sum / static_cast<double>(speeds.size()));
      }
      weights[kind] = std::round(1000 / most) / 1000;
    }
    for (const OpKind kind : kCollectives) {
      KernelClass row = class_of_collective(kind);
      row = fabric_.row_of(row);
      for (const OpKind measured : kMeasuredCollectives)
        if (class_of_collective(measured) == row)
          fabric_.link_weights.push_back({kind, weights.at(measured)});
    }
  }

  void add_pair(OpKind own, OpKind other) {
    std::map<std::pair<int, int>, std::vector<double>> rates;
    std::set<int> grids, other_grids;
    for (const Half& h : halves(own, other)) {
      LinkSharing link(1);
      const auto draw = [&link](double weight) {
        link.add_flow(kFullRate);
        link.add_draw(0, rate_of(weight));
      };
      draw(h.reach * fabric_.link_weight(own));
      draw(h.other_reach * fabric_.link_weight(other));
      link.solve();
      const bool explained = h.rate >= kExplained * share_of(link.rate(0));
      rates[{h.grid, h.other_grid}].push_back(explained ? 1 : h.rate);
      grids.insert(h.grid);
      other_grids.insert(h.other_grid);
    }
    PairRates out;
    out.own.assign(grids.begin(), grids.end());
    out.other.assign(other_grids.begin(), other_grids.end());
    for (const int mine : grids) {
      for (const int theirs : other_grids) {
        const std::vector<double>& found = rates[{mine, theirs}];
        if (found.empty())
          missing(points_, fmt::format("{} on {} CTAs beside {} on {}", name_of(own), mine,
                                       name_of(other), theirs));
        out.rates.push_back(rate_of(median(found)));
      }
    }
    fabric_.besides.push_back(
        {class_of_collective(own), class_of_collective(other), std::move(out)});
  }

  const Sources sources_;
  const CollectivePoints& points_;  // collectives and pairs of them
  std::vector<KernelClass> kernels_;
  ProfiledFabric fabric_;
};

}  // namespace

std::vector<ProfiledFabric> fit_fabrics(const std::vector<CollectivePoints>& files) {
  std::vector<ProfiledFabric> fabrics;
  for (const CollectivePoints& main : files) {
    if (main.collectives.empty()) continue;
    Sources sources{{&main}, {}};
    for (const CollectivePoints& other : files) {
      if (&other == &main || other.fabric != main.fabric) continue;
      if (!other.collectives.empty())
        throw Error({"--fabric", "", "one file with collectives alone a fabric",
                     "two of " + main.fabric, "one for the fit, the other as --held-out"});
      sources.own.push_back(&other);
    }
    sources.all = sources.own;
    for (const CollectivePoints& other : files)
      if (other.fabric != main.fabric) sources.all.push_back(&other);
    fabrics.push_back(Fit(std::move(sources)).run());
  }
  for (const CollectivePoints& points : files)
    if (std::none_of(fabrics.begin(), fabrics.end(),
                     [&](const ProfiledFabric& f) { return f.name == points.fabric; }))
      throw Error({points.reading, "",
                   "collectives alone, here or in another file of " + points.fabric, "none",
                   "measure the sweep"});
  std::sort(fabrics.begin(), fabrics.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return fabrics;
}

void add_fabrics(Profile& profile, const std::vector<CollectivePoints>& files) {
  for (const CollectivePoints& points : files)
    if (points.sms != profile.device.sms)
      throw Error({points.reading, "/sms",
                   std::to_string(profile.device.sms) + ", the SMs of " + profile.device.name,
                   std::to_string(points.sms), ""});
  for (ProfiledFabric& fabric : fit_fabrics(files)) {
    std::erase_if(profile.fabrics, [&fabric](const ProfiledFabric& f) {
      if (f.name != fabric.name) return false;
      fabric.memory = f.memory;  // measured apart (fit_gaps.h)
      return true;
    });
    profile.fabrics.push_back(std::move(fabric));
  }
  std::sort(profile.fabrics.begin(), profile.fabrics.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
}

}  // namespace steploom
