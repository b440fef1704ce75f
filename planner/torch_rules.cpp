#include "planner/torch_rules.h"

#include <fmt/format.h>

#include <array>
#include <map>
#include <set>
#include <tuple>
#include <utility>

namespace steploom {
namespace {

using Broken = std::optional<std::string>;
constexpr std::string_view kValidate = "PyTorch 2.11, pipelining/schedules.py, _validate_schedule";

// Calls visit(action, rank) for every action, the parts of an overlap apart; its first answer.
template <class Visit>
Broken first_broken(const TorchFile& f, const Visit& visit) {
  for (std::size_t r = 0; r < f.rows.size(); ++r)
    for (const TorchAction& a : f.rows[r]) {
      if (a.op != TorchOp::overlap) {
        if (Broken why = visit(a, static_cast<int>(r))) return why;
        continue;
      }
      if (Broken why =
              visit(TorchAction{a.stage, TorchOp::forward, a.micro_batch}, static_cast<int>(r)))
        return why;
      if (Broken why =
              visit(TorchAction{a.back_stage, a.back_op, a.back_micro_batch}, static_cast<int>(r)))
        return why;
    }
  return std::nullopt;
}

Broken a_row_a_rank(const TorchFile& f) {
  if (f.rows.size() == static_cast<std::size_t>(f.ranks)) return std::nullopt;
  return fmt::format("{} rows for {} ranks", f.rows.size(), f.ranks);
}

Broken names_what_there_is(const TorchFile& f) {
  return first_broken(f, [&](const TorchAction& a, int rank) -> Broken {
    const bool of_batch = computes(a.op) || is_message(a.op);
    if (a.stage >= 0 && a.stage < f.stages &&
        (of_batch ? a.micro_batch >= 0 && a.micro_batch < f.micro_batches : a.micro_batch == -1))
      return std::nullopt;
    return fmt::format("{} on rank {}, of {} stages and {} micro-batches", to_text(a), rank,
                       f.stages, f.micro_batches);
  });
}

Broken only_computes(const TorchFile& f) {
  if (f.messages) return std::nullopt;
  return first_broken(f, [&](const TorchAction& a, int rank) -> Broken {
    if (computes(a.op)) return std::nullopt;
    return fmt::format("{} on rank {}", to_text(a), rank);
  });
}

Broken a_stage_on_one_rank(const TorchFile& f) {
  std::map<int, int> rank_of;
  return first_broken(f, [&](const TorchAction& a, int rank) -> Broken {
    const auto [at, fresh] = rank_of.try_emplace(a.stage, rank);
    if (at->second == rank) return std::nullopt;
    return fmt::format("stage {} on ranks {} and {}", a.stage, at->second, rank);
  });
}

Broken in_order(const TorchFile& f) {
  std::set<std::tuple<int, TorchOp, std::int32_t>> had;
  return first_broken(f, [&](const TorchAction& a, int rank) -> Broken {
    TorchOp before = TorchOp::forward;
    if (a.op == TorchOp::backward_weight) before = TorchOp::backward_input;
    const bool needs = a.op == TorchOp::backward_weight || a.op == TorchOp::backward_input ||
                       a.op == TorchOp::full_backward;
    if (needs && had.count({a.stage, before, a.micro_batch}) == 0)
      return fmt::format("{} on rank {} without {} before it", to_text(a), rank,
                         to_text({a.stage, before, a.micro_batch}));
    had.insert({a.stage, a.op, a.micro_batch});
    return std::nullopt;
  });
}

Broken everything_once(const TorchFile& f) {
  std::set<std::tuple<int, TorchOp, std::int32_t>> had;
  return first_broken(f, [&](const TorchAction& a, int rank) -> Broken {
    if (had.insert({a.stage, a.op, a.micro_batch}).second) return std::nullopt;
    return fmt::format("{} twice on rank {}", to_text(a), rank);
  });
}

Broken every_micro_batch(const TorchFile& f) {
  std::map<std::pair<int, TorchOp>, std::set<std::int32_t>> done;
  first_broken(f, [&](const TorchAction& a, int) -> Broken {
    done[{a.stage, a.op}].insert(a.micro_batch);
    return std::nullopt;
  });
  const auto m = static_cast<std::size_t>(f.micro_batches);
  for (int s = 0; s < f.stages; ++s) {
    const std::size_t forward = done[{s, TorchOp::forward}].size(),
                      full = done[{s, TorchOp::full_backward}].size(),
                      input = done[{s, TorchOp::backward_input}].size(),
                      weight = done[{s, TorchOp::backward_weight}].size();
    if (forward != m || input != weight || full + (input + weight) / 2 != m)
      return fmt::format("stage {} has {} F, {} B, {} I and {} W for {} micro-batches", s, forward,
                         full, input, weight, m);
  }
  return std::nullopt;
}

// The last stage's losses are a list in the order of its forward passes, and are looked up in it by
// micro-batch.
Broken losses_in_order(const TorchFile& f) {
  std::int32_t next = 0;
  return first_broken(f, [&](const TorchAction& a, int rank) -> Broken {
    if (a.stage != f.stages - 1 || a.op != TorchOp::forward) return std::nullopt;
    if (a.micro_batch == next++) return std::nullopt;
    return fmt::format("{} on rank {} is the last stage's forward pass number {}", to_text(a), rank,
                       next - 1);
  });
}

TorchRows computing(const TorchFile& f) {
  TorchRows rows = f.rows;
  for (TorchRow& row : rows)
    std::erase_if(row, [](const TorchAction& a) { return !computes(a.op); });
  return rows;
}

Broken ends(const TorchFile& f) {
  if (!with_messages(computing(f), f.stages, f.micro_batches).empty()) return std::nullopt;
  return "ranks wait for each other for ever";
}

// _simulate with receives that wait; a sender does not.
Broken messages_meet(const TorchFile& f) {
  if (!f.messages) return std::nullopt;
  std::map<int, int> rank_of;
  first_broken(f, [&](const TorchAction& a, int rank) -> Broken {
    rank_of.try_emplace(a.stage, rank);
    return std::nullopt;
  });
  // By direction between two ranks: what one sends, and the other receives, in order.
  std::map<std::tuple<int, int, bool>, std::vector<std::int64_t>> sent, received;
  first_broken(f, [&](const TorchAction& a, int rank) -> Broken {
    if (!is_message(a.op)) return std::nullopt;
    const bool sends = a.op == TorchOp::send_forward || a.op == TorchOp::send_backward;
    const bool forward = a.op == TorchOp::send_forward || a.op == TorchOp::receive_forward;
    const int step = forward ? 1 : -1, other = a.stage + (sends ? step : -step);
    const auto what = std::int64_t{sends ? a.stage : other} * f.micro_batches + a.micro_batch;
    if (sends)
      sent[{rank, rank_of[other], forward}].push_back(what);
    else
      received[{rank_of[other], rank, forward}].push_back(what);
    return std::nullopt;
  });
  if (sent == received) return std::nullopt;
  return "what ranks send is not what the others receive, in that order";
}

Broken gradients_are_reduced(const TorchFile& f) {
  if (!f.messages) return std::nullopt;
  std::set<int> reduced;
  Broken late = first_broken(f, [&](const TorchAction& a, int rank) -> Broken {
    if (a.op == TorchOp::reduce_grad) reduced.insert(a.stage);
    const bool makes = a.op == TorchOp::full_backward || a.op == TorchOp::backward_weight;
    if (!makes || reduced.count(a.stage) == 0) return std::nullopt;
    return fmt::format("{} on rank {} after the stage's REDUCE_GRAD", to_text(a), rank);
  });
  if (late) return late;
  for (int s = 0; s < f.stages; ++s)
    if (reduced.count(s) == 0) return fmt::format("stage {} has no REDUCE_GRAD", s);
  return std::nullopt;
}

constexpr std::array kRules{
    TorchRule{"a row a rank", kValidate, a_row_a_rank},
    TorchRule{"actions name stages and micro-batches that there are", kValidate,
              names_what_there_is},
    TorchRule{"compute_only has actions that compute",
              "PyTorch 2.11, pipelining/schedules.py, _prepare_schedule_with_comms", only_computes},
    TorchRule{"a stage is on one rank", kValidate, a_stage_on_one_rank},
    TorchRule{"F before B or I, I before W", kValidate, in_order},
    TorchRule{"every action once",
              "PyTorch 2.11, pipelining/stage.py: forward_one_chunk and backward_one_chunk keep "
              "one state a micro-batch",
              everything_once},
    TorchRule{"every micro-batch forward and backward", kValidate, every_micro_batch},
    TorchRule{"the last stage's forward passes ascend",
              "PyTorch 2.11, pipelining/schedules.py, _maybe_compute_loss and _maybe_get_loss",
              losses_in_order},
    TorchRule{"the schedule comes to an end",
              "PyTorch 2.11, pipelining/schedules.py, _add_send_recv", ends},
    TorchRule{"messages meet",
              "PyTorch 2.11, pipelining/schedules.py, _PipelineScheduleRuntime: NCCL matches "
              "messages between two ranks by their order",
              messages_meet},
    TorchRule{"gradients are reduced once a stage is done",
              "PyTorch 2.11, pipelining/schedules.py, _add_reduce_grad", gradients_are_reduced},
};

}  // namespace

std::span<const TorchRule> torch_rules() {
  return kRules;
}

std::string torch_fault(const TorchFile& file) {
  for (const TorchRule& rule : kRules)
    if (const Broken how = rule.broken(file))
      return fmt::format("{}: {} ({})", rule.name, *how, rule.source);
  return {};
}

}  // namespace steploom
