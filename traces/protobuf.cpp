#include "traces/protobuf.h"

#include <ostream>

namespace steploom {
namespace {

// Wire types.
constexpr unsigned kVarint = 0;
constexpr unsigned kEightBytes = 1;
constexpr unsigned kLengthDelimited = 2;

constexpr unsigned kTypeBits = 3;

}  // namespace

void append_varint(std::string& out, std::uint64_t value) {
  constexpr std::uint64_t kMore = 0x80;
  while (value >= kMore) {
    out += static_cast<char>((value & (kMore - 1)) | kMore);
    value >>= 7;
  }
  out += static_cast<char>(value);
}

void ProtoMessage::tag(int field, unsigned wire_type) {
  append_varint(bytes_, (static_cast<std::uint64_t>(field) << kTypeBits) | wire_type);
}

void ProtoMessage::unsigned_integer(int field, std::uint64_t value) {
  tag(field, kVarint);
  append_varint(bytes_, value);
}

void ProtoMessage::integer(int field, std::int64_t value) {
  unsigned_integer(field, static_cast<std::uint64_t>(value));
}

void ProtoMessage::fixed64(int field, std::uint64_t value) {
  tag(field, kEightBytes);
  for (int byte = 0; byte < 8; ++byte) bytes_ += static_cast<char>((value >> (8 * byte)) & 0xff);
}

void ProtoMessage::text(int field, std::string_view value) {
  tag(field, kLengthDelimited);
  append_varint(bytes_, value.size());
  bytes_ += value;
}

void ProtoMessage::message(int field, const ProtoMessage& value) {
  text(field, value.bytes());
}

void ProtoMessage::packed(int field, std::span<const std::uint64_t> values) {
  if (values.empty()) return;
  std::string all;
  for (const std::uint64_t v : values) append_varint(all, v);
  text(field, all);
}

void write_delimited(std::ostream& out, const ProtoMessage& message) {
  std::string length;
  append_varint(length, message.bytes().size());
  out << length << message.bytes();
}

}  // namespace steploom
