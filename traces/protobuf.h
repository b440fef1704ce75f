// Protocol buffers' wire format, as far as writing needs it (protobuf.dev/programming-guides/
// encoding): no library, no generated code.
//
// A message is its fields one after another, each a tag (field number and wire type) and a value.
// Fields that hold their default are left out by the caller, who knows which they are.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <span>
#include <string>
#include <string_view>

namespace steploom {

void append_varint(std::string& out, std::uint64_t value);  // seven bits a byte, lowest first

class ProtoMessage {
 public:
  void unsigned_integer(int field, std::uint64_t value);  // uint32, uint64, bool, enum
  // int32, int64: two's complement of 64 bits, so a negative one takes ten bytes.
  void integer(int field, std::int64_t value);
  void fixed64(int field, std::uint64_t value);
  void text(int field, std::string_view value);  // string, bytes
  void message(int field, const ProtoMessage& value);
  void packed(int field, std::span<const std::uint64_t> values);  // repeated uint64

  const std::string& bytes() const { return bytes_; }
  void clear() { bytes_.clear(); }

 private:
  void tag(int field, unsigned wire_type);
  std::string bytes_;
};

// A message behind its length, as files of several messages hold them.
void write_delimited(std::ostream& out, const ProtoMessage& message);

}  // namespace steploom
