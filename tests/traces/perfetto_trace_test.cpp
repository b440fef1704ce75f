// Perfetto traces, and Chrome's, of a plan of 128 ranks, read back by their formats' rules.
#include "traces/perfetto_trace.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "models/json_reader.h"
#include "sim/program_text.h"
#include "tests/traces/protobuf_reader.h"
#include "tests/traces/unfolded_step.h"
#include "traces/chrome_trace.h"

namespace steploom {
namespace {

using testing::ProtoFields;

// Trace.packet = 1. TracePacket: timestamp = 8, trusted_packet_sequence_id = 10, track_event = 11,
// track_descriptor = 60. TrackEvent: type = 9, track_uuid = 11, name = 23, flow_ids = 47,
// terminating_flow_ids = 48, counter_value = 30. TrackDescriptor: uuid = 1, process = 3,
// parent_uuid = 5, counter = 8.
struct Event {
  std::uint64_t time = 0, type = 0, track = 0;
  std::string name;
  std::vector<std::uint64_t> starts, ends;  // flows
};
struct Trace {
  std::map<std::uint64_t, ProtoFields> tracks;
  std::vector<Event> events;  // in the order of the file
  std::string text;
};

Trace read(const Timeline& t) {
  std::ostringstream out;
  write_perfetto_trace(out, t);
  Trace trace;
  trace.text = out.str();
  const ProtoFields packets(trace.text);
  for (const auto& field : packets.all) {
    EXPECT_EQ(field.number, 1);
    const ProtoFields packet(field.bytes);
    EXPECT_EQ(packet.integer(10), 1U);
    if (packet.has(60)) {
      const ProtoFields track(packet.find(60)->bytes);
      EXPECT_TRUE(trace.tracks.emplace(track.integer(1), track).second) << "a track twice";
      continue;
    }
    const ProtoFields e(packet.find(11)->bytes);
    Event event{packet.integer(8), e.integer(9), e.integer(11), e.text(23), {}, {}};
    for (const auto& f : e.all) {
      if (f.number == 47) event.starts.push_back(f.value);
      if (f.number == 48) event.ends.push_back(f.value);
      EXPECT_TRUE((f.number != 47 && f.number != 48) || f.wire == 1);  // fixed64
    }
    trace.events.push_back(std::move(event));
  }
  return trace;
}

void expect_rules_kept(const Trace& trace) {
  for (const auto& [uuid, track] : trace.tracks)
    EXPECT_TRUE(track.has(3) || trace.tracks.contains(track.integer(5))) << uuid;
  std::map<std::uint64_t, std::pair<int, std::uint64_t>> open;  // by track: depth and last time
  std::map<std::uint64_t, std::pair<std::uint64_t, std::size_t>> flows;  // id -> time, place
  std::set<std::uint64_t> ended;
  for (std::size_t i = 0; i < trace.events.size(); ++i) {
    const Event& e = trace.events[i];
    ASSERT_TRUE(trace.tracks.contains(e.track));
    if (e.type == 1 || e.type == 2) {
      auto& [depth, last] = open[e.track];
      ASSERT_GE(e.time, last);
      last = e.time;
      depth += e.type == 1 ? 1 : -1;
      ASSERT_TRUE(depth == 0 || depth == 1);
    }
    EXPECT_TRUE(e.type != 4 || trace.tracks.at(e.track).has(8)) << "a counter's track";
    for (const std::uint64_t id : e.starts)
      ASSERT_TRUE(flows.emplace(id, std::pair(e.time, i)).second);
  }
  for (std::size_t i = 0; i < trace.events.size(); ++i)
    for (const std::uint64_t id : trace.events[i].ends) {
      ASSERT_TRUE(flows.contains(id));
      ASSERT_TRUE(ended.insert(id).second);
      ASSERT_GE(trace.events[i].time, flows.at(id).first);
      ASSERT_GT(i, flows.at(id).second);
    }
  EXPECT_EQ(ended.size(), flows.size());
  for (const auto& [track, state] : open) EXPECT_EQ(state.first, 0);
}

std::size_t messages(const Timeline& t) {
  return static_cast<std::size_t>(
      std::count_if(t.events.begin(), t.events.end(),
                    [](const TimelineEvent& e) { return e.sender && e.peer != kNoEvent; }));
}

TEST(PerfettoTrace, TimesAreNanosecondsAndTracksHaveNames) {
  Program program = parse_program(R"(
device first static=100
device second
comm pair first second
slot first F 3
op fc1  on first  compute 4us
op send on first  pp 1000001ps comm=pair send after=fc1 alloc=50
slot second F 3
op recv on second pp 1us comm=pair
op fc1  on second compute 2us after=recv
)")
                        .program;
  ReplayOptions options;
  options.record_memory = true;
  const Timeline t = make_timeline(program, replay(program, options));
  const Trace trace = read(t);
  expect_rules_kept(trace);
  std::map<std::string, std::uint64_t> begins;
  for (const Event& e : trace.events)
    if (e.type == 1) begins.emplace(e.name, e.time);
  EXPECT_EQ(begins.at("fc1"), 0U);
  EXPECT_EQ(begins.at("send"), 4000U);
  EXPECT_EQ(begins.at("recv"), 0U);
  EXPECT_EQ(begins.at("PP:0F3"), 0U);
  const auto arrival = std::find_if(trace.events.begin(), trace.events.end(),
                                    [](const Event& e) { return !e.ends.empty(); });
  ASSERT_NE(arrival, trace.events.end());
  EXPECT_EQ(arrival->time, 4000U);  // the receive has waited from 0
  EXPECT_THAT(trace.text, ::testing::HasSubstr("second"));
}

class OneHundredAndTwentyEightRanks : public ::testing::Test {
 protected:
  static const Timeline& step() {
    static const Timeline t =
        testing::unfolded_step({"tp=2,pp=2,ep=8,etp=1,sp=1,mbs=1", 16, 2, 64, 512});
    return t;
  }
};

TEST_F(OneHundredAndTwentyEightRanks, PerfettoKeepsItsRules) {
  ASSERT_EQ(step().devices.size(), 128U);
  const Trace trace = read(step());
  expect_rules_kept(trace);
  std::size_t flows = 0, slices = 0;
  for (const Event& e : trace.events) {
    flows += e.starts.size();
    slices += e.type == 1 ? 1 : 0;
  }
  EXPECT_GT(messages(step()), 128U);  // two ways between 64 pairs, twice
  EXPECT_EQ(flows, messages(step()));
  EXPECT_GE(slices, step().events.size());
}

TEST_F(OneHundredAndTwentyEightRanks, ChromesFlowsLeadFromSendsToReceives) {
  std::ostringstream out;
  write_chrome_trace(out, step());
  const Json all = Json::parse(out.str(), "trace.json").at("traceEvents");
  using Place = std::pair<std::int64_t, std::int64_t>;
  std::map<Place, std::map<double, double>> slices;  // by thread: start -> end
  struct End {
    Place place;
    double time = 0;
  };
  std::map<std::int64_t, End> starts, ends;
  constexpr double kForever = 1e15;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Json e = all.at(i);
    const std::string phase = e.at("ph").text();
    if (phase == "M" || phase == "C") continue;
    const Place place{e.at("pid").integer(), e.at("tid").integer()};
    const double at = e.at("ts").number(0, kForever);
    if (phase == "X") {
      double& end = slices[place][at];
      end = std::max(end, at + e.at("dur").number(0, kForever));
      continue;
    }
    ASSERT_TRUE(phase == "s" || phase == "f");
    auto& side = phase == "s" ? starts : ends;
    ASSERT_TRUE(side.emplace(e.at("id").integer(), End{place, at}).second);
    ASSERT_TRUE(phase == "s" || e.at("bp").text() == "e");
  }
  const auto inside = [&](const End& e) {
    const auto& of_thread = slices.at(e.place);
    auto after = of_thread.upper_bound(e.time + 1e-9);
    return after != of_thread.begin() && (--after)->second >= e.time - 1e-9;
  };
  ASSERT_EQ(starts.size(), messages(step()));
  ASSERT_EQ(ends.size(), starts.size());
  for (const auto& [id, start] : starts) {
    ASSERT_TRUE(ends.contains(id));
    EXPECT_NE(start.place.first, ends.at(id).place.first);
    EXPECT_GE(ends.at(id).time, start.time);
    EXPECT_TRUE(inside(start) && inside(ends.at(id))) << id;
  }
}

}  // namespace
}  // namespace steploom
