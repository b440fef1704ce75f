#include "profiler/fit_fabric.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "models/error.h"
#include "profiler/fabric_errors.h"
#include "profiler/fit_gaps.h"

namespace steploom {
namespace {

using ::testing::HasSubstr;

std::string raw_file(const std::string& name) {
  return std::string(STEPLOOM_SOURCE_DIR) + "/profiler/data/h200-sxm-141gb/" + name + ".jsonl";
}
CollectivePoints raw(const std::string& name) {
  return load_collective_points(raw_file(name));
}
GapPoints raw_gaps(const std::string& name) {
  return load_gap_points(raw_file(name));
}

Quartiles at(double us) {
  return {us, us, us};
}

// Made-up measurements of a GPU of 100 SMs on which
//   g is the share of the SMs, 0.5 on half of them;
//   a collective of 200 us on 20 CTAs works at half speed beside a kernel, so takes 400 us;
//   the kernel works at 0.9 beside it, on 80 of 100 SMs, so at 0.72; and the collective, waiting
//   for SMs, runs half of the time: the kernel's mean rate is (1 + 0.72)/2 = 0.86; two collectives
//   share the link evenly, with nothing lost.
CollectivePoints made_up() {
  CollectivePoints p;
  p.reading = "made-up.jsonl";
  p.fabric = "nvlink";
  p.ranks = 2;
  p.sms = 100;
  for (const char* collective : {"all_reduce", "all_to_all", "send_recv"}) {
    CollectivePoint point;
    point.collective = collective;
    point.bytes = 1 << 20;
    point.asked = {32};
    point.grid = 20;
    point.us = at(200);
    point.kernel_us = 200;
    p.collectives.push_back(point);
    p.admissions.push_back({collective, 1 << 20, 20, "nothing", false, at(30), at(200)});
    for (const char* kernel : {"matmul", "matmul_small", "memory"}) {
      for (const bool high : {false, true}) {
        const double wait = high && kernel == std::string("memory") ? 35 : 230;
        p.admissions.push_back({collective, 1 << 20, 20, kernel, high, at(wait), at(400)});
      }
      p.besides.push_back(
          {kernel, collective, 1 << 20, 20, at(100 / 0.86), at(100), at(800), at(200), 25});
    }
    for (const char* other : {"all_reduce", "all_to_all", "send_recv"})
      p.pairs.push_back(
          {collective, other, 1 << 20, 1 << 20, 20, 20, at(400), at(200), at(400), at(200), 25});
  }
  // Runs that outlast the train of kernels (3 · 20000 + 1500 us) seem faster than they are.
  p.admissions.push_back({"all_reduce", 1 << 24, 20, "nothing", false, at(30), at(20000)});
  for (const bool high : {false, true})
    p.admissions.push_back(
        {"all_reduce", 1 << 24, 20, "memory", high, at(high ? 35 : 230), at(61600)});
  for (const char* kernel : {"matmul", "matmul_small", "memory"})
    for (const int held : {100, 50}) p.shares.push_back({kernel, held, 100, at(1e4 / held)});
  return p;
}

TEST(FitFabric, FindsWhatMadeTheMeasurements) {
  const ProfiledFabric f = fit_fabrics({made_up()}).front();
  EXPECT_EQ(f.curves[0].ctas, 32);
  EXPECT_EQ(f.curves[0].grids[0], 20);
  EXPECT_EQ(f.curves[0].ns[0], 200'000);
  EXPECT_EQ(f.shares[0].rates[16], kFullRate);
  EXPECT_NEAR(f.shares[0].rates[4], kFullRate / 4, 1);  // below what was measured: in proportion
  EXPECT_NEAR(f.shares[0].rates[12], kFullRate * 3 / 4, 1);
  for (const ProfiledFabric::Beside& b : f.besides) {
    const double rate = b.rates.rates.at(0) / static_cast<double>(kFullRate);
    const bool both = is_collective(b.own) && is_collective(b.other);
    // Two collectives: what they lose is the link's, not h's.
    EXPECT_NEAR(rate, both ? 1 : is_collective(b.own) ? 0.5 : 0.9, 2e-4);
  }
  for (const auto& w : f.link_weights) EXPECT_EQ(w.weight, 1);
  // A wait of 5 us more than behind nothing: half a wave. At equal priority half a kernel.
  EXPECT_EQ(f.shares[2].priority_wave_ns, 10'000);
  EXPECT_EQ(f.shares[0].priority_wave_ns, 0);
}

// A second file of the same GPU: attention forward at 0.4 beside collectives, which run at a
// quarter beside it; backward is not in it. Copies to the host by an engine at half speed beside
// every kernel, which lose a tenth; copies on the device need the SMs, and take turns with kernels
// of the same length, each 1.25 times as long as that.
CollectivePoints attention_and_copies() {
  CollectivePoints p;
  p.reading = "more.jsonl";
  p.fabric = "nvlink";
  p.cudnn = "9.19.0";
  p.ranks = 2;
  p.sms = 100;
  for (const char* collective : {"all_reduce", "all_to_all", "send_recv"}) {
    p.admissions.push_back({collective, 1 << 20, 20, "nothing", false, at(30), at(200)});
    for (const bool high : {false, true})
      p.admissions.push_back({collective, 1 << 20, 20, "attention", high, at(230), at(800)});
    // Beside it for half of the time, at 0.4 on 80 of 100 SMs: (1 + 0.32)/2.
    p.besides.push_back(
        {"attention", collective, 1 << 20, 20, at(100 / 0.66), at(100), at(1600), at(200), 25});
  }
  for (const int held : {100, 50}) p.shares.push_back({"attention", held, 100, at(1e4 / held)});
  p.copies.push_back({"copy_on_device", 1 << 20, at(100), false, 100});
  p.copies.push_back({"copy_to_host", 1 << 20, at(300), false, 300});
  for (const char* kernel : {"matmul", "matmul_small", "attention", "memory"}) {
    p.copy_besides.push_back(
        {kernel, "copy_on_device", 1 << 20, at(200), at(100), at(200), at(100), 25});
    p.copy_besides.push_back(
        {kernel, "copy_to_host", 1 << 20, at(100 / 0.9), at(100), at(600), at(300), 25});
  }
  p.copy_besides.push_back(
      {"spin", "copy_on_device", 1 << 20, at(200), at(100), at(200), at(100), 25});
  p.copy_besides.push_back(
      {"spin", "copy_to_host", 1 << 20, at(101), at(100), at(300), at(300), 25});
  return p;
}

double rate(const ProfiledFabric& f, KernelClass own, KernelClass other) {
  for (const ProfiledFabric::Beside& b : f.besides)
    if (b.own == own && b.other == other)
      return b.rates.rates.at(0) / static_cast<double>(kFullRate);
  return 0;
}

TEST(FitFabric, TakesKernelsAndCopiesFromASecondFile) {
  using enum KernelClass;
  const ProfiledFabric one = fit_fabrics({made_up()}).front();
  EXPECT_EQ(one.row_of(attention), matmul);
  EXPECT_EQ(one.row_of(attention_backward), matmul);
  EXPECT_FALSE(one.measures_copy(copy_to_host));

  CollectivePoints host = made_up();
  host.fabric = "host";
  const auto fabrics = fit_fabrics({made_up(), attention_and_copies(), host});
  const ProfiledFabric& f = fabrics.back();
  EXPECT_EQ(f.name, "nvlink");
  EXPECT_EQ(f.row_of(attention), attention);
  EXPECT_EQ(f.row_of(attention_backward), attention);
  EXPECT_EQ(f.curves, one.curves);
  EXPECT_THAT(f.software, ::testing::Contains("cuDNN 9.19.0"));
  for (const KernelClass c : {all_reduce, all_to_all, send_recv}) {
    EXPECT_NEAR(rate(f, attention, c), 0.4, 2e-4);
    EXPECT_NEAR(rate(f, c, attention), 0.25, 2e-4);
    EXPECT_NEAR(rate(f, matmul, c), 0.9, 2e-4);  // as before
  }
  for (const KernelClass kernel : {matmul, matmul_small, attention, memory}) {
    EXPECT_NEAR(rate(f, kernel, copy_to_host), 0.9, 1e-4);
    EXPECT_NEAR(rate(f, copy_to_host, kernel), 0.5, 1e-4);
  }
  EXPECT_EQ(f.row_of(copy_on_device), memory);
  EXPECT_FALSE(f.needs_sms(copy_to_host));
  // Another fabric: copies and g are the GPU's own, attention beside collectives is not.
  EXPECT_EQ(fabrics.front().row_of(attention), matmul);
  EXPECT_NEAR(rate(fabrics.front(), matmul, copy_to_host), 0.9, 1e-4);
  EXPECT_THAT(fabrics.front().made, HasSubstr("copies were measured with nvlink"));
  // What is written is read back.
  EXPECT_EQ(read_fabrics(Json::parse(to_json(fabrics), "fabrics")), fabrics);

  CollectivePoints half = attention_and_copies();
  half.copy_besides.pop_back();
  EXPECT_THROW(fit_fabrics({made_up(), half}), Error);
  EXPECT_THROW(fit_fabrics({attention_and_copies()}), Error);  // no collectives alone
}

// The engine looks the rows up: a copy by an engine runs beside a kernel from the start, holding
// no SM, and both at their rates; a copy that needs SMs waits for its turn.
TEST(FitFabric, TheEngineReplaysCopies) {
  Profile profile = built_in_profile("h200-sxm-141gb");
  CollectivePoints one = made_up(), more = attention_and_copies();
  one.sms = more.sms = profile.device.sms;
  profile.fabrics = fit_fabrics({one, more});
  Cluster cluster = load_cluster("h200-sxm-141gb", 1);
  use_gpus(cluster, 2);
  for (const CopyBesidePoint& p : more.copy_besides) {
    if (p.kernel == "spin") continue;
    const SideRates predicted = replayed(p, profile, cluster);
    EXPECT_NEAR(predicted.first, measured(p).first, 0.02) << p.kernel << " " << p.copy;
    EXPECT_NEAR(predicted.second, measured(p).second, 0.02) << p.kernel << " " << p.copy;
  }
}

TEST(FitFabric, SaysWhatIsMissing) {
  const auto refused = [](const auto& change) {
    CollectivePoints p = made_up();
    change(p);
    try {
      fit_fabrics({p});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("not refused");
  };
  EXPECT_THAT(refused([](auto& p) { p.shares.clear(); }), HasSubstr("times of matmul"));
  EXPECT_THAT(refused([](auto& p) { p.besides.clear(); }), HasSubstr("matmul beside all_reduce"));
  EXPECT_THAT(refused([](auto& p) { p.admissions.clear(); }), HasSubstr("admission behind"));
  EXPECT_THAT(refused([](auto& p) { p.pairs.clear(); }), HasSubstr("all_reduce beside all_reduce"));
  EXPECT_THROW(fit_fabrics({made_up(), made_up()}), Error);
  Profile profile = built_in_profile("h200-sxm-141gb");
  EXPECT_THROW(add_fabrics(profile, {made_up()}), Error);  // 100 SMs are not 132
}

// The shipped profile holds what the raw lines in the repository say, to the last digit.
TEST(FitFabric, TheShippedProfileIsMadeFromTheRawLines) {
  const Profile& shipped = built_in_profile("h200-sxm-141gb");
  Profile made = shipped;
  made.gaps = {};
  made.fabrics = fit_fabrics({raw("nvlink"), raw("host"), raw("sockets"), raw("nvlink-attention"),
                              raw("host-attention"), raw("sockets-attention"), raw("copies")});
  add_gaps(made, {raw_gaps("gaps-nvlink"), raw_gaps("memory-nvlink"), raw_gaps("memory-host"),
                  raw_gaps("memory-sockets")});
  EXPECT_EQ(shipped.fabrics, made.fabrics);
  EXPECT_EQ(shipped.gaps, made.gaps);
}

class Replays : public ::testing::Test {
 protected:
  Cluster on(const std::string& fabric) const {
    Cluster c = load_cluster("h200-sxm-141gb", 1);
    use_gpus(c, 2);
    use_fabric(c, fabric);
    return c;
  }
  std::map<std::string, FabricError> errors(const std::string& file) const {
    const CollectivePoints points = raw(file);
    std::map<std::string, FabricError> rows;
    for (const FabricError& e : fabric_errors(points, profile_, on(points.fabric), 64 << 10))
      rows[e.what] = e;
    return rows;
  }
  const Profile& profile_ = built_in_profile("h200-sxm-141gb");
};

// A second run that no table was made from: two trains side by side, through the whole engine.
TEST_F(Replays, SideBySideAsASecondRunMeasured) {
  const auto e = errors("nvlink-again");
  for (const char* kernel : {"matmul", "matmul_small", "memory"}) {
    const FabricError& row = e.at(std::string(kernel) + " beside collectives");
    EXPECT_EQ(row.points, 17);
    EXPECT_LT(row.median, 0.02) << kernel;
    EXPECT_LT(row.p95, 0.05) << kernel;
    EXPECT_LT(e.at("g of " + std::string(kernel)).median, 0.04) << kernel;
  }
  EXPECT_LT(e.at("collectives beside matmul").p95, 0.05);
  EXPECT_LT(e.at("collectives beside matmul_small").p95, 0.12);
  EXPECT_LT(e.at("collectives beside memory").median, 0.08);
  for (const char* collective : {"all_reduce", "all_gather", "reduce_scatter"})
    EXPECT_LT(e.at(std::string(collective) + ", fastest setting").p95, 0.05) << collective;
}

// Attention has rows of its own; beside an all-reduce through host memory on 32 CTAs it takes twice
// as long and more. A copy on the device takes turns with kernels, those of an engine run beside
// them.
TEST_F(Replays, AttentionAndCopiesFollowTheirRows) {
  for (const BesidePoint& p : raw("host-attention").besides) {
    if (p.kernel == "matmul" || p.collective != "all_reduce" || p.grid != 32) continue;
    const SideRates predicted = replayed(p, profile_, on("host"));
    EXPECT_LT(measured(p).first, 0.55);
    EXPECT_NEAR(predicted.first, measured(p).first, 0.05) << p.kernel;
  }
  for (const CopyBesidePoint& p : raw("copies").copy_besides) {
    if (p.kernel == "spin" || p.kernel == "attention_backward") continue;
    const bool on_device = p.copy == "copy_on_device";
    const SideRates predicted = replayed(p, profile_, on("nvlink"));
    EXPECT_NEAR(predicted.first, measured(p).first, on_device ? 0.15 : 0.002) << p.kernel << p.copy;
    EXPECT_NEAR(predicted.second, measured(p).second, on_device ? 0.06 : 0.03)
        << p.kernel << p.copy;
  }
}

// 2.8 and 5.4 times as long as alone: h has to see the CTA count.
TEST_F(Replays, AnAllReduceThroughHostMemorySlowsSmallProducts) {
  for (const BesidePoint& p : raw("host").besides) {
    if (p.kernel != "matmul_small" || p.collective != "all_reduce" || p.grid < 16) continue;
    const SideRates predicted = replayed(p, profile_, on("host"));
    EXPECT_LT(measured(p).first, 0.4);
    EXPECT_NEAR(predicted.first, measured(p).first, 0.15 * measured(p).first) << p.grid;
  }
}

// Two collectives: what one loses through host memory the other does not.
TEST_F(Replays, CollectivesThroughHostMemoryAreNotServedFairly) {
  const auto e = errors("host");
  EXPECT_LT(e.at("collectives beside collectives").p95, 0.08);
  for (const PairPoint& p : raw("host").pairs) {
    if (p.collective != "all_reduce" || p.other != "all_to_all" || p.grid != 16) continue;
    const SideRates predicted = replayed(p, profile_, on("host"));
    EXPECT_GT(predicted.first, 0.8);
    EXPECT_LT(predicted.second, 0.2);
  }
}

}  // namespace
}  // namespace steploom
