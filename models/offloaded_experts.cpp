#include "models/offloaded_experts.h"

#include <algorithm>
#include <cassert>
#include <string>
#include <utility>

#include "models/graph_rewriter.h"
#include "models/optimizer.h"

namespace steploom {
namespace {

constexpr std::size_t kBuffers = 2;  // layers whose experts are on the device at once

OpNode copy(std::string name, OpKind kind, Phase phase, int layer, Bytes bytes) {
  OpNode node;
  node.name = std::move(name);
  node.work = communication(kind, phase, bytes);
  node.work.m = bytes;
  node.stream = kind == OpKind::copy_to_device ? StreamKind::copy_in : StreamKind::copy_out;
  node.layer = layer;
  return node;
}

// Operators of a pass, one after the other, that read one layer's experts.
struct Use {
  int layer;
  OpId first, last;
};

std::vector<Use> uses_of_experts(const OpGraph& pass) {
  std::vector<Use> uses;
  for (OpId op = 0; op < pass.size(); ++op) {
    const OpNode& node = pass.node(op);
    if (node.work.kind != OpKind::grouped_matmul || node.work.phase == Phase::weight_grad) continue;
    if (uses.empty() || uses.back().layer != node.layer) uses.push_back({node.layer, op, op});
    uses.back().last = op;
  }
  return uses;
}

OpId first_kernel(const OpGraph& pass) {
  OpId op = 0;
  while (pass.node(op).stream != StreamKind::compute) ++op;
  return op;
}

std::int64_t experts_of(const std::vector<Unit>& list, int layer) {
  const auto unit =
      std::find_if(list.begin(), list.end(), [layer](const Unit& u) { return u.layer == layer; });
  assert(unit != list.end() && unit->experts > 0);
  return unit->experts;
}

// The pass with a copy in before each use.
OpGraph with_experts_in(const BuildContext& c, const std::vector<Unit>& list, Chunk& chunk,
                        Phase phase, const OpGraph& pass) {
  const std::vector<Use> uses = uses_of_experts(pass);
  if (uses.empty()) return pass;
  const OpId begin = first_kernel(pass);
  assert(begin < uses.front().first);
  const auto behind = [&](std::size_t use) {
    return use < kBuffers ? begin : uses[use - kBuffers].last;
  };
  GraphRewriter out(pass);
  std::vector<TensorId> parameters;
  std::size_t used = 0;
  for (OpId op = 0; op < pass.size(); ++op) {
    while (used < uses.size() && uses[used].last < op) ++used;
    const bool reads = used < uses.size() && uses[used].first <= op &&
                       pass.node(op).work.kind == OpKind::grouped_matmul &&
                       pass.node(op).work.phase != Phase::weight_grad;
    const OpId copied = reads ? out.copy_reading(op, {parameters[used]}) : out.copy(op);
    while (parameters.size() < uses.size() && behind(parameters.size()) == op) {
      const int layer = uses[parameters.size()].layer;
      const Bytes bytes = experts_of(list, layer) * c.e;
      OpNode node = copy("experts in", OpKind::copy_to_device, phase, layer, bytes);
      chunk.tensors.push_back({"layer " + std::to_string(layer) + " experts", bytes});
      parameters.push_back(static_cast<TensorId>(chunk.tensors.size() - 1));
      node.writes = {parameters.back()};
      out.depend(copied, out.add(std::move(node)), parameters.back());
    }
  }
  assert(parameters.size() == uses.size());
  return out.take();
}

// The pass with each layer's gradients sent to the host after their last writer.
OpGraph with_gradients_out(const BuildContext& c, const std::vector<Unit>& list,
                           const std::vector<TensorId>& on_host, const OpGraph& pass) {
  std::vector<OpId> written(list.size(), 0);
  for (OpId op = 0; op < pass.size(); ++op)
    for (const TensorId t : pass.node(op).writes)
      for (std::size_t i = 0; i < list.size(); ++i)
        if (list[i].expert_gradient == t) written[i] = op;
  GraphRewriter out(pass);
  for (OpId op = 0; op < pass.size(); ++op) {
    out.copy(op);
    for (std::size_t i = 0; i < list.size(); ++i) {
      const Unit& u = list[i];
      if (u.expert_gradient == kNoTensor || written[i] != op) continue;
      const Bytes bytes = u.experts * c.runtime.grad_bytes;
      OpNode squares;
      squares.name = "gradient norm";
      squares.work =
          streaming(OpKind::grad_norm, Phase::weight_grad, c.work.precision, u.experts, 1, bytes);
      squares.stream = StreamKind::copy_out;
      squares.layer = u.layer;
      squares.reads = {u.expert_gradient};
      out.add(std::move(squares));
      OpNode node =
          copy("expert gradients out", OpKind::copy_to_host, Phase::weight_grad, u.layer, bytes);
      node.reads = {u.expert_gradient};
      node.writes = {on_host[i]};
      out.add(std::move(node));
    }
  }
  return out.take();
}

}  // namespace

bool gradients_leave(const Layout& l, std::int64_t global_batch) {
  return l.offload == Offload::experts && l.micro_batches(global_batch) == 1;
}

void offload_experts(const BuildContext& c, const StageSpan& stage, Chunk& chunk) {
  const std::vector<Unit> list = units(c, stage, chunk);
  chunk.forward = with_experts_in(c, list, chunk, Phase::forward, chunk.forward);
  for (OpGraph* pass : {&chunk.backward, &chunk.last_backward})
    *pass = with_experts_in(c, list, chunk, Phase::data_grad, *pass);
  if (!gradients_leave(c.layout, c.work.global_batch)) return;
  std::vector<TensorId> on_host(list.size(), kNoTensor);
  for (std::size_t i = 0; i < list.size(); ++i) {
    const TensorId gradient = list[i].expert_gradient;
    if (gradient == kNoTensor) continue;
    chunk.tensors[gradient].bytes = list[i].experts * c.runtime.grad_bytes;
    chunk.tensors[gradient].scope = TensorScope::micro_batch;
    chunk.tensors.push_back({chunk.tensors[gradient].name + " on the host", 0, TensorScope::step});
    on_host[i] = static_cast<TensorId>(chunk.tensors.size() - 1);
  }
  for (OpGraph* pass : {&chunk.backward, &chunk.last_backward})
    *pass = with_gradients_out(c, list, on_host, *pass);
  for (LayerGradients& g : chunk.gradients)
    for (std::size_t i = 0; i < list.size(); ++i)
      if (on_host[i] != kNoTensor && g.experts == list[i].expert_gradient) g.experts = on_host[i];
}

StreamedState streamed_state(const BuildContext& c) {
  const Keeping keeping{c.work.precision, c.runtime.master_weights};
  const Bytes kept = master_bytes(keeping) + moment_bytes(c.work.optimizer, keeping);
  const Bytes read = master_bytes(keeping) > 0 ? 0 : c.e;
  return {kept + read, kept + c.e};
}

void update_offloaded(Emitter& out, const std::vector<StageSpan>& spans, const Chunk& chunk,
                      TensorId norm) {
  const BuildContext& c = out.c;
  const Keeping keeping{c.work.precision, c.runtime.master_weights};
  const Bytes g = c.runtime.grad_bytes;
  const StreamedState state = streamed_state(c);
  const bool brought = gradients_leave(c.layout, c.work.global_batch);
  std::vector<TensorId> done;  // layers whose state is on the host again
  for (const StageSpan& span : spans)
    for (const Unit& u : units(c, span, chunk)) {
      if (u.experts == 0) continue;
      const std::string layer = "layer " + std::to_string(u.layer) + " experts";
      const Bytes in = u.experts * (state.in + (brought ? g : 0));
      const TensorId held =
          out.tensor(layer + " state", u.experts * (state.out + (brought ? g : 0)));
      const TensorId updated = out.tensor(layer + " updated", 0, TensorScope::step);
      out.set_layer(u.layer);
      OpNode bring =
          copy("experts' state in", OpKind::copy_to_device, Phase::optimizer, u.layer, in);
      if (done.size() >= kBuffers) bring.reads.push_back(done[done.size() - kBuffers]);
      bring.reads.push_back(u.expert_gradient);
      bring.writes = {held};
      out.op(std::move(bring));
      OpNode update;
      update.name = name_of(c.work.optimizer);
      update.work = streaming(OpKind::adam, Phase::optimizer, c.work.precision, u.experts, 1,
                              u.experts * moved_bytes(c.work.optimizer, keeping, g));
      update.reads = {held, u.expert_gradient, norm};
      update.writes = {held};
      out.op(std::move(update));
      OpNode away = copy("experts' state out", OpKind::copy_to_host, Phase::optimizer, u.layer,
                         u.experts * state.out);
      away.reads = {held};
      away.writes = {updated};
      out.op(std::move(away));
      done.push_back(updated);
    }
  out.set_layer(-1);
}

}  // namespace steploom
