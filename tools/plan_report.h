// What `plan` and `simulate` say of a plan: ranked rows, how the space was settled, how sure it is.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/certificate.h"
#include "planner/lower.h"
#include "planner/plan_file.h"
#include "planner/search.h"
#include "tools/report.h"

namespace steploom {

// `file`: where the plan was written, or empty; `to_measure`: kernel shapes of the best row that
// the profile does not hold as measured.
Report plan_report(const Plan& plan, const std::string& headline, const std::string& file,
                   std::int64_t to_measure);

// Rows as a table; `ranked`: with their number and how sure it is.
Table rows_table(const std::vector<PlanRow>& rows, bool ranked);

// The clocks that a replay left a Program at: "SM clock 1683 of 1980 MHz, ..."; empty if unknown.
std::string clock_text(const Program& program, const Setting& setting);

// Of a cluster of several types of device: what is not known of each alike.
void note_types(Report& report, const Setting& setting);

// "does not fit: the fullest rank needs ... of ...".
std::string too_full_text(const Setting& setting, const Program& program, const Candidate& c,
                          const Replay& replayed);

// What a routing did to a row; nothing under balanced routing.
void note_routing(Report& report, const Routing& routing, const PlanRow& row);

// What a step cannot go below (planner/certificate.h): as a table, as a line, and for machines.
Table floors_table(const Certificate& certificate);
std::string floors_text(const Certificate& certificate);
void add_floors(Report& report, const Certificate& certificate);  // the values alone

// Memory of every device that stands for ranks, the fullest first, part by part.
Table memory_table(const Lowered& lowered, const std::vector<Bytes>& peaks);

}  // namespace steploom
