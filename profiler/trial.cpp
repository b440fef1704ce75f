#include "profiler/trial.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace steploom {
namespace {

constexpr int kMostSets = 512;

Trial prepare(const Ask& ask, const Libraries& libraries, Bytes rotate) {
  switch (ask.work.kind) {
    case OpKind::matmul:
      return product_trial(ask, libraries.blas(), rotate);
    case OpKind::grouped_matmul:
      return grouped_trial(ask, libraries.blas(), rotate);
    case OpKind::attention:
      return attention_trial(ask, libraries, rotate);
    case OpKind::norm:
      return norm_trial(ask, rotate);
    case OpKind::activation:
    case OpKind::residual:
    case OpKind::rotary:
      return elementwise_trial(ask, rotate);
    case OpKind::adam:
    case OpKind::grad_norm:
    case OpKind::zero_fill:
      return optimizer_trial(ask, rotate);
    case OpKind::permute:
    case OpKind::unpermute:
    case OpKind::embedding:
      return rows_trial(ask, rotate);
    case OpKind::router:
    case OpKind::cross_entropy:
      return softmax_trial(ask, rotate);
    default:
      throw DeviceError("no kernel for " + std::string(name_of(ask.work.kind)));
  }
}

}  // namespace

int sets_for(Bytes bytes, Bytes rotate) {
  return static_cast<int>(std::clamp<Bytes>(rotate / std::max<Bytes>(bytes, 1) + 1, 1, kMostSets));
}

std::vector<std::int64_t> sampled_rows(std::int64_t m) {
  std::vector<std::int64_t> rows{0, m - 1, m / 2, m / 3, (m * 5) / 7};
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

std::vector<double> row_of(const Slab<Bf16>& slab, std::int64_t row, std::int64_t n) {
  std::vector<double> out;
  for (const Bf16 x : slab.read(row * n, n)) out.push_back(static_cast<double>(to_float(x)));
  return out;
}

void Proof::expect(double got, double want, const char* what, std::int64_t row,
                   std::int64_t column) {
  expect_within(got, want, std::abs(want) * relative_ + absolute_, what, row, column);
}

void Proof::expect_within(double got, double want, double tolerance, const char* what,
                          std::int64_t row, std::int64_t column) {
  if (!fault_.empty() || std::abs(got - want) <= tolerance) return;
  fault_ = fmt::format("{} ({}, {}) is {:.6g} in place of {:.6g}", what, row, column, got, want);
}

void Proof::expect_written(const Slab<Bf16>& result, Stream stream) {
  const std::int64_t nans = count_nans(result.at(0), result.count(), stream);
  if (fault_.empty() && nans > 0) fault_ = fmt::format("{} elements were not written", nans);
}

void Proof::expect_written(const Slab<float>& result, Stream stream) {
  const std::int64_t nans = count_nans(result.at(0), result.count(), stream);
  if (fault_.empty() && nans > 0) fault_ = fmt::format("{} elements were not written", nans);
}

Trial make_trial(const Ask& ask, const Libraries& libraries, Bytes rotate) {
  Trial trial = prepare(ask, libraries, rotate);
  wait_for_device();  // until the tensors are filled
  return trial;
}

}  // namespace steploom
