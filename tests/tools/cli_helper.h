// Runs the built steploom and captures what it says, for tests of the command line.
//
//     const CliRun run = run_cli({"plan", "gpt2", "--nodes", "1"});
//     EXPECT_EQ(run.status, 0) << run.err;
//
// No shell is in between: arguments arrive as they are. Standard input is empty, NO_COLOR is set.
#pragma once

#include <string>
#include <vector>

namespace steploom::testing {

using Args = std::vector<std::string>;

inline Args operator+(Args a, const Args& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct CliRun {
  int status = -1;  // exit status; 128 + the signal if one ended it
  std::string out;  // standard output
  std::string err;  // standard error
};

// `folder`: where it runs; empty: here. A program that cannot be started throws std::system_error.
CliRun run_cli(const Args& arguments, const std::string& folder = "");
CliRun run_program(const std::string& program, const Args& arguments,
                   const std::string& folder = "");

// Expects a refusal: the status, one line on standard error that holds every part, nothing on
// standard output and, if a folder is given to run in, no file left there.
void expect_refused(const Args& arguments, const std::vector<std::string>& parts,
                    const std::string& folder = "", int status = 2);

}  // namespace steploom::testing
