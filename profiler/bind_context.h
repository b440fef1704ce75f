// What the parts of binding share: one rank's place in the layout and its tensors. Internal to
// bind*.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "models/chunk_builder.h"
#include "models/parameter_list.h"
#include "profiler/bind.h"

namespace steploom {

inline constexpr double kNormEpsilon = 1e-5;

// An operator of the Program with its operands, in the order of models/operands.h.
struct Operator {
  const OpInfo& info;
  std::string place;  // for messages
  std::int32_t micro_batch = 0;
  std::vector<std::uint32_t> reads, writes;

  const Work& work() const { return info.work; }
};

// A range of the parameters' or gradients' memory, in elements.
struct Range {
  std::int64_t first = 0, count = 0;
};

class BindContext {
 public:
  BindContext(const BindInput& input, int rank, const BindOptions& options, Execution& out);

  const BindInput& in;
  const BindOptions& options;
  Execution& out;
  const Device& device;
  const std::vector<StageSpan> spans;  // its model chunks
  ShardIndex at;
  int dp = 0;               // of this rank
  std::int64_t tokens = 0;  // of a micro-batch
  std::int64_t shard = 0;   // of it in the sequence-parallel region
  std::int64_t micro_batches = 0;
  std::vector<ParameterTensor> list;  // entry i is out.parameters[i]
  Range dense, experts;               // of all parameters
  // ZeRO-1: this rank's parts of the gradient buckets bound so far, in elements.
  std::vector<Range> own_parts;

  bool has_embedding() const { return spans.front().embedding; }
  bool has_head() const { return spans.back().head; }
  int index_in(CommGroup g) const;  // of this rank; 0 if it has no such group
  std::size_t size_of(CommGroup g) const;
  std::uint32_t communicator(const Operator& op) const;  // its place in out.communicators

  // The micro-batch tensor under a type and shape that must fill it. Writing fixes its type.
  TensorRef read(const Operator& op, std::size_t operand, ElementType type, std::int64_t rows,
                 std::int64_t width);
  TensorRef write(const Operator& op, std::size_t operand, ElementType type, std::int64_t rows,
                  std::int64_t width);
  // As it was written, without a shape of its own: for communication.
  TensorRef flat(const Operator& op, std::uint32_t tensor);
  // A slice has the type of its whole.
  void set_type(std::uint32_t tensor, ElementType type) { types_[owner(tensor)] = type; }
  std::uint32_t owner(std::uint32_t tensor) const {
    return owner_of(in.program.tensor_tables[device.tensor_table], tensor);
  }
  Bytes tensor_bytes(std::uint32_t tensor) const;
  // Of a whole tensor; its slices lie in it.
  void set_offset(std::uint32_t tensor, std::int32_t micro_batch, Bytes offset);
  TensorRef arena(std::uint32_t tensor, std::int32_t micro_batch) const;  // as bytes / 2 of bf16

  // The operator's parameter; throws if it has none. `absent_ok`: an absent TensorRef instead.
  const BoundParameter* parameter(const OpInfo& info, ParameterPart part) const;
  TensorRef value(const Operator& op, ParameterPart part) const;
  TensorRef gradient(const Operator& op, ParameterPart part) const;
  // A parameter that every tensor-parallel rank has, used on all rows of every rank: it acts on one
  // rank of the group only, where the group's sum follows.
  bool acts_here() const { return at.tp == 0; }
  bool accumulates_here() const { return !in.layout.sp || at.tp == 0; }

  TensorRef parameters(const Range& r) const;
  TensorRef gradients(const Range& r) const;
  // Range of a layer's gradients, by the name of its tensor (models/operands.h).
  Range unit_of(const Operator& op, const std::string& gradient) const;
  const std::string& tensor_name(std::uint32_t tensor) const {
    return in.program.tensor_tables[device.tensor_table][tensor].name;
  }

  [[noreturn]] void refuse(const Operator& op, std::string expected, std::string found) const;

 private:
  void place_parameters();
  void number_communicators();

  std::map<std::uint32_t, ElementType> types_;
  std::map<std::pair<std::uint32_t, std::int32_t>, Bytes> offsets_;
  std::vector<std::int32_t> communicator_of_role_;
  std::map<std::string, Range> units_;  // by gradient tensor name
};

// One operator to its call (bind_kernels.cpp, bind_step.cpp).
KernelCall bind_kernel(BindContext& c, const Operator& op);
KernelCall bind_moe(BindContext& c, const Operator& op);
KernelCall bind_loss(BindContext& c, const Operator& op);
KernelCall bind_optimizer(BindContext& c, const Operator& op);
KernelCall bind_collective(BindContext& c, const Operator& op);

}  // namespace steploom
