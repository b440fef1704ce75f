// The user's own run beside its prediction: what it was measured to take, and what a trace of it
// says of the durations that a prediction adds up.
#pragma once

#include <CLI/App.hpp>
#include <optional>
#include <string>
#include <vector>

#include "planner/plan_file.h"
#include "planner/setting.h"
#include "tools/report.h"

namespace steploom {

// --measured TIME.
void add_measured_flag(CLI::App& verb, std::optional<Picoseconds>& measured);

// Predicted beside measured, with the signed error.
void add_measured(Report& report, const MeasuredStep& step);

// --calibrate TRACE.
void add_calibrate_flag(CLI::App& verb, std::string& trace);
// Fits to the trace what is predicted of this layout, whose setting is not yet calibrated. How it
// was read goes to `notes`. Throws Error naming the trace.
Calibration fit_to_trace(const std::string& trace, const Setting& setting, const Layout& layout,
                         std::vector<std::string>& notes);
// Each factor.
void add_calibration(Report& report, const Calibration& calibration);

}  // namespace steploom
