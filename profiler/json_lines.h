// Writing JSON, one object a line, flushed line by line so that a run that dies keeps what it had.
//
// No JSON library, so that what measures can be built with nothing but CUDA and NCCL;
// collective_points.h is the strict reader of what this writes.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/spread.h"

namespace steploom {

class JsonLine {
 public:
  JsonLine& add(std::string_view key, std::string_view value);
  JsonLine& add(std::string_view key, const char* value) {
    return add(key, std::string_view(value));
  }
  JsonLine& add(std::string_view key, double value);  // six significant digits
  JsonLine& add(std::string_view key, long long value);
  JsonLine& add(std::string_view key, int value) { return add(key, static_cast<long long>(value)); }
  JsonLine& add(std::string_view key, bool value);
  JsonLine& add(std::string_view key, const std::vector<int>& values);
  JsonLine& add(std::string_view key, const std::vector<std::string>& values);
  // [first quartile, median, third quartile]
  JsonLine& add(std::string_view key, const Spread& spread);
  std::string text() const { return "{" + text_ + "}"; }

 private:
  void key(std::string_view name);
  std::string text_;
};

class JsonLines {
 public:
  explicit JsonLines(const std::string& path);  // ends the process if it cannot be written
  ~JsonLines();
  JsonLines(const JsonLines&) = delete;
  JsonLines& operator=(const JsonLines&) = delete;
  void write(const JsonLine& line);

 private:
  std::string path_;
  std::FILE* file_;
};

}  // namespace steploom
