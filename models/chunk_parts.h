// The parts that a stage's blocks are put together from: layers, table look-ups, head, and the
// modules that predict further tokens.
//
// As in emitter.h: forward parts fill a Saved, backward parts take the gradient of the output and
// give that of the input; both in the sequence-parallel region.
#pragma once

#include <vector>

#include "models/emitter.h"

namespace steploom {

TensorId layer_forward(Emitter& out, int layer, TensorId x, LayerSaved& saved);
TensorId layer_backward(Emitter& out, int layer, TensorId dy, const LayerSaved& saved);
// Full recomputation: the forward pass again from its input, in the backward pass.
void layer_again(Emitter& out, int layer, LayerSaved& saved);

// The rows of the micro-batch's tokens from the (vocabulary-parallel) table; `tables`: 2 where
// learned positions are added. Its gradient is accumulated into `gradient`.
TensorId lookup_forward(Emitter& out, int tables);
void lookup_backward(Emitter& out, TensorId dy, TensorId gradient);

struct HeadSaved {
  NormSaved norm;
  TensorId input = kNoTensor, normed = kNoTensor;
  TensorId narrow = kNoTensor;                       // projected to the table's width
  TensorId softmax = kNoTensor;                      // without complete operands
  TensorId logits = kNoTensor, log_sum = kNoTensor;  // with them
};
void head_forward(Emitter& out, TensorId x, HeadSaved& saved);
// `embedding_here`: a tied head's weight is the embedding's, and so is its gradient.
TensorId head_backward(Emitter& out, const HeadSaved& saved, bool embedding_here);

// One multi-token-prediction module.
struct MtpSaved {
  NormSaved token_norm, hidden_norm;
  TensorId token = kNoTensor, hidden = kNoTensor;  // the two inputs, before their norms
  TensorId both = kNoTensor;                       // after them, side by side: 2 · hidden wide
  LayerSaved layer;
  HeadSaved head;
};
// All modules of the model after the last layer, whose output is x.
void mtp_forward(Emitter& out, TensorId x, std::vector<MtpSaved>& modules);
// The gradient of x; kNoTensor if there are no modules.
TensorId mtp_backward(Emitter& out, std::vector<MtpSaved>& modules, bool embedding_here);

}  // namespace steploom
