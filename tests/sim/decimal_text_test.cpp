#include "sim/decimal_text.h"

#include <gtest/gtest.h>

namespace steploom {
namespace {

TEST(DecimalText, Times) {
  EXPECT_EQ(time_with_unit("7ps"), 7);
  EXPECT_EQ(time_with_unit("2.5us"), 2'500'000);
  EXPECT_EQ(time_with_unit("0.0015ns"), 1);  // rounded down
  EXPECT_EQ(time_with_unit("3ms"), 3'000'000'000);
  for (const char* text : {"", "5", "us", "1.2.3us", "-1us", "1e3us", "1 us", "1s"})
    EXPECT_EQ(time_with_unit(text), std::nullopt) << text;
}

TEST(DecimalText, Bytes) {
  EXPECT_EQ(bytes_with_suffix("12"), 12);
  EXPECT_EQ(bytes_with_suffix("1.5K"), 1536);
  EXPECT_EQ(bytes_with_suffix("2G"), Bytes{2} << 30);
  EXPECT_EQ(bytes_with_suffix("K"), std::nullopt);
  EXPECT_EQ(bytes_with_suffix("1T"), std::nullopt);
}

TEST(DecimalText, NothingOverflows) {
  EXPECT_EQ(whole_number("115292150460684690"), 115292150460684690);
  EXPECT_EQ(whole_number("1152921504606846990"), std::nullopt);
  EXPECT_EQ(whole_number("99999999999999999999"), std::nullopt);
  EXPECT_EQ(time_with_unit("999999999999999ms"), std::nullopt);
  EXPECT_EQ(whole_number("1.0"), std::nullopt);
}

}  // namespace
}  // namespace steploom
