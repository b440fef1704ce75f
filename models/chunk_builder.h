// From a model, a workload, a layout and a runtime to the operator graphs of one pipeline stage.
//
// The graphs hold what one rank of the stage does, with every operator's shape on that rank. Order
// is the order in which the runtime's host issues kernels. Ranks of one stage do the same work when
// routing is balanced: every expert gets tokens·top_k/experts rows.
#pragma once

#include <vector>

#include "models/layout.h"
#include "models/model_spec.h"
#include "models/op_graph.h"
#include "models/runtime.h"
#include "models/workload.h"

namespace steploom {

// What a virtual pipeline stage holds: one model chunk. Stages are contiguous; with one chunk a
// rank a virtual stage is a pipeline rank.
struct StageSpan {
  int first_layer = 0;
  int layers = 0;
  bool embedding = false;  // holds the input embedding (first stage)
  bool head = false;       // holds final norm, head and loss (last stage)
  bool receives = false;   // has a stage before it
  bool sends = false;      // has a stage after it
  int chunk = 0;           // its place among the chunks of its rank
  // In a V: the stage before it, or after it, is the rank's other chunk. No message passes.
  bool handed = false, hands_on = false;
  bool beside_embedding = false;  // in a V: the rank's other chunk holds the input embedding
  auto operator<=>(const StageSpan&) const = default;

  bool has_embedding_table() const { return embedding || beside_embedding; }
};
// `stage` from 0 to pp·vpp: virtual stage s is chunk s / pp of pipeline rank s mod pp, or of where
// it lies in a V (in_a_v).
StageSpan stage_span(const ModelSpec& m, const Layout& l, int stage);
// The chunks of a pipeline rank, in model order.
std::vector<StageSpan> rank_spans(const ModelSpec& m, const Layout& l, int pipeline_rank);

// One stage of a step of one micro-batch. The layout must keep all layout rules.
Chunk build_chunk(const ModelSpec& m, const Workload& w, const Layout& l, const Runtime& r,
                  const StageSpan& stage);

// Tokens of a micro-batch that a rank works on outside sequence-parallel regions.
std::int64_t tokens_of_rank(const Workload& w, const Layout& l);

// One half of a layer alone, between the arrival of its input and the sending of its output:
// forward and backward without recomputation. Attention depends on the layout through tp, cp,
// cp_comm, sp and the micro-batch, the feed-forward half through tokens_of_rank, tp, sp and how
// experts run.
enum class LayerPart { attention, feed_forward };
Chunk build_part(const ModelSpec& m, const Workload& w, const Layout& l, const Runtime& r,
                 int layer, LayerPart part);

// The chunks of one rank. They share one table of tensors: the last one's is whole, the others' are
// its beginnings. The last one's optimizer is that of all; the others have none. Where one hands on
// to the next (in a V), that one reads its output and writes the gradient of it.
std::vector<Chunk> build_chunks(const ModelSpec& m, const Workload& w, const Layout& l,
                                const Runtime& r, const std::vector<StageSpan>& spans);

// Parameters of a stage on one rank, by where the layout cuts them.
struct StageParameters {
  std::int64_t sharded = 0;     // tensor-sharded
  std::int64_t replicated = 0;  // on every tensor-parallel rank
  std::int64_t experts = 0;     // routed experts
  std::int64_t dense() const { return sharded + replicated; }
  std::int64_t total() const { return sharded + replicated + experts; }
  StageParameters& operator+=(const StageParameters& o);
};
StageParameters stage_parameters(const ModelSpec& m, const Layout& l, const StageSpan& stage);
StageParameters parameters_of(const ModelSpec& m, const Layout& l,
                              const std::vector<StageSpan>& spans);

// Tied embeddings, and those that multi-token prediction reads, live on the first and the last
// stage; their gradients are summed between them, if these are on two ranks.
bool shares_embedding(const ModelSpec& m, const Layout& l, const StageSpan& stage);

}  // namespace steploom
