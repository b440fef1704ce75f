// `plan --from`: the run that exists already beside the best plan, and what was read of its flags.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "models/from_megatron.h"
#include "planner/plan_file.h"
#include "tools/question.h"
#include "tools/report.h"

namespace steploom {

// The run's own row, each difference to the plan's best row with what it buys alone, and the flags
// that were not taken. Returns the run's row, unless a rule refuses its layout.
std::optional<PlanRow> add_present_run(Report& report, const MegatronQuestion& run,
                                       const Question& question, const Plan& plan);

// Every file of a folder read by itself: flags, how many are known, and whether writing them again
// gives the same. Throws Error if the folder is empty.
Report folder_report(const std::filesystem::path& folder);

}  // namespace steploom
