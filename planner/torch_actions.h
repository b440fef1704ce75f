// A pipeline schedule as torch.distributed.pipelining has it: for every rank a row of actions, and
// the CSV file that its _PipelineScheduleRuntime reads.
//
// An action is a stage, what is done and a micro-batch, "2F0": F forward; B backward, or in two
// parts I (gradients of the input) and W (of the weights); two of them at once,
// "(0F1;3B0)OVERLAP_F_B". A row of `compute_only` has no others; torch then adds what moves
// tensors. A row of `compute_comms` has SEND_F, RECV_F, SEND_B and RECV_B, each of a stage's own,
// and REDUCE_GRAD once a stage has run all its backward passes. Stages are virtual, micro-batches
// count from 0.
//
// Source: PyTorch 2.11, torch/distributed/pipelining/schedules.py, _Action and the functions named
// below.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "planner/pipeline_schedule.h"

namespace steploom {

enum class TorchOp : std::uint8_t {
  forward,          // F
  backward_input,   // I
  backward_weight,  // W
  full_backward,    // B
  overlap,          // OVERLAP_F_B: `forward` and `backward` of TorchAction
  unshard,          // UNSHARD, of parameters that FSDP shards
  reshard,          // RESHARD
  reduce_grad,      // REDUCE_GRAD: gradients are divided by the micro-batches, FSDP's are reduced
  send_forward,     // SEND_F
  receive_forward,  // RECV_F
  send_backward,    // SEND_B
  receive_backward  // RECV_B
};
std::string_view name_of(TorchOp op);  // "SEND_F"

struct TorchAction {
  int stage = 0;
  TorchOp op = TorchOp::forward;
  std::int32_t micro_batch = -1;  // -1: none
  // overlap: of the backward pass beside the forward pass that the members above name.
  int back_stage = 0;
  TorchOp back_op = TorchOp::full_backward;
  std::int32_t back_micro_batch = -1;
  bool operator==(const TorchAction&) const = default;
};
using TorchRow = std::vector<TorchAction>;
using TorchRows = std::vector<TorchRow>;  // by rank

constexpr bool computes(TorchOp op) {
  return op <= TorchOp::overlap;
}
constexpr bool is_message(TorchOp op) {
  return op >= TorchOp::send_forward;
}

std::string to_text(const TorchAction& a);

// The slots as actions; a placement of one copy of the model.
TorchRows torch_actions(const ScheduleSlots& slots, Placement placement,
                        const ScheduleShape& shape);

// What torch makes of a compute_only file (_add_unshard_reshard, _add_reduce_grad,
// _add_send_recv): ranks take turns, an action each if its input is there, and what sends puts the
// receive into the other's row at once. So both ends have their messages in one order. Without
// UNSHARD and RESHARD, which do nothing without FSDP; they take turns all the same. Empty: ranks
// wait for each other for ever.
TorchRows with_messages(const TorchRows& compute_only, int stages, std::int32_t micro_batches);

// A line a rank, as Python's csv module writes it; read: empty cells are left out. Reading throws
// Error that names `reading`, line and cell.
std::string to_csv(const TorchRows& rows);
TorchRows read_torch_csv(std::string_view text, std::string_view reading);

}  // namespace steploom
