#include "tools/own_run.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "traces/units.h"

namespace steploom {

void add_measured_flag(CLI::App& verb, std::optional<Picoseconds>& measured) {
  verb.add_option_function<std::string>(
          "--measured",
          [&measured](const std::string& text) { measured = parse_time(text, "--measured"); },
          "What a step of the run takes, 13.75s or 412ms: shown beside its prediction")
      ->type_name("TIME");
}

void add_measured(Report& report, const MeasuredStep& step) {
  Table t({{"layout"},
           {"predicted", CellKind::time},
           {"measured", CellKind::time},
           {"difference", CellKind::time},
           {"error", CellKind::share}});
  t.add({short_name(step.layout), step.predicted, step.measured, step.predicted - step.measured,
         step.error()});
  report.add("measured",
             fmt::format("Predicted beside measured; the prediction is {:+.1f} % off:",
                         step.error() * 100),
             std::move(t));
}

}  // namespace steploom
