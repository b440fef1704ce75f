// What an operator of a device knows to have ended when it starts: vector clocks over its streams.
//
// Order comes from streams, dependencies, slot edges, what the host waited for and, with one
// hardware connection, issue order (check.h says why nothing else counts). Operators of a device
// are numbered from 1 in issue order; 0 is none.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/flat_program.h"

namespace steploom {

class DeviceClocks {
 public:
  DeviceClocks(const FlatProgram& flat, std::uint32_t device);

  std::uint32_t number(std::uint32_t op) const { return op - first_op_ + 1; }
  std::uint32_t op(std::uint32_t number) const { return number - 1 + first_op_; }
  std::uint32_t streams() const { return streams_; }
  std::uint32_t stream(std::uint32_t number) const { return stream_of_[number - 1]; }
  // Has `earlier` ended whenever `later` starts?
  bool knows(std::uint32_t later, std::uint32_t earlier) const {
    return clock(later)[stream_of_[earlier - 1]] >= earlier;
  }

 private:
  // Stream by stream, up to which operator everything has ended.
  const std::uint32_t* clock(std::uint32_t number) const {
    return &clocks_[std::size_t{number - 1} * streams_];
  }
  void merge(std::uint32_t number);
  void ended(std::uint32_t number);

  const Device& device_;
  std::uint32_t streams_ = 0, first_op_ = 0, count_ = 0;
  std::vector<std::uint32_t> now_;
  std::vector<std::uint32_t> clocks_;     // streams_ entries an operator
  std::vector<std::uint16_t> stream_of_;  // by operator
};

}  // namespace steploom
