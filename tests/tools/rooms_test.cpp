// Which room may include which, and what every header begins with: the rules of the house, kept by
// reading every source file. The table is that of docs/how-it-works.md.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "tests/temp_folder.h"

namespace steploom {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Room {
  std::string_view name;
  std::vector<std::string_view> may_include;  // rooms, or single headers
};

const std::vector<Room>& rooms() {
  static const std::vector<Room> table{
      {"models", {}},
      {"sim", {"models"}},
      {"planner", {"models", "sim"}},
      {"profiler", {"models", "sim"}},
      {"traces", {"models", "sim", "planner/plan_file.h"}},
      {"tools", {"models", "sim", "planner", "profiler", "traces"}},
  };
  return table;
}

bool is_header(const fs::path& file) {
  return file.extension() == ".h" || file.extension() == ".cuh";
}

bool is_source(const fs::path& file) {
  return is_header(file) || file.extension() == ".cpp" || file.extension() == ".cu";
}

bool allowed(const Room& room, const std::string& header) {
  const std::string_view from = std::string_view(header).substr(0, header.find('/'));
  return from == room.name ||
         std::any_of(room.may_include.begin(), room.may_include.end(),
                     [&](std::string_view may) { return may == from || may == header; });
}

// "sim/x.h:12: ..." for every breach in a file.
void inspect(const Room& room, const fs::path& root, const fs::path& file,
             std::vector<std::string>& faults) {
  static const std::regex include(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"])");
  std::ifstream in(file);
  bool once = false;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    const auto fault = [&](const std::string& what) {
      faults.push_back(fs::relative(file, root).generic_string() + ":" + std::to_string(number) +
                       ": " + what);
    };
    if (is_header(file) && number == 1 && !line.starts_with("//"))
      fault("a header begins with a comment that says what it is");
    once = once || line == "#pragma once";
    std::smatch match;
    if (!std::regex_search(line, match, include)) continue;
    if (is_header(file) && !once) {
      fault("a header has #pragma once before its includes");
      once = true;
    }
    const std::string header = match[2];
    if (match[1] == "\"" && !allowed(room, header))
      fault(std::string(room.name) + " may not include " + header);
    if (is_header(file) && header.starts_with("boost/graph/"))
      fault("Boost.Graph stays in .cpp files: " + header);
  }
  if (is_header(file) && !once)
    faults.push_back(fs::relative(file, root).generic_string() + ":1: no #pragma once");
}

std::vector<std::string> faults_under(const fs::path& root) {
  std::vector<std::string> faults;
  for (const Room& room : rooms()) {
    if (!fs::exists(root / room.name)) continue;
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(root / room.name))
      if (entry.is_regular_file() && is_source(entry.path())) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) inspect(room, root, file, faults);
  }
  return faults;
}

TEST(Rooms, KeepTheRulesOfTheHouse) {
  ASSERT_TRUE(fs::exists(fs::path(STEPLOOM_SOURCE_DIR) / "models" / "work.h"));
  EXPECT_THAT(faults_under(STEPLOOM_SOURCE_DIR), IsEmpty());
}

class SmallHouse : public ::testing::Test {
 protected:
  const TempFolder own_;
  const fs::path root_ = own_.path();
  void write(const fs::path& file, const std::string& text) const {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
};

TEST_F(SmallHouse, WhatIsRightPasses) {
  write("sim/x.h", "// Idea.\n#pragma once\n\n#include \"models/work.h\"\n");
  write("traces/y.cpp", "#include \"planner/plan_file.h\"\n#include \"traces/z.h\"\n");
  write("models/g.cpp", "#include <boost/graph/adjacency_list.hpp>\n");
  EXPECT_THAT(faults_under(root_), IsEmpty());
}

TEST_F(SmallHouse, NamesFileAndLineOfWhatIsWrong) {
  write("models/a.h", "// Idea.\n#pragma once\n#include \"sim/cost.h\"\n");
  write("models/b.h", "// Idea.\n#pragma once\n\n#include <boost/graph/graph_traits.hpp>\n");
  write("profiler/p.cpp", "#include \"planner/plan_file.h\"\n");
  write("sim/c.h", "#pragma once\n");
  write("sim/d.h", "// Idea.\nint x;\n");
  write("sim/e.cpp", "#include \"tests/help.h\"\n#include \"local.h\"\n");
  write("sim/f.h", "// Idea.\n#include <vector>\n#pragma once\n");
  write("traces/t.cpp", "\n#include \"planner/search.h\"\n");
  EXPECT_THAT(
      faults_under(root_),
      ElementsAre("models/a.h:3: models may not include sim/cost.h",
                  "models/b.h:4: Boost.Graph stays in .cpp files: "
                  "boost/graph/graph_traits.hpp",
                  "sim/c.h:1: a header begins with a comment that says what it is",
                  "sim/d.h:1: no #pragma once", "sim/e.cpp:1: sim may not include tests/help.h",
                  "sim/e.cpp:2: sim may not include local.h",
                  "sim/f.h:2: a header has #pragma once before its includes",
                  "profiler/p.cpp:1: profiler may not include planner/plan_file.h",
                  "traces/t.cpp:2: traces may not include planner/search.h"));
}

}  // namespace
}  // namespace steploom
