#include "profiler/bind.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "models/error.h"
#include "profiler/arena.h"
#include "profiler/bind_context.h"

namespace steploom {
namespace {

[[noreturn]] void cannot(std::string place, std::string expected, std::string found) {
  throw Error({"execution", std::move(place), std::move(expected), std::move(found), ""});
}

// What has no kernels (yet), by name.
void require_executable(const BindInput& in) {
  const ModelSpec& m = in.model;
  if (!in.runtime.complete_operands)
    cannot("runtime " + in.runtime.name, "a runtime with complete operands: steploom", "none");
  if (in.work.precision != Precision::bf16)
    cannot("precision", "bf16", std::string(name_of(in.work.precision)));
  if (in.work.optimizer != Optimizer::adam)
    cannot("optimizer", "adam", std::string(name_of(in.work.optimizer)));
  if (m.attention.kind == AttentionKind::latent)
    cannot("model " + m.name, "grouped-query attention", "latent attention (MLA)");
  if (m.attention.qk_norm) cannot("model " + m.name, "q and k without a norm", "qk_norm");
  if (m.attention.sinks) cannot("model " + m.name, "attention without sinks", "sinks");
  if (m.attention.both_ways) cannot("model " + m.name, "causal attention", "both ways");
  if (m.attention.window > 0) cannot("model " + m.name, "attention to all tokens", "a window");
  if (m.mtp_modules > 0) cannot("model " + m.name, "one token predicted", "multi-token prediction");
  if (m.embedding_width > 0 || !m.final_norm)
    cannot("model " + m.name, "an embedding as wide as the layers and a norm before the head",
           "others");
  if (m.has_moe() && m.moe->shared_gate)
    cannot("model " + m.name, "a shared expert without a gate", "a gate");
  if (m.has_moe() && (m.moe->correction_bias || m.moe->groups > 1))
    cannot("model " + m.name, "a router with softmax over its choices",
           "a correction bias or routing groups");
  if (m.has_moe() && (m.moe->expert.bias || m.moe->router_bias))
    cannot("model " + m.name, "experts and a router without biases", "biases");
  if (in.layout.zero == 1 && m.tied_embeddings && in.layout.pp > 1)
    cannot("layout " + to_text(in.layout), "zero=0 with tied embeddings and pp > 1", "zero=1");
  if (in.layout.zero > 1)
    cannot("layout " + to_text(in.layout), "zero=0 or 1: whole parameters and gradients",
           "zero=" + std::to_string(in.layout.zero));
  if (in.layout.replicate > 1)
    cannot("layout " + to_text(in.layout), "replicate=1: shards over all replicas",
           "replicate=" + std::to_string(in.layout.replicate));
  if (in.layout.cp > 1)
    cannot("layout " + to_text(in.layout), "cp=1: attention over whole sequences",
           "cp=" + std::to_string(in.layout.cp));
  if (in_a_v(in.layout.schedule))
    cannot("layout " + to_text(in.layout),
           "stages in line: in a V messages need buffers, and stages hand on inside a rank",
           "schedule=" + std::string(name_of(in.layout.schedule)));
  if (in.layout.weave)
    cannot("layout " + to_text(in.layout), "passes one after another: woven ones need buffers",
           "weave=1");
  if (in.layout.pairwise > 1)
    cannot("layout " + to_text(in.layout), "exchanges whole or in chunks, not between pairs",
           "pairwise=" + std::to_string(in.layout.pairwise));
  if (in.layout.offload != Offload::none)
    cannot("layout " + to_text(in.layout), "all that a rank has in device memory",
           "offload=" + std::string(name_of(in.layout.offload)));
  if (in.layout.vpp > 1 && in.layout.vpp_group > in.layout.pp)
    cannot("layout " + to_text(in.layout),
           "as many micro-batches in turn as stages: larger groups need buffers for their messages",
           "vpp_group=" + std::to_string(in.layout.vpp_group));
}

class Binder {
 public:
  Binder(const BindInput& in, int rank, const BindOptions& options)
      : c_(in, rank, options, out_),
        p_(in.program),
        flat_(in.program),
        clocks_(flat_, static_cast<std::uint32_t>(rank)) {}

  Execution run() {
    place_tensors();
    place_constants();
    for (std::uint16_t s = 0; s < c_.device.streams; ++s) {
      out_.streams.push_back({s < p_.stream_names.size() ? p_.stream_names[s] : "", 0});
    }
    each_operator([this](std::uint32_t slot, std::uint32_t i, Operator op) {
      add_call(slot, i, std::move(op));
    });
    return std::move(out_);
  }

 private:
  template <class Visit>
  void each_operator(const Visit& visit) {
    for (std::uint32_t s = c_.device.first_slot; s < c_.device.first_slot + c_.device.slot_count;
         ++s) {
      const BlockTemplate& block = p_.blocks[p_.slots[s].block];
      std::size_t access = 0;
      for (std::uint32_t i = 0; i < block.ops.size(); ++i) {
        Operator op{block.infos[i], "", micro_batch_of(p_.slots[s], block.ops[i]), {}, {}};
        for (; access < block.accesses.size() && block.accesses[access].op == i; ++access) {
          const Access& a = block.accesses[access];
          if (a.mode == AccessMode::read) op.reads.push_back(a.tensor);
          if (a.mode == AccessMode::write) op.writes.push_back(a.tensor);
        }
        visit(s, i, std::move(op));
      }
    }
  }

  std::uint32_t id(std::uint32_t slot, std::uint32_t i) const {
    return p_.slots[slot].first_op + i;
  }
  std::size_t place_of(std::uint32_t op_id) const {
    return op_id - p_.slots[c_.device.first_slot].first_op;
  }

  bool micro_batch_tensor(std::uint32_t t) const {
    return p_.tensor_tables[c_.device.tensor_table][t].scope == TensorScope::micro_batch;
  }

  // Lives of the micro-batch tensors, then their offsets.
  void place_tensors() {
    std::map<std::pair<std::uint32_t, std::int32_t>, std::size_t> open;  // looked up only
    for (std::uint32_t s = c_.device.first_slot; s < c_.device.first_slot + c_.device.slot_count;
         ++s) {
      const Slot& slot = p_.slots[s];
      for (const Access& a : p_.blocks[slot.block].accesses) {
        if (!micro_batch_tensor(a.tensor)) continue;
        const std::pair key{c_.owner(a.tensor),
                            micro_batch_of(slot, p_.blocks[slot.block].ops[a.op])};
        const std::uint32_t me = clocks_.number(slot.first_op + a.op);
        auto found = open.find(key);
        if (found == open.end()) {
          if (a.mode != AccessMode::write)
            cannot(describe_op(p_, slot.first_op + a.op), "tensors written before they are read",
                   p_.tensor_tables[c_.device.tensor_table][a.tensor].name);
          found = open.emplace(key, lives_.size()).first;
          lives_.push_back({c_.tensor_bytes(key.first), me, 0});
          names_.push_back(key);
        }
        const std::uint32_t first = lives_[found->second].begin;
        if (a.mode == AccessMode::write && me != first && !clocks_.knows(me, first))
          cannot(describe_op(p_, slot.first_op + a.op),
                 "slices of '" + c_.tensor_name(key.first) + "' written after its first write",
                 "writes in any order");
        if (a.mode == AccessMode::free) lives_[found->second].end = me;
      }
    }
    for (std::size_t i = 0; i < lives_.size(); ++i)
      if (lives_[i].end == 0)
        cannot(describe_op(p_, clocks_.op(lives_[i].begin)), "tensors that are freed",
               p_.tensor_tables[c_.device.tensor_table][names_[i].first].name);
    const ArenaPlan plan = plan_arena(lives_, clocks_);
    memory(MemoryKind::arena).bytes = plan.bytes;
    out_.live_peak = plan.live_peak;
    begins_.resize(op_count());
    ends_.resize(op_count());
    for (std::size_t i = 0; i < lives_.size(); ++i) {
      c_.set_offset(names_[i].first, names_[i].second, plan.offsets[i]);
      begins_[lives_[i].begin - 1].push_back(i);
      ends_[lives_[i].end - 1].push_back(i);
    }
  }

  std::size_t op_count() const {
    std::size_t n = 0;
    for (std::uint32_t s = c_.device.first_slot; s < c_.device.first_slot + c_.device.slot_count;
         ++s)
      n += p_.blocks[p_.slots[s].block].ops.size();
    return n;
  }

  MemorySpec& memory(MemoryKind k) { return out_.memories[static_cast<std::size_t>(k)]; }

  TensorRef constant(MemoryKind k, ElementType type, std::int64_t rows, std::int64_t width) {
    Bytes& end = memory(k).bytes;
    const TensorRef ref{static_cast<std::uint32_t>(k), end, type, rows, width};
    end += (ref.bytes() + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
    return ref;
  }

  void place_constants() {
    const std::int64_t rows = c_.micro_batches * c_.tokens;
    const ModelSpec& m = c_.in.model;
    if (m.attention.rotary)
      out_.rotary = constant(MemoryKind::constants, ElementType::fp32, c_.in.work.seq_length,
                             m.attention.head_dim);
    out_.squares = constant(MemoryKind::constants, ElementType::fp32, 1, 1);
    if (c_.has_embedding()) out_.ids = constant(MemoryKind::tokens, ElementType::int32, rows, 1);
    if (c_.has_head()) {
      out_.targets = constant(MemoryKind::tokens, ElementType::int32, rows, 1);
      out_.loss = constant(MemoryKind::loss, ElementType::fp32, rows, 1);
    }
    if (c_.options.tape == TapeMode::off || !m.has_moe()) return;
    for (const StageSpan& span : c_.spans)
      for (int layer = span.first_layer; layer < span.first_layer + span.layers; ++layer)
        if (m.layer_is_moe[static_cast<std::size_t>(layer)]) place_routing(layer);
  }

  void place_routing(int layer) {
    for (std::int64_t mb = 0; mb < c_.micro_batches; ++mb) {
      const std::int64_t sequence = out_.first_sequence + mb * out_.sequence_stride;
      out_.routing.push_back(
          {layer, static_cast<std::int32_t>(mb),
           sequence * c_.in.work.seq_length + (c_.in.layout.sp ? c_.at.tp * c_.shard : 0),
           constant(MemoryKind::tape, ElementType::int32, c_.shard, c_.in.model.moe->top_k)});
    }
  }

  void add_call(std::uint32_t slot, std::uint32_t i, Operator op) {
    const BlockTemplate& block = p_.blocks[p_.slots[slot].block];
    const OpTemplate& t = block.ops[i];
    op.place = describe_op(p_, id(slot, i));
    Call call;
    call.op = id(slot, i);
    call.slot = slot;
    call.index = i;
    call.stream = t.stream;
    call.host_waits = t.host_waits;
    call.kernel = bind_kernel(c_, op);
    StreamSpec& stream = out_.streams[t.stream];
    stream.priority = std::min(stream.priority, static_cast<int>(t.priority));
    if (const auto* collective = std::get_if<Collective>(&call.kernel)) {
      CommunicatorSpec& spec = out_.communicators[collective->communicator];
      spec.ctas = std::max(spec.ctas, static_cast<int>(t.sms_wanted));
      spec.priority = std::min(spec.priority, static_cast<int>(t.priority));
    }
    for (std::uint32_t d = t.first_dep; d < t.first_dep + t.deps; ++d)
      wait_for(call, id(slot, block.deps[d]));
    for (std::uint32_t e = p_.edges_into_slot.first[slot]; e < p_.edges_into_slot.first[slot + 1];
         ++e) {
      const SlotEdge& edge = p_.edges[p_.edges_into_slot.items[e]];
      if (edge.to_op == i) wait_for(call, id(edge.from_slot, edge.from_op));
    }
    const std::size_t n = out_.calls.size();
    for (const std::size_t life : begins_[n])
      call.begins.push_back(c_.arena(names_[life].first, names_[life].second));
    for (const std::size_t life : ends_[n])
      call.ends.push_back(c_.arena(names_[life].first, names_[life].second));
    out_.calls.push_back(std::move(call));
  }

  void wait_for(Call& call, std::uint32_t producer) {
    Call& from = out_.calls[place_of(producer)];
    if (from.stream == call.stream) return;  // stream order
    if (from.event < 0) from.event = static_cast<std::int32_t>(out_.events++);
    const auto event = static_cast<std::uint32_t>(from.event);
    if (std::find(call.waits.begin(), call.waits.end(), event) == call.waits.end())
      call.waits.push_back(event);
  }

  Execution out_;
  BindContext c_;
  const Program& p_;
  FlatProgram flat_;
  DeviceClocks clocks_;
  std::vector<Life> lives_;
  std::vector<std::pair<std::uint32_t, std::int32_t>> names_;  // by life: tensor, micro-batch
  std::vector<std::vector<std::size_t>> begins_, ends_;        // by call
};

}  // namespace

Execution bind(const BindInput& input, int rank, const BindOptions& options) {
  require_executable(input);
  return Binder(input, rank, options).run();
}

}  // namespace steploom
