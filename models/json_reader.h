// Reading JSON strictly, with messages that name file, place, what was expected and what was found.
//
// A Json is a place in a parsed document; it knows the document's name and its own JSON pointer, so
// that every refusal can say both. Accessors throw Error; none returns a default silently. The JSON
// library stays in json_reader.cpp. Copies are cheap and keep the document alive.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace steploom {

class Json {
 public:
  // `reading` names the text in messages. Refuses truncated text, trailing text, duplicate keys.
  static Json parse(std::string_view text, std::string reading);
  static Json load(const std::filesystem::path& file);  // at most 64 MiB

  // Objects. A member that is null counts as absent.
  bool has(std::string_view key) const;
  Json at(std::string_view key) const;  // throws if absent
  std::optional<Json> find(std::string_view key) const;
  std::vector<std::string> keys() const;                           // in document order
  void allow_only(std::span<const std::string_view> known) const;  // else names the nearest key

  // Arrays.
  std::size_t size() const;
  Json at(std::size_t index) const;

  // Scalars, checked for type and range.
  std::int64_t integer(std::int64_t least = std::numeric_limits<std::int64_t>::min(),
                       std::int64_t most = std::numeric_limits<std::int64_t>::max()) const;
  int small_integer(int least, int most) const;
  double number(double least, double most) const;  // finite
  bool boolean() const;
  std::string text() const;
  bool is_text() const;
  bool is_object() const;
  bool is_array() const;

  // For readers' own refusals at this place.
  [[noreturn]] void refuse(std::string expected, std::string hint = "") const;
  const std::string& pointer() const;  // "/rope_parameters/rope_theta"
  const std::string& reading() const;  // "config.json"

 private:
  struct Document;
  Json(std::shared_ptr<const Document> document, const void* node, std::string pointer);
  std::shared_ptr<const Document> document_;
  const void* node_ = nullptr;
  std::string pointer_;
};

}  // namespace steploom
