// The parameter tensors of a pipeline stage on one rank: names, shapes, and which part of the whole
// tensor the rank holds.
//
// What parameters.h counts, one by one. A tensor goes by the operator that uses it (its layer and
// name in the operator graph) and by its part in it. Its `name` and the indices of its elements in
// the whole tensor are the same in every layout, so that equal models can be made under different
// layouts: an element's initial value is a function of (name, whole index) alone. Weights are
// [outputs, inputs], as in y = x·Wᵀ; experts' weights stand one below the other.
//
// Order: unit by unit as the forward pass meets them (embedding, layers, head), in a unit what is
// cut by tensor parallelism before what every rank holds, and all routed experts after everything
// else. Gradients lie in this order, so a bucket of consecutive units is one range. Sizes are
// elements.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/chunk_builder.h"

namespace steploom {

enum class ParameterPart : std::uint8_t { weight, bias, gain, positions };
std::string_view name_of(ParameterPart p);

enum class ParameterBucket : std::uint8_t { sharded, replicated, experts };

struct ParameterTensor {
  std::string name;  // of the whole: "layer 3 · qkv · weight"
  int layer = -1;    // -1: embedding; model.layers: head
  std::string op;    // "qkv"
  ParameterPart part = ParameterPart::weight;
  ParameterBucket bucket = ParameterBucket::sharded;
  std::int64_t rows = 0, width = 0;  // on this rank
  // Rows [first, first + count) of this rank are whole rows from `whole_first` on.
  struct Run {
    std::int64_t first = 0, count = 0, whole_first = 0;
  };
  std::vector<Run> runs;
  std::int64_t first_column = 0;  // in the whole tensor
  std::int64_t whole_width = 0;
  int copies = 1;        // of each element in a model replica, by tensor parallelism and tying
  double mean = 0;       // of the initial values, normally distributed
  double deviation = 0;  // 0: all are the mean

  std::int64_t elements() const { return rows * width; }
};

// Where a rank stands in the groups that cut parameters.
struct ShardIndex {
  int tp = 0, etp = 0, ep = 0;
};

// Of the chunks of a rank, or of one.
std::vector<ParameterTensor> parameter_list(const ModelSpec& m, const Layout& l,
                                            const std::vector<StageSpan>& spans,
                                            const ShardIndex& at);
std::vector<ParameterTensor> parameter_list(const ModelSpec& m, const Layout& l,
                                            const StageSpan& stage, const ShardIndex& at);

}  // namespace steploom
