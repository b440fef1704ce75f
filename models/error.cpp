#include "models/error.h"

#include <utility>

namespace steploom {
namespace {

std::string one_line(const Error::Where& w) {
  std::string text = w.reading;
  const auto add = [&text](const char* before, const std::string& part) {
    if (part.empty()) return;
    if (!text.empty()) text += before;
    text += part;
  };
  add(": ", w.place);
  add(": expected ", w.expected);
  add(w.expected.empty() ? ": " : ", found ", w.found);
  add("; ", w.hint);
  return text;
}

}  // namespace

Error::Error(Where where, ExitStatus status)
    : std::runtime_error(one_line(where)), where_(std::move(where)), status_(status) {}

}  // namespace steploom
