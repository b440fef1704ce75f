// A step of one layer whose expert part alone takes time, in parts: by hand.
//
// Per micro-batch an all-to-all of all rows takes 8 us, each of the two products 6 us forward and
// for the data gradients, 4 us for the weight gradients; a shared expert's first product 3 us.
// Parts take equal shares, or exchanges what `steps` says of each.
#pragma once

#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "planner/lower.h"
#include "sim/engine.h"
#include "tests/planner/planning.h"

namespace steploom {

inline constexpr Picoseconds kUs = 1'000'000;

struct Span {
  Picoseconds start = 0, end = 0;
  bool operator==(const Span&) const = default;
};
inline void PrintTo(const Span& s, std::ostream* out) {
  *out << s.start << " to " << s.end;
}

class PartedLayer {
 public:
  // `key`: "chunks" or "pairwise"; `steps`: by step of an exchange, in us.
  PartedLayer(const std::string& key, int parts, std::int64_t shared = 0,
              const std::vector<Picoseconds>& steps = {})
      : world_(one_layer(shared), 1, 1024, 8, "steploom") {
    Lowered lowered =
        lower(world_.setting, world_.layout("ep=8,zero=0," + key + "=" + std::to_string(parts)),
              world_.cache);
    Program& p = lowered.program;
    for (BlockTemplate& b : p.blocks)
      for (std::size_t i = 0; i < b.ops.size(); ++i) {
        b.ops[i].launch = 0;
        b.ops[i].stream_gap = b.ops[i].event_latency = 0;
        const OpInfo& info = b.infos[i];
        const bool exchanges = info.work.kind == OpKind::all_to_all;
        const bool experts = info.name == "experts up" || info.name == "experts down";
        const bool shares = info.name == "shared expert up" && info.work.phase == Phase::forward;
        b.ops[i].duration = exchanges && !steps.empty()
                                ? steps[static_cast<std::size_t>(info.work.k)] * kUs
                            : exchanges                                        ? 8 * kUs / parts
                            : experts && info.work.phase == Phase::weight_grad ? 4 * kUs / parts
                            : experts                                          ? 6 * kUs / parts
                            : shares                                           ? 3 * kUs
                                                                               : 0;
      }
    const Replay r = replay(p);
    step_ = r.makespan;
    std::map<std::string, int> seen;
    for (std::uint32_t s = 0; s < p.devices[0].slot_count; ++s) {
      const BlockTemplate& b = p.blocks[p.slots[s].block];
      for (std::size_t i = 0; i < b.ops.size(); ++i) {
        const std::uint32_t id = p.slots[s].first_op + static_cast<std::uint32_t>(i);
        const std::string name =
            b.infos[i].name + " " + std::string(name_of(b.infos[i].work.phase));
        spans_[name + " " + std::to_string(seen[name]++)] = {r.start[id], r.end[id]};
      }
    }
    forward_ = spans_.at("combine forward " + std::to_string(parts - 1)).end;
  }

  // Of the n-th such operator, from the start of its pass, in us.
  Span at(const std::string& name, bool backward = false) const {
    const Span s = spans_.at(name);
    const Picoseconds zero = backward ? forward_ : 0;
    return {(s.start - zero) / kUs, (s.end - zero) / kUs};
  }
  Picoseconds forward() const { return forward_ / kUs; }
  Picoseconds backward() const { return (step_ - forward_) / kUs; }

 private:
  static ModelSpec one_layer(std::int64_t shared) {
    ModelSpec m = small_moe(1);
    m.layer_is_moe[0] = true;
    m.moe->shared_width = shared;
    return m;
  }

  World world_;
  std::map<std::string, Span> spans_;
  Picoseconds forward_ = 0, step_ = 0;
};

}  // namespace steploom
