// A profile made from points, two of them joined, and which GPU fits which profile.
#include "profiler/fit_measured.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "profiler/profile_of_points.h"
#include "sim/cost_model.h"
#include "tests/models/refusal.h"

namespace steploom {
namespace {

using ::testing::HasSubstr;

MeasuredPoint point(const std::string& text, double us) {
  return {parse_asks(text, "test")[0], {us, 0.99 * us, 1.01 * us, 20, 0, 0}, "", 0, ""};
}

Measurements measured(std::vector<MeasuredPoint> points, const char* date = "2026-11-22") {
  Measurements m;
  m.reading = "points.jsonl";
  m.on.gpu = "NVIDIA H200";
  m.on.driver = "580.1";
  m.on.cuda_runtime = "13.0";
  m.on.cublas = "13.1.0";
  m.on.sms = 132;
  m.on.method = "made up";
  m.on.date = date;
  m.points = std::move(points);
  return m;
}

double us(const Profile& p, const std::string& text) {
  const Cluster cluster = cluster_for(p);
  const Work w = operator_of(parse_asks(text, "test")[0]);
  return static_cast<double>(CostModel(p, cluster).cost({w, GroupShape{}}).time) * 1e-6;
}

const std::string kProduct = "matmul forward 4096 14336 4096 1 even cublaslt";
const std::string kNorm = "norm forward 8192 4096 0 1 even steploom-";
const std::string kExperts = "grouped_matmul forward 8192 28672 4096 8 ";

TEST(FitMeasured, AShapeAnswersWithTheFastestOfItsKernels) {
  Profile p = built_in_profile("h200-sxm-141gb");
  MeasuredPoint skipped = point(kNorm + "rms", 1);
  skipped.stats = {};
  lay_points(p,
             {measured({point(kProduct, 777), point(kNorm + "rms", 40), point(kNorm + "layer", 38),
                        point(kExperts + "even cublaslt-each", 3100),
                        point(kExperts + "even cublaslt-padded", 3000),
                        point(kExperts + "uneven cublaslt-each", 2000), skipped})},
             true);
  EXPECT_EQ(p.points.kernels.size(), 4U);
  EXPECT_EQ(us(p, kProduct), 777);
  EXPECT_EQ(us(p, kNorm + "rms"), 40);
  EXPECT_EQ(us(p, kNorm + "layer"), 38);
  EXPECT_EQ(us(p, kExperts + "even cublaslt-each"), 3000);
  EXPECT_THAT(p.software.back(), HasSubstr("driver 580.1"));
  EXPECT_EQ(to_json(parse_profile(to_json(p), "again")), to_json(p));
}

// Attention too is filed under the operator that a model's builder makes, and read back for fits.
TEST(FitMeasured, AttentionAnswersExactly) {
  Profile p = built_in_profile("h200-sxm-141gb");
  const std::string attention = "attention data_grad 4096 2 16 16 192 128 cudnn";
  Measurements m = measured({point(attention, 1234)});
  m.on.cudnn = "9.19.0";
  lay_points(p, {measured({point(kProduct, 777)}), m}, true);
  EXPECT_EQ(us(p, attention), 1234);
  EXPECT_EQ(us(p, kProduct), 777);
  EXPECT_EQ(p.points.on.cudnn, "9.19.0");
  EXPECT_THAT(p.software.back(), HasSubstr("cuDNN 9.19.0"));
  ASSERT_EQ(measured_points(p.points).size(), 2U);
  EXPECT_EQ(to_text(measured_points(p.points)[1].ask).substr(0, 6), "attent");
  const Profile again = parse_profile(to_json(p), "again");
  EXPECT_EQ(to_json(again), to_json(p));
  EXPECT_EQ(us(again, attention), 1234);
  // Points of another cuDNN do not join these.
  m.on.cudnn = "9.20.0";
  EXPECT_EQ(refusal([&] { lay_points(p, {m}, true); }).place, "/points/cudnn");
}

// What the built-in corrections rest on is not given up for these three points.
TEST(FitMeasured, KeepsTheCorrectionsThatItCannotBetter) {
  const Profile& base = built_in_profile("h200-sxm-141gb");
  Profile p = base;
  lay_points(p, {measured({point(kProduct, 777)})}, true);
  EXPECT_EQ(p.corrections.size(), base.corrections.size());
  EXPECT_EQ(p.leave_out.size(), base.leave_out.size());
  const std::string other = "matmul forward 4096 4096 4096 1 even cublaslt";
  EXPECT_EQ(us(p, other), us(base, other));
}

TEST(FitMeasured, WithoutPointsOnlyCorrectionsAreFitted) {
  Profile p = built_in_profile("h200-sxm-141gb");
  lay_points(p, {measured({point(kProduct, 777)})}, false);
  EXPECT_TRUE(p.points.kernels.empty());
}

TEST(FitMeasured, MergingTakesTheLaterOfTwo) {
  Profile a = built_in_profile("h200-sxm-141gb"), b = a;
  lay_points(a, {measured({point(kProduct, 700), point(kNorm + "rms", 40)}, "2026-11-23")}, true);
  lay_points(b, {measured({point(kProduct, 800), point(kExperts + "even cublaslt-each", 3000)})},
             true);
  for (const auto& [first, second] : {std::pair(a, b), std::pair(b, a)}) {
    const Profile both = merge_profiles(first, second, "b.json");
    EXPECT_EQ(both.points.kernels.size(), 3U);
    EXPECT_EQ(us(both, kProduct), 700);
    EXPECT_EQ(us(both, kNorm + "rms"), 40);
    EXPECT_EQ(us(both, kExperts + "even cublaslt-each"), 3000);
    EXPECT_EQ(both.points.on.date, "2026-11-23");
    EXPECT_EQ(to_json(parse_profile(to_json(both), "again")), to_json(both));
  }
}

TEST(FitMeasured, MergingTakesFabricsOfBoth) {
  Profile a = built_in_profile("h200-sxm-141gb"), b = a;
  ASSERT_EQ(a.fabrics.size(), 3U);
  a.fabrics.erase(a.fabrics.begin());
  b.fabrics.erase(b.fabrics.begin() + 1);
  a.date = "2026-11-23";
  a.fabrics.back().measured = "anew";
  b.date = "2026-11-22";
  const Profile both = merge_profiles(a, b, "b.json");
  ASSERT_EQ(both.fabrics.size(), 3U);
  EXPECT_EQ(both.fabrics[0].name, "host");
  EXPECT_EQ(both.fabrics[2].measured, "anew");
}

TEST(FitMeasured, MergingRefusesOtherDevicesAndVersions) {
  Profile a = built_in_profile("h200-sxm-141gb");
  lay_points(a, {measured({point(kProduct, 700)})}, true);
  EXPECT_EQ(refusal([&] { merge_profiles(a, built_in_profile("h100-sxm-80gb"), "b.json"); }).place,
            "/device/name");
  Profile b = a;
  b.points.on.driver = "590.0";
  const auto driver = refusal([&] { merge_profiles(a, b, "b.json"); });
  EXPECT_EQ(driver.reading, "b.json");
  EXPECT_EQ(driver.place, "/points/driver");
  EXPECT_THAT(driver.found, HasSubstr("590.0"));
  b = a;
  b.points.on.cublas = "12.9";
  EXPECT_EQ(refusal([&] { merge_profiles(a, b, "b.json"); }).place, "/points/cublas");
  b = a;
  b.matmul.grid.values[0] += 1;
  EXPECT_THAT(refusal([&] { merge_profiles(a, b, "b.json"); }).hint, HasSubstr("base profiles"));
}

TEST(FitMeasured, AGpuFitsTheProfileOfItsModelFormAndSms) {
  const auto name = [](const char* gpu, int sms) {
    const Profile* p = built_in_for(gpu, sms);
    return p == nullptr ? std::string("none") : p->name;
  };
  EXPECT_EQ(name("NVIDIA H200", 132), "h200-sxm-141gb");
  EXPECT_EQ(name("NVIDIA H100 80GB HBM3", 132), "h100-sxm-80gb");
  EXPECT_EQ(name("NVIDIA H100 PCIe", 114), "none");
  EXPECT_EQ(name("NVIDIA H200 NVL", 132), "none");
  EXPECT_EQ(name("NVIDIA H200", 114), "none");
  EXPECT_EQ(name("NVIDIA A100-SXM4-80GB", 108), "a100-sxm-80gb");
  EXPECT_EQ(name("NVIDIA A100-SXM4-40GB", 108), "a100-sxm-40gb");
  EXPECT_EQ(name("NVIDIA A800-SXM4-80GB", 108), "none");
}

}  // namespace
}  // namespace steploom
