#include "traces/timeline_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "models/error.h"
#include "tests/models/refusal.h"
#include "tests/sim/hand_timeline.h"
#include "tests/sim/random_programs.h"
#include "tests/temp_folder.h"
#include "traces/load_timeline.h"
#include "traces/text_file.h"

namespace steploom {
namespace {

using testing::HandTimeline;
using ::testing::HasSubstr;
using testing::kMicro;

std::string written(const Timeline& t) {
  std::ostringstream out;
  write_timeline(out, t);
  return out.str();
}

Timeline read_back(const std::string& text) {
  return read_timeline(Json::parse(text, "t.timeline.json"));
}

Timeline sample() {
  HandTimeline hand(2);
  hand.kernel("fc1 \"quoted\" · é", 0, 0, 4, {.issued = 0, .host_waits = true});
  hand.collective("a2a", 0, 4, 6, {.issued = 4, .joined = 5, .waits = {0}});
  hand.kernel("fc1 \"quoted\" · é", 1, 0, 5, {.issued = 0});
  hand.collective("a2a", 1, 5, 6, {.issued = 1, .joined = 5, .waits = {2}});
  Timeline t = hand.timeline();
  t.events[0].layer = 3;
  t.events[0].flops = 1.5e12;
  t.events[0].recompute = true;
  t.events[1].bytes = 4096;
  t.events[1].peer = 3;
  t.events[3].peer = 1;
  t.events[1].sender = true;
  t.events[2].issued = kUnknownTime;
  t.memory = {{0, 0, 40}, {1, 0, 40}, {0, 1 * kMicro, 100}};
  t.origin.source = TimelineSource::executed;
  t.origin.model = "tiny";
  t.origin.date = "2026-11-22T20:12:00Z";
  t.origin.versions = {{"cuda", "13.0"}, {"nccl", "2.28.3"}};
  t.devices[1].mhz = 1683;
  t.origin.steps = 40;
  t.origin.step = 7 * kMicro;
  t.origin.repeats = Repeats{8, 6 * kMicro, 8 * kMicro, 0.0125};
  return t;
}

// Every member, through the one printer that knows them all.
TEST(TimelineFile, ReadsBackWhatItWrote) {
  const Timeline t = sample();
  const Timeline back = read_back(written(t));
  EXPECT_EQ(written(back), written(t));
  ASSERT_EQ(back.events.size(), 4U);
  EXPECT_EQ(back.names[back.events[0].name], "fc1 \"quoted\" · é");
  EXPECT_EQ(back.events[0].layer, 3);
  EXPECT_TRUE(back.events[0].host_waits && back.events[0].recompute);
  EXPECT_EQ(back.events[0].flops, 1.5e12);
  EXPECT_EQ(back.events[0].joined, kUnknownTime);
  EXPECT_EQ(back.events[1].joined, 5 * kMicro);
  EXPECT_EQ(back.events[1].peer, 3U);
  EXPECT_EQ(back.events[2].issued, kUnknownTime);
  EXPECT_EQ(back.waits, t.waits);
  EXPECT_EQ(back.first_wait, t.first_wait);
  EXPECT_EQ(back.memory.size(), 3U);
  EXPECT_EQ(back.origin.repeats->repeatability, 0.0125);
  EXPECT_EQ(back.origin.versions, t.origin.versions);
  EXPECT_EQ(back.devices[1].static_memory, 40);
  EXPECT_EQ(back.devices[1].mhz, 1683);
}

TEST(TimelineFile, ReadsBackReplays) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const Program p = testing::random_program(seed);
    Timeline t = make_timeline(p, replay(p));
    for (TimelineEvent& e : t.events)
      if (e.group != kNoGroup) e.kind = OpKind::all_to_all;
    const Timeline back = read_back(written(t));
    ASSERT_EQ(written(back), written(t)) << "seed " << seed;
    for (std::size_t e = 0; e < t.events.size(); ++e) {
      ASSERT_EQ(back.events[e].start, t.events[e].start);
      ASSERT_EQ(back.events[e].issued, t.events[e].issued);
    }
  }
}

TEST(TimelineFile, CompressedIsTheSameAndAlwaysTheSameBytes) {
  const TempFolder folder;
  for (const char* name : {"a.timeline.json", "b.timeline.json.gz", "c.timeline.json.gz"})
    save_timeline(sample(), folder / name);
  const auto text = [&](const char* name) { return read_text_file(folder / name, 1 << 20); };
  EXPECT_EQ(text("a.timeline.json"), text("b.timeline.json.gz"));
  const auto bytes = [&](const char* name) {
    std::ostringstream out;
    out << std::ifstream(folder / name, std::ios::binary).rdbuf();
    return out.str();
  };
  EXPECT_EQ(bytes("b.timeline.json.gz"), bytes("c.timeline.json.gz"));
  EXPECT_LT(bytes("b.timeline.json.gz").size(), bytes("a.timeline.json").size());
  EXPECT_EQ(load_timeline(folder / "c.timeline.json.gz").timeline.events.size(), 4U);
  // Cut short.
  std::ofstream(folder / "cut.json.gz", std::ios::binary)
      << bytes("b.timeline.json.gz").substr(0, 200);
  EXPECT_THAT(refusal([&] { text("cut.json.gz"); }).expected, HasSubstr("intact gzip"));
}

// One edit each; the place or the expectation names it.
struct Fault {
  const char* from;
  const char* to;
  const char* place;
  const char* expected;
};

TEST(TimelineFile, RefusesWhatIsWrong) {
  const Fault faults[] = {
      {"\"steploom_timeline\": 1", "\"steploom_timeline\": 2", "/steploom_timeline", "version 1"},
      {"\"executed\"", "\"dreamt\"", "/source", "known name"},
      {"\"makespan_ps\": 6000000", "\"makespan_ps\": 5000000", "/events/1/3", "an integer from"},
      {"\"makespan_ps\": 6000000", "\"makespan_ps\": 9000000000000000000", "/makespan_ps", ""},
      {"\"stage\": 0", "\"stages\": 0", "/devices/0/stages", "known key"},
      {"\"class\": \"matmul\"", "\"class\": \"memory\"", "/operators/0/class", "matmul"},
      {"\"members\": [0, 1]", "\"members\": [0, 2]", "/groups/0/members/1", ""},
      {"[0, 0, 0, 4000000, 0, -1,", "[0, 0, 0, 4000000, 1, -1,", "/events/0/4", ""},
      {"[0, 0, 0, 4000000, 0, -1,", "[9, 0, 0, 4000000, 0, -1,", "/events/0/0", ""},
      {"[0, 0, 0, 4000000, 0, -1,", "[0, 0, 0, 4000000, 0, 0,", "/events/0/5", "meets nobody"},
      {"-1, -1, []]", "-1, -1]", "/events/1", "8 items, as the first"},
      {"0, 3, [1]]", "0, 2, [1]]", "/events/1/7", "whose peer this is"},
      {"0, 3, [1]]", "0, 3, [2]]", "/events/1/8/0", ""},
      {"0, 1, [1]]", "0, 1, [3]]", "/events/3/8/0", "same device"},
      {"[1, 0, 40]", "[2, 0, 40]", "/memory/1/0", ""},
      {"\"upper_quartile_ps\": 8000000", "\"upper_quartile_ps\": 8", "/repeats/upper_quartile_ps",
       ""},
  };
  const std::string good = written(sample());
  for (const Fault& f : faults) {
    std::string text = good;
    const std::size_t at = text.find(f.from);
    ASSERT_NE(at, text.npos) << f.from << "\n" << good;
    text.replace(at, std::string_view(f.from).size(), f.to);
    const Error::Where where = refusal([&] { read_back(text); });
    EXPECT_EQ(where.place, f.place) << f.to;
    EXPECT_THAT(where.expected, HasSubstr(f.expected)) << f.to;
    EXPECT_EQ(where.reading, "t.timeline.json");
  }
}

TEST(TimelineFile, RefusesItAtEveryLength) {
  const std::string good = written(sample());
  for (std::size_t n = 0; n + 2 < good.size(); n += 41)
    EXPECT_THROW(read_back(good.substr(0, n)), Error) << n;
}

TEST(LoadTimeline, SaysWhatIsNoTimeline) {
  const TempFolder folder;
  const auto found = [&](const std::string& text) {
    std::ofstream(folder / "x.json") << text;
    return refusal([&] { load_timeline(folder / "x.json"); });
  };
  EXPECT_EQ(found("{\"steploom_plan\": 1}").found, "a plan");
  EXPECT_THAT(found("{\"steploom_plan\": 1}").hint, HasSubstr("--timeline"));
  EXPECT_EQ(found("{\"a\": 1}").found, "neither");
  EXPECT_THAT(found("[1]").expected, HasSubstr("a timeline"));
  EXPECT_THAT(found("").reading, HasSubstr("x.json"));
  EXPECT_EQ(refusal([&] { load_timeline(folder / "none.json"); }).found, "no such file");
  EXPECT_EQ(refusal([&] { load_timeline(folder.path()); }).found, "a directory");
}

}  // namespace
}  // namespace steploom
