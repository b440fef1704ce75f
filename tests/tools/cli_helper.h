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

struct CliRun {
  int status = -1;  // exit status; 128 + the signal if one ended it
  std::string out;  // standard output
  std::string err;  // standard error
};

// `folder`: where it runs; empty: here. A program that cannot be started throws std::system_error.
CliRun run_cli(const std::vector<std::string>& arguments, const std::string& folder = "");
CliRun run_program(const std::string& program, const std::vector<std::string>& arguments,
                   const std::string& folder = "");

}  // namespace steploom::testing
