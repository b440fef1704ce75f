#include "traces/table.h"

#include <gtest/gtest.h>

#include <limits>
#include <sstream>

#include "models/error.h"
#include "models/json_reader.h"

namespace steploom {
namespace {

Table sample() {
  Table table({{"#", CellKind::integer, 0, "", "rank"},
               {"layout"},
               {"step time", CellKind::time},
               {"memory", CellKind::bytes},
               {"speed", CellKind::number, 1, "TFLOP/s"},
               {"exposed", CellKind::share}});
  table.add({1, "tp1 pp4", 3'050'000'000'000, 76'450'418'688, 412.345, 0.1234});
  table.add({12, "say \"hi\", you", 41'200'000'000, 1024, std::monostate{}, 0.0});
  return table;
}

std::string printed(const Table& table, TableFormat format, bool styled = false) {
  std::ostringstream out;
  print(out, table, format, styled);
  return out.str();
}

TEST(Table, TextIsAlignedAndHasUnits) {
  EXPECT_EQ(printed(sample(), TableFormat::text),
            " #  layout         step time    memory  speed (TFLOP/s)  exposed\n"
            " 1  tp1 pp4           3.05 s  71.2 GiB            412.3    12.3%\n"
            "12  say \"hi\", you    41.2 ms     1 KiB                -     0.0%\n");
}

TEST(Table, TextCountsCharactersAndLeavesNoBlanksAtTheEnd) {
  Table table({{"a"}, {"b"}});
  table.add({"é·é", "x"});
  table.add({"abcd", ""});
  EXPECT_EQ(printed(table, TableFormat::text), "a     b\né·é   x\nabcd\n");
}

TEST(Table, CsvHasRawValuesAndUnitsInTheHeader) {
  EXPECT_EQ(printed(sample(), TableFormat::csv),
            "rank,layout,step_time_ps,memory_bytes,speed_tflop_s,exposed_share\n"
            "1,tp1 pp4,3050000000000,76450418688,412.345,0.1234\n"
            "12,\"say \"\"hi\"\", you\",41200000000,1024,,0\n");
}

TEST(Table, CsvQuotesLineBreaks) {
  Table table({{"a"}});
  table.add({"one\ntwo"});
  EXPECT_EQ(printed(table, TableFormat::csv), "a\n\"one\ntwo\"\n");
}

TEST(Table, JsonReadsBack) {
  const Json json = Json::parse(printed(sample(), TableFormat::json), "table");
  ASSERT_EQ(json.size(), 2U);
  EXPECT_EQ(json.at(0).at("rank").integer(), 1);
  EXPECT_EQ(json.at(0).at("step_time_ps").integer(), 3'050'000'000'000);
  EXPECT_EQ(json.at(0).at("speed_tflop_s").number(0, 1000), 412.345);
  EXPECT_EQ(json.at(1).at("layout").text(), "say \"hi\", you");
  EXPECT_FALSE(json.at(1).has("speed_tflop_s"));
}

TEST(Table, JsonHasNoNan) {
  Table table({{"a", CellKind::number}});
  table.add({std::numeric_limits<double>::quiet_NaN()});
  EXPECT_EQ(printed(table, TableFormat::json), "[\n {\"a\": null}\n]\n");
  EXPECT_EQ(printed(table, TableFormat::csv), "a\n\n");
}

TEST(Table, AnEmptyTableIsStillAHeaderOrAnArray) {
  const Table table({{"layout"}});
  EXPECT_EQ(printed(table, TableFormat::text), "layout\n");
  EXPECT_EQ(printed(table, TableFormat::csv), "layout\n");
  EXPECT_EQ(Json::parse(printed(table, TableFormat::json), "table").size(), 0U);
}

TEST(Table, OnlyTheHeaderIsBoldAndOnlyInText) {
  Table table({{"a"}});
  table.add({"x"});
  EXPECT_EQ(printed(table, TableFormat::text, true), "\x1b[1ma\x1b[0m\nx\n");
  EXPECT_EQ(printed(table, TableFormat::csv, true), "a\nx\n");
}

TEST(Table, FormatsHaveNames) {
  EXPECT_EQ(parse_table_format("table", "--format"), TableFormat::text);
  EXPECT_EQ(parse_table_format("csv", "--format"), TableFormat::csv);
  EXPECT_EQ(parse_table_format("json", "--format"), TableFormat::json);
  try {
    parse_table_format("jsn", "--format");
    FAIL() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.where().reading, "--format");
    EXPECT_EQ(error.where().hint, "did you mean 'json'?");
  }
}

TEST(Table, NoStyleWhereThereIsNoTerminal) {
  EXPECT_FALSE(styles_wanted(-1));
}

}  // namespace
}  // namespace steploom
