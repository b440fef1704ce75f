// JSON written as text, for writers that stream instead of building a document.
#pragma once

#include <string>
#include <string_view>

namespace steploom {

// Appends `text` to `out` as a JSON string, quotes included. UTF-8 passes as it is.
void append_json_string(std::string& out, std::string_view text);

std::string json_string(std::string_view text);

// The shortest decimal that reads back as the same double; "null" for what JSON cannot say.
std::string json_number(double value);

}  // namespace steploom
