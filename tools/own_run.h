// The user's own run beside its prediction: what it was measured to take.
#pragma once

#include <CLI/App.hpp>
#include <optional>

#include "planner/plan_file.h"
#include "tools/report.h"

namespace steploom {

// --measured TIME.
void add_measured_flag(CLI::App& verb, std::optional<Picoseconds>& measured);

// Predicted beside measured, with the signed error.
void add_measured(Report& report, const MeasuredStep& step);

}  // namespace steploom
