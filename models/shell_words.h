// The words of a shell script's commands, expanded as far as the script itself says.
//
// A small part of sh and bash: what launch scripts are made of. Commands are lists of words;
// assignments and arrays are kept as variables. Unknown variables and $(commands) stay in the text.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace steploom {

struct ShellWord {
  std::string text;
  int line = 0;
};

struct ShellScript {
  std::vector<std::vector<ShellWord>> commands;  // without their leading assignments
  // Variables and arrays in the order of their first assignment; a plain one is split into words.
  std::vector<std::pair<std::string, std::vector<ShellWord>>> variables;
  std::vector<std::pair<std::string, std::string>> exported;
  std::vector<int> conditions;  // lines where an if, case, for or while begins
};

// Throws Error (naming `reading` and the line) on a quote, array or brace that does not end.
ShellScript read_shell(std::string_view text, const std::string& reading);

}  // namespace steploom
