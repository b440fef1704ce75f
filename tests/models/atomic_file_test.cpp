#include "models/atomic_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <ostream>
#include <string>

#include "models/error.h"
#include "tests/temp_folder.h"

namespace steploom {
namespace {

namespace fs = std::filesystem;

class AtomicFile : public testing::Test {
 protected:
  const TempFolder own_;
  const fs::path folder_ = own_.path();

  static std::string text(const fs::path& file) {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
};

TEST_F(AtomicFile, WritesAndReplaces) {
  const fs::path file = folder_ / "a.txt";
  write_file_atomically(file, [](std::ostream& out) { out << "first, and longer"; });
  EXPECT_EQ(text(file), "first, and longer");
  write_file_atomically(file, [&](std::ostream& out) {
    out << "second";
    out.flush();
    EXPECT_EQ(text(file), "first, and longer");  // until all is written
  });
  EXPECT_EQ(text(file), "second");
  EXPECT_EQ(files(), 1U);
}

TEST_F(AtomicFile, AFailedWriteLeavesWhatWas) {
  const fs::path file = folder_ / "a.txt";
  write_file_atomically(file, [](std::ostream& out) { out << "good"; });
  EXPECT_THROW(write_file_atomically(file,
                                     [](std::ostream& out) {
                                       out << "half";
                                       throw std::runtime_error("interrupted");
                                     }),
               std::runtime_error);
  EXPECT_EQ(text(file), "good");
  EXPECT_EQ(files(), 1U);
}

TEST_F(AtomicFile, RefusesWhatCannotBeWritten) {
  const auto found = [](const fs::path& file) {
    try {
      write_file_atomically(file, [](std::ostream& out) { out << "x"; });
    } catch (const Error& error) {
      EXPECT_EQ(error.where().reading, file.string());
      return error.where().found;
    }
    return std::string("nothing was refused");
  };
  EXPECT_EQ(found(folder_ / "no such folder" / "a.txt"), "No such file or directory");
  EXPECT_EQ(found(folder_), "Is a directory");
}

TEST_F(AtomicFile, AFullDiskIsAnError) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  EXPECT_THROW(write_file_atomically("/dev/full", [](std::ostream& out) { out << "x"; }), Error);
  EXPECT_TRUE(fs::is_character_file("/dev/full"));
}

TEST_F(AtomicFile, FollowsALink) {
  { std::ofstream(folder_ / "real.txt") << "old"; }
  fs::create_symlink(folder_ / "real.txt", folder_ / "link.txt");
  write_file_atomically(folder_ / "link.txt", [](std::ostream& out) { out << "new"; });
  EXPECT_TRUE(fs::is_symlink(folder_ / "link.txt"));
  EXPECT_EQ(text(folder_ / "real.txt"), "new");
}

}  // namespace
}  // namespace steploom
