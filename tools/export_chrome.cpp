// The replayed step as Chrome JSON with the PyTorch profiler's categories and arguments.
#include <memory>
#include <ostream>

#include "tools/exporter.h"
#include "tools/step_timeline.h"
#include "traces/chrome_trace.h"

namespace steploom {

Exported export_chrome(const Asked& asked, const ExportOptions& options) {
  const auto timeline = std::make_shared<const Timeline>(
      replay_step(asked, options.unfold ? Folding::unfolded : Folding::folded).timeline);
  TraceOptions tracing;
  tracing.name = asked.question->setting().model.name + " " + to_text(asked.layout);
  Exported out;
  out.files.push_back(
      {file_stem(asked) + ".trace.json",
       [timeline, tracing](std::ostream& to) { write_chrome_trace(to, *timeline, tracing); },
       "the step, for ui.perfetto.dev and readers of PyTorch's traces"});
  return out;
}

}  // namespace steploom
