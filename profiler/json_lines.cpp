#include "profiler/json_lines.h"

#include "profiler/measure_fail.h"

namespace steploom {
namespace {

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return out + '"';
}

std::string decimal(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

template <typename Values, typename Print>
std::string listed(const Values& values, Print print) {
  std::string out;
  for (const auto& value : values) out += (out.empty() ? "" : ",") + print(value);
  return "[" + out + "]";
}

}  // namespace

void JsonLine::key(std::string_view name) {
  if (!text_.empty()) text_ += ',';
  text_ += quoted(name) + ':';
}

JsonLine& JsonLine::add(std::string_view name, std::string_view value) {
  key(name);
  text_ += quoted(value);
  return *this;
}

JsonLine& JsonLine::add(std::string_view name, double value) {
  key(name);
  text_ += decimal(value);
  return *this;
}

JsonLine& JsonLine::add(std::string_view name, long long value) {
  key(name);
  text_ += std::to_string(value);
  return *this;
}

JsonLine& JsonLine::add(std::string_view name, bool value) {
  key(name);
  text_ += value ? "true" : "false";
  return *this;
}

JsonLine& JsonLine::add(std::string_view name, const std::vector<int>& values) {
  key(name);
  text_ += listed(values, [](int value) { return std::to_string(value); });
  return *this;
}

JsonLine& JsonLine::add(std::string_view name, const std::vector<std::string>& values) {
  key(name);
  text_ += listed(values, quoted);
  return *this;
}

JsonLine& JsonLine::add(std::string_view name, const Spread& spread) {
  key(name);
  text_ += listed(std::vector<double>{spread.first, spread.median, spread.third}, decimal);
  return *this;
}

JsonLines::JsonLines(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "w")) {
  if (file_ == nullptr) fail("cannot write " + path);
}

JsonLines::~JsonLines() {
  if (std::fclose(file_) != 0) fail("cannot finish " + path_);
}

void JsonLines::write(const JsonLine& line) {
  const std::string text = line.text() + "\n";
  if (std::fwrite(text.data(), 1, text.size(), file_) != text.size() || std::fflush(file_) != 0) {
    fail("cannot write to " + path_ + " (is the disk full?)");
  }
}

}  // namespace steploom
