// Shipped models and files by their names.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "models/config_reader.h"
#include "models/embedded.h"
#include "models/families.h"
#include "tests/models/refusal.h"
#include "tests/models/small_configs.h"
#include "tests/temp_folder.h"

namespace steploom {
namespace {

using testing::Contains;
using testing::HasSubstr;

TEST(LoadModel, EveryShippedModelIsRead) {
  const std::vector<std::string> names = model_names();
  ASSERT_EQ(names.size(), embedded_models().size());
  ASSERT_GE(names.size(), 15U);
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  for (const std::string& name : names) {
    const ModelSpec m = load_model(name);
    EXPECT_EQ(m.name, name);
    EXPECT_EQ(m.layer_is_moe.size(), static_cast<std::size_t>(m.layers)) << name;
  }
}

TEST(LoadModel, EveryFamilyHasAShippedModel) {
  std::vector<std::string> shipped;
  for (const std::string& name : model_names()) shipped.push_back(load_model(name).family);
  for (const Family& family : families()) {
    EXPECT_THAT(shipped, Contains(std::string(family.model_type)));
  }
}

TEST(LoadModel, AnUnknownNameGetsTheNearest) {
  const auto where = refusal([] { load_model("mixtral8x7b"); });
  EXPECT_EQ(where.found, "'mixtral8x7b'");
  EXPECT_EQ(where.hint, "did you mean 'mixtral-8x7b'?");
  EXPECT_THAT(refusal([] { load_model(""); }).hint, HasSubstr("llama-3.1-8b"));
}

class LoadModelFile : public testing::Test {
 protected:
  const TempFolder own_;
  const std::filesystem::path folder_ = own_ / "tiny-llama";
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void write(const char* name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
  }
};

TEST_F(LoadModelFile, APathIsAFileOrItsDirectory) {
  write("config.json", kLlama);
  write("other.json", kGpt2);
  EXPECT_EQ(load_model(folder_.string()).name, "tiny-llama");
  EXPECT_EQ(load_model(folder_.string() + "/").name, "tiny-llama");
  EXPECT_EQ(load_model((folder_ / "config.json").string()).name, "tiny-llama");
  EXPECT_EQ(load_model((folder_ / "other.json").string()).name, "other");
  EXPECT_EQ(load_model((folder_ / "other.json").string()).family, "gpt2");
}

TEST_F(LoadModelFile, RefusesMissingAndTruncatedFiles) {
  EXPECT_EQ(refusal([&] { load_model((folder_ / "none.json").string()); }).found, "no such file");
  EXPECT_EQ(refusal([&] { load_model(folder_.string()); }).reading,
            (folder_ / "config.json").string());
  write("cut.json", kLlama.substr(0, 200));
  EXPECT_THAT(refusal([&] { load_model((folder_ / "cut.json").string()); }).place,
              HasSubstr("line "));
}

}  // namespace
}  // namespace steploom
