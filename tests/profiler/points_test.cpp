// Files of measured points: what is written is read back, and what is damaged is refused by line.
#include "profiler/points.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/models/refusal.h"

namespace steploom {
namespace {

using ::testing::HasSubstr;

MeasuredOn h200() {
  MeasuredOn on;
  on.date = "2026-11-22T18:00:00Z";
  on.command = "steploom-measure --budget 6 \"x\"";
  on.gpu = "NVIDIA H200";
  on.driver = "580.1";
  on.cuda_runtime = "13.0";
  on.cublas = "13.1.0";
  on.sms = 132;
  on.memory = 150000000000;
  on.l2 = 62914560;
  on.memory_mhz = 3201;
  on.most_sm_mhz = 1980;
  on.method = "a graph";
  return on;
}

MeasuredPoint product_point() {
  const Ask ask =
      make_ask(OpKind::matmul, Phase::weight_grad, 4096, 14336, 8192, 1, false, "cublaslt");
  return {ask, {1234.5, 1230, 1240, 25, 1755, 690}, ""};
}

std::string file_of(std::initializer_list<std::string> lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

Error::Where refused(const std::string& text) {
  return refusal([&] { parse_points(text, "kernels.jsonl"); });
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

TEST(Points, AreReadBackAsTheyWereWritten) {
  MeasuredPoint skipped = product_point();
  skipped.stats = {};
  skipped.note = "skipped: 63 ms a shot";
  const MeasuredOther copy{"copy_device_to_host", 4096, {1.5, 1.25, 2, 20, 0, 0}, "pinned"};
  const Measurements read = parse_points(
      file_of({to_line(h200()), to_line(product_point()), to_line(skipped), to_line(copy)}), "f");
  EXPECT_EQ(read.on.command, h200().command);
  EXPECT_EQ(read.on.sms, 132);
  EXPECT_EQ(read.on.l2, 62914560);
  ASSERT_EQ(read.points.size(), 2U);
  EXPECT_EQ(read.points[0].ask, product_point().ask);
  EXPECT_EQ(read.points[0].ask.work.flops, 2.0 * 4096 * 14336 * 8192);
  EXPECT_EQ(read.points[0].stats.median_us, 1234.5);
  EXPECT_EQ(read.points[0].stats.samples, 25);
  EXPECT_EQ(read.points[0].stats.watts, 690);
  EXPECT_EQ(read.points[1].stats.samples, 0);
  EXPECT_EQ(read.points[1].note, "skipped: 63 ms a shot");
  ASSERT_EQ(read.others.size(), 1U);
  EXPECT_EQ(read.others[0].what, "copy_device_to_host");
  EXPECT_EQ(read.others[0].stats.q1_us, 1.25);
}

TEST(Points, AttentionIsReadBackWithItsHeads) {
  MeasuredOn on = h200();
  on.cudnn = "9.19.0";
  const Ask ask = make_attention_ask(Phase::data_grad, {4096, 2, 128, 128, 192, 128}, "cudnn");
  const MeasuredPoint point{ask, {4321.5, 4300, 4330, 50, 1700, 640}, ""};
  const Measurements read =
      parse_points(file_of({to_line(on), to_line(product_point()), to_line(point)}), "f");
  EXPECT_EQ(read.on.cudnn, "9.19.0");
  ASSERT_EQ(read.points.size(), 2U);
  EXPECT_EQ(read.points[1].ask, ask);
  EXPECT_EQ(read.points[1].ask.work.flops, ask.work.flops);
  EXPECT_EQ(read.points[1].stats.median_us, 4321.5);
  // Files from before cuDNN name no version of it.
  EXPECT_EQ(parse_points(file_of({to_line(h200())}), "f").on.cudnn, "");
  const std::string line = to_line(point);
  const auto broken = [&](const char* from, const char* to) {
    return refused(file_of({to_line(on), replaced(line, from, to)}));
  };
  EXPECT_THAT(broken("\"kv_heads\"", "\"kv_head\"").hint, HasSubstr("kv_heads"));
  EXPECT_THAT(broken("\"kv_heads\":128", "\"kv_heads\":96").found, HasSubstr("kv_heads=96"));
  EXPECT_EQ(broken("\"v_head_dim\":128", "\"v_head_dim\":64").place, "/flops");
}

TEST(Points, ALineCutShortIsRefusedAndACutBetweenLinesIsFewerPoints) {
  const std::string whole = file_of({to_line(h200()), to_line(product_point())});
  EXPECT_EQ(refused(whole.substr(0, whole.size() - 20)).place, "line 2");
  EXPECT_THAT(refused(whole.substr(0, whole.size() - 1)).found, HasSubstr("cut short"));
  EXPECT_TRUE(parse_points(file_of({to_line(h200())}), "f").points.empty());
  EXPECT_THAT(refused("").found, HasSubstr("empty"));
}

TEST(Points, TheHeaderComesFirstAndInAKnownVersion) {
  EXPECT_EQ(refused(file_of({to_line(product_point())})).reading, "kernels.jsonl line 1");
  const std::string newer =
      replaced(to_line(h200()), "\"steploom_measurements\":1", "\"steploom_measurements\":2");
  EXPECT_EQ(refused(newer + "\n").expected, "version 1");
  EXPECT_EQ(refused("{\"steploom_profile\": 1}\n").reading, "kernels.jsonl line 1");
}

TEST(Points, UnknownKeysKindsAndProvidersNameTheNearest) {
  const std::string line = to_line(product_point());
  const auto broken = [&](const char* from, const char* to) {
    return refused(file_of({to_line(h200()), replaced(line, from, to)}));
  };
  EXPECT_THAT(broken("\"groups\"", "\"group\"").hint, HasSubstr("groups"));
  EXPECT_THAT(broken("\"matmul\"", "\"matmull\"").hint, HasSubstr("matmul"));
  EXPECT_THAT(broken("\"cublaslt\"", "\"cublasl\"").hint, HasSubstr("cublaslt"));
  EXPECT_EQ(broken("\"even\"", "\"odd\"").expected, "even or uneven");
  EXPECT_EQ(broken("\"bf16\"", "\"fp32\"").expected, "bf16");
}

TEST(Points, NumbersThatCannotBeAreRefused) {
  const std::string line = to_line(product_point());
  const auto broken = [&](const char* from, const char* to) {
    return refused(file_of({to_line(h200()), replaced(line, from, to)})).place;
  };
  EXPECT_EQ(broken("\"q1_us\":1230", "\"q1_us\":1300"), "/median_us");
  EXPECT_EQ(broken("\"samples\":25", "\"samples\":-1"), "/samples");
  EXPECT_EQ(broken("\"samples\":25", "\"samples\":0"), "/median_us");
  EXPECT_EQ(broken("\"bytes\":", "\"bytes\":1"), "/bytes");
  EXPECT_EQ(broken("\"flops\":", "\"flops\":1"), "/flops");
}

}  // namespace
}  // namespace steploom
