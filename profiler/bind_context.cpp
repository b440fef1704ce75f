#include "profiler/bind_context.h"

#include <fmt/format.h>

#include <algorithm>

#include "models/error.h"
#include "models/operands.h"

namespace steploom {
namespace {

std::uint32_t number(MemoryKind k) {
  return static_cast<std::uint32_t>(k);
}

}  // namespace

BindContext::BindContext(const BindInput& input, int rank, const BindOptions& o, Execution& e)
    : in(input),
      options(o),
      out(e),
      device(input.program.devices.at(static_cast<std::size_t>(rank))),
      spans(rank_spans(input.model, input.layout, device.stage)) {
  out.rank = rank;
  number_communicators();
  at = {index_in(CommGroup::tp), index_in(CommGroup::etp), index_in(CommGroup::ep)};
  dp = index_in(CommGroup::dp);
  tokens = in.work.seq_length * in.layout.micro_batch;
  shard = in.layout.sp ? tokens / in.layout.tp : tokens;
  micro_batches = in.layout.micro_batches(in.work.global_batch);
  out.first_sequence = dp * in.layout.micro_batch;
  out.sequence_stride = in.layout.dp * in.layout.micro_batch;
  out.memories.resize(kMemoryKinds);
  for (std::size_t k = 0; k < out.memories.size(); ++k)
    out.memories[k].kind = static_cast<MemoryKind>(k);
  place_parameters();
}

void BindContext::number_communicators() {
  const Program& p = in.program;
  communicator_of_role_.assign(device.communicator_of_role.size(), -1);
  for (std::size_t role = 0; role < device.communicator_of_role.size(); ++role) {
    const std::uint32_t id = device.communicator_of_role[role];
    if (id == kNoCommunicator) continue;
    CommunicatorSpec spec;
    spec.name = p.communicators[id].name;
    spec.group = static_cast<CommGroup>(role);
    spec.id = id;
    for (const std::uint32_t m : p.communicators[id].members) {
      if (static_cast<int>(m) == out.rank) spec.index = static_cast<int>(spec.ranks.size());
      spec.ranks.push_back(static_cast<int>(m));
    }
    communicator_of_role_[role] = static_cast<std::int32_t>(out.communicators.size());
    out.communicators.push_back(std::move(spec));
  }
}

void BindContext::place_parameters() {
  list = parameter_list(in.model, in.layout, spans, at);
  std::int64_t next = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const ParameterTensor& p = list[i];
    const Range mine{next, p.elements()};
    next += mine.count;
    const bool expert = p.bucket == ParameterBucket::experts;
    Range& unit =
        units_.emplace(gradient_name(p.layer, expert), Range{mine.first, 0}).first->second;
    unit.count += mine.count;
    Range& all = expert ? experts : dense;
    if (all.count == 0) all.first = mine.first;
    all.count += mine.count;
    BoundParameter bound;
    bound.name = p.name;
    bound.rows = p.rows;
    bound.width = p.width;
    bound.value = parameters(mine).shaped(p.rows, p.width);
    bound.gradient = gradients(mine).shaped(p.rows, p.width);
    bound.entry = i;
    out.parameters.push_back(std::move(bound));
  }
  out.memories[number(MemoryKind::parameters)].bytes = next * 2;
  out.memories[number(MemoryKind::gradients)].bytes = next * 4;
}

int BindContext::index_in(CommGroup g) const {
  const std::int32_t c = communicator_of_role_[static_cast<std::size_t>(g)];
  return c < 0 ? 0 : out.communicators[static_cast<std::size_t>(c)].index;
}

std::size_t BindContext::size_of(CommGroup g) const {
  const std::int32_t c = communicator_of_role_[static_cast<std::size_t>(g)];
  return c < 0 ? 1 : out.communicators[static_cast<std::size_t>(c)].ranks.size();
}

std::uint32_t BindContext::communicator(const Operator& op) const {
  const std::int32_t c = communicator_of_role_[static_cast<std::size_t>(op.info.group)];
  if (c < 0) refuse(op, "a group of this rank", std::string(name_of(op.info.group)));
  return static_cast<std::uint32_t>(c);
}

Bytes BindContext::tensor_bytes(std::uint32_t tensor) const {
  return in.program.tensor_tables[device.tensor_table][tensor].bytes;
}

void BindContext::set_offset(std::uint32_t tensor, std::int32_t micro_batch, Bytes offset) {
  offsets_[{tensor, micro_batch}] = offset;
}

TensorRef BindContext::arena(std::uint32_t tensor, std::int32_t micro_batch) const {
  const auto found = offsets_.find({owner(tensor), micro_batch});
  if (found == offsets_.end()) return {};
  const Bytes inside = in.program.tensor_tables[device.tensor_table][tensor].offset;
  return {number(MemoryKind::arena), found->second + inside, ElementType::bf16,
          tensor_bytes(tensor) / 2, 1};
}

TensorRef BindContext::read(const Operator& op, std::size_t operand, ElementType type,
                            std::int64_t rows, std::int64_t width) {
  if (operand >= op.reads.size())
    refuse(op, fmt::format("operand {} to read", operand), fmt::format("{}", op.reads.size()));
  const std::uint32_t t = op.reads[operand];
  TensorRef ref = flat(op, t);
  if (ref.type != type || ref.elements() != rows * width)
    refuse(op, fmt::format("{} × {} elements to read", rows, width),
           fmt::format("'{}' of {} bytes", tensor_name(t), tensor_bytes(t)));
  return ref.shaped(rows, width);
}

TensorRef BindContext::write(const Operator& op, std::size_t operand, ElementType type,
                             std::int64_t rows, std::int64_t width) {
  if (operand >= op.writes.size())
    refuse(op, fmt::format("operand {} to write", operand), fmt::format("{}", op.writes.size()));
  const std::uint32_t t = op.writes[operand];
  set_type(t, type);
  TensorRef ref = flat(op, t);
  if (tensor_bytes(t) != rows * width * bytes_of(type))
    refuse(op, fmt::format("{} × {} elements to write", rows, width),
           fmt::format("'{}' of {} bytes", tensor_name(t), tensor_bytes(t)));
  return ref.shaped(rows, width);
}

TensorRef BindContext::flat(const Operator& op, std::uint32_t tensor) {
  TensorRef ref = arena(tensor, op.micro_batch);
  const auto type = types_.find(owner(tensor));
  if (!ref || type == types_.end())
    refuse(op, "a tensor that an operator before it writes", tensor_name(tensor));
  ref.type = type->second;
  ref.rows = tensor_bytes(tensor) / bytes_of(ref.type);
  return ref;
}

const BoundParameter* BindContext::parameter(const OpInfo& info, ParameterPart part) const {
  const bool tied_head = info.name == "head" && in.model.tied_embeddings && has_embedding();
  for (std::size_t i = 0; i < list.size(); ++i) {
    const ParameterTensor& p = list[i];
    const bool same = tied_head ? p.layer == -1 && p.op == "embedding"
                                : p.layer == info.layer && p.op == info.name;
    if (same && p.part == part) return &out.parameters[i];
  }
  return nullptr;
}

TensorRef BindContext::value(const Operator& op, ParameterPart part) const {
  const BoundParameter* p = parameter(op.info, part);
  if (p == nullptr) refuse(op, "a parameter: " + std::string(name_of(part)), "none");
  return p->value;
}

TensorRef BindContext::gradient(const Operator& op, ParameterPart part) const {
  const BoundParameter* p = parameter(op.info, part);
  if (p == nullptr) refuse(op, "a parameter: " + std::string(name_of(part)), "none");
  return p->gradient;
}

TensorRef BindContext::parameters(const Range& r) const {
  return {number(MemoryKind::parameters), r.first * 2, ElementType::bf16, r.count, 1};
}

TensorRef BindContext::gradients(const Range& r) const {
  return {number(MemoryKind::gradients), r.first * 4, ElementType::fp32, r.count, 1};
}

Range BindContext::unit_of(const Operator& op, const std::string& gradient) const {
  const auto found = units_.find(gradient);
  if (found == units_.end()) refuse(op, "gradients of a layer", gradient);
  return found->second;
}

void BindContext::refuse(const Operator& op, std::string expected, std::string found) const {
  throw Error({"program", op.place, std::move(expected), std::move(found), ""});
}

}  // namespace steploom
