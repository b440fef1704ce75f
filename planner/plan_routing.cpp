#include "planner/plan_routing.h"

#include <nlohmann/json.hpp>

#include <array>

#include "models/routing_file.h"
#include "sim/profile.h"

namespace steploom {
namespace {

using Out = nlohmann::ordered_json;

constexpr std::array<std::string_view, 4> kLaws{"balanced", "power-law", "log-normal", "recorded"};
constexpr std::array<std::string_view, 10> kKeys{"law",      "parameter", "seed",  "samples",
                                                 "quantile", "capacity",  "nodes", "name",
                                                 "digest",   "layers"};
constexpr double kMost = 1e6;

Out layers_json(const Routing& r) {
  Out out = Out::array();
  for (const RecordedLayer& l : r.recorded) {
    Out layer = {{"layer", l.layer}};
    if (l.tokens.size() == 1)
      layer["tokens"] = l.tokens.front();
    else
      layer["micro_batches"] = l.tokens;
    out.push_back(std::move(layer));
  }
  return out;
}

}  // namespace

Out routing_json(const Routing& r) {
  Out out = Out::object();
  out["law"] = kLaws[static_cast<std::size_t>(r.law)];
  if (r.random()) {
    out["parameter"] = r.parameter;
    out["seed"] = r.seed;
    out["samples"] = r.samples;
    out["quantile"] = r.quantile;
  }
  if (r.capacity > 0) out["capacity"] = r.capacity;
  if (r.nodes > 0) out["nodes"] = r.nodes;
  if (r.law == RoutingLaw::recorded) {
    out["name"] = r.name;
    Out layers = layers_json(r);
    out["digest"] = digest_of(layers.dump());
    out["layers"] = std::move(layers);
  }
  return out;
}

Routing read_routing(const Json& in) {
  in.allow_only(kKeys);
  Routing r;
  const Json law = in.at("law");
  const std::string name = law.text();
  std::size_t at = 0;
  while (at < kLaws.size() && kLaws[at] != name) ++at;
  if (at == kLaws.size()) law.refuse("balanced, power-law, log-normal or recorded");
  r.law = static_cast<RoutingLaw>(at);
  if (r.random()) {
    r.parameter = in.at("parameter").number(0, kMost);
    r.seed = static_cast<std::uint64_t>(in.at("seed").integer(0));
    r.samples = in.at("samples").small_integer(1, 1 << 20);
    r.quantile = in.at("quantile").number(0, 1);
  }
  if (const auto capacity = in.find("capacity")) r.capacity = capacity->number(0, kMost);
  if (const auto nodes = in.find("nodes")) r.nodes = nodes->small_integer(1, 1 << 20);
  if (r.law != RoutingLaw::recorded) return r;
  r.name = in.at("name").text();
  r.recorded = read_recorded_layers(in.at("layers"));
  const Json digest = in.at("digest");
  const std::string own = digest_of(layers_json(r).dump());
  if (digest.text() != own) digest.refuse(own + ", the digest of its layers");
  return r;
}

}  // namespace steploom
