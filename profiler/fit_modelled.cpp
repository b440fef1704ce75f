#include "profiler/fit_modelled.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "profiler/fit_kernels.h"
#include "sim/collective_model.h"
#include "sim/portable_math.h"

namespace steploom {
namespace {

// As the fits of measured GPUs have them (fit_kernels.cpp, fit_grouped.cpp), microseconds.
constexpr double kMatmulLaunchUs = 2.5;
constexpr double kGroupedLaunchUs = 5;
constexpr double kAttentionLaunchUs = 8;

void mark(Profile& profile, ModelledPart part) {
  profile.modelled.push_back(part);
  std::sort(profile.modelled.begin(), profile.modelled.end());
}

// The same factor everywhere: base · 2^octaves = base / share.
Grid constant(const std::vector<const char*>& axes, double share) {
  Grid grid;
  for (const char* name : axes) grid.axes.push_back(make_axis(name, {1}));
  grid.values = {static_cast<std::int32_t>(std::lround(-1000 * portable_log2(share)))};
  return grid;
}

std::vector<CollectiveCurve> rings(const Cluster& cluster, double share) {
  constexpr double kMiB = 1024 * 1024;
  std::vector<double> knots;
  for (double bytes = 4096; bytes <= 512 * kMiB; bytes *= 2) knots.push_back(bytes);
  const Axis axis = make_axis("bytes", knots);
  std::vector<CollectiveCurve> curves;
  for (const OpKind kind :
       {OpKind::all_reduce, OpKind::all_gather, OpKind::reduce_scatter, OpKind::all_to_all}) {
    for (int ranks = 2; ranks <= cluster.devices_per_node; ranks *= 2) {
      CollectiveCurve curve{kind, ranks, {{axis}, {}}};
      for (const double bytes : knots) {
        const double us = 1e6 * ring_seconds(kind, bytes, ranks, cluster.nvlink, share);
        curve.grid.values.push_back(
            static_cast<std::int32_t>(std::lround(1000 * portable_log2(us))));
      }
      curves.push_back(curve);
    }
  }
  return curves;
}

}  // namespace

bool has_rows(const MeasuredTable& table, std::string_view gpu, std::string_view routing) {
  const std::size_t of = table.column("gpu");
  const std::size_t by = routing.empty() ? of : table.column("routing");
  return std::any_of(table.rows.begin(), table.rows.end(), [&](const auto& row) {
    return row[of] == gpu && (routing.empty() || row[by] == routing);
  });
}

void take_over(Profile& profile, ModelledPart part, const Profile& like) {
  switch (part) {
    case ModelledPart::matmul:
      profile.matmul = like.matmul;
      break;
    case ModelledPart::grouped_matmul:
      profile.grouped_matmul = like.grouped_matmul;
      break;
    case ModelledPart::attention:
      profile.attention = like.attention;
      break;
    case ModelledPart::collectives:
      profile.collectives = like.collectives;
      break;
  }
  mark(profile, part);
}

void model_roofline(Profile& profile, ModelledPart part, const Cluster& cluster,
                    const RooflineShares& shares) {
  switch (part) {
    case ModelledPart::matmul:
      profile.matmul = {kMatmulLaunchUs, constant({"m", "n", "k"}, shares.matmul)};
      break;
    case ModelledPart::grouped_matmul:
      profile.grouped_matmul = {kGroupedLaunchUs,
                                constant({"tokens", "n", "k", "experts"}, shares.grouped_matmul)};
      break;
    case ModelledPart::attention:
      profile.attention = {
          {128,
           {kAttentionLaunchUs,
            constant({"tokens", "heads_sequences", "heads_per_kv_head"}, shares.attention)}}};
      break;
    case ModelledPart::collectives:
      profile.collectives = rings(cluster, shares.nvlink);
      break;
  }
  mark(profile, part);
}

}  // namespace steploom
