#include "models/megatron_args.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "models/error.h"
#include "models/shell_words.h"

namespace steploom {
namespace {

constexpr std::uintmax_t kMostBytes = 4 << 20;

// "--flag value value --switch --flag=value".
void add_flags(const std::vector<ShellWord>& words, std::size_t from, MegatronArgs& out) {
  bool in_flag = false;
  for (std::size_t i = from; i < words.size(); ++i) {
    const std::string& w = words[i].text;
    if (w.starts_with("--") && w.size() > 2) {
      const std::size_t equals = w.find('=');
      out.args.push_back({w.substr(2, equals == w.npos ? w.npos : equals - 2), {}, words[i].line});
      if (equals != w.npos) out.args.back().values.push_back(w.substr(equals + 1));
      in_flag = true;
    } else if (in_flag) {
      out.args.back().values.push_back(w);
    } else if (!w.empty()) {
      throw Error(
          {out.reading, fmt::format("line {}", words[i].line), "a flag", "'" + w + "'", ""});
    }
  }
}

std::size_t after_script(const std::vector<ShellWord>& command) {
  for (std::size_t i = 0; i < command.size(); ++i)
    if (command[i].text.ends_with(".py")) return i + 1;
  return 0;
}

bool starts_with_flag(const std::vector<ShellWord>& words) {
  return !words.empty() && words[0].text.starts_with("--");
}

[[noreturn]] void refuse_shape(const std::string& reading, const YAML::Mark& mark,
                               std::string expected, std::string found) {
  throw Error({reading, mark.is_null() ? "" : fmt::format("line {}", mark.line + 1),
               std::move(expected), std::move(found), ""});
}

}  // namespace

MegatronArgs parse_megatron_shell(std::string_view text, std::string reading) {
  MegatronArgs out;
  out.reading = std::move(reading);
  const ShellScript script = read_shell(text, out.reading);
  out.environment = script.exported;
  for (const int line : script.conditions)
    out.notes.push_back(
        fmt::format("line {}: a condition or loop is not decided; what it holds is taken", line));
  // The command that runs a Python script, the last one if there are several.
  const std::vector<ShellWord>* run = nullptr;
  for (const auto& command : script.commands)
    if (after_script(command) != 0) run = &command;
  if (run) {
    add_flags(*run, after_script(*run), out);
  } else {
    for (const auto& command : script.commands)
      if (starts_with_flag(command)) add_flags(command, 0, out);
    if (out.args.empty())
      for (const auto& [name, words] : script.variables)
        if (starts_with_flag(words)) add_flags(words, 0, out);
  }
  if (out.args.empty())
    throw Error({out.reading, "", "Megatron's flags, such as --num-layers 32", "none", ""});
  return out;
}

MegatronArgs parse_megatron_yaml(const std::string& text, std::string reading) {
  MegatronArgs out;
  out.reading = std::move(reading);
  YAML::Node root;
  try {
    root = YAML::Load(text);
  } catch (const YAML::Exception& e) {
    refuse_shape(out.reading, e.mark, "YAML", e.msg);
  }
  if (!root.IsMap() || !root["MODEL_ARGS"] || !root["MODEL_ARGS"].IsMap())
    refuse_shape(out.reading, root.Mark(), "a map with a map MODEL_ARGS in it", "something else");
  const auto scalar = [&](const YAML::Node& node) {
    if (!node.IsScalar())
      refuse_shape(out.reading, node.Mark(), "a number or a text", "something else");
    return node.Scalar();
  };
  for (const auto& entry : root["MODEL_ARGS"]) {
    MegatronArg arg;
    arg.name = scalar(entry.first);
    arg.line = entry.first.Mark().line + 1;
    if (!arg.name.starts_with("--"))
      refuse_shape(out.reading, entry.first.Mark(), "a flag that starts with --",
                   "'" + arg.name + "'");
    arg.name.erase(0, 2);
    const YAML::Node& value = entry.second;
    if (value.IsNull()) continue;
    if (value.IsSequence()) {
      for (const auto& v : value) arg.values.push_back(scalar(v));
    } else {
      const std::string v = scalar(value);
      const bool bare = value.Tag() == "?";  // not quoted
      if (bare && (v == "false" || v == "False")) continue;
      if (!bare || (v != "true" && v != "True")) arg.values.push_back(v);
    }
    out.args.push_back(std::move(arg));
  }
  if (const YAML::Node env = root["ENV_VARS"]; env && !env.IsNull()) {
    if (!env.IsMap()) refuse_shape(out.reading, env.Mark(), "a map", "something else");
    for (const auto& entry : env)
      out.environment.emplace_back(scalar(entry.first), scalar(entry.second));
  }
  if (out.args.empty())
    throw Error(
        {out.reading, "MODEL_ARGS", "Megatron's flags, such as --num-layers: 32", "none", ""});
  return out;
}

MegatronArgs load_megatron_args(const std::filesystem::path& file) {
  std::error_code fault;
  const auto size = std::filesystem::file_size(file, fault);
  std::ifstream in(file, std::ios::binary);
  if (fault || !in) throw Error({file.string(), "", "a file that can be read", "none", ""});
  if (size > kMostBytes)
    throw Error({file.string(), "", fmt::format("at most {} bytes", kMostBytes),
                 fmt::format("{} bytes", size), ""});
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const std::string kind = file.extension().string();
  return kind == ".yaml" || kind == ".yml" ? parse_megatron_yaml(text, file.string())
                                           : parse_megatron_shell(text, file.string());
}

std::string shell_word(const std::string& value) {
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("_-+./:,=@%").find(c) != std::string_view::npos;
  };
  if (!value.empty() && std::all_of(value.begin(), value.end(), plain)) return value;
  std::string text = "'";
  for (const char c : value) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string to_shell(const MegatronArgs& args) {
  std::string text;
  for (const auto& [name, value] : args.environment)
    text += fmt::format("export {}={}\n", name, shell_word(value));
  bool first = true;
  for (const MegatronArg& a : args.args) {
    text += fmt::format("{}--{}", first ? "" : " \\\n", a.name);
    for (const std::string& v : a.values) text += " " + shell_word(v);
    first = false;
  }
  return text + "\n";
}

std::string to_yaml(const MegatronArgs& args) {
  YAML::Emitter out;
  const auto text = [&out](const std::string& v) {
    // What YAML would not give back as this text stands in quotes.
    static constexpr std::string_view kWords[] = {"true", "false", "True", "False",
                                                  "null", "~",     ""};
    if (std::find(std::begin(kWords), std::end(kWords), v) != std::end(kWords))
      out << YAML::DoubleQuoted;
    out << v;
  };
  out << YAML::BeginMap;
  out << YAML::Key << "ENV_VARS" << YAML::Value << YAML::BeginMap;
  for (const auto& [name, value] : args.environment) {
    out << YAML::Key << name << YAML::Value;
    text(value);
  }
  out << YAML::EndMap;
  out << YAML::Key << "MODEL_ARGS" << YAML::Value << YAML::BeginMap;
  for (const MegatronArg& a : args.args) {
    out << YAML::Key << "--" + a.name << YAML::Value;
    if (a.values.empty()) {
      out << true;
    } else if (a.values.size() == 1) {
      text(a.values[0]);
    } else {
      out << YAML::Flow << YAML::BeginSeq;
      for (const std::string& v : a.values) text(v);
      out << YAML::EndSeq;
    }
  }
  out << YAML::EndMap << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

}  // namespace steploom
