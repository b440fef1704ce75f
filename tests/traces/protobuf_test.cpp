#include "traces/protobuf.h"

#include <gmock/gmock.h>

#include <array>
#include <limits>
#include <sstream>

#include "tests/traces/protobuf_reader.h"

namespace steploom {
namespace {

using testing::ProtoFields;
using testing::ProtoReader;

// The encoding guide's own examples: field 1 = 150 is 08 96 01, field 2 = "testing" is 12 07 and
// the text, field 6 = [3, 270, 86942] packed is 32 06 03 8e 02 9e a7 05.
TEST(Protobuf, ExamplesOfTheEncodingGuide) {
  ProtoMessage a;
  a.unsigned_integer(1, 150);
  EXPECT_EQ(a.bytes(), "\x08\x96\x01");
  ProtoMessage b;
  b.text(2, "testing");
  EXPECT_EQ(b.bytes(), "\x12\x07testing");
  ProtoMessage c;
  c.message(3, a);
  EXPECT_EQ(c.bytes(), "\x1a\x03\x08\x96\x01");
  ProtoMessage p;
  p.packed(6, std::array<std::uint64_t, 3>{3, 270, 86942});
  EXPECT_EQ(p.bytes(), "\x32\x06\x03\x8e\x02\x9e\xa7\x05");
  ProtoMessage minus;
  minus.integer(1, -2);
  EXPECT_EQ(minus.bytes(), "\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01");
}

TEST(Protobuf, ReadsBack) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  ProtoMessage m;
  m.unsigned_integer(1, kMost);
  m.fixed64(47, kMost - 1);
  m.text(536870911, std::string(300, 'x'));
  const ProtoFields read(m.bytes());
  EXPECT_EQ(read.integer(1), kMost);
  EXPECT_EQ(read.integer(47), kMost - 1);
  EXPECT_EQ(read.text(536870911).size(), 300U);
}

TEST(Protobuf, MessagesBehindTheirLength) {
  std::ostringstream out;
  ProtoMessage m;
  write_delimited(out, m);
  m.text(1, std::string(200, 'y'));
  write_delimited(out, m);
  const std::string text = out.str();
  ProtoReader in(text);
  EXPECT_EQ(in.delimited(), "");
  EXPECT_EQ(in.delimited(), m.bytes());
  EXPECT_TRUE(in.done());
}

}  // namespace
}  // namespace steploom
