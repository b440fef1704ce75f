// The replayed step as Perfetto's own protobuf trace.
#include <memory>
#include <ostream>

#include "tools/exporter.h"
#include "tools/step_timeline.h"
#include "traces/perfetto_trace.h"

namespace steploom {

Exported export_perfetto(const Asked& asked, const ExportOptions& options) {
  const auto timeline = std::make_shared<const Timeline>(
      replay_step(asked, options.unfold ? Folding::unfolded : Folding::folded).timeline);
  Exported out;
  out.files.push_back({file_stem(asked) + ".pftrace",
                       [timeline](std::ostream& to) { write_perfetto_trace(to, *timeline); },
                       "the step, for ui.perfetto.dev and trace_processor"});
  return out;
}

}  // namespace steploom
