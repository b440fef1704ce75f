// Recorded routing: how many tokens chose each expert, layer by layer.
//
// JSON: {"steploom_routing": 1, "layers": [{"layer": 3, "tokens": [812, 1190, ...]}, ...]}, one
// number an expert; in place of "tokens" a layer may have "micro_batches", a list of such lists.
// CSV (any other ending): a first line "layer,expert,tokens" or "layer,micro_batch,expert,tokens",
// then one line each, in any order, none missing and none twice. Micro-batch i of a step has list
// i mod their number. Only shares count: the numbers need not be of the step at hand.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "models/json_reader.h"
#include "models/routing.h"

namespace steploom {

std::vector<RecordedLayer> load_recorded_routing(const std::filesystem::path& file);
std::vector<RecordedLayer> read_recorded_csv(std::string_view text, const std::string& reading);

// The value of "layers" above.
std::vector<RecordedLayer> read_recorded_layers(const Json& layers);

}  // namespace steploom
