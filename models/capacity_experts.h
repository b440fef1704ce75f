// A mixture-of-experts part with experts of fixed capacity, as DeepSpeed's MOELayer
// (deepspeed/moe/sharded_moe.py, after GShard, arXiv 2006.16668, algorithm 2).
//
// Of a rank's S tokens each of E experts takes at most C = ⌈capacity_factor · top_k · S / E⌉. Masks
// of S × E × C numbers say which token takes which place; the tokens are brought there and home
// again by products with them (einsum "sec,sm->ecm" and "sec,ecm->sm"), 2·S·E·C·h FLOPs each, as
// many as S² where C·E = S. All E·C places are exchanged and computed, filled or not.
//
// The gate works in fp32. Its kernels over S × E numbers are counted by their number, those over
// S × E × C by their bytes; every expert on the rank has products of its own.
#pragma once

#include "models/emitter.h"

namespace steploom {

std::int64_t expert_capacity(const MoeSpec& moe, double factor, std::int64_t tokens);

TensorId capacity_moe_forward(Emitter& out, TensorId normed, MoeSaved& saved);
TensorId capacity_moe_backward(Emitter& out, TensorId dy, TensorId normed, const MoeSaved& saved);

}  // namespace steploom
