#include "models/optimizer.h"

#include <fmt/format.h>

#include <array>
#include <vector>

#include "models/error.h"
#include "models/nearest.h"

namespace steploom {
namespace {

constexpr Bytes kFp32 = 4;

struct Row {
  std::string_view name;
  int moments;
  // Words (fp32 but without masters) read and written by all kernels of an update but the
  // gradient's, and how often the gradient is read.
  int words;
  int gradient_reads;
  int scratch;  // words
};

// In the order of Optimizer. adam, fused: master and two moments read and written. foreach
// (torch 2.11, optim/adamw.py, _multi_tensor_adam): decay p·c (2 words); m = lerp(m, g) (2);
// v·b (2); v + g·g (2); d = sqrt v (2); d / c (2); d + eps (2); p + m / d (4); loop: the same. SGD
// (optim/sgd.py, _multi_tensor_sgd): momentum·b (2); + g (2); p + momentum (3).
constexpr std::array<Row, kOptimizers> kRows{{
    {"adam", 2, 6, 1, 0},
    {"adamw-foreach", 2, 18, 2, 1},
    {"adamw-fused", 2, 6, 1, 0},
    {"adamw-loop", 2, 18, 2, 0},
    {"sgd", 1, 7, 1, 0},
}};

const Row& row(Optimizer o) {
  return kRows.at(static_cast<std::size_t>(o));
}

Bytes word(const Keeping& k) {
  return k.masters ? kFp32 : bytes_of(k.precision);
}

}  // namespace

std::string_view name_of(Optimizer o) {
  return row(o).name;
}

Optimizer optimizer_named(std::string_view name, std::string_view reading) {
  std::vector<std::string_view> names;
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    if (kRows[i].name == name) return static_cast<Optimizer>(i);
    names.push_back(kRows[i].name);
  }
  throw Error({std::string(reading), "", fmt::format("one of {}", fmt::join(names, ", ")),
               fmt::format("'{}'", name), nearest_hint(name, names)});
}

Bytes master_bytes(const Keeping& k) {
  return !k.masters || bytes_of(k.precision) == kFp32 ? 0 : kFp32;
}

Bytes moment_bytes(Optimizer o, const Keeping& k) {
  return row(o).moments * word(k);
}

Bytes moved_bytes(Optimizer o, const Keeping& k, Bytes gradient) {
  // A 16-bit parameter is written from its master: by the same kernel, or by one that reads it.
  const bool one_kernel = o == Optimizer::adam || o == Optimizer::adamw_fused;
  const Bytes copy = master_bytes(k) == 0 ? 0 : bytes_of(k.precision) + (one_kernel ? 0 : kFp32);
  return row(o).words * word(k) + row(o).gradient_reads * gradient + copy;
}

Bytes scratch_bytes(Optimizer o, const Keeping& k) {
  return row(o).scratch * word(k);
}

}  // namespace steploom
