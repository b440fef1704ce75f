#include "profiler/collective_asks.h"

#include <fmt/format.h>

#include <charconv>
#include <fstream>
#include <sstream>

#include "models/error.h"
#include "profiler/asks.h"

namespace steploom {
namespace {

constexpr Bytes kGrain = 1024;
constexpr Bytes kMostBytes = Bytes{1} << 30;  // what the measuring program has room for

Bytes bytes_named(const std::string& word, const std::string& reading, const std::string& place) {
  Bytes bytes = 0;
  const char* end = word.data() + word.size();
  const auto [stop, fault] = std::from_chars(word.data(), end, bytes);
  if (fault != std::errc{} || stop != end || bytes < kGrain || bytes > kMostBytes ||
      bytes % kGrain != 0) {
    throw Error(
        {reading, place, "bytes from 1024 to 2^30, a multiple of 1024", "'" + word + "'", ""});
  }
  return bytes;
}

}  // namespace

std::string to_text(const CollectiveAsk& ask) {
  return fmt::format("{} {}", name_of(ask.kind), ask.bytes);
}

std::vector<CollectiveAsk> parse_collective_asks(std::string_view text,
                                                 const std::string& reading) {
  std::vector<CollectiveAsk> asks;
  std::istringstream in{std::string(text)};
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    const std::string place = fmt::format("line {}", ++number);
    std::istringstream split(line.substr(0, line.find('#')));
    std::string name, bytes, more;
    if (!(split >> name)) continue;
    if (!(split >> bytes) || split >> more) {
      throw Error({reading, place, "collective bytes", "'" + line + "'", ""});
    }
    const OpKind kind = kind_of(name, reading, place);
    if (!is_communication(kind)) {
      throw Error({reading, place, "a collective", "'" + name + "'", ""});
    }
    asks.push_back({kind, bytes_named(bytes, reading, place)});
  }
  if (asks.empty()) throw Error({reading, "", "a list of collectives to measure", "none", ""});
  return asks;
}

std::vector<CollectiveAsk> read_collective_asks(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) {
    throw Error({file.string(), "", "a list of collectives that can be read", "none", ""});
  }
  return parse_collective_asks(text.str(), file.string());
}

}  // namespace steploom
