// What the readers and writers of a profile's parts share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "models/json_reader.h"
#include "models/nearest.h"
#include "models/work.h"
#include "sim/profile.h"

namespace steploom {

// The value of an enum by its name; there are `count` values.
template <class Enum>
Enum read_named(const Json& json, int count, const char* what) {
  std::vector<std::string_view> names;
  const std::string found = json.text();
  for (int i = 0; i < count; ++i) {
    const auto value = static_cast<Enum>(i);
    if (name_of(value) == found) return value;
    names.push_back(name_of(value));
  }
  json.refuse(what, nearest_hint(found, names));
}

}  // namespace steploom
