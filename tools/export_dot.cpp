// The operator graph of one pipeline stage as a Graphviz file.
#include <fmt/format.h>

#include <memory>
#include <ostream>

#include "models/error.h"
#include "planner/lower.h"
#include "tools/exporter.h"
#include "traces/dot.h"

namespace steploom {

Exported export_dot(const Asked& asked, const ExportOptions& options) {
  const Setting& s = asked.question->setting();
  CostCache costs(s.costs);
  const auto lowered =
      std::make_shared<const Lowered>(lower(s, asked.layout, costs, Folding::folded));
  const Program& program = lowered->program;
  DotOptions drawing;
  drawing.blocks = options.blocks;
  drawing.title = fmt::format("{} {} stage {}", s.model.name, to_text(asked.layout), options.stage);
  while (drawing.device < program.devices.size() &&
         program.devices[drawing.device].stage != options.stage)
    ++drawing.device;
  if (drawing.device == program.devices.size())
    throw Error({"command line", "--stage",
                 fmt::format("a stage from 0 to {}", asked.layout.pp - 1),
                 std::to_string(options.stage), ""});
  check_dot(program, drawing);
  Exported out;
  out.files.push_back(
      {file_stem(asked) + ".dot",
       [lowered, drawing](std::ostream& to) { write_dot(to, lowered->program, drawing); },
       "operators of a stage's passes; dot -Tsvg draws it"});
  return out;
}

}  // namespace steploom
