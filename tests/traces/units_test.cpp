#include "traces/units.h"

#include <gtest/gtest.h>

#include "models/error.h"

namespace steploom {
namespace {

TEST(Units, TimesHaveThreeDigitsAndAUnit) {
  EXPECT_EQ(time_text(3'050'000'000'000), "3.05 s");
  EXPECT_EQ(time_text(41'234'000'000), "41.2 ms");
  EXPECT_EQ(time_text(7'300'000), "7.3 us");
  EXPECT_EQ(time_text(250'000), "250 ns");
  EXPECT_EQ(time_text(1), "1 ps");
  EXPECT_EQ(time_text(0), "0 ps");
  EXPECT_EQ(time_text(1'234'000'000'000'000), "1234 s");
  EXPECT_EQ(time_text(-7'300'000), "-7.3 us");
}

TEST(Units, RoundingUpReachesTheNextUnit) {
  EXPECT_EQ(time_text(999'400'000'000), "999 ms");
  EXPECT_EQ(time_text(999'600'000'000), "1 s");
  EXPECT_EQ(time_text(9'996'000'000), "10 ms");
  EXPECT_EQ(time_text(99'960'000'000), "100 ms");
}

TEST(Units, SizesAreBinary) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1024), "1 KiB");
  EXPECT_EQ(bytes_text(Bytes{80} << 30), "80 GiB");
  EXPECT_EQ(bytes_text(76'450'418'688), "71.2 GiB");
}

TEST(Units, CountsAreDecimal) {
  EXPECT_EQ(count_text(46.7e9), "46.7 B");
  EXPECT_EQ(count_text(124'439'808), "124 M");
  EXPECT_EQ(count_text(256), "256");
  EXPECT_EQ(count_text(1.5e12), "1.5 T");
}

TEST(Units, SharesKeepOneDecimal) {
  EXPECT_EQ(share_text(0.1234), "12.3%");
  EXPECT_EQ(share_text(1), "100.0%");
  EXPECT_EQ(share_text(0), "0.0%");
}

TEST(Units, ReadsSizes) {
  EXPECT_EQ(parse_bytes("512", "--x"), 512);
  EXPECT_EQ(parse_bytes("64M", "--x"), Bytes{64} << 20);
  EXPECT_EQ(parse_bytes("1GiB", "--x"), Bytes{1} << 30);
  EXPECT_EQ(parse_bytes("1.5 gib", "--x"), Bytes{3} << 29);
  EXPECT_EQ(parse_bytes("200KB", "--x"), 200'000);
  EXPECT_EQ(parse_bytes("2T", "--x"), Bytes{2} << 40);
  EXPECT_EQ(parse_bytes("7 B", "--x"), 7);
  EXPECT_EQ(parse_bytes("0", "--x"), 0);
}

TEST(Units, ReadsTimes) {
  EXPECT_EQ(parse_time("13.75s", "--x"), 13'750'000'000'000);
  EXPECT_EQ(parse_time("412 ms", "--x"), 412'000'000'000);
  EXPECT_EQ(parse_time("0.5us", "--x"), 500'000);
  EXPECT_EQ(parse_time("2min", "--x"), 120'000'000'000'000);
}

TEST(Units, RefusesWhatIsNoTime) {
  for (const char* text : {"", "s", "13.75", "-1s", "0s", "1e3s", "nans", "3  s", "3 s s", "5h",
                           "3S", "3,5s", "1000001s", "0.0000001us"})
    EXPECT_THROW(parse_time(text, "--measured"), Error) << text;
}

TEST(Units, RefusesWhatIsNoSize) {
  for (const char* text :
       {"", "M", "-1", "64X", "64MM", "1e3", "64 M B", "nan", "2000000T", "1,5G"})
    EXPECT_THROW(parse_bytes(text, "--bucket"), Error) << text;
  try {
    parse_bytes("64Q", "--bucket", "value");
  } catch (const Error& error) {
    EXPECT_EQ(error.where().reading, "--bucket");
    EXPECT_EQ(error.where().place, "value");
    EXPECT_EQ(error.where().found, "'64Q'");
  }
}

}  // namespace
}  // namespace steploom
