#include "sim/profile_fabric.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/fabric_tables.h"
#include "tests/sim/text_edits.h"

namespace steploom {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// The least that is complete: one kernel and one collective measured, all others assumed.
ProfiledFabric small(const std::string& name = "nvlink") {
  ProfiledFabric f;
  f.name = name;
  f.curves = {{OpKind::all_reduce, 2, 1, {1024, 4096}, {1, 1}, {1000, 4000}},
              {OpKind::all_reduce, 2, 4, {1024, 4096}, {1, 4}, {1000, 2000}}};
  f.link_weights = {{OpKind::all_reduce, 0.5}};
  ProfiledFabric::Share share{KernelClass::matmul, {}, 3000};
  for (std::size_t i = 0; i < share.rates.size(); ++i)
    share.rates[i] = static_cast<std::uint32_t>(1 + 4000 * i);
  f.shares = {share};
  f.besides = {{KernelClass::matmul, KernelClass::all_reduce, {{}, {1, 4}, {60000, 50000}}},
               {KernelClass::all_reduce, KernelClass::matmul, {{1, 4}, {}, {20000, 30000}}},
               {KernelClass::all_reduce, KernelClass::all_reduce, {{4}, {4}, {40000}}}};
  f.assumed = {{KernelClass::matmul_small, KernelClass::matmul},
               {KernelClass::grouped_matmul, KernelClass::matmul},
               {KernelClass::attention, KernelClass::matmul},
               {KernelClass::attention_backward, KernelClass::matmul},
               {KernelClass::memory, KernelClass::matmul},
               {KernelClass::optimizer, KernelClass::matmul},
               {KernelClass::all_gather, KernelClass::all_reduce},
               {KernelClass::reduce_scatter, KernelClass::all_reduce},
               {KernelClass::all_to_all, KernelClass::all_reduce},
               {KernelClass::send_recv, KernelClass::all_reduce}};
  return f;
}

std::vector<ProfiledFabric> read(const std::string& text) {
  return read_fabrics(Json::parse(text, "fabrics"));
}

TEST(ProfileFabric, ReadsWhatItWrites) {
  std::vector<ProfiledFabric> fabrics{small("host"), small("nvlink")};
  fabrics[1].memory = CommunicatorMemory{{700, 4, 6}, {186, 0, 12}, {62, 1, 12}, 196, "measured"};
  EXPECT_EQ(read(to_json(fabrics)), fabrics);
  const std::vector<ProfiledFabric>& shipped = built_in_profile("h200-sxm-141gb").fabrics;
  EXPECT_EQ(shipped.size(), 3U);
  EXPECT_EQ(read(to_json(shipped)), shipped);
}

TEST(ProfileFabric, RefusesWhatIsNotAsWritten) {
  const std::string text = to_json({small()});
  const auto refused = [&text](const std::string& from, const std::string& to) {
    return refusal([&] { read(replaced(text, from, to)); });
  };
  EXPECT_THAT(refused("\"version\": 1", "\"version\": 2"), HasSubstr("version 1"));
  EXPECT_THAT(refused("\"curves\"", "\"curvs\""), HasSubstr("did you mean 'curves'?"));
  EXPECT_THAT(refused("\"name\": \"nvlink\"", "\"name\": \"nvlnk\""),
              AllOf(HasSubstr("/0/name"), HasSubstr("did you mean 'nvlink'?")));
  EXPECT_THAT(refused("\"class\": \"attention\"", "\"class\": \"atention\""),
              HasSubstr("did you mean 'attention'?"));
  EXPECT_THAT(refused("[1024,4096]", "[4096,1024]"), HasSubstr("a size above the one before"));
  EXPECT_THAT(refused("[1000,4000]", "[1000]"), HasSubstr("2 numbers, one a size"));
  EXPECT_THAT(refused("[1,4]", "[1,5]"), HasSubstr("/grids"));
  EXPECT_THAT(refused("[60000,50000]", "[60000,65537]"), HasSubstr("65537"));
  EXPECT_THAT(refused("[60000,50000]", "[60000]"), HasSubstr("2 rates, one a crossing"));
  EXPECT_THAT(refused("\"ctas\": 1", "\"ctas\": 4"), HasSubstr("sorted by collective"));
  EXPECT_THAT(refused("\"weight\": 0.5", "\"weight\": 1.5"), HasSubstr("/link_weights/0/weight"));
}

// Nothing is filled in silently: what is neither measured nor assumed is refused, and so is what is
// both, what is assumed as something unmeasured, and a pair that is missing.
TEST(ProfileFabric, RefusesHoles) {
  const auto refused = [](const auto& change) {
    ProfiledFabric f = small();
    change(f);
    return refusal([&] { read(to_json({f})); });
  };
  EXPECT_THAT(refused([](auto& f) { f.assumed.pop_back(); }), HasSubstr("send_recv, which has no"));
  EXPECT_THAT(refused([](auto& f) {
                f.assumed.insert(f.assumed.begin(), {KernelClass::matmul, KernelClass::memory});
              }),
              HasSubstr("matmul left out: it was measured"));
  EXPECT_THAT(refused([](auto& f) { f.assumed[1].as = KernelClass::memory; }),
              HasSubstr("a measured class of the same sort for grouped_matmul"));
  EXPECT_THAT(refused([](auto& f) { f.assumed.back().as = KernelClass::matmul; }),
              HasSubstr("a measured class of the same sort for send_recv"));
  EXPECT_THAT(refused([](auto& f) { f.besides.erase(f.besides.begin()); }),
              HasSubstr("matmul beside all_reduce"));
  EXPECT_THAT(refused([](auto& f) { f.link_weights.clear(); }),
              HasSubstr("a weight of all_reduce"));
}

// Profiles from before backward attention had rows of its own: it takes those of attention, and
// says so.
TEST(ProfileFabric, AttentionBackwardOfAnOldProfileIsAssumed) {
  ProfiledFabric old = small();
  std::erase_if(old.assumed, [](const auto& a) { return a.of == KernelClass::attention_backward; });
  EXPECT_EQ(read(to_json({old})), std::vector{small()});
  // Measured attention: backward is assumed as that.
  std::erase_if(old.assumed, [](const auto& a) { return a.of == KernelClass::attention; });
  old.shares.push_back({KernelClass::attention, old.shares[0].rates, 0});
  const PairRates half{{}, {}, {kFullRate / 2}};
  old.besides.insert(old.besides.begin() + 1,
                     {KernelClass::attention, KernelClass::all_reduce, half});
  old.besides.insert(old.besides.begin() + 3,
                     {KernelClass::all_reduce, KernelClass::attention, half});
  const ProfiledFabric f = read(to_json({old})).front();
  EXPECT_EQ(f.row_of(KernelClass::attention), KernelClass::attention);
  EXPECT_EQ(f.row_of(KernelClass::attention_backward), KernelClass::attention);
}

// A copy has a row beside every measured kernel, both ways, or none at all, or those of a kernel.
TEST(ProfileFabric, CopiesAreWholeOrAbsent) {
  EXPECT_FALSE(small().measures_copy(KernelClass::copy_to_host));
  const PairRates half{{}, {}, {kFullRate / 2}};
  ProfiledFabric f = small();
  f.besides.insert(f.besides.begin(), {KernelClass::matmul, KernelClass::copy_to_host, half});
  f.besides.insert(f.besides.begin() + 2, {KernelClass::copy_to_host, KernelClass::matmul, half});
  EXPECT_EQ(read(to_json({f})), std::vector{f});
  EXPECT_TRUE(f.measures_copy(KernelClass::copy_to_host));
  EXPECT_FALSE(f.needs_sms(KernelClass::copy_to_host));
  f.besides.erase(f.besides.begin());
  EXPECT_THAT(refusal([&] { read(to_json({f})); }), HasSubstr("matmul beside copy_to_host"));
  f = small();
  f.assumed.insert(f.assumed.begin() + 6, {KernelClass::copy_on_device, KernelClass::matmul});
  EXPECT_EQ(read(to_json({f})), std::vector{f});
  EXPECT_TRUE(f.needs_sms(KernelClass::copy_on_device));
  f.assumed.insert(f.assumed.begin() + 7, {KernelClass::copy_to_host, KernelClass::memory});
  EXPECT_THAT(refusal([&] { read(to_json({f})); }),
              HasSubstr("a measured kernel for copy_to_host"));
}

// Exact at what was measured; half way in both logarithms between; constant below, in proportion
// above.
TEST(CtaCurve, InterpolatesInLogarithms) {
  const CtaCurve curve{OpKind::all_reduce, 2, 4, {1024, 4096}, {1, 4}, {1000, 2000}};
  EXPECT_DOUBLE_EQ(curve.seconds(1024), 1e-6);
  EXPECT_DOUBLE_EQ(curve.seconds(4096), 2e-6);
  EXPECT_NEAR(curve.seconds(2048), 1.41421356e-6, 1e-13);
  EXPECT_DOUBLE_EQ(curve.seconds(10), 1e-6);
  EXPECT_DOUBLE_EQ(curve.seconds(8192), 4e-6);
  EXPECT_EQ(curve.grid(10), 1);
  EXPECT_EQ(curve.grid(4095), 1);
  EXPECT_EQ(curve.grid(1 << 20), 4);
}

TEST(FabricTables, EveryClassHasItsRow) {
  Profile profile = built_in_profile("h100-sxm-80gb");
  Cluster cluster = load_cluster("h100-sxm-80gb", 1);
  EXPECT_EQ(fabric_of(profile, cluster), nullptr);
  profile.fabrics = {small()};
  const Contention c = contention_of(profile, cluster);
  validate(c, "made");
  const auto row = [](KernelClass k) { return static_cast<std::size_t>(k); };
  const auto beside = [&](KernelClass own, KernelClass other) {
    return c.beside[row(own) * c.classes() + row(other)];
  };
  const ProfiledFabric f = small();
  EXPECT_EQ(c.share[row(KernelClass::attention)], f.shares[0].rates);
  EXPECT_EQ(c.share[row(KernelClass::all_gather)][0], kFullRate);  // takes all its SMs or waits
  EXPECT_EQ(c.priority_wave[row(KernelClass::optimizer)], 3'000'000);
  EXPECT_EQ(beside(KernelClass::attention, KernelClass::all_to_all), f.besides[0].rates);
  EXPECT_EQ(beside(KernelClass::send_recv, KernelClass::memory), f.besides[1].rates);
  EXPECT_EQ(beside(KernelClass::all_gather, KernelClass::send_recv), f.besides[2].rates);
  EXPECT_TRUE(beside(KernelClass::matmul, KernelClass::attention).rates.empty());
}

TEST(FabricTables, AFabricThatIsNotThereIsRefused) {
  const Profile& without = built_in_profile("h100-sxm-80gb");
  Cluster h100 = load_cluster("h100-sxm-80gb", 1);
  h100.fabric = "host";
  EXPECT_THAT(refusal([&] { contention_of(without, h100); }),
              AllOf(HasSubstr("the fabric 'host'"), HasSubstr("nvlink alone")));
  Profile profile = without;
  profile.fabrics = {small("sockets")};
  EXPECT_THAT(refusal([&] { fabric_of(profile, h100); }),
              AllOf(HasSubstr("the fabric 'host'"), HasSubstr("sockets")));
  // Groups of up to eight GPUs could form, two were measured.
  h100.fabric = "sockets";
  EXPECT_THAT(
      refusal([&] { fabric_of(profile, h100); }),
      AllOf(HasSubstr("collectives of 3 GPUs of a node over 'sockets'"), HasSubstr("--gpus 2")));
  use_gpus(h100, 2);
  EXPECT_EQ(fabric_of(profile, h100), &profile.fabrics[0]);
}

}  // namespace
}  // namespace steploom
