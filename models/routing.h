// How tokens choose experts: balanced, by a law, or as recorded.
//
// A law gives every expert a *weight*, drawn anew for each layer and micro-batch; a recording gives
// the tokens that went to each. An expert's share of the rows is its weight's share, but no token
// chooses an expert twice: none has more than 1/top_k. Replicas of an expert see the same weights,
// so they stay alike. What follows from it, rows and bytes from rank to rank, is sim/routed_rows.h.
//
// Text form: "balanced", "power-law:1.2" (weights with density x^-1.2), "log-normal:0.8" (sigma of
// the natural logarithm) or a file, and behind a comma "capacity=1.25" (a source rank sends an
// expert at most so many times its even share, the rest is dropped; without it none is) and
// "gate=batch-prioritised" (also top-k, switch, random, expert-choice) and
// "nodes=4" (the experts of a token lie on at most so many nodes, and a row goes once to each:
// DeepSeek-V3, arXiv 2412.19437, section 3.2.2).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/model_spec.h"

namespace steploom {

// How a token's experts are decided. switch and top_k look at the token alone, random at nothing;
// batch_prioritised (arXiv 2106.05974, section 2.3: the surest tokens take the places first) and
// expert_choice (arXiv 2202.09368) look at all tokens of the micro-batch.
enum class Gate : std::uint8_t { top_k, switch_gate, random, batch_prioritised, expert_choice };
// Can it decide on a part of the tokens as it would on all, told how many places are taken?
inline bool decides_on_parts(Gate g) {
  return g != Gate::batch_prioritised && g != Gate::expert_choice;
}

enum class RoutingLaw : std::uint8_t { balanced, power_law, log_normal, recorded };

struct RecordedLayer {
  int layer = 0;                                  // of the model
  std::vector<std::vector<std::int64_t>> tokens;  // micro-batch (one: holds for all), expert
};

struct Routing {
  RoutingLaw law = RoutingLaw::balanced;
  double parameter = 0;  // exponent of the power law, or sigma
  double capacity = 0;   // factor; 0: nothing is dropped
  Gate gate = Gate::top_k;
  int nodes = 0;                          // most nodes that a token's experts lie on; 0: any number
  std::uint64_t seed = 1;                 // of a law's draws
  int samples = 16;                       // draws of a whole step
  double quantile = 0.5;                  // of their step times, which plans are ranked by
  std::string name{};                     // recorded: of the file
  std::vector<RecordedLayer> recorded{};  // by layer, ascending

  bool random() const { return law == RoutingLaw::power_law || law == RoutingLaw::log_normal; }
  // Does any rank do something else than under balanced routing?
  bool uneven() const { return law != RoutingLaw::balanced || capacity > 0 || nodes > 0; }
  // What was recorded of a layer; modules behind the last one have that one's.
  const std::vector<std::int64_t>& tokens_of(int layer, std::int64_t micro_batch) const;
};

// Reads the file, if it names one (routing_file.h). Throws Error, naming `reading`.
Routing parse_routing(std::string_view text, const std::string& reading);

std::string to_text(const Routing& routing);  // without seed, samples, quantile

// Throws Error (naming `reading`) unless the model has experts where routing is uneven, and a
// recording has every layer with experts and as many experts as those.
void check_routing(const Routing& routing, const ModelSpec& model, const std::string& reading);

}  // namespace steploom
