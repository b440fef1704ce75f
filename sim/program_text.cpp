#include "sim/program_text.h"

#include <algorithm>
#include <array>
#include <map>
#include <span>

#include "models/error.h"
#include "models/nearest.h"
#include "sim/decimal_text.h"

namespace steploom {
namespace {

using Words = std::vector<std::string_view>;
using Points = std::vector<std::pair<std::uint32_t, std::uint32_t>>;  // x, rate

Words split(std::string_view text, std::string_view separators) {
  Words words;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find_first_of(separators, at), text.size());
    if (end > at) words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

// Linear between the points, constant beyond the first and last.
std::uint32_t interpolate(const Points& points, std::uint32_t x) {
  if (x <= points.front().first) return points.front().second;
  for (std::size_t i = 1; i < points.size(); ++i) {
    const auto [x0, y0] = points[i - 1];
    const auto [x1, y1] = points[i];
    if (x > x1) continue;
    const auto rise = static_cast<std::int64_t>(y1) - static_cast<std::int64_t>(y0);
    return static_cast<std::uint32_t>(y0 + rise * (x - x0) / (x1 - x0));
  }
  return points.back().second;
}

class Parser {
 public:
  explicit Parser(std::string_view reading) : reading_(reading) {}

  ProgramText parse(std::string_view text) {
    for (std::size_t at = 0; at <= text.size();) {
      const std::size_t end = std::min(text.find('\n', at), text.size());
      ++line_;
      const std::string_view line = text.substr(at, end - at);
      statement(split(line.substr(0, line.find('#')), " \t\r"));
      at = end + 1;
    }
    assemble();
    ProgramText result{std::move(program_), std::nullopt};
    if (!classes_.empty()) result.contention = tables();
    finalize(result.program);
    return result;
  }

 private:
  // A device while it is being read: its slots are numbered and placed at the end.
  struct Building {
    struct OpenSlot {
      BlockTemplate block;
      std::int32_t micro_batch = 0;
    };
    Device device;
    std::vector<OpenSlot> slots;
    std::map<std::string_view, std::uint16_t> roles;
    std::map<std::string_view, std::uint32_t> tensors;
    std::map<std::string_view, std::pair<std::uint32_t, std::uint32_t>> ops;  // slot, index
    std::vector<SlotEdge> edges;  // slots as numbered on this device
  };

  [[noreturn]] void refuse(std::string expected, std::string_view found, std::string hint = "") {
    throw Error({reading_, "line " + std::to_string(line_), std::move(expected),
                 "'" + std::string(found) + "'", std::move(hint)});
  }

  template <typename Map>
  auto& look_up(Map& map, std::string_view name, const char* what) {
    const auto it = map.find(name);
    if (it != map.end()) return it->second;
    Words known;
    for (const auto& entry : map) known.push_back(entry.first);
    refuse(std::string(what) + " that is declared above", name, nearest_hint(name, known));
  }

  // What a reader of decimal_text.h found in a word, or a refusal.
  std::int64_t want(std::optional<std::int64_t> found, const char* expected,
                    std::string_view word) {
    if (!found) refuse(expected, word);
    return *found;
  }
  std::int64_t integer(std::string_view word, std::int64_t most) {
    const std::int64_t n = want(whole_number(word), "a whole number", word);
    if (n > most) refuse("a whole number up to " + std::to_string(most), word);
    return n;
  }
  std::uint16_t small(std::string_view word) {
    return static_cast<std::uint16_t>(integer(word, 0xfffe));
  }
  Picoseconds time(std::string_view word) {
    return want(time_with_unit(word), "a time with a unit (ps, ns, us, ms) such as 2.5us", word);
  }
  std::uint32_t short_time(std::string_view word) {
    const Picoseconds t = time(word);
    if (t <= 0xffffffff) return static_cast<std::uint32_t>(t);
    refuse("a time of at most 4.29 ms", word);
  }
  Bytes bytes(std::string_view word) {
    return want(bytes_with_suffix(word), "a number of bytes such as 64K", word);
  }
  std::uint32_t fraction(std::string_view word, std::uint32_t most) {
    const std::int64_t n = want(decimal(word, kFullRate), "a decimal such as 0.5", word);
    if (n > most) refuse("at most " + std::to_string(most) + " of 65536", word);
    return static_cast<std::uint32_t>(n);
  }

  Points points(std::span<const std::string_view> words) {
    Points out;
    for (const std::string_view word : words) {
      const std::size_t colon = word.find(':');
      if (colon == word.npos) refuse("NUMBER:RATE", word);
      out.emplace_back(small(word.substr(0, colon)), fraction(word.substr(colon + 1), kFullRate));
      if (out.size() > 1 && out[out.size() - 2].first >= out.back().first)
        refuse("increasing numbers", word);
    }
    if (out.empty()) refuse("NUMBER:RATE", "nothing");
    return out;
  }

  void need(const Words& words, std::size_t least, const char* form) {
    if (words.size() < least) refuse(form, words.back());
  }

  void statement(const Words& words) {
    if (words.empty()) return;
    struct Row {
      std::string_view name;
      void (Parser::*read)(const Words&);
    };
    static constexpr Row kStatements[] = {
        {"device", &Parser::device}, {"comm", &Parser::comm},     {"class", &Parser::kernel_class},
        {"share", &Parser::share},   {"beside", &Parser::beside}, {"tensor", &Parser::tensor},
        {"slice", &Parser::slice},   {"slot", &Parser::slot},     {"op", &Parser::op}};
    for (const Row& row : kStatements)
      if (row.name == words[0]) return (this->*row.read)(words);
    Words known;
    for (const Row& row : kStatements) known.push_back(row.name);
    refuse("a statement", words[0], nearest_hint(words[0], known));
  }

  void device(const Words& words) {
    need(words, 2, "device NAME [sms=N] [connections=N] [static=BYTES]");
    if (device_index_.contains(words[1])) refuse("a new device", words[1]);
    Building b;
    b.device.name = words[1];
    b.device.streams = 0;
    b.device.tensor_table = static_cast<std::uint32_t>(devices_.size());
    for (std::size_t i = 2; i < words.size(); ++i) {
      const auto [key, value] = key_value(words[i]);
      if (key == "sms")
        b.device.sms = small(value);
      else if (key == "connections")
        b.device.hardware_connections = small(value);
      else if (key == "static")
        b.device.static_bytes = bytes(value);
      else
        unknown_key(key, Words{"sms", "connections", "static"});
    }
    device_index_[words[1]] = static_cast<std::uint32_t>(devices_.size());
    devices_.push_back(std::move(b));
    program_.tensor_tables.emplace_back();
  }

  void comm(const Words& words) {
    need(words, 3, "comm NAME DEVICE... [link LINK:SHARE ...]");
    Communicator c;
    c.name = words[1];
    std::size_t i = 2;
    for (; i < words.size() && words[i] != "link"; ++i)
      c.members.push_back(look_up(device_index_, words[i], "a device"));
    for (++i; i < words.size(); ++i) {
      const std::size_t colon = std::min(words[i].find(':'), words[i].size());
      const std::string_view name = words[i].substr(0, colon);
      if (colon == words[i].size()) refuse("LINK:SHARE", words[i]);
      const auto link = links_.try_emplace(name, program_.links);
      if (link.second) ++program_.links;
      c.uses.push_back({link.first->second, fraction(words[i].substr(colon + 1), 1u << 24)});
    }
    if (!comm_index_.try_emplace(words[1], program_.communicators.size()).second)
      refuse("a new communicator", words[1]);
    program_.communicators.push_back(std::move(c));
  }

  void kernel_class(const Words& words) {
    need(words, 2, "class NAME [wave=TIME]");
    if (!classes_.try_emplace(words[1], static_cast<std::uint16_t>(classes_.size())).second)
      refuse("a new class", words[1]);
    program_.kernel_classes.emplace_back(words[1]);
    priority_wave_.push_back(0);
    for (std::size_t i = 2; i < words.size(); ++i) {
      const auto [key, value] = key_value(words[i]);
      if (key != "wave") unknown_key(key, {"wave"});
      priority_wave_.back() = time(value);
    }
  }

  void share(const Words& words) {
    need(words, 3, "share CLASS SIXTEENTHS:RATE ...");
    share_[look_up(classes_, words[1], "a class")] = points(std::span(words).subspan(2));
  }

  void beside(const Words& words) {
    need(words, 4, "beside CLASS OTHER CTAS:RATE ...");
    const std::size_t slash = words[1].find('/');
    const std::uint16_t own = look_up(classes_, words[1].substr(0, slash), "a class");
    PairRates& pair = beside_[{own, look_up(classes_, words[2], "a class")}];
    std::vector<std::uint16_t> other;
    std::vector<std::uint32_t> rates;
    for (const auto& [ctas, rate] : points(std::span(words).subspan(3))) {
      other.push_back(static_cast<std::uint16_t>(ctas));
      rates.push_back(rate);
    }
    if (slash == words[1].npos) {
      pair = {{}, std::move(other), std::move(rates)};
      return;
    }
    const std::uint16_t ctas = small(words[1].substr(slash + 1));
    if (!pair.rates.empty() && (pair.own.empty() || pair.own.back() >= ctas))
      refuse("increasing CTA counts of one class", words[1]);
    if (!pair.rates.empty() && pair.other != other)
      refuse("the CTA counts of the statement before", words[3]);
    pair.own.push_back(ctas);
    pair.other = std::move(other);
    pair.rates.insert(pair.rates.end(), rates.begin(), rates.end());
  }

  void tensor(const Words& words) {
    need(words, 4, "tensor DEVICE NAME BYTES [step]");
    const std::uint32_t d = look_up(device_index_, words[1], "a device");
    std::vector<ProgramTensor>& table = program_.tensor_tables[d];
    if (words.size() > 4 && words[4] != "step") refuse("'step' or nothing", words[4]);
    if (!devices_[d].tensors.try_emplace(words[2], table.size()).second)
      refuse("a new tensor", words[2]);
    table.push_back({std::string(words[2]), bytes(words[3]),
                     words.size() > 4 ? TensorScope::step : TensorScope::micro_batch});
  }

  void slice(const Words& words) {
    need(words, 5, "slice DEVICE NAME WHOLE BYTES");
    const std::uint32_t d = look_up(device_index_, words[1], "a device");
    std::vector<ProgramTensor>& table = program_.tensor_tables[d];
    const TensorId whole = look_up(devices_[d].tensors, words[3], "a tensor");
    if (table[whole].whole != kNoTensor) refuse("a tensor that is no slice", words[3]);
    if (!devices_[d].tensors.try_emplace(words[2], table.size()).second)
      refuse("a new tensor", words[2]);
    const ProgramTensor& before = table.back();
    const Bytes offset = before.whole == whole ? before.offset + before.bytes : 0;
    table.push_back({std::string(words[2]), bytes(words[4]), table[whole].scope, whole, offset});
  }

  void slot(const Words& words) {
    need(words, 3, "slot DEVICE NAME [MICRO_BATCH]");
    Building& b = devices_[look_up(device_index_, words[1], "a device")];
    Building::OpenSlot& open = b.slots.emplace_back();
    open.block.name = words[2];
    open.micro_batch = words.size() > 3 ? static_cast<std::int32_t>(integer(words[3], 1 << 30)) : 0;
  }

  std::pair<std::string_view, std::string_view> key_value(std::string_view word) {
    const std::size_t equals = word.find('=');
    if (equals == word.npos) refuse("KEY=VALUE", word);
    return {word.substr(0, equals), word.substr(equals + 1)};
  }

  [[noreturn]] void unknown_key(std::string_view key, const Words& known) {
    refuse("a known key", key, nearest_hint(key, known));
  }

  void op(const Words& words) {
    need(words, 6, "op NAME on DEVICE STREAM TIME [KEY=VALUE ...]");
    if (words[2] != "on") refuse("'on'", words[2]);
    Building& b = devices_[look_up(device_index_, words[3], "a device")];
    if (b.slots.empty()) b.slots.emplace_back().block.name = "step";
    OpTemplate op;
    const auto stream = streams_.try_emplace(words[4], program_.stream_names.size());
    if (stream.second) program_.stream_names.emplace_back(words[4]);
    op.stream = stream.first->second;
    b.device.streams = std::max<std::uint16_t>(b.device.streams, op.stream + 1);
    op.duration = time(words[5]);
    BlockTemplate& block = b.slots.back().block;
    op.first_dep = static_cast<std::uint32_t>(block.deps.size());
    for (std::size_t i = 6; i < words.size(); ++i) option(b, op, words[i]);
    op.deps = static_cast<std::uint16_t>(block.deps.size() - op.first_dep);
    b.ops.try_emplace(words[1], b.slots.size() - 1, block.ops.size());
    block.ops.push_back(op);
    block.infos.emplace_back().name = words[1];
  }

  void option(Building& b, OpTemplate& op, std::string_view word) {
    if (word == "persistent") return void(op.persistent = true);
    if (word == "wait") return void(op.host_waits = true);
    if (word == "eager") return void(op.eager = true);
    if (word == "send") return void(op.sender = true);
    static const Words kKeys = {"sms",    "least", "ctas",   "launch",     "wave", "comm",
                                "after",  "class", "prio",   "alloc",      "free", "link",
                                "writes", "reads", "frees",  "persistent", "wait", "eager",
                                "send",   "gap",   "latency"};
    if (word.find('=') == word.npos) unknown_key(word, kKeys);
    const auto [key, value] = key_value(word);
    if (key == "sms" || key == "ctas")
      op.sms_wanted = small(value);
    else if (key == "least")
      op.sms_least = small(value);
    else if (key == "launch")
      op.launch = time(value);
    else if (key == "gap")
      op.stream_gap = short_time(value);
    else if (key == "latency")
      op.event_latency = short_time(value);
    else if (key == "wave")
      op.wave = time(value);
    else if (key == "alloc")
      op.alloc = bytes(value);
    else if (key == "free")
      op.free = bytes(value);
    else if (key == "class")
      op.kernel_class = look_up(classes_, value, "a class");
    else if (key == "link")
      op.link_share = static_cast<std::uint16_t>(std::min(fraction(value, kFullRate), 0xffffu));
    else if (key == "prio") {
      const bool negative = value.starts_with('-');
      const std::int64_t n = integer(value.substr(negative ? 1 : 0), 127);
      op.priority = static_cast<std::int8_t>(negative ? -n : n);
    } else if (key == "comm")
      join(b, op, value);
    else if (key == "after")
      after(b, value);
    else if (key == "writes")
      touch(b, value, AccessMode::write);
    else if (key == "reads")
      touch(b, value, AccessMode::read);
    else if (key == "frees")
      touch(b, value, AccessMode::free);
    else
      unknown_key(key, kKeys);
  }

  void join(Building& b, OpTemplate& op, std::string_view name) {
    const auto c = static_cast<std::uint32_t>(look_up(comm_index_, name, "a communicator"));
    const auto role = b.roles.try_emplace(name, b.device.communicator_of_role.size());
    if (role.second) b.device.communicator_of_role.push_back(c);
    op.role = role.first->second;
    if (op.link_share == 0) op.link_share = 0xffff;
  }

  void after(Building& b, std::string_view names) {
    const auto slot = static_cast<std::uint32_t>(b.slots.size() - 1);
    BlockTemplate& block = b.slots.back().block;
    for (const std::string_view name : split(names, ",")) {
      const auto [from_slot, from_op] = look_up(b.ops, name, "an operator of this device");
      if (from_slot == slot)
        block.deps.push_back(from_op);
      else
        b.edges.push_back({from_slot, from_op, slot, static_cast<std::uint32_t>(block.ops.size())});
    }
  }

  void touch(Building& b, std::string_view names, AccessMode mode) {
    BlockTemplate& block = b.slots.back().block;
    for (const std::string_view name : split(names, ","))
      block.accesses.push_back({static_cast<std::uint32_t>(block.ops.size()),
                                look_up(b.tensors, name, "a tensor"), mode});
  }

  // Numbers slots device after device.
  void assemble() {
    for (Building& b : devices_) {
      b.device.first_slot = static_cast<std::uint32_t>(program_.slots.size());
      b.device.slot_count = static_cast<std::uint32_t>(b.slots.size());
      for (Building::OpenSlot& open : b.slots) {
        Slot slot;
        slot.block = static_cast<std::uint32_t>(program_.blocks.size());
        slot.micro_batch = open.micro_batch;
        program_.slots.push_back(slot);
        program_.blocks.push_back(std::move(open.block));
      }
      for (SlotEdge edge : b.edges) {
        edge.from_slot += b.device.first_slot;
        edge.to_slot += b.device.first_slot;
        program_.edges.push_back(edge);
      }
      program_.devices.push_back(std::move(b.device));
    }
  }

  Contention tables() {
    Contention c = neutral_contention(classes_.size());
    for (const auto& [row, curve] : share_)
      for (std::uint32_t i = 0; i <= 16; ++i) c.share[row][i] = interpolate(curve, i);
    for (const auto& [pair, rates] : beside_)
      c.beside[pair.first * c.classes() + pair.second] = rates;
    c.priority_wave = priority_wave_;
    validate(c, reading_.c_str());
    return c;
  }

  std::string reading_;
  int line_ = 0;
  Program program_;
  std::vector<Building> devices_;
  std::map<std::string_view, std::uint32_t> device_index_, comm_index_, links_;
  std::map<std::string_view, std::uint16_t> classes_, streams_;
  std::map<std::uint16_t, Points> share_;
  std::map<std::pair<std::uint16_t, std::uint16_t>, PairRates> beside_;
  std::vector<Picoseconds> priority_wave_;  // by class
};

}  // namespace

ProgramText parse_program(std::string_view text, std::string_view reading) {
  return Parser(reading).parse(text);
}

std::uint32_t operator_named(const Program& program, std::string_view device, std::string_view op) {
  std::vector<std::string_view> known;
  for (std::size_t s = 0; s < program.slots.size(); ++s) {
    if (program.devices[program.device_of_slot[s]].name != device) continue;
    const BlockTemplate& block = program.blocks[program.slots[s].block];
    for (std::size_t i = 0; i < block.infos.size(); ++i) {
      if (block.infos[i].name == op)
        return program.slots[s].first_op + static_cast<std::uint32_t>(i);
      known.emplace_back(block.infos[i].name);
    }
  }
  throw Error({"program", std::string(device), "an operator of this device",
               "'" + std::string(op) + "'", nearest_hint(op, known)});
}

}  // namespace steploom
