// The order in which an operator names its operands, for runtimes with complete operands.
//
// Reads and writes of a node stand in this order; what stands in brackets is there only where the
// model or the layout has it. Parameters, token ids, targets and the loss are not named: they are
// there from the start of a step. `gradients` is the layer's accumulator.
//
//   kind, phase              | reads                                          | writes
//   matmul forward           | x                                              | y
//          data_grad         | dy                                             | dx
//          weight_grad       | x, dy                                          | gradients
//   grouped_matmul           | as matmul                                      |
//   attention forward        | qkv                                            | out, log-sum
//             data_grad      | d_out, qkv, out, log-sum                       | d_qkv
//   norm forward             | x                                              | y, scale, [mean]
//        data_grad           | dy, x, scale, [mean]                           | dx, gradients
//   rotary                   | qkv (backward: its gradient)                   | the same, turned
//   residual                 | a, b                                           | a + b
//   activation forward       | hidden                                         | activated
//              data_grad     | d_activated, hidden                            | d_hidden
//   router forward           | logits                                         | chosen, weight,
//   position, source
//          data_grad         | d_weight, weight, chosen                       | d_logits
//   permute forward          | x, source                                      | rows
//           data_grad        | d_rows, position                               | dx
//           sorting          | rows                                           | rows, by expert or
//           by sender
//   unpermute forward        | rows, position, weight, [shared expert]        | y
//             data_grad      | dy, rows, position, weight, source             | d_rows, d_weight
//   embedding forward        |                                                | y
//             weight_grad    | dy                                             | gradients
//   cross_entropy forward    | logits                                         | log-sum
//     of a slice (kLossOfSlice)  | logits                                     | maximum, local sums
//     sums (kLossSums)           | local sums, maximum                        | sums
//     end (kLossEnd)             | maximum, sums                              | log-sum
//     data_grad              | logits, log-sum                                | logits (their
//     gradient, in place)
//   all_reduce               | t...                                           | the same
//   all_gather, reduce_scatter, all_to_all | t; buckets: gradients...         | t'; buckets: the
//   same send_recv                | t (sender)                                     | t (receiver)
//   grad_norm                | gradients...                                   | norm
//   adam                     | gradients..., norm                             | parameters
//   zero_fill                |                                                | gradients...
//
// A parameter goes by its operator: layer and name, and what it is there (parameter_list.h).
#pragma once

#include <string>
#include <string_view>

namespace steploom {

// Names that say which kernel of their kind an operator is.
inline constexpr std::string_view kLoss = "cross entropy";
inline constexpr std::string_view kLossOfSlice = "cross entropy of the slice";
inline constexpr std::string_view kLossSums = "cross entropy sums";
inline constexpr std::string_view kLossEnd = "cross entropy end";
inline constexpr std::string_view kLogitMaximum = "logit maximum";  // its all-reduce: a maximum
inline constexpr std::string_view kSortByExpert = "sort rows by expert";
inline constexpr std::string_view kSortBySender = "sort rows by sender";

// Where the halves of a layer begin and end.
inline constexpr std::string_view kAttentionSum = "attention residual";
inline constexpr std::string_view kFeedForwardNorm = "ffn norm";

// The tensor in which the gradients of a layer accumulate: "layer 3 dense gradients".
inline std::string gradient_name(int layer, bool experts) {
  return "layer " + std::to_string(layer) + (experts ? " expert gradients" : " dense gradients");
}

}  // namespace steploom
