#include "models/json_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <fstream>

#include "tests/models/refusal.h"
#include "tests/temp_folder.h"

namespace steploom {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Error::Where parse_refusal(std::string_view text) {
  return refusal([text] { Json::parse(text, "t.json"); });
}

TEST(JsonReader, ReadsEveryKindOfValue) {
  const Json json = Json::parse(
      R"({"a": 7, "b": -1.5, "c": "x", "d": [true, null, {"e": 9223372036854775807}]})", "t");
  EXPECT_EQ(json.at("a").integer(), 7);
  EXPECT_EQ(json.at("a").number(0, 10), 7.0);
  EXPECT_EQ(json.at("b").number(-2, 0), -1.5);
  EXPECT_EQ(json.at("c").text(), "x");
  EXPECT_EQ(json.at("d").size(), 3U);
  EXPECT_TRUE(json.at("d").at(0).boolean());
  EXPECT_EQ(json.at("d").at(2).at("e").integer(), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(json.at("d").at(2).at("e").pointer(), "/d/2/e");
}

TEST(JsonReader, KeysComeInDocumentOrder) {
  EXPECT_THAT(Json::parse(R"({"z": 1, "a": null, "m": 2})", "t").keys(),
              ElementsAre("z", "a", "m"));
}

TEST(JsonReader, NullCountsAsAbsent) {
  const Json json = Json::parse(R"({"a": null})", "t.json");
  EXPECT_FALSE(json.has("a"));
  EXPECT_FALSE(json.find("a").has_value());
  const auto where = refusal([&] { json.at("a"); });
  EXPECT_EQ(where.expected, "the key 'a'");
}

TEST(JsonReader, APlaceOutlivesTheDocumentThatItCameFrom) {
  const Json inner = Json::parse(R"({"a": {"b": [1, 2]}})", "t.json").at("a").at("b");
  EXPECT_EQ(inner.at(1).integer(), 2);
  EXPECT_EQ(inner.reading(), "t.json");
}

TEST(JsonReader, PointersEscapeSlashAndTilde) {
  EXPECT_EQ(Json::parse(R"({"a/b~c": 1})", "t").at("a/b~c").pointer(), "/a~1b~0c");
}

TEST(JsonReader, TruncatedTextNamesLineAndColumn) {
  const auto where = parse_refusal("{\n  \"a\": 1,\n  \"b\": [2");
  EXPECT_EQ(where.reading, "t.json");
  EXPECT_THAT(where.place, HasSubstr("line 3, column "));
  EXPECT_THAT(where.found, HasSubstr("unexpected end of input"));
}

TEST(JsonReader, RefusesWhatIsNoJson) {
  for (const std::string_view text :
       {"", "   ", "{", "[1,]", "{\"a\":1} x", "{\"a\":1}{\"b\":2}", "{a:1}", "NaN", "[Infinity]",
        "[1e999]", "'a'", "[01]", "{\"a\"}", "\"\\x\"", "\"\xff\"", "nul", "// hello"}) {
    EXPECT_THAT(parse_refusal(text).place, HasSubstr("line 1, column ")) << text;
  }
}

TEST(JsonReader, RefusesTheSameKeyTwice) {
  const auto where = parse_refusal(R"({"a": {"b": 1, "c": 2, "b": 3}})");
  EXPECT_EQ(where.place, "/a/b");
  EXPECT_EQ(where.found, "the key twice");
  EXPECT_EQ(Json::parse(R"([{"a": 1}, {"a": 2}])", "t").size(), 2U);
}

TEST(JsonReader, RefusesDeepNesting) {
  EXPECT_NO_THROW(Json::parse(std::string(100, '[') + std::string(100, ']'), "t"));
  const auto where = parse_refusal(std::string(200'000, '['));
  EXPECT_EQ(where.expected, "at most 100 levels");
  EXPECT_LT(where.place.size(), 80U);
}

TEST(JsonReader, IntegersAreExact) {
  const auto found = [](std::string_view text) {
    return refusal([text] { Json::parse(text, "t").at("n").integer(1, 1000); });
  };
  EXPECT_EQ(found(R"({"n": 9223372036854775808})").found, "9223372036854775808");
  EXPECT_EQ(found(R"({"n": -9223372036854775809})").expected, "an integer from 1 to 1000");
  EXPECT_EQ(found(R"({"n": 18446744073709551616})").place, "/n");
  EXPECT_EQ(found(R"({"n": 12.0})").found, "12.0");
  EXPECT_EQ(found(R"({"n": -3})").found, "-3");
  EXPECT_EQ(found(R"({"n": 0})").found, "0");
  EXPECT_EQ(found(R"({"n": 1001})").found, "1001");
  EXPECT_EQ(found(R"({"n": "12"})").found, "\"12\"");
  EXPECT_EQ(found(R"({"n": true})").found, "true");
  const Json big = Json::parse("9223372036854775808", "t");
  EXPECT_EQ(refusal([&] { big.integer(); }).expected, "an integer");
  EXPECT_EQ(refusal([&] { big.integer(0); }).expected, "an integer of at least 0");
}

TEST(JsonReader, NumbersKeepTheirRange) {
  const Json json = Json::parse("[0.5, 18446744073709551616]", "t");
  EXPECT_EQ(json.at(0).number(0.5, 0.5), 0.5);
  EXPECT_EQ(json.at(1).number(0, 1e30), 18446744073709551616.0);
  EXPECT_EQ(refusal([&] { json.at(0).number(1, 2); }).expected, "a number from 1 to 2");
}

TEST(JsonReader, NamesTheExpectedType) {
  const Json json = Json::parse(R"({"a": [1, 2], "b": {"c": 1}, "s": "x"})", "t.json");
  EXPECT_EQ(refusal([&] { json.at("a").text(); }).found, "an array of 2 items");
  EXPECT_EQ(refusal([&] { json.at("b").size(); }).found, "an object of 1 members");
  EXPECT_EQ(refusal([&] { json.at("s").boolean(); }).expected, "true or false");
  EXPECT_EQ(refusal([&] { json.at("s").at("k"); }).expected, "an object");
  EXPECT_EQ(refusal([&] { json.at("a").at(2); }).expected, "an array of more than 2 items");
  EXPECT_EQ(refusal([&] { json.at("a").keys(); }).expected, "an object");
}

TEST(JsonReader, FoundValuesAreShortenedBetweenCharacters) {
  std::string text = "\"";
  for (int i = 0; i < 1000; ++i) text += "é";
  const Json json = Json::parse(text + "\"", "t");
  const auto where = refusal([&] { json.integer(); });
  EXPECT_LE(where.found.size(), 63U);
  EXPECT_THAT(where.found, HasSubstr("é..."));
}

TEST(JsonReader, UnknownKeysNameTheNearestKnownOne) {
  constexpr std::array<std::string_view, 2> known{"hidden_size", "layers"};
  const Json json = Json::parse(R"({"model": {"hidden_sizes": 3}})", "t.json").at("model");
  const auto where = refusal([&] { json.allow_only(known); });
  EXPECT_EQ(where.place, "/model/hidden_sizes");
  EXPECT_EQ(where.hint, "did you mean 'hidden_size'?");
  EXPECT_NO_THROW(Json::parse(R"({"layers": 3})", "t").allow_only(known));
}

class JsonFile : public testing::Test {
 protected:
  const TempFolder own_;
  const std::filesystem::path folder_ = own_.path();
};

TEST_F(JsonFile, IsReadAndNamed) {
  std::ofstream(folder_ / "a.json") << "{\"a\": 5}";
  const Json json = Json::load(folder_ / "a.json");
  EXPECT_EQ(json.at("a").integer(), 5);
  EXPECT_EQ(json.reading(), (folder_ / "a.json").string());
}

TEST_F(JsonFile, RefusesWhatIsNoReadableFile) {
  EXPECT_EQ(refusal([&] { Json::load(folder_ / "none.json"); }).found, "no such file");
  EXPECT_EQ(refusal([&] { Json::load(folder_); }).found, "a directory");
}

TEST_F(JsonFile, RefusesMoreThan64MiB) {
  { std::ofstream(folder_ / "large.json") << "1"; }
  std::filesystem::resize_file(folder_ / "large.json", (std::uintmax_t{64} << 20) + 1);
  const auto where = refusal([&] { Json::load(folder_ / "large.json"); });
  EXPECT_EQ(where.expected, "at most 64 MiB");
}

}  // namespace
}  // namespace steploom
