#include "sim/profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "models/embedded.h"
#include "models/error.h"
#include "models/shapes.h"
#include "sim/cluster.h"
#include "sim/cost_model.h"
#include "tests/sim/text_edits.h"
#include "tests/temp_folder.h"

namespace steploom {
namespace {

using testing::HasSubstr;

std::string text_of(std::string_view name) {
  for (const EmbeddedFile& file : embedded_profiles()) {
    if (file.name == name) return std::string(file.text);
  }
  return {};
}

TEST(Profile, BuiltInsAreThereAndSmall) {
  EXPECT_THAT(profile_names(),
              testing::ElementsAre("a100-sxm-40gb", "a100-sxm-80gb", "b200-sxm", "gb200",
                                   "h100-sxm-80gb", "h200-sxm-141gb", "v100-sxm-32gb"));
  for (const std::string_view name : profile_names()) {
    EXPECT_LT(text_of(name).size(), 1024u * 1024) << name;
    const Profile& p = built_in_profile(name);
    EXPECT_EQ(p.name, name);
    EXPECT_EQ(p.device.name, name);
    const Cluster cluster = load_cluster(name, 1);  // the fit's base is the cluster's device
    EXPECT_EQ(p.device.sms, cluster.device.sms) << name;
    EXPECT_EQ(p.device.peak_flops, cluster.device.peak_flops) << name;
    EXPECT_EQ(p.device.memory_bandwidth, cluster.device.memory_bandwidth) << name;
    EXPECT_EQ(p.device.bf16, cluster.device.bf16) << name;
    if (p.modelled.size() == kModelledParts) {
      EXPECT_THAT(p.source, HasSubstr("no measurement of this GPU"));
      EXPECT_TRUE(p.software.empty());
      continue;
    }
    EXPECT_THAT(p.source, HasSubstr("095f58a"));
    EXPECT_THAT(p.attribution, HasSubstr("Apache-2.0"));
  }
}

// What no table has of a GPU, its profile says.
TEST(Profile, SaysWhatIsModelled) {
  using Parts = std::vector<ModelledPart>;
  const Parts all{ModelledPart::matmul, ModelledPart::grouped_matmul, ModelledPart::attention,
                  ModelledPart::collectives};
  EXPECT_EQ(built_in_profile("v100-sxm-32gb").modelled, all);
  EXPECT_EQ(built_in_profile("a100-sxm-40gb").modelled, all);
  EXPECT_EQ(built_in_profile("a100-sxm-80gb").modelled, Parts{ModelledPart::grouped_matmul});
  EXPECT_EQ(built_in_profile("gb200").modelled,
            (Parts{ModelledPart::grouped_matmul, ModelledPart::attention}));
  EXPECT_EQ(built_in_profile("b200-sxm").modelled, Parts{});
  EXPECT_EQ(built_in_profile("h100-sxm-80gb").modelled, Parts{});
  const Profile& v100 = built_in_profile("v100-sxm-32gb");
  EXPECT_FALSE(parse_profile(to_json(v100), "again").device.bf16);
  EXPECT_EQ(to_json(parse_profile(to_json(v100), "again")), to_json(v100));
  EXPECT_THAT(refusal([] {
                parse_profile(replaced(text_of("gb200"), "\"attention\"]", "\"atention\"]"), "p");
              }),
              HasSubstr("did you mean 'attention'"));
}

// What docs/accuracy.md promises stands beside the coefficients.
TEST(Profile, KeepsItsPromisesOnPointsLeftOut) {
  for (const std::string_view name : profile_names()) {
    const std::vector<LeaveOut>& all = built_in_profile(name).leave_out;
    const auto median = [&](const std::string& what) {
      const auto found =
          std::find_if(all.begin(), all.end(), [&](const LeaveOut& l) { return l.what == what; });
      return found == all.end() ? 1.0 : found->median;
    };
    const Profile& p = built_in_profile(name);
    if (!p.is_modelled(ModelledPart::matmul)) {
      EXPECT_LE(median("bf16 products of 0.1 ms and more"), 0.06) << name;
    }
    for (const PrecisionSurface& s : p.precisions) {
      EXPECT_LE(median(std::string(name_of(s.precision)) + " products of 0.1 ms and more"), 0.06)
          << name;
    }
    if (!p.is_modelled(ModelledPart::collectives)) {
      EXPECT_LE(median("collectives of 256 KiB and more"), 0.08) << name;
    }
  }
}

TEST(Profile, GapsAreReadBackAndAreZeroWhereTheyAreNotThere) {
  Profile p = built_in_profile("h100-sxm-80gb");
  p.gaps = {};
  EXPECT_THAT(to_json(p), testing::Not(HasSubstr("\"gaps\"")));
  EXPECT_EQ(parse_profile(to_json(p), "again").gaps, Gaps{});
  p.gaps = {1.041, 1.2, 2.75, "measured so"};
  const std::string text = to_json(p);
  EXPECT_EQ(parse_profile(text, "again").gaps, p.gaps);
  EXPECT_THROW(parse_profile(replaced(text, "1.041", "-1"), "again"), Error);
  EXPECT_THROW(parse_profile(replaced(text, "kernel_event_us", "kernel_evt_us"), "again"), Error);
}

TEST(Profile, AClockIsReadBackAndNoneChangesNothing) {
  const Profile& measured = built_in_profile("h200-sxm-141gb");
  ASSERT_TRUE(measured.clock.has_value());
  EXPECT_EQ(measured.clock->law.most_mhz, 1980);
  const std::string text = to_json(measured);
  EXPECT_EQ(to_json(parse_profile(text, "again")), text);
  EXPECT_THROW(parse_profile(replaced(text, "\"reach\"", "\"reaches\""), "again"), Error);
  EXPECT_THROW(parse_profile(replaced(text, "\"idle_watts\": ", "\"idle_watts\": 9"), "again"),
               Error);
  EXPECT_THROW(parse_profile(replaced(text, "{\"class\": \"attention\", \"share",
                                      "{\"class\": \"memory\", \"share"),
                             "again"),
               Error);

  Profile without = measured;
  without.clock.reset();
  EXPECT_THAT(to_json(without), testing::Not(HasSubstr("\"clock\"")));
  EXPECT_FALSE(parse_profile(to_json(without), "again").clock.has_value());
  const Cluster cluster = load_cluster("h200-sxm-141gb", 1);
  const CostModel with(measured, cluster), plain(without, cluster);
  CostQuery query;
  query.work = product(Phase::forward, Precision::bf16, 8192, 14336, 4096);
  const Cost a = with.cost(query), b = plain.cost(query);
  EXPECT_EQ(a.time, b.time);  // as measured, whatever the clock
  EXPECT_EQ(b.mhz, 0);
  EXPECT_NEAR(a.mhz, 1500, 60);
  // Alone it draws what the limit leaves over idle.
  EXPECT_NEAR(a.microjoules,
              (700 - measured.clock->law.idle_watts) * 1e-6 * static_cast<double>(a.time), 2);
  EXPECT_FALSE(plain.clock_law().known());
}

TEST(Profile, JsonReadsBackAsItWas) {
  const Profile& p = built_in_profile("h100-sxm-80gb");
  const Profile again = parse_profile(to_json(p), "again");
  EXPECT_EQ(to_json(again), to_json(p));
  EXPECT_EQ(again.matmul.grid.values, p.matmul.grid.values);
  EXPECT_EQ(again.digest, p.digest);
}

TEST(Profile, DigestIsFnv1a) {
  EXPECT_EQ(digest_of(""), "cbf29ce484222325");
  EXPECT_EQ(digest_of("a"), "af63dc4c8601ec8c");
  const std::string text = text_of("h100-sxm-80gb");
  EXPECT_EQ(parse_profile(text, "x").digest, digest_of(text));
  EXPECT_NE(digest_of(text + " "), digest_of(text));
}

TEST(Profile, RefusesWhatItDoesNotKnow) {
  const std::string good = text_of("h100-sxm-80gb");
  const auto refused = [&](const std::string& from, const std::string& to) {
    return refusal([&] { parse_profile(replaced(good, from, to), "p.json"); });
  };
  EXPECT_THAT(refused("\"steploom_profile\": 1", "\"steploom_profile\": 2"),
              HasSubstr("version 1"));
  EXPECT_THAT(refused("\"attention_backward\"", "\"attention_backwards\""),
              HasSubstr("attention_backward"));
  EXPECT_THAT(refused("\"collective\": \"all_gather\"", "\"collective\": \"all_gathers\""),
              HasSubstr("all_gather"));
  EXPECT_THAT(refused("\"sms\": 132", "\"sms\": 0"), HasSubstr("/device/sms"));
  EXPECT_THAT(refused("\"bandwidth_factor\": 0.8", "\"bandwidth_factor\": 1.8"),
              HasSubstr("/memory/bandwidth_factor"));
  EXPECT_THAT(refused("\"precision\": \"fp8\"", "\"precision\": \"fp9\""),
              HasSubstr("/precisions/0/precision"));
  EXPECT_THAT(refused("\"precision\": \"fp8\"", "\"precision\": \"bf16\""),
              HasSubstr("other than the profile's own"));
  EXPECT_THAT(refused("\"precision\": \"fp8\"", "\"precision\": \"fp8_block\""),
              HasSubstr("each once"));
  EXPECT_THAT(refused("[512,1024,2048", "[512,512,2048"), HasSubstr("above the one before"));
  EXPECT_THAT(refused("[-563,", "["), HasSubstr("6 values"));
}

TEST(Profile, RefusesUnknownNamesWithTheNearest) {
  EXPECT_THAT(refusal([] { built_in_profile("h100-sxm-80bg"); }),
              HasSubstr("did you mean 'h100-sxm-80gb'"));
  EXPECT_THAT(refusal([] { load_profile("no/such/profile.json"); }),
              HasSubstr("no/such/profile.json"));
}

TEST(Profile, LoadsFromAFile) {
  const TempFolder own;
  const std::filesystem::path file = own / "profile.json";
  std::ofstream(file) << replaced(text_of("h200-sxm-141gb"), "\"name\": \"h200",
                                  "\"name\": \"my-h200");
  const Profile p = load_profile(file.string());
  EXPECT_EQ(p.name, "my-h200-sxm-141gb");
  EXPECT_NE(p.digest, built_in_profile("h200-sxm-141gb").digest);
}

}  // namespace
}  // namespace steploom
