// What `run` says: predicted against measured, memory part by part, verification, and timelines.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "profiler/run_gpus.h"
#include "profiler/verify_step.h"
#include "sim/timeline.h"
#include "tools/report.h"
#include "tools/run_prediction.h"

namespace steploom {

using RunPlans = std::vector<std::unique_ptr<RunPlan>>;

Table measured_table(const RunPlans& plans, const std::vector<MeasuredRun>& runs);
Table measured_memory_table(const RunPlans& plans, const std::vector<MeasuredRun>& runs);
Table classes_table(const RunPlans& plans, const std::vector<MeasuredRun>& runs);  // traced only
Table verification_table(const RunPlans& plans, const std::vector<Verification>& verified);

// Of the traced step; the run must have one.
Timeline executed_timeline(const RunPlan& plan, const MeasuredRun& run);

}  // namespace steploom
