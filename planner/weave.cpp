#include "planner/weave.h"

#include <algorithm>
#include <cassert>

namespace steploom {
namespace {

constexpr auto kCompute = static_cast<std::size_t>(StreamKind::compute);

bool is_exchange(const BlockTemplate& b, std::size_t op) {
  return b.infos[op].group == CommGroup::ep && b.infos[op].work.kind == OpKind::all_to_all;
}

class Weaver {
 public:
  Weaver(const BlockTemplate& forward, const BlockTemplate& backward) : f_(forward), b_(backward) {
    out_.block.last.fill(-1);
    out_.block.body.name = f_.name + " beside " + b_.name;
  }

  Woven run() {
    const std::vector<std::uint32_t> f = cuts_of(f_), b = cuts_of(b_);
    for (std::size_t i = 0; i < std::max(f.size(), b.size()); ++i) {
      if (i < b.size()) append(b_, b[i], true, out_.of_backward);
      if (i < f.size()) append(f_, f[i], false, out_.of_forward);
    }
    return std::move(out_);
  }

 private:
  // Operators of one block up to `end`.
  void append(const BlockTemplate& from, std::uint32_t end, bool beside,
              std::vector<std::uint32_t>& place) {
    BlockTemplate& to = out_.block.body;
    while (place.size() < end) {
      const std::size_t op = place.size();
      const auto id = static_cast<std::uint32_t>(to.ops.size());
      OpTemplate t = from.ops[op];
      t.beside = beside;
      t.first_dep = static_cast<std::uint32_t>(to.deps.size());
      for (std::uint32_t d = 0; d < t.deps; ++d)
        to.deps.push_back(place[from.deps[from.ops[op].first_dep + d]]);
      note_known(t);
      for (std::size_t& a = beside ? access_b_ : access_f_;
           a < from.accesses.size() && from.accesses[a].op == op; ++a)
        to.accesses.push_back({id, from.accesses[a].tensor, from.accesses[a].mode});
      to.infos.push_back(from.infos[op]);
      to.ops.push_back(t);
      out_.block.last[t.stream] = static_cast<std::int32_t>(id);
      place.push_back(id);
    }
  }

  // What is known finished when the operator starts: what its stream knew, and what it waits for.
  void note_known(const OpTemplate& op) {
    Block& b = out_.block;
    StreamClock clock{};
    const auto raise = [&](std::uint32_t to) {
      for (std::size_t s = 0; s < clock.size(); ++s) clock[s] = std::max(clock[s], b.known[to][s]);
      const std::uint16_t s = b.body.ops[to].stream;
      clock[s] = std::max(clock[s], b.sequence[to]);
    };
    const std::int32_t before = b.last[op.stream];
    if (before >= 0) raise(static_cast<std::uint32_t>(before));
    for (std::uint32_t d = 0; d < op.deps; ++d) raise(b.body.deps[op.first_dep + d]);
    b.known.push_back(clock);
    b.sequence.push_back(before < 0 ? 1 : b.sequence[static_cast<std::size_t>(before)] + 1);
  }

  const BlockTemplate& f_;
  const BlockTemplate& b_;
  Woven out_;
  std::size_t access_f_ = 0, access_b_ = 0;
};

}  // namespace

std::vector<std::uint32_t> cuts_of(const BlockTemplate& b) {
  std::vector<std::uint32_t> cuts;
  bool exchanged = false;
  for (std::size_t op = 0; op < b.ops.size(); ++op) {
    if (exchanged && b.ops[op].stream == kCompute) {
      cuts.push_back(static_cast<std::uint32_t>(op));
      exchanged = false;
    }
    exchanged = exchanged || is_exchange(b, op);
  }
  cuts.push_back(static_cast<std::uint32_t>(b.ops.size()));
  return cuts;
}

Woven weave(const BlockTemplate& forward, const BlockTemplate& backward) {
  return Weaver(forward, backward).run();
}

}  // namespace steploom
