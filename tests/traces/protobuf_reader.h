// Reads protocol buffers by field numbers alone, for tests of what we write; written apart from the
// writer, from the encoding's description (protobuf.dev/programming-guides/encoding).
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace steploom::testing {

struct ProtoField {
  int number = 0;
  int wire = 0;             // 0 varint, 1 eight bytes, 2 length-delimited
  std::uint64_t value = 0;  // of wires 0 and 1
  std::string_view bytes;   // of wire 2
};

class ProtoReader {
 public:
  explicit ProtoReader(std::string_view text) : rest_(text) {}
  bool done() const { return rest_.empty(); }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= std::uint64_t{byte & 0x7fU} << shift;
      if (byte < 0x80) return value;
    }
    throw std::runtime_error("a varint of more than ten bytes");
  }

  std::string_view delimited() { return take(varint()); }

  ProtoField field() {
    const std::uint64_t tag = varint();
    ProtoField f{static_cast<int>(tag >> 3), static_cast<int>(tag & 7), 0, {}};
    if (f.number == 0) throw std::runtime_error("field 0");
    if (f.wire == 0) {
      f.value = varint();
    } else if (f.wire == 1) {
      const std::string_view eight = take(8);
      for (std::size_t i = 8; i-- > 0;)
        f.value = f.value << 8 | static_cast<unsigned char>(eight[i]);
    } else if (f.wire == 2) {
      f.bytes = delimited();
    } else {
      throw std::runtime_error("wire type " + std::to_string(f.wire));
    }
    return f;
  }

 private:
  std::string_view take(std::uint64_t n) {
    if (n > rest_.size()) throw std::runtime_error("a message that is cut short");
    const std::string_view out = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return out;
  }
  std::string_view rest_;
};

struct ProtoFields {
  std::vector<ProtoField> all;
  explicit ProtoFields(std::string_view message) {
    for (ProtoReader in(message); !in.done();) all.push_back(in.field());
  }
  const ProtoField* find(int number) const {
    for (const ProtoField& f : all)
      if (f.number == number) return &f;
    return nullptr;
  }
  bool has(int number) const { return find(number) != nullptr; }
  std::uint64_t integer(int number) const { return has(number) ? find(number)->value : 0; }
  std::string text(int number) const {
    return has(number) ? std::string(find(number)->bytes) : std::string();
  }
  // repeated uint64, packed or not.
  std::vector<std::uint64_t> list(int number) const {
    std::vector<std::uint64_t> out;
    for (const ProtoField& f : all) {
      if (f.number != number) continue;
      if (f.wire == 0) out.push_back(f.value);
      if (f.wire == 2)
        for (ProtoReader in(f.bytes); !in.done();) out.push_back(in.varint());
    }
    return out;
  }
};

}  // namespace steploom::testing
