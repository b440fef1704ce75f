#include "profiler/json_lines.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "models/json_reader.h"
#include "tests/temp_folder.h"

namespace steploom {
namespace {

// What the writer writes, the strict reader reads.
TEST(JsonLines, WritesWhatTheReaderReads) {
  JsonLine line;
  line.add("text", "a \"quoted\" \\ path").add("count", 3).add("us", 12.3456789).add("ok", true);
  line.add("asked", std::vector<int>{4, 8}).add("spread", Spread{1, 2, 3, 9});
  const Json json = Json::parse(line.text(), "line");
  EXPECT_EQ(json.at("text").text(), "a \"quoted\" \\ path");
  EXPECT_EQ(json.at("count").integer(), 3);
  EXPECT_EQ(json.at("us").number(0, 100), 12.3457);  // six digits
  EXPECT_TRUE(json.at("ok").boolean());
  EXPECT_EQ(json.at("asked").at(1).integer(), 8);
  EXPECT_EQ(json.at("spread").at(1).number(0, 9), 2);
}

// A line is in the file as soon as it is written, so a run that dies later keeps it.
TEST(JsonLines, KeepsEveryLineAtOnce) {
  const TempFolder own;
  const auto path = own / "lines.jsonl";
  JsonLines lines(path.string());
  lines.write(JsonLine().add("grid", 4));
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  EXPECT_EQ(text.str(), "{\"grid\":4}\n");
}

TEST(Spread, TakesQuartilesBetweenSamples) {
  const Spread spread = spread_of({4, 1, 3, 2});
  EXPECT_EQ(spread.first, 1.75);
  EXPECT_EQ(spread.median, 2.5);
  EXPECT_EQ(spread.third, 3.25);
  EXPECT_EQ(spread.samples, 4);
}

}  // namespace
}  // namespace steploom
