#include "models/config_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>

#include "models/config_keys.h"
#include "models/embedded.h"
#include "models/error.h"
#include "models/families.h"
#include "models/file_name.h"
#include "models/nearest.h"
#include "models/parameters.h"

namespace steploom {
namespace {

// Beyond any model, and low enough that bytes and FLOPs of one stay exact.
constexpr double kMostParameters = 1e15;

const Family* family_of_type(std::string_view model_type) {
  for (const FamilyAlias& alias : family_aliases())
    if (alias.model_type == model_type) model_type = alias.family;
  const auto all = families();
  const auto row = std::find_if(all.begin(), all.end(), [model_type](const Family& family) {
    return family.model_type == model_type;
  });
  return row == all.end() ? nullptr : &*row;
}

const Family* family_of_architecture(const Json& config) {
  const auto architectures = config.find("architectures");
  if (!architectures || architectures->size() == 0) return nullptr;
  const std::string name = architectures->at(std::size_t{0}).text();
  for (const Family& family : families()) {
    if (family.architecture == name) return &family;
  }
  return nullptr;
}

const Family& family_of(const Json& config) {
  const auto model_type = config.find("model_type");
  const Family* family = model_type ? family_of_type(model_type->text()) : nullptr;
  if (family == nullptr) family = family_of_architecture(config);
  if (family != nullptr) return *family;

  std::vector<std::string_view> types;
  std::string known = "one of";
  for (const Family& row : families()) {
    known += (types.empty() ? " " : ", ") + std::string(row.model_type);
    types.push_back(row.model_type);
  }
  if (!model_type) {
    throw Error({config.reading(), config.pointer(), "the key 'model_type', " + known,
                 "no family that is known", ""});
  }
  const std::string_view near = nearest_name(model_type->text(), types);
  model_type->refuse(known, near.empty() ? "" : fmt::format("did you mean '{}'?", near));
}

// What a multimodal model's config holds beside its text part.
bool is_other_part(std::string_view key) {
  return key.ends_with("_config") && key != "text_config" && key != "quantization_config" &&
         key != "generation_config" && key != "compression_config";
}

// The text part of a multimodal model's config, or the config itself. What is left out is noted.
Json text_part(const Json& config, std::vector<std::string>& notes) {
  for (const std::string& key : config.keys())
    if (is_other_part(key) && config.has(key) && config.at(key).is_object())
      notes.push_back(fmt::format("{} is left out: the text part alone is planned", key));
  const auto text = config.find("text_config");
  return text && text->is_object() ? *text : config;
}

void refuse_impossible_size(const Json& config, const ModelSpec& spec) {
  double parameters = 0;
  for (int layer = 0; layer <= spec.layers + spec.mtp_modules; ++layer) {
    if (layer == spec.layers) continue;  // the head
    parameters += static_cast<double>(layer_parameters(spec, layer).total());
  }
  if (parameters <= kMostParameters) return;
  throw Error({config.reading(), config.pointer(),
               fmt::format("a model of at most {:g} parameters", kMostParameters),
               fmt::format("one of {:.3g}", parameters), ""});
}

std::string name_of_file(const std::filesystem::path& file) {
  if (file.filename() != "config.json") return file.stem().string();
  std::error_code ignored;
  const auto folder = std::filesystem::absolute(file, ignored).lexically_normal().parent_path();
  return folder.filename().empty() ? "config" : folder.filename().string();
}

}  // namespace

ModelSpec read_model_config(const Json& config, std::string name) {
  std::vector<std::string> notes;
  const Json text = text_part(config, notes);
  const Family& family = family_of(text.has("model_type") ? text : config);
  ModelSpec spec = family.read(text);
  spec.name = std::move(name);
  spec.family = family.model_type;
  spec.notes.insert(spec.notes.end(), notes.begin(), notes.end());
  // A wrapper's own word on tying stands where the text part has none.
  if (!text.has("tie_word_embeddings"))
    spec.tied_embeddings = flag_or(config, "tie_word_embeddings", spec.tied_embeddings);
  refuse_impossible_size(config, spec);
  return spec;
}

ModelSpec load_model(std::string_view name_or_path) {
  if (names_a_file(name_or_path)) {
    std::filesystem::path file(name_or_path);
    std::error_code ignored;
    if (std::filesystem::is_directory(file, ignored)) file /= "config.json";
    return read_model_config(Json::load(file), name_of_file(file));
  }
  for (const EmbeddedFile& file : embedded_models()) {
    if (file.name != name_or_path) continue;
    return read_model_config(Json::parse(file.text, std::string(file.name) + " (shipped)"),
                             std::string(file.name));
  }
  const std::vector<std::string> names = model_names();
  const std::vector<std::string_view> known(names.begin(), names.end());
  throw Error({"model", "", "a shipped model or the path of a config.json",
               fmt::format("'{}'", name_or_path), nearest_hint(name_or_path, known)});
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const EmbeddedFile& file : embedded_models()) names.emplace_back(file.name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace steploom
