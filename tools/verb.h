// A verb of the command line: one file and one row of the table in main.cpp.
//
// A verb adds its options to its CLI11 subcommand and returns what to run once they are parsed.
// What it runs writes data to standard output and messages to standard error, and returns the exit
// status; it throws Error for whatever it refuses.
#pragma once

#include <CLI/App.hpp>
#include <functional>
#include <string>
#include <string_view>

#include "models/error.h"

namespace steploom {

using RunVerb = std::function<ExitStatus()>;

struct Verb {
  const char* name;
  const char* summary;
  const char* examples;  // one a line, shown first in --help
  RunVerb (*prepare)(CLI::App& app);
};

// Examples as --help shows them, one a line.
std::string examples_text(std::string_view lines);

RunVerb prepare_plan(CLI::App& app);
RunVerb prepare_simulate(CLI::App& app);
RunVerb prepare_run(CLI::App& app);
RunVerb prepare_export(CLI::App& app);
RunVerb prepare_explain(CLI::App& app);
RunVerb prepare_why_not(CLI::App& app);
RunVerb prepare_whatif(CLI::App& app);
RunVerb prepare_compare(CLI::App& app);
RunVerb prepare_profile(CLI::App& app);
RunVerb prepare_models(CLI::App& app);
RunVerb prepare_clusters(CLI::App& app);
RunVerb prepare_doctor(CLI::App& app);

}  // namespace steploom
