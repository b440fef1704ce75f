// The operator graph of one pipeline chunk: the middle of the compiler, where passes act.
//
// An OpGraph is a directed acyclic graph of operators (two flat arrays behind this small header;
// copies are cheap). Operators are numbered in the order the framework's host issues them, and every
// edge goes from a lower to a higher number, so a graph is acyclic by construction; a pass that
// reorders returns a new graph. An edge carries the tensor for which its target waits.
//
// A Chunk is what one pipeline stage does with one micro-batch: a forward and a backward graph over
// one table of tensors, and an optimizer graph once a step. Weight-gradient operators sit in the
// backward graph, marked by their phase; split_backward.h takes them out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "models/work.h"

namespace steploom {

using OpId = std::uint32_t;
using TensorId = std::uint32_t;

// The process group that a collective runs over. Names are Megatron's.
enum class CommGroup : std::uint8_t {
  none,
  tp,               // tensor parallel
  cp,               // context parallel
  ep,               // expert parallel (dispatch and combine)
  etp,              // expert tensor parallel
  dp,               // data parallel: dense gradients and parameters
  expert_dp,        // data parallel of the experts
  dp_outer,         // the same shard in each copy of what is sharded (Layout::replicate)
  expert_dp_outer,  // the same of the experts
  pp_forward_in,    // receive activations from the stage before
  pp_forward_out,   // send activations to the stage after
  pp_backward_in,   // receive gradients from the stage after
  pp_backward_out,  // send gradients to the stage before
  embedding,        // first and last stage: gradients of tied embeddings
  world,            // every rank of a model replica: gradient norm
};
inline constexpr int kCommGroups = static_cast<int>(CommGroup::world) + 1;
std::string_view name_of(CommGroup g);  // "expert_dp"
// Their point-to-point messages go round a ring: every rank sends and receives in one call.
inline bool has_rings(CommGroup g) {
  return g == CommGroup::cp || g == CommGroup::tp;
}

// Which stream of the device an operator is issued to. gather: parameters of ZeRO-3; copy_in,
// copy_out: from and to host memory, each on an engine of its own.
enum class StreamKind : std::uint8_t {
  compute,
  tp,
  cp,
  ep,
  dp,
  expert_dp,
  gather,
  pp_send,
  pp_recv,
  copy_in,
  copy_out
};
inline constexpr int kStreamKinds = static_cast<int>(StreamKind::copy_out) + 1;
std::string_view name_of(StreamKind s);

struct OpNode {
  std::string name;  // "layer 3 · fc1"
  Work work;
  CommGroup group = CommGroup::none;  // collectives only
  StreamKind stream = StreamKind::compute;
  int layer = -1;           // model layer; -1: embedding, head, optimizer
  bool recompute = false;   // a forward operator run again in the backward pass
  bool host_waits = false;  // the host issues nothing more until this has finished
  double launches = 1;      // host time to issue it, in those of the runtime's kernel or collective
  int parts = 1;            // equal parts that its work was cut into, of which it is one
  int part = 0;             // a gradient collective: which of them
  bool routed = false;      // its rows are those that routing brings to this rank's experts
  // Communication that the call which issued the one before it issues too (Transformer Engine's
  // userbuffers): as cheap for the host as a kernel.
  bool direct = false;
  std::vector<TensorId> reads;
  std::vector<TensorId> writes;
};

enum class TensorScope : std::uint8_t {
  micro_batch,  // one copy for every micro-batch in flight
  step,  // lives through the step: gradients, parameters, optimizer state; not in the balance
};

inline constexpr TensorId kNoTensor = ~TensorId{0};

// A tensor, or a slice of one: slices follow their whole in the table, do not overlap one another
// and fill it. Memory counts the whole alone, which lives as long as it or any slice is in use.
struct Tensor {
  std::string name;
  Bytes bytes = 0;  // on one rank
  TensorScope scope = TensorScope::micro_batch;
  TensorId whole = kNoTensor;  // a slice: what it is a slice of
  Bytes offset = 0;            // a slice: its first byte in the whole
  // The layer whose rows on this rank it grows with; `bytes` are those of balanced routing. -1: it
  // does not.
  int routed = -1;
};

// The tensor that owns the bytes of `t`: its whole, or itself. `table`: of Tensor or alike.
template <class Table>
TensorId owner_of(const Table& table, TensorId t) {
  return table[t].whole == kNoTensor ? t : table[t].whole;
}

// Visits the tensors that share bytes with `t`: itself; of a slice its whole, of a whole its
// slices.
template <class Table, class Visit>
void each_overlapping(const Table& table, TensorId t, const Visit& visit) {
  visit(t);
  if (table[t].whole != kNoTensor) return visit(table[t].whole);
  for (TensorId s = t + 1; s < table.size() && table[s].whole == t; ++s) visit(s);
}

class OpGraph {
 public:
  struct Edge {
    OpId op;          // the other end
    TensorId tensor;  // what is waited for
  };

  OpGraph();
  OpGraph(const OpGraph&);
  OpGraph(OpGraph&&) noexcept;
  OpGraph& operator=(const OpGraph&);
  OpGraph& operator=(OpGraph&&) noexcept;
  ~OpGraph();

  OpId add(OpNode node);                                       // issue order is the order of calls
  void depend(OpId producer, OpId consumer, TensorId tensor);  // producer < consumer, asserted

  std::size_t size() const;
  const OpNode& node(OpId op) const;
  std::vector<Edge> predecessors(OpId op) const;  // in the order in which they were added
  std::vector<Edge> successors(OpId op) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Where the gradients of one layer accumulate (with ZeRO-2 and 3: its shards) (TensorScope::step).
struct LayerGradients {
  int layer = -1;
  TensorId dense = ~TensorId{0};    // everything but routed experts; ~0: none
  TensorId experts = ~TensorId{0};  // routed experts; ~0: none
};

struct Chunk {
  std::vector<Tensor> tensors;  // shared by the graphs below
  std::vector<LayerGradients> gradients;
  OpGraph forward;
  OpGraph first_forward;  // the step's first: gathers sharded parameters beside it
  OpGraph backward;       // data and weight gradients, in autograd's order
  OpGraph last_backward;  // the step's last: reduces gradient buckets beside it (ZeRO-2, 3: all do)
  OpGraph optimizer;      // once a step, after the last backward
  // What it shares with the rank's next chunk, if that goes on with its micro-batches: its output,
  // and the gradient of it.
  TensorId handed_on = kNoTensor, handed_back = kNoTensor;
};

}  // namespace steploom
