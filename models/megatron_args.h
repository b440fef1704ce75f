// The arguments of a Megatron-Core run, as its script or its YAML says them.
//
// Two forms are read. A shell script, or just a line of flags: assignments, arrays, quotes,
// continued lines, $NAME, ${NAME}, ${NAME:-default}, ${NAME[@]} and $((…)) are followed; the flags
// are those after the word that ends in ".py", else every word list that starts with "--". A YAML
// file with the maps ENV_VARS and MODEL_ARGS (`--flag: value`; true is a bare flag, false and null
// leave it out, a list is several values). Nothing is run. A condition is not decided: what stands
// inside is taken, and a note says so. What a script takes from its caller stays as it is written
// ("$1"), and is refused where it is needed.
//
// Writing an Args and reading it again gives the same flags, values and environment in the same
// order.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace steploom {

struct MegatronArg {
  std::string name;                 // "num-layers", without dashes
  std::vector<std::string> values;  // none for a switch
  int line = 0;                     // where it stands; no part of comparisons
  bool operator==(const MegatronArg& o) const { return name == o.name && values == o.values; }
};

struct MegatronArgs {
  std::string reading;  // the file's name, for messages
  std::vector<MegatronArg> args;
  std::vector<std::pair<std::string, std::string>> environment;  // exported or ENV_VARS
  std::vector<std::string> notes;  // "line 12: a condition is not decided; ..."
};

// Throws Error: no such file, broken quotes, no flags at all, YAML of another shape.
MegatronArgs load_megatron_args(const std::filesystem::path& file);  // .yaml and .yml, else shell
MegatronArgs parse_megatron_shell(std::string_view text, std::string reading);
MegatronArgs parse_megatron_yaml(const std::string& text, std::string reading);

std::string to_shell(const MegatronArgs& args);  // exports, then one flag a line
std::string to_yaml(const MegatronArgs& args);

std::string shell_word(const std::string& value);  // quoted where a shell would change it

}  // namespace steploom
