#include "sim/cost_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string>

#include "models/error.h"
#include "models/shapes.h"
#include "sim/correction.h"
#include "sim/correction_base.h"
#include "sim/expert_loads.h"
#include "sim/kernel_model.h"
#include "sim/known_kernel.h"
#include "sim/operator_bytes.h"
#include "sim/portable_math.h"

namespace steploom {
namespace {

constexpr double kFp32 = 4;  // bytes

constexpr std::uint32_t kWholeLink = 65535;

// A surface holds its efficiency beyond its knots; further than this it is a guess.
constexpr double kFittedReach = 1;  // octaves

Provenance of_fit(const Grid& grid, std::span<const double> log2_point) {
  return octaves_outside(grid.axes, log2_point) <= kFittedReach ? Provenance::fitted
                                                                : Provenance::modelled;
}

// CTAs (channels) that NCCL gives a collective of unlimited size on Hopper. Assumed until measured.
int most_ctas(OpKind collective, const GroupShape& group) {
  switch (collective) {
    case OpKind::send_recv:
      return 4;
    case OpKind::all_reduce:
    case OpKind::all_to_all:
      return 16;
    default:
      return group.nodes == 1 ? 24 : 16;
  }
}
// NCCL takes channels away while each would get less than 512 threads × 64 bytes.
constexpr Bytes kBytesPerCta = 32768;

std::uint16_t ctas_of(OpKind collective, Bytes bytes, const GroupShape& group) {
  const Bytes most = most_ctas(collective, group);
  return static_cast<std::uint16_t>(
      std::clamp<Bytes>((bytes + kBytesPerCta - 1) / kBytesPerCta, 1, most));
}

// The clock at which a kernel ran that reached such a share of the peak rate, a multiple of 15 MHz,
// as cards have them.
int measured_mhz(const ProfiledClock& clock, OpClass kernels, double share) {
  constexpr int kStep = 15;
  const auto of = std::find_if(clock.measured.begin(), clock.measured.end(),
                               [&](const MeasuredClock& m) { return m.kernels == kernels; });
  const std::vector<double>&at = of->share_of_peak, &mhz = of->mhz;
  double found = mhz.back();
  for (std::size_t i = 0; i < at.size(); ++i) {
    if (share >= at[i]) continue;
    found = i == 0 ? mhz[0]
                   : mhz[i - 1] + (mhz[i] - mhz[i - 1]) * (share - at[i - 1]) / (at[i] - at[i - 1]);
    break;
  }
  return std::min(static_cast<int>(found / kStep + 0.5) * kStep, clock.law.most_mhz);
}

// A product of few tiles and long k, as small layers' weight gradients are, is cut along k so that
// all SMs have work: it could not reach its measured rate on as many as it has tiles. Parts shorter
// than this gain nothing (assumed: 16 steps of 64).
double k_parts(const ProductShape& shape) {
  constexpr double kShortestPart = 1024;
  return std::max(1.0, static_cast<double>(static_cast<int>(shape.k / kShortestPart)));
}

void need_bf16(const ProfiledDevice& device, const Work& work) {
  if (work.precision == Precision::bf16 && !device.bf16)
    throw Error({"cost model", std::string(name_of(work.kind)), "precision fp16",
                 std::string(name_of(work.precision)), device.name + " has no bf16 products"});
}

}  // namespace

CostModel::CostModel(const Profile& profile, const Cluster& cluster, const Calibration* calibration)
    : profile_(&profile),
      calibration_(calibration),
      points_(profile.points.kernels),
      collectives_(profile, cluster),
      peak_of_(cluster.device.peak_of),
      host_(cluster.host) {
  need_one_type(cluster, "a cost model");
  if (profile.device.name == cluster.device.name) return;
  throw Error({"profile " + profile.name, "/device/name",
               "a profile of '" + cluster.device.name + "', the cluster's device",
               "'" + profile.device.name + "'", ""});
}

// A grouped product is never credited with more speed than one dense product over all its rows. The
// fit sees only whole expert layers, so how it splits their time between two products is not
// measured, and left alone it would come within 4 % of the device's peak.
double CostModel::at_least_dense(const ProductShape& shape, bool weight_grad) const {
  ProductShape dense = shape;
  (weight_grad ? dense.k : dense.m) *= shape.groups;
  dense.groups = 1;
  return std::max(grouped_seconds(*profile_, shape), matmul_seconds(*profile_, dense));
}

Cost CostModel::product(const Work& w) const {
  need_bf16(profile_->device, w);
  if (w.m <= 0 || w.n <= 0 || w.k <= 0) return {};
  const bool grouped = w.kind == OpKind::grouped_matmul;
  const bool weight_grad = w.phase == Phase::weight_grad;
  ProductShape shape = product_shape(w);
  const bool batched = w.kind == OpKind::batched_matmul;
  if (batched) {
    shape.m *= shape.groups;
    shape.groups = 1;
  }
  double seconds = grouped ? at_least_dense(shape, weight_grad) : matmul_seconds(*profile_, shape);
  if (weight_grad) {
    const double sums = shape.groups * shape.m * shape.n * 2 * kFp32;  // read and written
    seconds += sums / (profile_->memory.bandwidth_factor * profile_->device.memory_bandwidth);
  }
  Cost cost;
  cost.time = to_picoseconds(seconds);
  const ModelledPart part = grouped ? ModelledPart::grouped_matmul : ModelledPart::matmul;
  if (w.phase == Phase::forward && !batched && !profile_->is_modelled(part)) {
    cost.provenance = grouped ? of_fit(profile_->grouped_matmul.grid, grouped_point(shape))
                              : of_fit(profile_->matmul.grid, matmul_point(shape));
  }
  cost.sms = static_cast<std::uint16_t>(
      std::min(static_cast<double>(profile_->device.sms), product_tiles(shape) * k_parts(shape)));
  return cost;
}

Cost CostModel::attention(const Work& w) const {
  need_bf16(profile_->device, w);
  if (w.m <= 0 || w.n <= 0 || w.heads <= 0) return {};
  const AttentionSize shape = attention_size(w);
  double seconds = attention_seconds(*profile_, shape);
  const auto at = attention_point(shape);
  const AttentionSurface& nearest = attention_surface(*profile_, shape);
  Cost cost;
  if (w.phase != Phase::forward) {
    seconds *= kAttentionBackwardFlops /
               portable_exp2(octaves_at(profile_->attention_backward, std::span(at).first(1)));
  } else if (nearest.head_dim == w.head_dim && w.v_head_dim == w.head_dim &&
             !is_masked_otherwise(w) && !profile_->is_modelled(ModelledPart::attention)) {
    cost.provenance = of_fit(nearest.surface.grid, at);
  }
  cost.time = to_picoseconds(seconds);
  cost.sms = static_cast<std::uint16_t>(profile_->device.sms);
  return cost;
}

Cost CostModel::moving(const Work& w) const {
  if (w.bytes <= 0) return {};
  const MemoryKernels& memory = profile_->memory;
  const double bandwidth = memory.bandwidth_factor * profile_->device.memory_bandwidth;
  Cost cost;
  cost.time = to_picoseconds(static_cast<double>(w.bytes) / bandwidth + memory.latency_us * 1e-6);
  cost.sms = static_cast<std::uint16_t>(profile_->device.sms);
  return cost;
}

// By an engine, which holds no SM.
Cost CostModel::copy(const Work& w) const {
  if (w.bytes <= 0) return {};
  if (host_.bandwidth <= 0)
    throw Error({"cost model", std::string(name_of(w.kind)),
                 "a cluster whose file has /host, the link of a device to its host's memory",
                 "none", ""});
  Cost cost;
  cost.time = to_picoseconds(static_cast<double>(w.bytes) / host_.bandwidth) + host_.latency;
  return cost;
}

Cost CostModel::collective(const CostQuery& query) const {
  const Work& w = query.work;
  const GroupShape& group = query.group;
  Cost cost;
  if (group.ranks <= 1 || w.bytes <= 0) return cost;
  const CollectiveTime time =
      w.exchange == ExpertExchange::step
          ? collectives_.time(GroupStep{static_cast<int>(w.k), static_cast<int>(w.groups), w.bytes},
                              group)
      : rows_by_kernels(w) ? collectives_.time(rows_exchanged(w, group), group,
                                               query.ctas > 0 ? query.ctas : kExchangeSms)
                           : collectives_.time(w.kind, w.bytes, group, query.ctas, query.inside);
  if (time.seconds == 0) {  // a rank's own rows, copied on the device
    Work own = w;
    own.bytes *= 2;
    cost = moving(own);
    cost.sms = ctas_of(w.kind, w.bytes, group);
    return cost;
  }
  cost.time = to_picoseconds(time.seconds);
  cost.provenance = time.provenance;
  cost.sms =
      time.ctas > 0 ? static_cast<std::uint16_t>(time.ctas) : ctas_of(w.kind, w.bytes, group);
  const double share = std::min(time.link_seconds / time.seconds, 1.0);
  cost.link_share = static_cast<std::uint16_t>(share * kWholeLink + 0.5);
  return cost;
}

Cost CostModel::uncorrected(const CostQuery& query) const {
  const Work& work = query.work;
  switch (class_of(work.kind)) {
    case OpClass::matmul:
    case OpClass::grouped_matmul:
      return product(work);
    case OpClass::attention:
      return attention(work);
    case OpClass::memory:
    case OpClass::optimizer:
      return moving(work);
    case OpClass::copy:
      return copy(work);
    case OpClass::communication:
      return collective(query);
  }
  return {};
}

Cost CostModel::corrected(const CostQuery& query) const {
  const Correction* correction = correction_of(*profile_, query.work);
  if (correction == nullptr) return uncorrected(query);
  CostQuery known = query;
  known.work.bytes = operator_bytes(query.work);
  Cost cost = uncorrected(known);
  if (cost.time == 0) return cost;
  const auto at = correction_point(query.work);
  const std::span<const double> point(at.data(), correction->grid.axes.size());
  const double factor = portable_exp2(octaves_at(correction->grid, point));
  const double base = correction_base(*profile_, query.work, cost.time);
  cost.time = to_picoseconds(base * factor);
  cost.provenance =
      is_masked_otherwise(query.work) ? Provenance::modelled : of_fit(correction->grid, point);
  return cost;
}

// From the 16-bit kernel of that shape (in_precision_seconds).
Cost CostModel::other_precision(const CostQuery& query) const {
  const Work& work = query.work;
  const ProfiledDevice& device = profile_->device;
  const double peak = peak_of_[static_cast<std::size_t>(work.precision)];
  if (peak <= 0)
    throw Error({"cost model", std::string(name_of(work.kind)),
                 device.bf16 ? "precision bf16 or fp16" : "precision fp16",
                 std::string(name_of(work.precision)),
                 fmt::format("the cluster's device has no /device/{} for it", kPeaksKey)});
  CostQuery half = query;
  half.work = in_precision(work, device.bf16 ? Precision::bf16 : Precision::fp16);
  Cost cost = whole(half);
  if (cost.time == 0) return cost;
  cost.time = to_picoseconds(
      in_precision_seconds(*profile_, peak, work, static_cast<double>(cost.time) * 1e-12));
  const PrecisionSurface* surface = precision_surface(*profile_, work);
  const bool measured = surface != nullptr && work.kind == OpKind::matmul &&
                        work.phase == Phase::forward;  // no table has another
  cost.provenance = measured
                        ? std::max(cost.provenance, of_fit(surface->grid, precision_point(work)))
                        : Provenance::modelled;
  return cost;
}

Cost CostModel::uneven(const Work& work, std::span<const double> rows) const {
  Work even = work;
  even.skew = 0;
  std::int64_t& its_rows = work.phase == Phase::weight_grad ? even.k : even.m;
  const auto groups = static_cast<double>(std::max<std::int64_t>(work.groups, 1));
  double sum = 0;  // picoseconds
  Cost cost;
  cost.provenance = Provenance::fitted;
  for (const double own : rows) {
    its_rows = static_cast<std::int64_t>(own * groups + 0.5);
    const Cost one = duration({even, {}, 0});
    if (one.time == 0) continue;
    sum += static_cast<double>(one.time);
    cost.sms = std::max(cost.sms, one.sms);
    cost.provenance = std::max(cost.provenance, one.provenance);  // the least sure of them
  }
  if (sum == 0) return {};
  cost.time = static_cast<Picoseconds>(
      sum / static_cast<double>(rows.size()) * portable_exp2(kUnevenOctaves) + 0.5);
  return cost;
}

int CostModel::least_measured_mhz() const {
  int least = profile_->clock->law.most_mhz;
  for (const MeasuredClock& m : profile_->clock->measured)
    for (const double share : m.share_of_peak)
      least = std::min(least, measured_mhz(*profile_->clock, m.kernels, share));
  return least;
}

void CostModel::add_clock(const Work& work, Cost& cost) const {
  const ProfiledClock& clock = *profile_->clock;
  const OpClass group = class_of(work.kind);
  const double seconds = static_cast<double>(cost.time) * 1e-12;
  double joules = static_cast<double>(work.bytes) * 1e-9;
  if (group == OpClass::memory || group == OpClass::copy) {
    joules *= clock.memory_nanojoules;
  } else if (group == OpClass::optimizer) {
    joules *= clock.optimizer_nanojoules;
  } else if (group == OpClass::communication) {
    joules *= clock.collective_nanojoules;
  } else {
    const double peak = is_16_bit(work.precision)
                            ? profile_->device.peak_flops
                            : peak_of_[static_cast<std::size_t>(work.precision)];
    joules = clock.law.budget_watts() * seconds;
    cost.mhz = static_cast<std::uint16_t>(measured_mhz(clock, group, work.flops / seconds / peak));
  }
  constexpr double kMost = 4e9;
  cost.microjoules = static_cast<std::uint32_t>(std::min(joules * 1e6 + 0.5, kMost));
}

Cost CostModel::cost(const CostQuery& query) const {
  Cost cost = duration(query);
  if (cost.time == 0) return cost;  // nothing is launched
  if (profile_->clock) add_clock(query.work, cost);
  if (calibration_ != nullptr) cost = calibrated(*calibration_, class_of(query.work.kind), cost);
  const Gaps& gaps = profile_->gaps;
  const auto ps = [](double us) { return static_cast<std::uint32_t>(to_picoseconds(us * 1e-6)); };
  if (is_communication(query.work.kind)) {
    cost.event_latency = ps(gaps.collective_event_us);
  } else {
    cost.stream_gap = ps(gaps.kernel_us);
    cost.event_latency = ps(gaps.kernel_event_us);
  }
  return cost;
}

Cost CostModel::duration(const CostQuery& query) const {
  Cost cost = whole(query);
  if (query.parts == 1 || cost.provenance == Provenance::measured) return cost;
  CostQuery all = query;
  all.work = joined(query.work, query.parts);
  all.parts = 1;
  all.inside *= query.parts;
  const Cost of_all = whole(all);
  const Picoseconds share = (of_all.time + query.parts - 1) / query.parts;
  if (share <= cost.time) return cost;
  cost.time = share;
  cost.provenance = std::max(cost.provenance, Provenance::fitted);
  return cost;
}

Cost CostModel::whole(const CostQuery& query) const {
  if (query.work.fresh || query.work.elementwise > 0) {
    CostQuery as = query;
    as.work = known_kernel(query.work);
    Cost cost = whole(as);
    if (cost.time > 0) cost.provenance = std::max(cost.provenance, Provenance::fitted);
    return cost;
  }
  const Work& work = query.work;
  if (work.skew > 0 && work.kind == OpKind::grouped_matmul) {
    const std::int64_t rows = work.phase == Phase::weight_grad ? work.k : work.m;
    return uneven(
        work, power_law_loads(static_cast<double>(rows), static_cast<int>(work.groups), work.skew));
  }
  const OpClass group = class_of(work.kind);
  const bool computes =
      group == OpClass::matmul || group == OpClass::grouped_matmul || group == OpClass::attention;
  if (computes && !is_16_bit(work.precision)) return other_precision(query);
  if (const KernelPoint* point = points_.find(work)) {
    Cost cost = uncorrected(query);  // for its SMs
    cost.time = to_picoseconds(point->median_us * 1e-6);
    // fp16 is costed as bf16, and that is no measurement of it.
    cost.provenance = work.precision == Precision::bf16 ? Provenance::measured : Provenance::fitted;
    return cost;
  }
  Cost cost = corrected(query);
  if (work.kind != OpKind::grouped_matmul) return cost;
  Work dense = work;
  dense.kind = OpKind::matmul;
  dense.groups = 1;
  if (const KernelPoint* point = points_.find(dense))
    cost.time = std::max(cost.time, to_picoseconds(point->median_us * 1e-6));
  return cost;
}

}  // namespace steploom
