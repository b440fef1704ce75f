// Chakra execution traces, a file a rank, and the process groups as ASTRA-sim takes them.
#include <fmt/format.h>

#include <memory>
#include <ostream>

#include "tools/exporter.h"
#include "tools/step_timeline.h"
#include "traces/chakra.h"

namespace steploom {

Exported export_chakra(const Asked& asked, const ExportOptions&) {
  struct Traced {
    Timeline timeline;
    ChakraTrace trace;
    explicit Traced(Timeline t) : timeline(std::move(t)), trace(timeline) {}
  };
  const auto traced =
      std::make_shared<const Traced>(replay_step(asked, Folding::unfolded).timeline);
  const std::string stem = file_stem(asked);
  Exported out;
  for (std::uint32_t rank = 0; rank < traced->timeline.devices.size(); ++rank)
    out.files.push_back({fmt::format("{}.{}.et", stem, rank),
                         [traced, rank](std::ostream& to) { traced->trace.write_rank(to, rank); },
                         fmt::format("rank {}", rank)});
  out.files.push_back(
      text_file(stem + ".groups.json", traced->trace.groups(), "process groups by number"));
  out.notes.push_back(fmt::format(
      "ASTRA-sim: --workload-configuration={0} --comm-group-configuration={0}.groups.json", stem));
  return out;
}

}  // namespace steploom
