// Messages between pipeline ranks as slots of their own, for runtimes that issue them beside the
// passes (Runtime::messages_apart): where they stand among a rank's passes, and what waits for
// them.
//
// As torch.distributed.pipelining runs them: a pass awaits what it was sent on the compute stream,
// before its first kernel; a send leaves once everything before it is computed; before the
// optimizer all sends are over. All messages of a rank run on one stream, in the order in which
// they were issued, each when its other end has come.
#pragma once

#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "models/layout.h"
#include "planner/pass_slots.h"
#include "planner/rank_blocks.h"
#include "sim/program.h"

namespace steploom {

struct MessageOf {
  Message message = Message::receive_forward;
  int chunk = 0;
  std::int32_t micro_batch = 0;
};

constexpr bool is_forward(Message m) {
  return m == Message::receive_forward || m == Message::send_forward;
}

// By pipeline rank: what it issues, in order; nothing stands for the next slot of its list. Slots
// of a layout, whose stages lie in a loop.
using IssueOrder = std::vector<std::optional<MessageOf>>;
std::vector<IssueOrder> with_message_slots(const ScheduleSlots& slots, const Layout& layout,
                                           std::int64_t micro_batches);

// The edges of one device's slots: to be told of every slot that is pushed, in order.
class MessageSlots {
 public:
  explicit MessageSlots(Program& program) : program_(program) {}

  void message(std::uint32_t slot, const MessageOf& of);
  void pass(std::uint32_t slot, const SlotSpec& spec);
  void optimizer(std::uint32_t slot);

 private:
  void wait(std::uint32_t slot);  // its first kernel waits for what is due

  Program& program_;
  std::map<std::tuple<Message, int, std::int32_t>, std::uint32_t> received_;  // slots
  std::vector<std::uint32_t> due_;  // slots that the next kernel waits for
  std::optional<std::uint32_t> last_;
};

}  // namespace steploom
