#include "models/work.h"

#include <array>
#include <cstddef>

namespace steploom {
namespace {

struct KindRow {
  std::string_view name;
  OpClass group;
};

// In the order of OpKind.
constexpr std::array<KindRow, kOpKinds> kKinds{{
    {"matmul", OpClass::matmul},
    {"grouped_matmul", OpClass::grouped_matmul},
    {"batched_matmul", OpClass::matmul},
    {"attention", OpClass::attention},
    {"embedding", OpClass::memory},
    {"norm", OpClass::memory},
    {"rotary", OpClass::memory},
    {"residual", OpClass::memory},
    {"activation", OpClass::memory},
    {"softmax", OpClass::memory},
    {"dropout", OpClass::memory},
    {"router", OpClass::memory},
    {"permute", OpClass::memory},
    {"unpermute", OpClass::memory},
    {"cross_entropy", OpClass::memory},
    {"adam", OpClass::optimizer},
    {"grad_norm", OpClass::optimizer},
    {"zero_fill", OpClass::optimizer},
    {"copy_to_device", OpClass::copy},
    {"copy_to_host", OpClass::copy},
    {"all_reduce", OpClass::communication},
    {"all_gather", OpClass::communication},
    {"reduce_scatter", OpClass::communication},
    {"all_to_all", OpClass::communication},
    {"send_recv", OpClass::communication},
}};

constexpr std::array<std::string_view, kOpClasses> kClasses{
    "matmul", "grouped_matmul", "attention", "memory", "optimizer", "copy", "communication"};
constexpr std::array<std::string_view, 4> kPhases{"forward", "data_grad", "weight_grad",
                                                  "optimizer"};
struct PrecisionRow {
  std::string_view name;
  Bytes stored, operand;
  Precision of_others;
};

// In the order of Precision.
constexpr std::array<PrecisionRow, kPrecisions> kPrecisionRows{{
    {"bf16", 2, 2, Precision::bf16},
    {"fp16", 2, 2, Precision::fp16},
    {"fp32", 4, 4, Precision::fp32},
    {"tf32", 4, 4, Precision::fp32},
    {"fp8", 2, 1, Precision::bf16},
    {"fp8_block", 2, 1, Precision::bf16},
}};

template <class Row, std::size_t N, class Enum>
const Row& row(const std::array<Row, N>& table, Enum e) {
  return table.at(static_cast<std::size_t>(e));
}

}  // namespace

Bytes bytes_of(Precision p) {
  return row(kPrecisionRows, p).stored;
}
Bytes operand_bytes(Precision p) {
  return row(kPrecisionRows, p).operand;
}
Precision stored_precision(Precision p) {
  return row(kPrecisionRows, p).of_others;
}
bool is_16_bit(Precision p) {
  return p == Precision::bf16 || p == Precision::fp16;
}

std::string_view name_of(Precision p) {
  return row(kPrecisionRows, p).name;
}
std::string_view name_of(OpKind k) {
  return row(kKinds, k).name;
}
OpClass class_of(OpKind k) {
  return row(kKinds, k).group;
}
std::string_view name_of(OpClass c) {
  return row(kClasses, c);
}
std::string_view name_of(Phase p) {
  return row(kPhases, p);
}

bool is_masked_otherwise(const Work& w) {
  return w.window > 0 || w.both_ways || w.keys > 0;
}

}  // namespace steploom
