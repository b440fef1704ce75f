#include "planner/message_slots.h"

#include <algorithm>
#include <cassert>

#include "planner/schedule_seats.h"
#include "planner/torch_actions.h"

namespace steploom {
namespace {

std::optional<Message> message_of(TorchOp op) {
  switch (op) {
    case TorchOp::receive_forward:
      return Message::receive_forward;
    case TorchOp::send_forward:
      return Message::send_forward;
    case TorchOp::receive_backward:
      return Message::receive_backward;
    case TorchOp::send_backward:
      return Message::send_backward;
    default:
      return std::nullopt;
  }
}

}  // namespace

std::vector<IssueOrder> with_message_slots(const ScheduleSlots& slots, const Layout& l,
                                           std::int64_t micro_batches) {
  const ScheduleShape shape{l.pp, l.vpp, l.vpp_group, micro_batches};
  const Placement placement = in_a_v(l.schedule) ? Placement::v : Placement::loop;
  const TorchRows rows = with_messages(torch_actions(slots, placement, shape), l.virtual_stages(),
                                       static_cast<std::int32_t>(micro_batches));
  assert(!rows.empty());
  std::vector<int> chunk_of(static_cast<std::size_t>(l.virtual_stages()));
  for (const Seat& seat : seats_of(placement, shape))
    chunk_of[static_cast<std::size_t>(seat.stage)] = seat.chunk;
  std::vector<IssueOrder> out(rows.size());
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (const TorchAction& a : rows[r]) {
      if (computes(a.op)) out[r].emplace_back();
      if (a.op == TorchOp::overlap) out[r].emplace_back();  // one pass after the other
      if (const std::optional<Message> m = message_of(a.op))
        out[r].push_back(MessageOf{*m, chunk_of[static_cast<std::size_t>(a.stage)], a.micro_batch});
    }
  return out;
}

void MessageSlots::message(std::uint32_t slot, const MessageOf& of) {
  last_ = slot;
  if (of.message == Message::receive_forward || of.message == Message::receive_backward)
    received_[{of.message, of.chunk, of.micro_batch}] = slot;
}

void MessageSlots::pass(std::uint32_t slot, const SlotSpec& spec) {
  if (spec.kind != SlotKind::backward_weight) {
    const Message needed =
        spec.kind == SlotKind::forward ? Message::receive_forward : Message::receive_backward;
    const auto at = received_.find({needed, spec.chunk, spec.micro_batch});
    if (at != received_.end()) due_.push_back(at->second);
  }
  wait(slot);
}

void MessageSlots::optimizer(std::uint32_t slot) {
  if (last_) due_.push_back(*last_);
  wait(slot);
}

void MessageSlots::wait(std::uint32_t slot) {
  const std::vector<OpTemplate>& ops = program_.blocks[program_.slots[slot].block].ops;
  const auto first = std::find_if(ops.begin(), ops.end(), [](const OpTemplate& op) {
    return op.stream == static_cast<std::uint16_t>(StreamKind::compute);
  });
  if (first == ops.end()) return;
  for (const std::uint32_t from : due_)
    program_.edges.push_back({from, 0, slot, static_cast<std::uint32_t>(first - ops.begin())});
  due_.clear();
}

}  // namespace steploom
