#include "planner/schedule_choices.h"

#include "models/layout_rules.h"

namespace steploom {

std::vector<Layout> schedule_choices(const Setting& s, const Layout& layout) {
  if (layout.pp == 1 || !s.runtime.pipeline_orders) return {layout};
  std::vector<Layout> out;
  Layout l = layout;
  for (int order = 0; order < kPipelineOrders; ++order) {
    l.schedule = static_cast<PipelineOrder>(order);
    if (!refuse({s.model, s.work, l, s.cluster.devices(), &s.runtime, s.cluster.devices_per_node}))
      out.push_back(l);
  }
  return out;
}

}  // namespace steploom
