// What a step starts from: the same model and the same tokens under every layout.
//
// A parameter's initial value is a function of its tensor's name and its place in the whole tensor,
// rounded to bf16, so that every backend and every layout starts from equal numbers. Tokens are a
// fixed function of (sequence, position); a token's target is the token after it. No libm but for
// the rotary table.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "models/parameter_list.h"
#include "profiler/bind.h"
#include "profiler/kernel_set.h"

namespace steploom {

std::vector<double> initial_values(const ParameterTensor& p);
// The element at place `whole` has mean + deviation·√3·(2u − 1), u = 53 bits of mix(seed + whole),
// a splitmix64 step (Steele, Lea, Flood 2014), rounded to fp32 and then to bf16.
std::uint64_t initial_seed(const ParameterTensor& p);
std::int64_t token_at(const ModelSpec& m, std::int64_t sequence, std::int64_t position);

// Allocates an Execution's memories and fills what a step reads: parameters, masters, moments, zero
// gradients, rotary table, tokens.
void set_up(KernelSet& kernels, const BindInput& input, const Execution& execution);

// What this rank's Adam updates: all of its parameters, or with ZeRO-1 its parts of the buckets.
std::vector<Adam::Piece> updates_of(const Execution& execution);

// The elements of a rank's shard that it updates into the whole tensor, which has NaN where no rank
// has been yet. Others of its gradients and parameters are not final with ZeRO-1.
void into_whole(const Execution& execution, const ParameterTensor& p, const BoundParameter& bound,
                std::span<const double> shard, std::vector<double>& whole);

// Which experts every token of a step chose: (layer, token of the global batch) -> top_k words, as
// Router's tape has them.
using RoutingTape = std::map<std::pair<int, std::int64_t>, std::vector<double>>;
void save_routing(KernelSet& kernels, const Execution& execution, RoutingTape& tape);
void load_routing(KernelSet& kernels, const Execution& execution, const RoutingTape& tape);

// The stage's list as bind() used it.
std::vector<ParameterTensor> parameters_of(const BindInput& input, const Execution& execution);

}  // namespace steploom
