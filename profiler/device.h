// What the device side shares, in plain C++: streams and bf16 as callers see them, and faults.
//
// CUDA's own headers stay in .cu files; a Stream is a cudaStream_t under its opaque name. Every
// CUDA and cuBLAS return code is checked where the call is made; a fault is thrown as DeviceError
// and, when the device has no memory left, as OutOfDeviceMemory, after which the device is still
// usable.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

struct CUstream_st;

namespace steploom {

using Stream = CUstream_st*;
using Bf16 = std::uint16_t;  // bit pattern: the upper half of a float

class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class OutOfDeviceMemory : public DeviceError {
 public:
  using DeviceError::DeviceError;
};

// Host conversions, round to nearest even; a NaN stays one.
float to_float(Bf16 x);
Bf16 to_bf16(float x);

}  // namespace steploom
