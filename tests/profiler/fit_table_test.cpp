#include "profiler/fit_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <functional>
#include <string>

#include "models/error.h"
#include "tests/temp_folder.h"

namespace steploom {
namespace {

using testing::HasSubstr;

std::string refusal(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.what();
  }
  return "not refused";
}

TEST(FitTable, ReadsCells) {
  const MeasuredTable t = parse_table("gpu,m,us\nh100,128,2.5\r\nh200,256,3\n", "t.csv");
  ASSERT_EQ(t.rows.size(), 2u);
  EXPECT_EQ(t.rows[1][t.column("gpu")], "h200");
  EXPECT_EQ(t.number(0, t.column("us")), 2.5);
  EXPECT_EQ(t.number(1, t.column("m")), 256);
}

TEST(FitTable, ReadsGzip) {
  const TempFolder own;
  const std::filesystem::path file = own / "table.csv.gz";
  const std::string text = "a,b\n1,2\n3,4\n";
  const gzFile out = gzopen(file.c_str(), "wb");
  gzwrite(out, text.data(), static_cast<unsigned>(text.size()));
  gzclose(out);
  const MeasuredTable t = read_table(file);
  ASSERT_EQ(t.rows.size(), 2u);
  EXPECT_EQ(t.number(1, 1), 4);
}

TEST(FitTable, SaysWhereATableIsWrong) {
  EXPECT_THAT(refusal([] { parse_table("a,b\n1,2\n3\n", "t.csv"); }), HasSubstr("t.csv: line 3"));
  const MeasuredTable t = parse_table("a,b\n1,x\n", "t.csv");
  EXPECT_THAT(refusal([&] { t.number(0, 1); }), HasSubstr("found 'x'"));
  EXPECT_THAT(refusal([&] { t.column("c"); }), HasSubstr("a column 'c'"));
  EXPECT_THAT(refusal([] { read_table("no/such/table.csv"); }), HasSubstr("no/such/table.csv"));
}

}  // namespace
}  // namespace steploom
