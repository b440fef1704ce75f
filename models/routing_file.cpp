#include "models/routing_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <map>
#include <sstream>
#include <tuple>

#include "models/error.h"

namespace steploom {
namespace {

constexpr std::int64_t kMostTokens = std::int64_t{1} << 40;
constexpr std::int64_t kMostIndex = 1 << 20;
constexpr std::string_view kMark = "steploom_routing";
constexpr std::string_view kHeaders[] = {"layer,expert,tokens", "layer,micro_batch,expert,tokens"};

// Of each list: are there tokens at all?
void check_tokens(const std::vector<RecordedLayer>& layers, const std::string& reading) {
  if (layers.empty()) throw Error({reading, "", "at least one layer", "none", ""});
  for (const RecordedLayer& l : layers)
    for (std::size_t i = 0; i < l.tokens.size(); ++i)
      if (std::all_of(l.tokens[i].begin(), l.tokens[i].end(),
                      [](std::int64_t t) { return t == 0; }))
        throw Error({reading, fmt::format("layer {}, micro-batch {}", l.layer, i),
                     "an expert with tokens", "none", ""});
}

std::vector<std::int64_t> read_tokens(const Json& in) {
  std::vector<std::int64_t> out;
  for (std::size_t i = 0; i < in.size(); ++i) out.push_back(in.at(i).integer(0, kMostTokens));
  return out;
}

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> out;
  for (;;) {
    const std::size_t comma = line.find(',');
    out.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) return out;
    line.remove_prefix(comma + 1);
  }
}

std::string_view next_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace

std::vector<RecordedLayer> read_recorded_layers(const Json& in) {
  std::vector<RecordedLayer> out;
  constexpr std::array<std::string_view, 3> known{"layer", "tokens", "micro_batches"};
  for (std::size_t i = 0; i < in.size(); ++i) {
    const Json at = in.at(i);
    at.allow_only(known);
    RecordedLayer layer;
    layer.layer = at.at("layer").small_integer(0, static_cast<int>(kMostIndex));
    if (!out.empty() && layer.layer <= out.back().layer)
      at.at("layer").refuse("layers in ascending order, each once");
    const auto tokens = at.find("tokens");
    const auto micro_batches = at.find("micro_batches");
    if (tokens.has_value() == micro_batches.has_value())
      at.refuse("either 'tokens' or 'micro_batches'");
    if (tokens) layer.tokens.push_back(read_tokens(*tokens));
    for (std::size_t m = 0; micro_batches && m < micro_batches->size(); ++m)
      layer.tokens.push_back(read_tokens(micro_batches->at(m)));
    if (layer.tokens.empty()) micro_batches->refuse("at least one micro-batch");
    out.push_back(std::move(layer));
  }
  check_tokens(out, in.reading());
  return out;
}

std::vector<RecordedLayer> read_recorded_csv(std::string_view text, const std::string& reading) {
  const std::string_view header = next_line(text);
  const auto known = std::find(std::begin(kHeaders), std::end(kHeaders), header);
  if (known == std::end(kHeaders))
    throw Error({reading, "line 1", fmt::format("'{}' or '{}'", kHeaders[0], kHeaders[1]),
                 fmt::format("'{}'", header), ""});
  const std::size_t columns = split(header).size();
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t>, std::int64_t> found;
  for (int number = 2; !text.empty(); ++number) {
    const std::string_view line = next_line(text);
    const auto refuse = [&](std::string expected, std::string_view what) {
      throw Error({reading, fmt::format("line {}", number), std::move(expected),
                   fmt::format("'{}'", what), ""});
    };
    const std::vector<std::string_view> words = split(line);
    if (words.size() != columns) refuse(fmt::format("{} numbers", columns), line);
    std::array<std::int64_t, 4> values{};
    for (std::size_t i = 0; i < columns; ++i) {
      const std::int64_t most = i + 1 == columns ? kMostTokens : kMostIndex;
      const char* const end = words[i].data() + words[i].size();
      const auto [at, fault] = std::from_chars(words[i].data(), end, values[i]);
      if (fault != std::errc{} || at != end || values[i] < 0 || values[i] > most)
        refuse(fmt::format("an integer from 0 to {}", most), words[i]);
    }
    const bool one = columns == 3;
    const std::tuple key(values[0], one ? 0 : values[1], one ? values[1] : values[2]);
    if (!found.emplace(key, values[columns - 1]).second) refuse("each expert once", line);
  }
  std::vector<RecordedLayer> out;
  for (const auto& [key, tokens] : found) {
    const auto& [layer, micro_batch, expert] = key;
    if (out.empty() || out.back().layer != layer) out.push_back({static_cast<int>(layer), {}});
    std::vector<std::vector<std::int64_t>>& of = out.back().tokens;
    if (micro_batch == static_cast<std::int64_t>(of.size())) of.emplace_back();
    if (micro_batch + 1 != static_cast<std::int64_t>(of.size()) ||
        expert != static_cast<std::int64_t>(of.back().size()))
      throw Error({reading, fmt::format("layer {}", layer),
                   "micro-batches and experts from 0 on, none missing",
                   fmt::format("expert {} of micro-batch {} without the one before it", expert,
                               micro_batch),
                   ""});
    of.back().push_back(tokens);
  }
  check_tokens(out, reading);
  return out;
}

std::vector<RecordedLayer> load_recorded_routing(const std::filesystem::path& file) {
  if (file.extension() == ".json") {
    const Json in = Json::load(file);
    if (!in.is_object() || !in.has(kMark))
      in.refuse("recorded routing, {\"steploom_routing\": 1, \"layers\": [...]}");
    constexpr std::array<std::string_view, 2> known{kMark, "layers"};
    in.allow_only(known);
    in.at(kMark).integer(1, 1);
    return read_recorded_layers(in.at("layers"));
  }
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) throw Error({file.string(), "", "a file that can be read", "", ""});
  return read_recorded_csv(text.str(), file.string());
}

}  // namespace steploom
