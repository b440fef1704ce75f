#include "planner/torch_actions.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <charconv>
#include <set>
#include <tuple>

#include "models/error.h"
#include "planner/schedule_seats.h"

namespace steploom {
namespace {

constexpr std::array<std::string_view, 12> kNames{
    "F",       "I",           "W",      "B",      "OVERLAP_F_B", "UNSHARD",
    "RESHARD", "REDUCE_GRAD", "SEND_F", "RECV_F", "SEND_B",      "RECV_B"};

TorchOp op_of(SlotKind kind) {
  switch (kind) {
    case SlotKind::forward:
      return TorchOp::forward;
    case SlotKind::backward_data:
      return TorchOp::backward_input;
    case SlotKind::backward_weight:
      return TorchOp::backward_weight;
    case SlotKind::backward:
    case SlotKind::pair:
    case SlotKind::optimizer:
      break;
  }
  return TorchOp::full_backward;
}

// Of an action, or of both that an overlap is of.
template <class Visit>
void each_part(const TorchAction& a, const Visit& visit) {
  if (a.op != TorchOp::overlap) return visit(a);
  visit({a.stage, TorchOp::forward, a.micro_batch});
  visit({a.back_stage, a.back_op, a.back_micro_batch});
}

// _add_unshard_reshard and _add_reduce_grad.
constexpr std::size_t kMostActive = 3;  // stages unsharded at once: max_active_stages

std::vector<int> next_stages(const TorchRow& row, std::size_t from) {
  std::vector<int> seen;
  for (std::size_t i = from; i < row.size() && seen.size() < kMostActive; ++i)
    each_part(row[i], [&](const TorchAction& a) {
      if (std::find(seen.begin(), seen.end(), a.stage) == seen.end()) seen.push_back(a.stage);
    });
  return seen;
}

TorchRow with_once_a_stage(const TorchRow& row, std::int32_t micro_batches) {
  TorchRow out;
  std::set<int> active;
  std::vector<std::pair<int, std::int32_t>> done;  // backward passes by stage
  for (std::size_t i = 0; i < row.size(); ++i) {
    const std::vector<int> next = next_stages(row, i);
    const auto wanted = [&](int s) { return std::find(next.begin(), next.end(), s) != next.end(); };
    for (auto s = active.begin(); s != active.end();)
      if (wanted(*s)) {
        ++s;
      } else {
        out.push_back({*s, TorchOp::reshard});
        s = active.erase(s);
      }
    for (const int s : next)
      if (active.insert(s).second) out.push_back({s, TorchOp::unshard});
    out.push_back(row[i]);
    each_part(row[i], [&](const TorchAction& a) {
      if (a.op != TorchOp::backward_weight && a.op != TorchOp::full_backward) return;
      auto at = std::find_if(done.begin(), done.end(), [&](auto& d) { return d.first == a.stage; });
      if (at == done.end()) at = done.insert(at, {a.stage, 0});
      if (++at->second == micro_batches) out.push_back({a.stage, TorchOp::reduce_grad});
    });
  }
  return out;
}

// _add_send_recv.
class Messages {
 public:
  Messages(const TorchRows& rows, int stages) : rows_(rows), stages_(stages) {
    rank_of_.assign(static_cast<std::size_t>(stages), -1);
    for (std::size_t r = 0; r < rows.size(); ++r)
      for (const TorchAction& row : rows[r])
        each_part(row, [&](const TorchAction& a) {
          rank_of_.at(static_cast<std::size_t>(a.stage)) = static_cast<int>(r);
        });
    out_.resize(rows.size());
    had_.resize(rows.size());
  }

  TorchRows run() {
    std::vector<std::size_t> at(rows_.size(), 0);
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t r = 0; r < rows_.size(); ++r) {
        if (at[r] == rows_[r].size()) continue;
        const TorchAction& a = rows_[r][at[r]];
        bool ready = true;
        each_part(a, [&](const TorchAction& part) { ready = ready && is_ready(part, r); });
        if (!ready) continue;
        take(a, r);
        ++at[r];
        moved = true;
      }
    }
    for (std::size_t r = 0; r < rows_.size(); ++r)
      if (at[r] != rows_[r].size()) return {};
    for (TorchRow& row : out_)
      std::erase_if(row, [](const TorchAction& a) {
        return a.op == TorchOp::unshard || a.op == TorchOp::reshard;
      });
    return std::move(out_);
  }

 private:
  using Had = std::tuple<int, TorchOp, std::int32_t>;

  static bool is_backward(TorchOp op) {
    return op == TorchOp::backward_input || op == TorchOp::full_backward;
  }
  bool has(std::size_t rank, int stage, TorchOp op, std::int32_t mb) const {
    return had_[rank].count({stage, op, mb}) != 0;
  }

  bool is_ready(const TorchAction& a, std::size_t r) const {
    if (a.op == TorchOp::forward && a.stage != 0)
      return has(r, a.stage, TorchOp::receive_forward, a.micro_batch) ||
             has(r, a.stage - 1, TorchOp::forward, a.micro_batch);
    if (is_backward(a.op) && a.stage != stages_ - 1)
      return has(r, a.stage, TorchOp::receive_backward, a.micro_batch) ||
             has(r, a.stage + 1, TorchOp::backward_input, a.micro_batch) ||
             has(r, a.stage + 1, TorchOp::full_backward, a.micro_batch);
    return true;
  }

  void note(std::size_t r, const TorchAction& a) { had_[r].insert({a.stage, a.op, a.micro_batch}); }

  void take(const TorchAction& whole, std::size_t r) {
    out_[r].push_back(whole);
    each_part(whole, [&](const TorchAction& a) {
      note(r, a);
      const bool forward = a.op == TorchOp::forward;
      if (!forward && !is_backward(a.op)) return;
      const int to = a.stage + (forward ? 1 : -1);
      if (to < 0 || to >= stages_) return;
      const auto there = static_cast<std::size_t>(rank_of_[static_cast<std::size_t>(to)]);
      if (there == r) return;
      const TorchAction send{a.stage, forward ? TorchOp::send_forward : TorchOp::send_backward,
                             a.micro_batch};
      const TorchAction receive{to, forward ? TorchOp::receive_forward : TorchOp::receive_backward,
                                a.micro_batch};
      out_[r].push_back(send);
      note(r, send);
      out_[there].push_back(receive);
      note(there, receive);
    });
  }

  const TorchRows& rows_;
  int stages_;
  std::vector<int> rank_of_;  // by stage
  TorchRows out_;
  std::vector<std::set<Had>> had_;  // by rank
};

// One action's text, from its beginning; what is left of `text` is after it.
class Reader {
 public:
  Reader(std::string_view cell, std::string where) : rest_(cell), where_(std::move(where)) {}

  TorchAction cell() {
    if (!taken("(")) return whole(action());
    const TorchAction f = action();
    if (f.op != TorchOp::forward || !taken(";")) fail();
    const TorchAction b = action();
    if (!taken(")OVERLAP_F_B") || !rest_.empty()) fail();
    return {f.stage, TorchOp::overlap, f.micro_batch, b.stage, b.op, b.micro_batch};
  }

 private:
  TorchAction whole(const TorchAction& a) {
    if (!rest_.empty()) fail();
    return a;
  }

  [[noreturn]] void fail() const {
    throw Error({where_, "", "an action such as 0F0, 1SEND_F3 or (0F1;3B0)OVERLAP_F_B",
                 fmt::format("'{}'", rest_), ""});
  }

  bool taken(std::string_view prefix) {
    if (rest_.substr(0, prefix.size()) != prefix) return false;
    rest_.remove_prefix(prefix.size());
    return true;
  }

  std::int32_t number(bool needed) {
    std::int32_t value = -1;
    const auto [end, fault] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (fault != std::errc{} ? needed : value < 0) fail();
    if (fault == std::errc{}) rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return value;
  }

  TorchAction action() {
    TorchAction a;
    a.stage = number(true);
    // The longest name that fits.
    std::size_t best = kNames.size();
    for (std::size_t i = 0; i < kNames.size(); ++i)
      if (rest_.substr(0, kNames[i].size()) == kNames[i] &&
          (best == kNames.size() || kNames[i].size() > kNames[best].size()))
        best = i;
    if (best == kNames.size()) fail();
    taken(kNames[best]);
    a.op = static_cast<TorchOp>(best);
    a.micro_batch = number(false);
    return a;
  }

  std::string_view rest_;
  std::string where_;
};

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '"')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '"' || s.back() == '\r')) s.remove_suffix(1);
  return s;
}

}  // namespace

std::string_view name_of(TorchOp op) {
  return kNames[static_cast<std::size_t>(op)];
}

std::string to_text(const TorchAction& a) {
  const auto one = [](int stage, TorchOp op, std::int32_t mb) {
    return fmt::format("{}{}{}", stage, name_of(op), mb < 0 ? "" : std::to_string(mb));
  };
  if (a.op != TorchOp::overlap) return one(a.stage, a.op, a.micro_batch);
  return fmt::format("({};{})OVERLAP_F_B", one(a.stage, TorchOp::forward, a.micro_batch),
                     one(a.back_stage, a.back_op, a.back_micro_batch));
}

TorchRows torch_actions(const ScheduleSlots& slots, Placement placement,
                        const ScheduleShape& shape) {
  assert(placement != Placement::bidirectional);
  const std::vector<Seat> seats = seats_of(placement, shape);
  TorchRows out(slots.size());
  for (std::size_t r = 0; r < slots.size(); ++r) {
    const auto stage_of = [&](const SlotSpec& s) {
      return seats[r * static_cast<std::size_t>(shape.chunks) + static_cast<std::size_t>(s.chunk)]
          .stage;
    };
    for (std::size_t i = 0; i < slots[r].size(); ++i) {
      const SlotSpec& s = slots[r][i];
      TorchAction a{stage_of(s), op_of(s.kind), s.micro_batch};
      if (s.beside_next) {
        const SlotSpec& b = slots[r][++i];
        a = {a.stage, TorchOp::overlap, s.micro_batch, stage_of(b), op_of(b.kind), b.micro_batch};
      }
      out[r].push_back(a);
    }
  }
  return out;
}

TorchRows with_messages(const TorchRows& compute_only, int stages, std::int32_t micro_batches) {
  TorchRows rows;
  for (const TorchRow& row : compute_only) rows.push_back(with_once_a_stage(row, micro_batches));
  return Messages(rows, stages).run();
}

std::string to_csv(const TorchRows& rows) {
  std::string out;
  for (const TorchRow& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) out += (i == 0 ? "" : ",") + to_text(row[i]);
    out += "\n";
  }
  return out;
}

TorchRows read_torch_csv(std::string_view text, std::string_view reading) {
  TorchRows rows;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    TorchRow row;
    for (std::size_t cell = 1;; ++cell) {
      const std::size_t comma = std::min(line.find(','), line.size());
      const std::string_view one = trimmed(line.substr(0, comma));
      if (!one.empty())
        row.push_back(
            Reader(one, fmt::format("{}, line {}, cell {}", reading, rows.size() + 1, cell))
                .cell());
      if (comma == line.size()) break;
      line.remove_prefix(comma + 1);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace steploom
