// A step of 64 ranks as Chakra traces, read by the published field numbers (mlcommons/chakra,
// schema/protobuf/et_def.proto) and replayed as ASTRA-sim does.
#include "traces/chakra.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <tuple>

#include "models/json_reader.h"
#include "tests/traces/protobuf_reader.h"
#include "tests/traces/unfolded_step.h"

namespace steploom {
namespace {

using testing::ProtoField;
using testing::ProtoFields;
using testing::ProtoReader;

enum NodeType : std::uint64_t { kCompute = 4, kSend = 5, kReceive = 6, kCollective = 7 };

struct Attribute {
  int type = 0;  // field number of the value
  std::uint64_t value = 0;
  std::string text;
};
struct Node {
  std::uint64_t id = 0, type = 0, start = 0, duration = 0;
  std::string name;
  std::vector<std::uint64_t> control, data;
  std::map<std::string, Attribute> attributes;
  std::uint64_t integer(const std::string& name_of) const { return attributes.at(name_of).value; }
};
struct Rank {
  std::map<std::string, Attribute> metadata;
  std::string version;
  std::vector<Node> nodes;
};

std::map<std::string, Attribute> attributes_of(const ProtoFields& message, int field) {
  std::map<std::string, Attribute> out;
  for (const ProtoField& f : message.all) {
    if (f.number != field) continue;
    const ProtoFields a(f.bytes);
    EXPECT_EQ(a.all.size(), 2U);
    const ProtoField& value = a.all.back();
    EXPECT_TRUE(
        out.emplace(a.text(1), Attribute{value.number, value.value, std::string(value.bytes)})
            .second);
  }
  return out;
}

Rank read(const std::string& file) {
  ProtoReader in(file);
  Rank rank;
  const ProtoFields metadata(in.delimited());
  rank.version = metadata.text(1);
  rank.metadata = attributes_of(metadata, 2);
  while (!in.done()) {
    const ProtoFields n(in.delimited());
    rank.nodes.push_back({n.integer(1), n.integer(3), n.integer(6), n.integer(7), n.text(2),
                          n.list(4), n.list(5), attributes_of(n, 10)});
  }
  return rank;
}

struct Step {
  Timeline timeline;
  std::vector<Rank> ranks;
  std::map<std::uint64_t, std::vector<std::uint32_t>> groups;

  explicit Step(const testing::StepOf& what) : timeline(testing::unfolded_step(what)) {
    const ChakraTrace trace(timeline);
    for (std::uint32_t r = 0; r < timeline.devices.size(); ++r) {
      std::ostringstream out;
      trace.write_rank(out, r);
      ranks.push_back(read(out.str()));
    }
    const Json json = Json::parse(trace.groups(), "groups.json");
    for (const std::string& name : json.keys())
      for (std::size_t i = 0; i < json.at(name).size(); ++i)
        groups[std::stoull(name)].push_back(
            static_cast<std::uint32_t>(json.at(name).at(i).small_integer(0, 1 << 20)));
  }
};

// One compute node, one collective or send of a rank at a time, the lowest id first; a collective
// ends when all of its group's members run it, a receive when its message was sent. Returns how
// many nodes ended.
std::size_t replayed_as_astra_does(const Step& step) {
  struct State {
    std::map<std::uint64_t, const Node*> nodes;
    std::map<std::uint64_t, std::size_t> waits;
    std::map<std::uint64_t, std::vector<std::uint64_t>> children;
    std::set<std::uint64_t> ready;
    std::uint64_t collective = 0;  // in flight
    std::set<std::uint64_t> receives;
  };
  std::vector<State> ranks(step.ranks.size());
  std::set<std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>> sent;
  std::map<std::uint64_t, std::set<std::size_t>> arrived;  // by group
  for (std::size_t r = 0; r < ranks.size(); ++r)
    for (const Node& n : step.ranks[r].nodes) {
      ranks[r].nodes[n.id] = &n;
      ranks[r].waits[n.id] = n.data.size();
      for (const std::uint64_t d : n.data) ranks[r].children[d].push_back(n.id);
      if (n.data.empty()) ranks[r].ready.insert(n.id);
    }
  std::size_t ended = 0;
  const auto end = [&](State& s, std::uint64_t id) {
    ++ended;
    for (const std::uint64_t c : s.children[id])
      if (--s.waits[c] == 0) s.ready.insert(c);
  };
  const auto message = [](const Node& n) {
    return std::tuple(n.integer("comm_src"), n.integer("comm_dst"), n.integer("comm_tag"));
  };
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t r = 0; r < ranks.size(); ++r) {
      State& s = ranks[r];
      for (const std::uint64_t id : std::set<std::uint64_t>(s.receives))
        if (sent.contains(message(*s.nodes[id]))) {
          s.receives.erase(id);
          end(s, id);
          moved = true;
        }
      for (const std::uint64_t id : std::set<std::uint64_t>(s.ready)) {
        const Node& n = *s.nodes[id];
        if ((n.type == kCollective || n.type == kSend) && s.collective != 0) continue;
        s.ready.erase(id);
        moved = true;
        if (n.type == kReceive) {
          s.receives.insert(id);
        } else if (n.type == kCollective) {
          s.collective = id;
          const std::uint64_t group = std::stoull(n.attributes.at("pg_name").text);
          arrived[group].insert(r);
          if (arrived[group].size() < step.groups.at(group).size()) continue;
          for (const std::size_t member : arrived[group]) {
            end(ranks[member], ranks[member].collective);
            ranks[member].collective = 0;
          }
          arrived.erase(group);
        } else {
          if (n.type == kSend) sent.insert(message(n));
          end(s, id);
        }
      }
    }
  }
  return ended;
}

void expect_rules_kept(const Step& step) {
  std::map<std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>, std::pair<int, std::uint64_t>>
      messages;
  std::size_t nodes = 0;
  for (std::size_t r = 0; r < step.ranks.size(); ++r) {
    const Rank& rank = step.ranks[r];
    nodes += rank.nodes.size();
    EXPECT_EQ(rank.version, "0.0.4");
    EXPECT_EQ(rank.metadata.at("steploom.rank").value, r);
    std::set<std::uint64_t> ids;
    for (const Node& n : rank.nodes) EXPECT_TRUE(n.id > 0 && ids.insert(n.id).second);
    for (const Node& n : rank.nodes) {
      for (const std::uint64_t d : n.data) ASSERT_TRUE(ids.contains(d));
      for (const std::uint64_t d : n.control)  // readers may follow data_deps alone
        ASSERT_NE(std::find(n.data.begin(), n.data.end(), d), n.data.end());
      EXPECT_EQ(n.attributes.at("is_cpu_op").type, 27);
      EXPECT_EQ(n.attributes.at("is_cpu_op").value, 0U);
      const double start = static_cast<double>(n.integer("steploom.start_ps")) / 1e6;
      const double duration = static_cast<double>(n.integer("steploom.duration_ps")) / 1e6;
      ASSERT_NEAR(static_cast<double>(n.start), start, 1);
      ASSERT_NEAR(static_cast<double>(n.duration), duration, 1);
      if (n.type == kCompute) {
        EXPECT_TRUE(n.attributes.at("num_ops").type == 9 && n.integer("num_ops") > 0);
        EXPECT_TRUE(n.attributes.at("tensor_size").type == 13 && n.integer("tensor_size") > 0);
      } else if (n.type == kCollective) {
        EXPECT_EQ(n.attributes.at("comm_type").type, 9);
        EXPECT_TRUE(n.attributes.at("comm_size").type == 9 && n.integer("comm_size") > 0);
        EXPECT_EQ(n.attributes.at("pg_name").type, 29);
        const auto& members = step.groups.at(std::stoull(n.attributes.at("pg_name").text));
        EXPECT_NE(std::find(members.begin(), members.end(), r), members.end());
        EXPECT_FALSE(n.attributes.at("pg_desc").text.empty());
      } else {
        ASSERT_TRUE(n.type == kSend || n.type == kReceive);
        EXPECT_EQ(n.attributes.at("comm_src").type, 7);
        EXPECT_EQ(n.integer(n.type == kSend ? "comm_src" : "comm_dst"), r);
        auto& [ends, size] =
            messages[{n.integer("comm_src"), n.integer("comm_dst"), n.integer("comm_tag")}];
        ends += n.type == kSend ? 1 : 16;
        EXPECT_TRUE(size == 0 || size == n.integer("comm_size"));
        size = n.integer("comm_size");
      }
    }
  }
  for (const auto& [id, ends] : messages) EXPECT_EQ(ends.first, 17);  // one of each
  EXPECT_EQ(replayed_as_astra_does(step), nodes);
}

TEST(Chakra, SixtyFourRanksOfExpertsParseByThePublishedSchema) {
  const Step step({"tp=2,pp=2,ep=8,etp=1,sp=1,mbs=1"});
  ASSERT_EQ(step.ranks.size(), 64U);
  expect_rules_kept(step);
  // Rank by rank the Timeline's events, with their exact times.
  std::size_t event = 0;
  std::set<std::uint64_t> kinds;
  for (const Rank& rank : step.ranks)
    for (const Node& n : rank.nodes) {
      const TimelineEvent& e = step.timeline.events.at(event++);
      ASSERT_EQ(static_cast<Picoseconds>(n.integer("steploom.start_ps")), e.start);
      ASSERT_EQ(static_cast<Picoseconds>(n.integer("steploom.duration_ps")), e.end - e.start);
      ASSERT_EQ(n.name, step.timeline.names[e.name]);
      if (n.type == kCollective) kinds.insert(n.integer("comm_type"));
    }
  EXPECT_EQ(event, step.timeline.events.size());
  // ALL_REDUCE 0, ALL_GATHER 2, ALL_TO_ALL 6, REDUCE_SCATTER 7.
  EXPECT_THAT(kinds, ::testing::ElementsAre(0, 2, 6, 7));
}

// A gather's size is a rank's share, that of a scatter the whole: both are what a rank gives.
TEST(Chakra, SizesAreWhatARankGives) {
  const Step step({"tp=2,pp=1,ep=8,etp=1,sp=1,mbs=1", 1, 2, 8, 1024});
  const std::uint64_t activations = 1024 * 1024 * 2;  // tokens · hidden, bf16
  std::set<std::uint64_t> gathers;
  for (const Node& n : step.ranks[0].nodes) {
    if (n.type != kCollective || n.name.find("qkv input gather") == n.name.npos) continue;
    gathers.insert(n.integer("comm_size"));
  }
  EXPECT_THAT(gathers, ::testing::ElementsAre(activations / 2));
}

TEST(Chakra, AStepOfARingIsASendAndAReceive) {
  const Step step({"tp=1,pp=1,cp=4,ep=2,etp=1,mbs=1", 1, 2, 8, 2048});
  expect_rules_kept(step);
  std::set<std::uint64_t> to, from;
  for (const Node& n : step.ranks[1].nodes) {
    if (n.type == kSend) to.insert(n.integer("comm_dst"));
    if (n.type == kReceive) from.insert(n.integer("comm_src"));
  }
  EXPECT_THAT(to, ::testing::ElementsAre(2));
  EXPECT_THAT(from, ::testing::ElementsAre(0));
}

TEST(Chakra, InterleavedStagesOnTwoRanksSendBothWays) {
  expect_rules_kept(Step({"tp=1,pp=2,vpp=2,ep=4,etp=1,mbs=1", 1, 4, 16, 512}));
}

}  // namespace
}  // namespace steploom
