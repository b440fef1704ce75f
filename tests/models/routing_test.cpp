#include "models/routing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "models/config_reader.h"
#include "models/error.h"
#include "models/routing_file.h"
#include "tests/temp_folder.h"

namespace steploom {
namespace {

using testing::HasSubstr;

template <class Act>
std::string refusal(const Act& act) {
  try {
    act();
  } catch (const Error& e) {
    return e.what();
  }
  return "not refused";
}

TEST(Routing, TextForms) {
  EXPECT_FALSE(parse_routing("balanced", "x").uneven());
  const Routing law = parse_routing("power-law:1.2,capacity=1.25,nodes=4", "x");
  EXPECT_EQ(law.law, RoutingLaw::power_law);
  EXPECT_EQ(law.parameter, 1.2);
  EXPECT_EQ(law.capacity, 1.25);
  EXPECT_EQ(law.nodes, 4);
  EXPECT_TRUE(law.random());
  for (const char* text : {"balanced", "power-law:1.2", "log-normal:0.8", "balanced,nodes=2",
                           "log-normal:0.5,capacity=2", "power-law:1.2,capacity=1.25,nodes=4"})
    EXPECT_EQ(to_text(parse_routing(text, "x")), text);
  EXPECT_TRUE(parse_routing("balanced,nodes=2", "x").uneven());
  EXPECT_FALSE(parse_routing("balanced,nodes=2", "x").random());
}

TEST(Routing, TextRefusals) {
  for (const auto& [text, part] : {std::pair{"power-low:1.2", "did you mean 'power-law'"},
                                   {"power-law", "'power-law:' and"},
                                   {"power-law:", "a number above 0"},
                                   {"power-law:-1", "a number above 0"},
                                   {"log-normal:1x", "'1x'"},
                                   {"balanced,capasity=2", "did you mean 'capacity'"},
                                   {"balanced,nodes=1.5", "a whole number"},
                                   {"balanced,nodes", "capacity=FACTOR, nodes"},
                                   {"no/such/file.csv", "or a file"}})
    EXPECT_THAT(refusal([&] { parse_routing(text, "--routing"); }),
                testing::AllOf(HasSubstr("--routing"), HasSubstr(part)))
        << text;
}

TEST(RecordedRouting, CsvInAnyOrder) {
  const auto layers =
      read_recorded_csv("layer,expert,tokens\n3,1,20\n3,0,10\r\n5,0,1\n5,1,0\n", "x");
  ASSERT_EQ(layers.size(), 2U);
  EXPECT_EQ(layers[0].layer, 3);
  EXPECT_THAT(layers[0].tokens, testing::ElementsAre(testing::ElementsAre(10, 20)));
  EXPECT_THAT(layers[1].tokens, testing::ElementsAre(testing::ElementsAre(1, 0)));
  const auto twice =
      read_recorded_csv("layer,micro_batch,expert,tokens\n0,1,0,3\n0,0,0,1\n0,1,1,4\n0,0,1,2", "x");
  EXPECT_THAT(twice.at(0).tokens,
              testing::ElementsAre(testing::ElementsAre(1, 2), testing::ElementsAre(3, 4)));
}

TEST(RecordedRouting, MicroBatchesComeRound) {
  Routing r;
  r.law = RoutingLaw::recorded;
  r.recorded = {{2, {{1, 2}, {3, 4}}}, {4, {{5, 6}}}};
  EXPECT_EQ(r.tokens_of(2, 3).front(), 3);
  EXPECT_EQ(r.tokens_of(2, 4).front(), 1);
  EXPECT_EQ(r.tokens_of(4, 7).front(), 5);
  EXPECT_EQ(r.tokens_of(6, 0).front(), 5);  // a module behind the last layer
}

TEST(RecordedRouting, CsvRefusals) {
  const std::string head = "layer,expert,tokens\n";
  for (const auto& [text, part] : {std::pair{std::string("layer,tokens\n"), "line 1"},
                                   {head + "0,0\n", "line 2: expected 3 numbers"},
                                   {head + "0,0,1\n0,0,1\n", "line 3: expected each expert once"},
                                   {head + "0,0,-1\n", "'-1'"},
                                   {head + "0,0,1\n0,2,1\n", "none missing"},
                                   {head + "0,0,0\n0,1,0\n", "an expert with tokens"},
                                   {head, "at least one layer"},
                                   {head + "0,0,1e3\n", "'1e3'"}})
    EXPECT_THAT(refusal([&] { read_recorded_csv(text, "loads.csv"); }),
                testing::AllOf(HasSubstr("loads.csv"), HasSubstr(part)))
        << text;
}

TEST(RecordedRouting, JsonAndItsRefusals) {
  const TempFolder folder;
  const auto file = folder.path() / "loads.json";
  const auto load = [&](const std::string& text) {
    std::ofstream(file) << text;
    return parse_routing(file.string(), "x");
  };
  const Routing r = load(
      R"({"steploom_routing": 1, "layers": [{"layer": 1, "tokens": [1, 2]},
          {"layer": 2, "micro_batches": [[3, 4], [5, 6]]}]})");
  EXPECT_EQ(r.law, RoutingLaw::recorded);
  EXPECT_EQ(to_text(r), "loads.json");
  EXPECT_EQ(r.tokens_of(2, 1).back(), 6);
  const auto of = [](const std::string& layers) {
    return R"({"steploom_routing": 1, "layers": [)" + layers + "]}";
  };
  for (const auto& [text, part] :
       {std::pair{std::string("{}"), "recorded routing"},
        {of(R"({"layer": 1, "tokens": [1], "micro_batches": [[1]]})"), "either"},
        {of(R"({"layer": 1})"), "either"},
        {of(R"({"layer": 1, "tokens": [1]}, {"layer": 1, "tokens": [1]})"), "ascending"},
        {of(R"({"layer": 1, "token": [1]})"), "'tokens'"},
        {of(R"({"layer": 1, "tokens": [1.5]})"), "/layers/0/tokens/0"}})
    EXPECT_THAT(refusal([&, t = text] { load(t); }), HasSubstr(part)) << text;
}

TEST(Routing, MustFitTheModel) {
  const ModelSpec mixtral = load_model("mixtral-8x7b");
  const ModelSpec dense = load_model("llama-3.1-405b");
  EXPECT_NO_THROW(check_routing(parse_routing("power-law:1.2", "x"), mixtral, "x"));
  EXPECT_NO_THROW(check_routing(parse_routing("balanced", "x"), dense, "x"));
  EXPECT_THAT(refusal([&] { check_routing(parse_routing("power-law:1.2", "x"), dense, "x"); }),
              HasSubstr("a model with experts"));
  Routing r;
  r.law = RoutingLaw::recorded;
  r.name = "loads.csv";
  for (int layer = 0; layer < mixtral.layers; ++layer)
    r.recorded.push_back({layer, {std::vector<std::int64_t>(8, 1)}});
  EXPECT_NO_THROW(check_routing(r, mixtral, "x"));
  Routing fewer = r;
  fewer.recorded.erase(fewer.recorded.begin() + 5);
  EXPECT_THAT(refusal([&] { check_routing(fewer, mixtral, "x"); }), HasSubstr("layer 5"));
  Routing wide = r;
  wide.recorded[7].tokens[0].push_back(1);
  EXPECT_THAT(refusal([&] { check_routing(wide, mixtral, "x"); }),
              testing::AllOf(HasSubstr("layer 7"), HasSubstr("8 experts")));
  Routing beyond = r;
  beyond.recorded.push_back({40, {std::vector<std::int64_t>(8, 1)}});
  EXPECT_THAT(refusal([&] { check_routing(beyond, mixtral, "x"); }), HasSubstr("layer 40"));
}

}  // namespace
}  // namespace steploom
