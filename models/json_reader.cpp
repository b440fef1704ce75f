#include "models/json_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "models/error.h"
#include "models/nearest.h"

namespace steploom {

struct Json::Document {
  nlohmann::ordered_json root;
  std::string reading;
};

namespace {

using Node = nlohmann::ordered_json;

constexpr std::size_t kMostBytes = std::size_t{64} << 20;
constexpr std::size_t kMostDepth = 100;
constexpr std::size_t kMostShown = 60;  // bytes of a value that a message repeats

const Node& as_node(const void* node) {
  return *static_cast<const Node*>(node);
}

// One printable line of at most kMostShown bytes, cut between characters.
std::string shown(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  if (text.size() <= kMostShown) return text;
  std::size_t end = kMostShown;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

std::string shown(const Node& node) {
  if (node.is_object()) return fmt::format("an object of {} members", node.size());
  if (node.is_array()) return fmt::format("an array of {} items", node.size());
  return shown(node.dump(-1, ' ', false, Node::error_handler_t::replace));
}

std::string child_pointer(const std::string& parent, std::string_view key) {
  std::string pointer = parent + "/";
  for (const char c : key) {
    if (c == '~') {
      pointer += "~0";
    } else if (c == '/') {
      pointer += "~1";
    } else {
      pointer += c;
    }
  }
  return pointer;
}

std::string line_and_column(std::string_view text, std::size_t position) {
  const std::string_view before = text.substr(0, position == 0 ? 0 : position - 1);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t newline = before.rfind('\n');
  const std::size_t start = newline == std::string_view::npos ? 0 : newline + 1;
  return fmt::format("line {}, column {}", line, before.size() - start + 1);
}

// Builds the document from the parser's events; refuses duplicate keys and deep nesting.
class Builder : public nlohmann::json_sax<Node> {
 public:
  Builder(Node& root, std::string_view text, const std::string& reading)
      : root_(root), text_(text), reading_(reading) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t& value) override { return add(std::move(value)); }
  bool start_object(std::size_t) override { return open(Node::object()); }
  bool start_array(std::size_t) override { return open(Node::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& key) override {
    Level& level = levels_.back();
    level.key = key;
    if (!level.keys.insert(key).second) {
      throw Error({reading_, shown(pointer()), "each key once", "the key twice", ""});
    }
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    // The library's message ends in "... - what was found; expected what was wanted".
    std::string found = error.what();
    std::string expected = "JSON";
    if (const auto dash = found.find(" - "); dash != std::string::npos) found.erase(0, dash + 3);
    if (const auto end = found.find("] "); end != std::string::npos) found.erase(0, end + 2);
    constexpr std::string_view wanted = "; expected ";
    if (const auto at = found.rfind(wanted); at != std::string::npos) {
      expected = found.substr(at + wanted.size());
      found.erase(at);
    }
    for (char& c : found) {  // may repeat bytes that are no UTF-8
      if (static_cast<unsigned char>(c) >= 0x80) c = '?';
    }
    throw Error({reading_, line_and_column(text_, position), expected, shown(found), ""});
  }

 private:
  struct Level {
    Node* node;
    std::string key;                       // objects: the member being read
    std::unordered_set<std::string> keys;  // objects: those seen
  };

  std::string pointer() const {
    std::string text;
    for (const Level& level : levels_) {
      text = child_pointer(text,
                           level.node->is_array() ? std::to_string(level.node->size()) : level.key);
    }
    return text;
  }

  // Members are appended unchecked: key() has seen that they are new.
  Node& insert(Node value) {
    if (levels_.empty()) return root_ = std::move(value);
    Level& level = levels_.back();
    if (level.node->is_array()) {
      level.node->push_back(std::move(value));
      return level.node->back();
    }
    auto& members = level.node->get_ref<Node::object_t&>();
    return static_cast<Node::object_t::Container&>(members)
        .emplace_back(level.key, std::move(value))
        .second;
  }

  bool add(Node value) {
    insert(std::move(value));
    return true;
  }

  bool open(Node empty) {
    if (levels_.size() == kMostDepth) {
      throw Error({reading_, shown(pointer()), fmt::format("at most {} levels", kMostDepth),
                   "deeper nesting", ""});
    }
    Node& node = insert(std::move(empty));
    levels_.push_back({&node, "", {}});
    return true;
  }

  bool close() {
    levels_.pop_back();
    return true;
  }

  Node& root_;
  std::string_view text_;
  const std::string& reading_;
  std::vector<Level> levels_;
};

template <class Number>
std::string range_text(std::string_view what, Number least, Number most) {
  const bool from = least != std::numeric_limits<Number>::lowest();
  const bool to = most != std::numeric_limits<Number>::max();
  if (from && to) return fmt::format("{} from {} to {}", what, least, most);
  if (from) return fmt::format("{} of at least {}", what, least);
  if (to) return fmt::format("{} of at most {}", what, most);
  return std::string(what);
}

}  // namespace

Json::Json(std::shared_ptr<const Document> document, const void* node, std::string pointer)
    : document_(std::move(document)), node_(node), pointer_(std::move(pointer)) {}

Json Json::parse(std::string_view text, std::string reading) {
  auto document = std::make_shared<Document>();
  document->reading = std::move(reading);
  if (text.size() > kMostBytes) {
    throw Error({document->reading, "", fmt::format("at most {} MiB", kMostBytes >> 20),
                 fmt::format("{} bytes", text.size()), ""});
  }
  Builder builder(document->root, text, document->reading);
  Node::sax_parse(text.begin(), text.end(), &builder);
  const void* root = &document->root;
  return Json(std::move(document), root, "");
}

Json Json::load(const std::filesystem::path& file) {
  const std::string reading = file.string();
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored)) {
    throw Error({reading, "", "a JSON file", "a directory", ""});
  }
  errno = 0;
  std::ifstream in(file, std::ios::binary);
  if (!in) {
    throw Error({reading, "", "a file that can be read",
                 errno == ENOENT ? "no such file" : std::strerror(errno), ""});
  }
  // Read up to the limit and one byte more: pipes and devices have no size to ask for.
  std::string text;
  std::vector<char> piece(1 << 16);
  while (in && text.size() <= kMostBytes) {
    in.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    text.append(piece.data(), static_cast<std::size_t>(in.gcount()));
  }
  if (in.bad()) throw Error({reading, "", "a file that can be read", "a read error", ""});
  if (text.size() > kMostBytes) {
    throw Error(
        {reading, "", fmt::format("at most {} MiB", kMostBytes >> 20), "a larger file", ""});
  }
  return parse(text, reading);
}

std::optional<Json> Json::find(std::string_view key) const {
  const Node& node = as_node(node_);
  if (!node.is_object()) refuse("an object");
  const auto& members = node.get_ref<const Node::object_t&>();
  const auto member =
      std::find_if(members.begin(), members.end(), [key](const auto& m) { return m.first == key; });
  if (member == members.end() || member->second.is_null()) return std::nullopt;
  return Json(document_, &member->second, child_pointer(pointer_, key));
}

bool Json::has(std::string_view key) const {
  return find(key).has_value();
}

Json Json::at(std::string_view key) const {
  if (auto member = find(key)) return *std::move(member);
  throw Error({reading(), pointer_, fmt::format("the key '{}'", key), "no such key", ""});
}

std::vector<std::string> Json::keys() const {
  const Node& node = as_node(node_);
  if (!node.is_object()) refuse("an object");
  std::vector<std::string> keys;
  for (const auto& member : node.get_ref<const Node::object_t&>()) keys.push_back(member.first);
  return keys;
}

void Json::allow_only(std::span<const std::string_view> known) const {
  for (const std::string& key : keys()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    throw Error({reading(), child_pointer(pointer_, shown(key)), "a known key", "an unknown one",
                 nearest_hint(key, known)});
  }
}

std::size_t Json::size() const {
  if (!is_array()) refuse("an array");
  return as_node(node_).size();
}

Json Json::at(std::size_t index) const {
  if (index >= size()) refuse(fmt::format("an array of more than {} items", index));
  return Json(document_, &as_node(node_)[index], child_pointer(pointer_, std::to_string(index)));
}

std::int64_t Json::integer(std::int64_t least, std::int64_t most) const {
  const Node& node = as_node(node_);
  const std::string expected = range_text("an integer", least, most);
  if (!node.is_number_integer()) refuse(expected);  // true for unsigned too
  if (node.is_number_unsigned() &&
      node.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
    refuse(expected);
  }
  const auto value = node.get<std::int64_t>();
  if (value < least || value > most) refuse(expected);
  return value;
}

int Json::small_integer(int least, int most) const {
  return static_cast<int>(integer(least, most));
}

double Json::number(double least, double most) const {
  const Node& node = as_node(node_);
  const std::string expected = range_text("a number", least, most);
  if (!node.is_number()) refuse(expected);
  const auto value = node.get<double>();
  if (!std::isfinite(value) || value < least || value > most) refuse(expected);
  return value;
}

bool Json::boolean() const {
  if (!as_node(node_).is_boolean()) refuse("true or false");
  return as_node(node_).get<bool>();
}

std::string Json::text() const {
  if (!is_text()) refuse("a string");
  return as_node(node_).get<std::string>();
}

bool Json::is_text() const {
  return as_node(node_).is_string();
}
bool Json::is_object() const {
  return as_node(node_).is_object();
}
bool Json::is_array() const {
  return as_node(node_).is_array();
}

void Json::refuse(std::string expected, std::string hint) const {
  throw Error({reading(), pointer_, std::move(expected), shown(as_node(node_)), std::move(hint)});
}

const std::string& Json::pointer() const {
  return pointer_;
}
const std::string& Json::reading() const {
  return document_->reading;
}

}  // namespace steploom
