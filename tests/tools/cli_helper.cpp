#include "tests/tools/cli_helper.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <string_view>
#include <system_error>

extern char** environ;

namespace steploom::testing {
namespace {

void must(int fault, const char* what) {
  if (fault != 0) throw std::system_error(fault, std::generic_category(), what);
}

struct Pipe {
  std::array<int, 2> ends{};
  Pipe() {
    if (pipe2(ends.data(), O_CLOEXEC) != 0) must(errno, "pipe");
  }
};

// Reads both pipes until both are closed; one at a time could block the program on the other.
void drain(std::array<int, 2> from, std::array<std::string*, 2> into) {
  std::array<pollfd, 2> open{{{from[0], POLLIN, 0}, {from[1], POLLIN, 0}}};
  std::array<char, 4096> chunk{};
  for (int left = 2; left > 0;) {
    if (poll(open.data(), open.size(), -1) < 0 && errno != EINTR) must(errno, "poll");
    for (std::size_t i = 0; i < open.size(); ++i) {
      if (open[i].fd < 0 || open[i].revents == 0) continue;
      const ssize_t got = read(open[i].fd, chunk.data(), chunk.size());
      if (got > 0) {
        into[i]->append(chunk.data(), static_cast<std::size_t>(got));
      } else {
        close(open[i].fd);
        open[i].fd = -1;
        --left;
      }
    }
  }
}

}  // namespace

CliRun run_cli(const std::vector<std::string>& arguments, const std::string& folder) {
  return run_program(STEPLOOM_BINARY_DIR "/steploom", arguments, folder);
}

CliRun run_program(const std::string& program, const std::vector<std::string>& arguments,
                   const std::string& folder) {
  std::vector<std::string> words{program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::string no_color = "NO_COLOR=1";
  std::vector<char*> environment{no_color.data()};
  for (char** e = environ; *e != nullptr; ++e)
    if (!std::string_view(*e).starts_with("NO_COLOR=")) environment.push_back(*e);
  environment.push_back(nullptr);

  const Pipe out, err;
  posix_spawn_file_actions_t actions;
  must(posix_spawn_file_actions_init(&actions), "posix_spawn_file_actions_init");
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out.ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err.ends[1], STDERR_FILENO);
  if (!folder.empty()) posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  pid_t child = 0;
  const int fault =
      posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  close(out.ends[1]);
  close(err.ends[1]);

  CliRun run;
  drain({out.ends[0], err.ends[0]}, {&run.out, &run.err});
  must(fault, program.c_str());
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) must(errno, "waitpid");
  run.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return run;
}

void expect_refused(const Args& arguments, const std::vector<std::string>& parts,
                    const std::string& folder, int status) {
  const auto files = [&folder] {
    std::vector<std::string> names;
    if (folder.empty()) return names;
    for (const auto& e : std::filesystem::directory_iterator(folder))
      names.push_back(e.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  };
  const auto before = files();
  const CliRun run = run_cli(arguments, folder);
  EXPECT_EQ(run.status, status) << run.err;
  EXPECT_EQ(run.out, "");
  EXPECT_THAT(run.err, ::testing::StartsWith("steploom: "));
  EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
  for (const std::string& part : parts) EXPECT_THAT(run.err, ::testing::HasSubstr(part));
  EXPECT_EQ(files(), before);
}

}  // namespace steploom::testing
