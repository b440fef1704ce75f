#include "planner/rank_slots.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace steploom {
namespace {

class SlotWriter {
 public:
  SlotWriter(const Setting& s, const Layout& l, RankProgram& rank, LoadsAt loads,
             const std::vector<RoutedCount>& counts, Program& program)
      : runtime_(s.runtime),
        passes_(passes_of(l)),
        micro_batches_(static_cast<std::size_t>(l.micro_batches(s.work.global_batch))),
        rank_(rank),
        loads_(loads),
        counts_(counts),
        p_(program),
        had_(rank.blocks.chunks.size() * micro_batches_),
        ends_(rank.blocks.chunks.size()),
        messages_(program) {}

  void run(const PassSlot& spec) {
    const auto chunk = static_cast<std::size_t>(spec.chunk);
    const std::size_t index = chunk * passes_ + static_cast<std::size_t>(spec.pass);
    const std::uint32_t slot =
        push({rank_.first + static_cast<std::uint32_t>(index), spec.micro_batch, spec.kind},
             rank_.blocks.chunks[chunk].of(spec.pass));
    join(spec, {spec.pass, slot, nullptr});
    if (runtime_.messages_apart) messages_.pass(slot, spec);
  }

  void run_message(const MessageOf& of) {
    const auto which = static_cast<std::size_t>(of.message);
    const auto chunk = static_cast<std::size_t>(of.chunk);
    const auto index = static_cast<std::uint32_t>(1 + chunk * kMessages + which);
    const SlotKind kind = is_forward(of.message) ? SlotKind::forward : SlotKind::backward;
    messages_.message(push({rank_.optimizer(passes_) + index, of.micro_batch, kind},
                           rank_.blocks.chunks[chunk].message[which]),
                      of);
  }

  void run_woven(const PassSlot& forward, const PassSlot& backward) {
    const RankProgram::WovenBlock& both = woven(forward, backward);
    const std::uint32_t slot = push(
        {both.block, forward.micro_batch, SlotKind::pair, backward.micro_batch}, both.woven.block);
    join(forward, {forward.pass, slot, &both.woven.of_forward});
    join(backward, {backward.pass, slot, &both.woven.of_backward});
  }

  void run_optimizer() {
    const std::uint32_t slot =
        push({rank_.optimizer(passes_), -1, SlotKind::optimizer}, rank_.blocks.optimizer);
    messages_.optimizer(slot);
    for (std::size_t k = 0; k < ends_.size(); ++k)
      for (const Ran& end : ends_[k])
        for (const BlockEdge& e :
             rank_.blocks.chunks[k].into_optimizer[static_cast<std::size_t>(end.pass)])
          p_.edges.push_back({end.slot, end.at(e.from), slot, e.to});
  }

 private:
  // A pass in its slot.
  struct Ran {
    Pass pass;
    std::uint32_t slot;
    const std::vector<std::uint32_t>* place;  // of its operators in a woven block
    std::uint32_t at(std::uint32_t op) const { return place == nullptr ? op : (*place)[op]; }
  };

  std::uint32_t push(const Slot& spec, const Block& block) {
    const auto slot = static_cast<std::uint32_t>(p_.slots.size());
    p_.slots.push_back(spec);
    if (loads_.durations != kTemplateDurations && spec.micro_batch >= 0) {
      p_.slots.back().durations = loads_.durations;
      p_.slots.back().shares = loads_.shares;
      loads_.durations += counts_[spec.block].durations;
      loads_.shares += counts_[spec.block].shares;
    }
    pushed_.push_back(&block);
    if (runtime_.collective_waits_for_issued) wait_for_issued(slot);
    wait_for_room(slot);
    return slot;
  }

  // Waits for what the micro-batch's earlier passes made.
  void join(const PassSlot& spec, const Ran& pass) {
    const auto chunk = static_cast<std::size_t>(spec.chunk);
    for (const ChunkBlocks::Saved& saved : rank_.blocks.chunks[chunk].saved) {
      if (saved.to != pass.pass) continue;
      for (const Ran& before : had(saved.chunk, spec.micro_batch))
        if (saved.from == before.pass)
          for (const BlockEdge& e : saved.edges)
            p_.edges.push_back({before.slot, before.at(e.from), pass.slot, pass.at(e.to)});
    }
    had(chunk, spec.micro_batch).push_back(pass);
    if (pass.pass == Pass::last_backward || pass.pass == Pass::last_weight ||
        pass.pass == Pass::last_whole)
      ends_[chunk].push_back(pass);
  }

  std::vector<Ran>& had(std::size_t chunk, std::int32_t micro_batch) {
    return had_[chunk * micro_batches_ + static_cast<std::size_t>(micro_batch)];
  }

  const RankProgram::WovenBlock& woven(const PassSlot& forward, const PassSlot& backward) {
    const std::array key{
        static_cast<std::size_t>(forward.chunk), static_cast<std::size_t>(forward.pass),
        static_cast<std::size_t>(backward.chunk), static_cast<std::size_t>(backward.pass)};
    const auto [it, fresh] = rank_.woven.try_emplace(key);
    RankProgram::WovenBlock& both = it->second;
    if (!fresh) return both;
    // The blocks themselves have moved into the Program.
    const auto body = [&](std::size_t chunk, std::size_t pass) -> const BlockTemplate& {
      return p_.blocks[rank_.first + chunk * passes_ + pass];
    };
    both.woven = weave(body(key[0], key[1]), body(key[2], key[3]));
    const auto leading = [&](const PassSlot& of, const std::vector<std::uint32_t>& place) {
      for (const std::uint32_t op :
           rank_.blocks.chunks[static_cast<std::size_t>(of.chunk)].of(of.pass).leading)
        both.woven.block.leading.push_back(place[op]);
    };
    leading(backward, both.woven.of_backward);
    leading(forward, both.woven.of_forward);
    both.block = static_cast<std::uint32_t>(p_.blocks.size());
    p_.blocks.push_back(std::move(both.woven.block.body));
    return both;
  }

  // A collective issued before any compute operator of its block waits for the block before.
  void wait_for_issued(std::uint32_t slot) {
    if (pushed_.back()->leading.empty()) return;
    for (std::size_t back = 1; back < pushed_.size(); ++back) {
      const std::int32_t last = pushed_[pushed_.size() - 1 - back]->last[0];
      if (last < 0) continue;  // of messages alone
      for (const std::uint32_t op : pushed_.back()->leading)
        p_.edges.push_back(
            {slot - static_cast<std::uint32_t>(back), static_cast<std::uint32_t>(last), slot, op});
      return;
    }
  }

  // Messages of a runtime with few buffers: receives of the slot pushed last wait for what was
  // computed some slots before, its first kernel for what was sent some slots before.
  void wait_for_room(std::uint32_t slot) {
    const auto first_on = [&](StreamKind stream) {
      const std::vector<OpTemplate>& ops = p_.blocks[p_.slots[slot].block].ops;
      const auto found = std::find_if(ops.begin(), ops.end(), [&](const OpTemplate& op) {
        return op.stream == static_cast<std::uint16_t>(stream);
      });
      return found == ops.end() ? std::int64_t{-1} : found - ops.begin();
    };
    const auto wait = [&](StreamKind waiter, StreamKind past, int slots_before) {
      const auto back = static_cast<std::size_t>(slots_before);
      if (pushed_.size() <= back) return;
      const std::int32_t from =
          pushed_[pushed_.size() - 1 - back]->last[static_cast<std::size_t>(past)];
      const std::int64_t to = first_on(waiter);
      if (from >= 0 && to >= 0)
        p_.edges.push_back({slot - static_cast<std::uint32_t>(back),
                            static_cast<std::uint32_t>(from), slot,
                            static_cast<std::uint32_t>(to)});
    };
    const Runtime& r = runtime_;
    if (r.receive_ahead > 0) wait(StreamKind::pp_recv, StreamKind::compute, r.receive_ahead + 1);
    if (r.sends_under_way > 0) wait(StreamKind::compute, StreamKind::pp_send, r.sends_under_way);
  }

  const Runtime& runtime_;
  const std::size_t passes_, micro_batches_;
  RankProgram& rank_;
  LoadsAt loads_;
  const std::vector<RoutedCount>& counts_;
  Program& p_;
  std::vector<std::vector<Ran>> had_;   // by chunk and micro-batch
  std::vector<std::vector<Ran>> ends_;  // by chunk: the last passes of each kind
  std::vector<const Block*> pushed_;
  MessageSlots messages_;
};

}  // namespace

void append_slots(const Setting& setting, const Layout& layout, const std::vector<PassSlot>& slots,
                  const IssueOrder& issued, RankProgram& rank, LoadsAt loads,
                  const std::vector<RoutedCount>& counts, Program& program) {
  SlotWriter out(setting, layout, rank, loads, counts, program);
  auto next = slots.begin();
  for (const std::optional<MessageOf>& of : issued)
    if (of)
      out.run_message(*of);
    else
      out.run(*next++);
  for (auto i = static_cast<std::size_t>(next - slots.begin()); i < slots.size(); ++i)
    if (layout.weave && slots[i].beside_next && i + 1 < slots.size()) {
      out.run_woven(slots[i], slots[i + 1]);
      ++i;
    } else {
      out.run(slots[i]);
    }
  out.run_optimizer();
}

}  // namespace steploom
