// Schedules as torch.distributed.pipelining's actions: its own, as PyTorch lists and runs them
// (profiler/torch_schedules.py), equal ours action for action, messages included.
#include "planner/torch_actions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "models/error.h"
#include "models/json_reader.h"
#include "planner/torch_rules.h"

namespace steploom {
namespace {

using ::testing::HasSubstr;

struct Listed {
  std::string name;
  ScheduleShape shape;
  TorchRows passes, whole, executed;  // empty: not listed
};

TorchRows rows_of(const Json& line, const char* key) {
  TorchRows rows;
  if (const std::optional<Json> all = line.find(key))
    for (std::size_t r = 0; r < all->size(); ++r) {
      std::string text = all->at(r).text();
      std::replace(text.begin(), text.end(), ' ', ',');
      rows.push_back(read_torch_csv(text, key).at(0));
    }
  return rows;
}

std::vector<Listed> listed_by_torch() {
  std::vector<Listed> out;
  std::ifstream in(std::string(STEPLOOM_SOURCE_DIR) + "/tests/planner/data/torch-schedules.jsonl");
  std::string line;
  std::getline(in, line);
  EXPECT_THAT(line, HasSubstr("2.11.0"));
  while (std::getline(in, line)) {
    const Json json = Json::parse(line, "torch-schedules.jsonl");
    const auto number = [&](const char* key) {
      return static_cast<int>(json.at(key).integer(1, 1 << 20));
    };
    Listed l{json.at("schedule").text(),
             {number("ranks"), number("chunks"), 0, number("micro_batches")},
             rows_of(json, "compute_only"),
             rows_of(json, "compute_comms"),
             rows_of(json, "executed")};
    // PyTorch's rounds: as many micro-batches in turn as ranks, or some more.
    const auto m = static_cast<int>(l.shape.micro_batches);
    l.shape.group = m / std::max(1, m / l.shape.ranks);
    out.push_back(std::move(l));
  }
  return out;
}

const NamedSchedule* ours(const Listed& l) {
  if (l.name == "GPipe") return find_schedule("gpipe");
  if (l.name == "1F1B") return find_schedule("1f1b");
  if (l.name == "Interleaved1F1B") return find_schedule("interleaved");
  if (l.name == "LoopedBFS") return find_schedule("looped-bfs");
  if (l.name == "InterleavedZeroBubble")
    return find_schedule(l.shape.chunks == 1 ? "zb-h1" : "interleaved-zb");
  if (l.name == "ZBVZeroBubble") return find_schedule("zb-v");
  return find_schedule("dualpipe-v");
}

TorchRows ours_in(const Listed& l) {
  const NamedSchedule* named = ours(l);
  return torch_actions(named->slots(l.shape), named->placement, l.shape);
}

TEST(TorchActions, EqualThoseOfPyTorchsOwnSchedules) {
  int compared = 0, run = 0;
  for (const Listed& l : listed_by_torch()) {
    const std::string what = l.name + " of " + std::to_string(l.shape.ranks) + " ranks, " +
                             std::to_string(l.shape.micro_batches) + " micro-batches";
    const TorchRows mine = ours_in(l);
    if (!l.executed.empty()) {
      EXPECT_EQ(to_csv(mine), to_csv(l.executed)) << what;
      ++run;
    } else if (l.name != "1F1B") {
      EXPECT_EQ(to_csv(mine), to_csv(l.passes)) << what;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 23);
  EXPECT_EQ(run, 5);
}

// PyTorch 2.11's listing of 1F1B numbers the last rank's forward passes from 1, which it refuses
// itself as a file; what it runs is right.
TEST(TorchActions, PyTorchsListingOf1F1BIsOursButOnTheLastRank) {
  for (const Listed& l : listed_by_torch()) {
    if (l.name != "1F1B" || !l.executed.empty()) continue;
    TorchRows mine = ours_in(l);
    for (TorchAction& a : mine.back())
      if (a.op == TorchOp::forward) ++a.micro_batch;
    EXPECT_EQ(to_csv(mine), to_csv(l.passes));
    const auto m = static_cast<std::int32_t>(l.shape.micro_batches);
    EXPECT_NE(torch_fault({l.passes, l.shape.ranks, l.shape.ranks, m}), "");
  }
}

TEST(TorchActions, MessagesStandWherePyTorchPutsThem) {
  int compared = 0;
  for (const Listed& l : listed_by_torch()) {
    if (l.whole.empty()) continue;
    const int stages = l.shape.ranks * l.shape.chunks;
    const auto m = static_cast<std::int32_t>(l.shape.micro_batches);
    const TorchRows whole = with_messages(l.passes, stages, m);
    EXPECT_EQ(to_csv(whole), to_csv(l.whole)) << l.name;
    EXPECT_EQ(torch_fault({l.passes, l.shape.ranks, stages, m}), "");
    EXPECT_EQ(torch_fault({whole, l.shape.ranks, stages, m, true}), "");
    ++compared;
  }
  EXPECT_EQ(compared, 23);
}

TEST(TorchActions, OfEveryScheduleKeepTheRules) {
  for (const NamedSchedule& named : named_schedules()) {
    if (named.placement == Placement::bidirectional) continue;
    for (const ScheduleShape& shape :
         {ScheduleShape{3, 1, 0, 7}, ScheduleShape{4, 2, 0, 8}, ScheduleShape{2, 3, 3, 9}}) {
      if (!refusal(named, shape).empty()) continue;
      const TorchRows rows = torch_actions(named.slots(shape), named.placement, shape);
      const int stages = shape.ranks * shape.chunks;
      const auto m = static_cast<std::int32_t>(shape.micro_batches);
      EXPECT_EQ(torch_fault({rows, shape.ranks, stages, m}), "") << named.name;
      const TorchRows whole = with_messages(rows, stages, m);
      EXPECT_EQ(torch_fault({whole, shape.ranks, stages, m, true}), "") << named.name;
      EXPECT_EQ(read_torch_csv(to_csv(whole), "csv"), whole) << named.name;
    }
  }
}

constexpr std::string_view kSmall = "0F0,0F1,,0B0,,0B1\n,1F0,1B0,1F1,1B1,\n";

TEST(TorchActions, AreReadAndWrittenAsPythonsCsv) {
  const TorchRows rows = read_torch_csv(kSmall, "small");
  EXPECT_EQ(to_csv(rows), "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n");
  EXPECT_EQ(to_csv(with_messages(rows, 2, 2)),
            "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1,0REDUCE_GRAD\n"
            "1RECV_F0,1F0,1RECV_F1,1B0,1SEND_B0,1F1,1B1,1SEND_B1,1REDUCE_GRAD\n");
  const std::string both = "(0F1;3B0)OVERLAP_F_B,3UNSHARD,12RECV_F10\r\n";
  EXPECT_EQ(to_csv(read_torch_csv(both, "both")), "(0F1;3B0)OVERLAP_F_B,3UNSHARD,12RECV_F10\n");
  for (const char* bad : {"F0", "0X0", "0F0x", "(0F1;3B0)", "(0B1;3B0)OVERLAP_F_B", "0F-1"}) try {
      read_torch_csv(std::string("0F0\n1F0,") + bad, "file.csv");
      ADD_FAILURE() << bad;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("file.csv, line 2, cell 2")) << bad;
    }
}

// Each rule by a file that breaks it, and none before it.
TEST(TorchRules, SayWhatIsBroken) {
  const auto fault = [](std::string_view text, bool messages = false) {
    const TorchRows rows = read_torch_csv(text, "rows");
    return torch_fault({rows, 2, 2, 2, messages});
  };
  EXPECT_EQ(fault(kSmall), "");
  EXPECT_THAT(fault("0F0,0F1,0B0,0B1\n"), HasSubstr("a row a rank: 1 rows for 2 ranks"));
  EXPECT_THAT(fault("0F0,0F2,0B0,0B1\n1F0,1B0,1F1,1B1\n"), HasSubstr("0F2 on rank 0"));
  EXPECT_THAT(fault("0F0,0F1,0B0,0B1\n1RECV_F0,1F0,1B0,1F1,1B1\n"), HasSubstr("compute_only"));
  EXPECT_THAT(fault("0F0,0F1,0B0,0B1\n1F0,1B0,1F1,0B1\n"), HasSubstr("stage 0 on ranks 0 and 1"));
  EXPECT_THAT(fault("0F0,0B1,0F1,0B0\n1F0,1B0,1F1,1B1\n"), HasSubstr("0B1 on rank 0 without 0F1"));
  EXPECT_THAT(fault("0F0,0F1,0W0,0I0,0B1\n1F0,1B0,1F1,1B1\n"), HasSubstr("without 0I0"));
  EXPECT_THAT(fault("0F0,0F1,0B0,0B1\n1F0,1F0,1B0,1F1,1B1\n"), HasSubstr("1F0 twice"));
  EXPECT_THAT(fault("0F0,0F1,0B0\n1F0,1B0,1F1,1B1\n"), HasSubstr("2 F, 1 B, 0 I and 0 W"));
  EXPECT_THAT(fault("0F0,0F1,0B0,0I1\n1F0,1B0,1F1,1B1\n"), HasSubstr("1 B, 1 I and 0 W"));
  EXPECT_THAT(fault("0F0,0F1,0B0,0B1\n1F1,1B1,1F0,1B0\n"), HasSubstr("forward passes ascend"));
  EXPECT_THAT(fault("0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n"), HasSubstr("comes to an end"));
  const std::string rank_0 = "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1,0REDUCE_GRAD\n";
  const std::string rank_1 = ",1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1,1REDUCE_GRAD\n";
  EXPECT_EQ(fault(rank_0 + "1RECV_F0,1RECV_F1" + rank_1, true), "");
  EXPECT_THAT(fault(rank_0 + "1RECV_F1,1RECV_F0" + rank_1, true), HasSubstr("messages meet"));
  EXPECT_THAT(fault(rank_0 + "1RECV_F0,1RECV_F1,1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1\n", true),
              HasSubstr("stage 1 has no REDUCE_GRAD"));
  EXPECT_THAT(fault("0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0REDUCE_GRAD,0RECV_B1,0B1\n1RECV_F0,"
                    "1RECV_F1" +
                        rank_1,
                    true),
              HasSubstr("0B1 on rank 0 after the stage's REDUCE_GRAD"));
}

}  // namespace
}  // namespace steploom
