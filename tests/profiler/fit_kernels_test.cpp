#include "profiler/fit_kernels.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "models/error.h"
#include "models/shapes.h"
#include "sim/kernel_model.h"

namespace steploom {
namespace {

ProfiledDevice device() {
  return {"toy", 100, 1e15, 3e12};
}

std::string cell(double x) {
  return std::to_string(x);
}

Profile toy() {
  Profile p;
  p.device = device();
  return p;
}

double median_of(const Profile& p, const std::string& what) {
  for (const LeaveOut& l : p.leave_out) {
    if (l.what == what) return l.median;
  }
  return 1;
}

// A GPU whose products all run at 80 % of the roofline, 2.5 µs launch included.
TEST(FitKernels, FindsAConstantEfficiencyOfProducts) {
  std::string text = "dtype,m,n,k,us\n";
  for (double m = 128; m <= 32768; m *= 2) {
    for (double n = 64; n <= 65536; n *= 4) {
      for (double k = 64; k <= 65536; k *= 4) {
        const double us = (2.5 + product_base(device(), {m, n, k, 1}) * 1e6) / 0.8;
        text += "bfloat16," + cell(m) + "," + cell(n) + "," + cell(k) + "," + cell(us) + "\n";
        text += "fp8," + cell(m) + "," + cell(n) + "," + cell(k) + ",1\n";  // not ours
      }
    }
  }
  Profile p = toy();
  fit_matmul(p, parse_table(text, "toy.csv"));
  // Shapes on no grid point.
  for (const ProductShape& shape :
       {ProductShape{5000, 5000, 5000, 1}, ProductShape{300, 11008, 4096, 1}}) {
    const double truth = (2.5e-6 + product_base(device(), shape)) / 0.8;
    EXPECT_NEAR(matmul_seconds(p, shape) / truth, 1, 0.01);
  }
  EXPECT_LT(median_of(p, "bf16 products of 0.1 ms and more"), 0.01);
}

// fp8 products that reach 0.6 of what their roofline's ratio promises, on top of the 16-bit ones.
TEST(FitKernels, FindsWhatAnotherPrecisionTakesBeyondItsRoofline) {
  constexpr double kPeak = 2e15;
  std::array<double, kPrecisions> peaks{};
  peaks[static_cast<std::size_t>(Precision::fp8)] = kPeak;
  Profile p = toy();
  std::string text = "dtype,m,n,k,us\n";
  for (double m = 128; m <= 32768; m *= 4)
    for (double n = 64; n <= 65536; n *= 4)
      for (double k = 64; k <= 65536; k *= 4) {
        const std::string shape = cell(m) + "," + cell(n) + "," + cell(k) + ",";
        const double us = (2.5 + product_base(device(), {m, n, k, 1}) * 1e6) / 0.8;
        text += "bfloat16," + shape + cell(us) + "\n";
      }
  fit_matmul(p, parse_table(text, "toy.csv"));
  const auto truth = [&](const Work& w) {
    return in_precision_seconds(toy(), kPeak, w, matmul_seconds(p, product_shape(w))) / 0.6;
  };
  std::string table = "dtype,m,n,k,us\n";
  for (std::int64_t m = 128; m <= 32768; m *= 4)
    for (std::int64_t n = 64; n <= 65536; n *= 4)
      for (std::int64_t k = 64; k <= 65536; k *= 4)
        table += "fp8," + std::to_string(m) + "," + std::to_string(n) + "," + std::to_string(k) +
                 "," + cell(truth(product(Phase::forward, Precision::fp8, m, n, k)) * 1e6) + "\n";
  fit_precisions(p, parse_table(table, "toy.csv"), peaks);
  ASSERT_EQ(p.precisions.size(), 1u);
  EXPECT_EQ(p.precisions[0].precision, Precision::fp8);
  const Work between = product(Phase::forward, Precision::fp8, 5000, 11008, 4096);
  EXPECT_NEAR(in_precision_seconds(p, kPeak, between, matmul_seconds(p, product_shape(between))) /
                  truth(between),
              1, 0.02);
  EXPECT_LT(median_of(p, "fp8 products, all"), 0.02);
}

// A GPU that is half as good at short sequences: the surface bends, and leave-out sees it through.
TEST(FitKernels, FindsAnEfficiencyThatGrowsWithTheSequence) {
  std::string text = "gpu,batch,seq,heads,kv_heads,head_dim,us\n";
  const auto rate = [](double tokens) { return 0.3 + 0.05 * std::log2(tokens / 512); };
  for (double seq = 512; seq <= 16384; seq *= 2) {
    for (double batch = 1; batch <= 16; batch *= 2) {
      for (const double heads : {8.0, 16.0, 32.0}) {
        const AttentionSize shape{seq, batch, heads, 8, 128, 128};
        const double us = (8 + attention_base(device(), shape) * 1e6) / rate(seq);
        text += "toy," + cell(batch) + "," + cell(seq) + "," + cell(heads) + ",8,128," + cell(us) +
                "\nother,1,512,8,8,128,1\n";
      }
    }
  }
  Profile p = toy();
  fit_attention(p, parse_table(text, "toy.csv"));
  ASSERT_EQ(p.attention.size(), 1u);
  EXPECT_EQ(p.attention[0].head_dim, 128);
  const AttentionSize between{3000, 2, 24, 8, 128, 128};
  const double truth = (8e-6 + attention_base(device(), between)) / rate(3000);
  EXPECT_NEAR(attention_seconds(p, between) / truth, 1, 0.02);
  EXPECT_LT(median_of(p, "attention forward, head width 128, all"), 0.02);
}

// Latency 10 µs and 100 GB/s.
TEST(FitKernels, FindsLatencyAndBandwidthOfACollective) {
  std::string text = "gpu,nccl,collective,gpus,bytes,us\n";
  const auto truth = [](double bytes) { return 10 + bytes / 100e9 * 1e6; };
  for (double bytes = 512; bytes <= 536870912; bytes *= 2) {
    text += "toy,2.29,all_gather,4," + cell(bytes) + "," + cell(truth(bytes)) + "\n";
  }
  Profile p = toy();
  fit_collectives(p, parse_table(text, "toy.csv"));
  ASSERT_EQ(p.collectives.size(), 1u);
  EXPECT_EQ(p.collectives[0].collective, OpKind::all_gather);
  EXPECT_EQ(p.collectives[0].ranks, 4);
  for (const double bytes : {1024.0, 300e3, 3e6, 100e6, 500e6}) {
    const std::array<double, 1> at{std::log2(bytes)};
    EXPECT_NEAR(std::exp2(octaves_at(p.collectives[0].grid, at)) / truth(bytes), 1, 0.06) << bytes;
  }
}

// A measurement that falls from one size to the next must not make a curve that falls.
TEST(FitKernels, CurvesNeverFall) {
  std::string text = "gpu,nccl,collective,gpus,bytes,us\n";
  int i = 0;
  for (double bytes = 512; bytes <= 536870912; bytes *= 2) {
    text += "toy,2.29,alltoall,8," + cell(bytes) + "," + cell(i++ % 3 == 0 ? 30 : 10) + "\n";
  }
  Profile p = toy();
  fit_collectives(p, parse_table(text, "toy.csv"));
  const std::vector<std::int32_t>& values = p.collectives[0].grid.values;
  for (std::size_t v = 1; v < values.size(); ++v) EXPECT_GE(values[v], values[v - 1]);
}

TEST(FitKernels, RefusesTablesWithoutThisGpu) {
  Profile p = toy();
  EXPECT_THROW(fit_matmul(p, parse_table("dtype,m,n,k,us\nfp8,1,1,1,1\n", "t")), Error);
  EXPECT_THROW(
      fit_collectives(
          p, parse_table("gpu,nccl,collective,gpus,bytes,us\nx,2,all_gather,2,1,1\n", "t")),
      Error);
  EXPECT_THROW(fit_collectives(
                   p, parse_table("gpu,nccl,collective,gpus,bytes,us\ntoy,2,gather,2,1,1\n", "t")),
               Error);
}

}  // namespace
}  // namespace steploom
