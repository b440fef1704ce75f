// From a Hugging Face config.json, or a shipped model's name, to a ModelSpec.
//
// The family is found by "model_type", or by "architectures"[0] where that is not known. Both the
// keys of transformers 4 and 5 are read; a key that is null counts as absent. Of a multimodal model
// the text part is read (text_config) and the rest named in the ModelSpec's notes. Values that no
// model can have are refused with file, JSON pointer, what was expected and what was found.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "models/json_reader.h"
#include "models/model_spec.h"

namespace steploom {

ModelSpec read_model_config(const Json& config, std::string name);

// A shipped name ("mixtral-8x7b"), or a path: one that has a '/' or ends in ".json". A directory
// means its config.json. A model read from a path is named after its file, or after the directory
// of a config.json.
ModelSpec load_model(std::string_view name_or_path);

std::vector<std::string> model_names();  // the shipped ones, sorted

}  // namespace steploom
