// Files of the repository that travel inside the program: model configs, clusters, profiles.
//
// CMake writes the tables (tools/embed.cmake), so that build/steploom runs from anywhere. A file's
// name is its base name without the extension: "mixtral-8x7b". Sorted by name.
#pragma once

#include <span>
#include <string_view>

namespace steploom {

struct EmbeddedFile {
  std::string_view name;
  std::string_view text;
};

std::span<const EmbeddedFile> embedded_models();    // examples/models/*.json
std::span<const EmbeddedFile> embedded_clusters();  // examples/clusters/*.json
std::span<const EmbeddedFile> embedded_profiles();  // sim/profiles/*.json
std::span<const EmbeddedFile> embedded_drivers();   // profiler/torch_model.py, torch_pipeline.py

}  // namespace steploom
