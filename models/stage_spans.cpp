// Which layers, and what else, the virtual stages of a layout hold.
#include <cassert>
#include <numeric>

#include "models/chunk_builder.h"

namespace steploom {

StageSpan stage_span(const ModelSpec& m, const Layout& l, int stage) {
  const int stages = l.virtual_stages();
  assert(stage >= 0 && stage < stages);
  const bool v = in_a_v(l.schedule);
  StageSpan s;
  s.embedding = stage == 0;
  s.head = stage == stages - 1;
  s.handed = v && stage == l.pp;
  s.hands_on = v && stage == l.pp - 1;
  s.receives = !s.embedding && !s.handed;
  s.sends = !s.head && !s.hands_on;
  s.beside_embedding = v && s.head;
  s.chunk = stage / l.pp;
  if (l.stages.empty()) {
    assert(m.layers % stages == 0);
    s.layers = m.layers / stages;
    s.first_layer = stage * s.layers;
  } else {
    const auto here = l.stages.begin() + stage;
    s.layers = *here;
    s.first_layer = std::accumulate(l.stages.begin(), here, 0);
  }
  return s;
}

std::vector<StageSpan> rank_spans(const ModelSpec& m, const Layout& l, int pipeline_rank) {
  std::vector<StageSpan> spans;
  for (int chunk = 0; chunk < l.vpp; ++chunk) {
    const bool up = in_a_v(l.schedule) && chunk == 1;
    spans.push_back(
        stage_span(m, l, up ? 2 * l.pp - 1 - pipeline_rank : chunk * l.pp + pipeline_rank));
  }
  return spans;
}

}  // namespace steploom
