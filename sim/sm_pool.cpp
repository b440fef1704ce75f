#include "sim/sm_pool.h"

#include <algorithm>
#include <cassert>
#include <tuple>

namespace steploom {

SmPool::SmPool(const FlatProgram& flat)
    : devices_(flat.program.devices.size()),
      uses_(flat.first_stream.back()),
      residents_(flat.first_stream.back() + 1),
      line_(flat.first_stream.back() + 1) {
  for (std::size_t d = 0; d < devices_.size(); ++d) {
    devices_[d].first = flat.first_stream[d];
    devices_[d].sms = devices_[d].free = flat.program.devices[d].sms;
  }
}

bool SmPool::before(std::uint32_t a, std::uint32_t b) const {
  const auto rank = [this](std::uint32_t s) {
    return std::tuple(uses_[s].needs->priority, uses_[s].ready, uses_[s].op);
  };
  return rank(a) < rank(b);
}

void SmPool::stand_in_line(Of& of, std::uint32_t stream) {
  if (uses_[stream].in_line) return;
  uses_[stream].in_line = true;
  std::uint32_t* const line = &line_[of.first];
  std::uint32_t at = of.line++;
  for (; at > 0 && before(stream, line[at - 1]); --at) line[at] = line[at - 1];
  line[at] = stream;
}

void SmPool::leave_line(Of& of, std::uint32_t stream) {
  if (!uses_[stream].in_line) return;
  uses_[stream].in_line = false;
  std::uint32_t* const line = &line_[of.first];
  std::uint32_t* const last = line + of.line--;
  std::copy(std::find(line, last, stream) + 1, last, std::find(line, last, stream));
}

void SmPool::enqueue(std::uint32_t device, std::uint32_t stream, const KernelNeeds& needs,
                     Picoseconds now, std::uint32_t op) {
  Of& of = devices_[device];
  Use& use = uses_[stream];
  use.needs = &needs;
  use.ready = now;
  use.op = op;
  use.held = 0;
  use.wanted = static_cast<std::uint16_t>(std::min<std::uint32_t>(needs.sms_wanted, of.sms));
  stand_in_line(of, stream);
}

void SmPool::start(Of& of, std::uint32_t stream, std::uint32_t sms, Picoseconds now) {
  Use& use = uses_[stream];
  assert(sms <= of.free);
  use.held = static_cast<std::uint16_t>(sms);
  of.free -= sms;
  use.start = now;
  use.resident = true;
  std::uint32_t* const all = &residents_[of.first];
  std::uint32_t at = of.residents++;
  for (; at > 0 && all[at - 1] > stream; --at) all[at] = all[at - 1];
  all[at] = stream;
}

Picoseconds SmPool::hand_over(Of& of, std::uint32_t stream, Picoseconds now) {
  const Use& asker = uses_[stream];
  const std::span<const std::uint32_t> all(&residents_[of.first], of.residents);
  // A holder's first boundary after the request; a wave is over at the earliest one wave after the
  // start.
  const auto yields = [&asker](const Use& holder) {  // at waves measured for higher priority
    return !holder.needs->hands_over && holder.needs->priority_wave > 0 &&
           asker.needs->priority < holder.needs->priority;
  };
  const auto boundary = [&asker, &yields](const Use& holder) {
    const Picoseconds wave = yields(holder) ? holder.needs->priority_wave : holder.needs->wave;
    const Picoseconds since = std::max<Picoseconds>(asker.ready - holder.start, 0);
    if (wave == 0) return holder.start + since;
    return holder.start + std::max<Picoseconds>((since + wave - 1) / wave, 1) * wave;
  };
  const auto spare = [&yields](const Use& holder) -> std::uint32_t {
    if (!holder.needs->hands_over && !yields(holder)) return 0;
    if (holder.held <= holder.needs->sms_least) return 0;
    return static_cast<std::uint32_t>(holder.held - holder.needs->sms_least);
  };
  // The earliest time by which enough holders have come to a boundary.
  Picoseconds at = now;
  for (;;) {
    std::uint32_t come = of.free;
    Picoseconds next = kUnknown;
    for (const std::uint32_t s : all) {
      const Picoseconds t = boundary(uses_[s]);
      if (t <= at)
        come += spare(uses_[s]);
      else if (spare(uses_[s]) > 0)
        next = std::min(next, t);
    }
    if (come >= asker.wanted) break;
    if (next == kUnknown) return kUnknown;
    at = next;
  }
  if (at > now) return at;
  for (const std::uint32_t s : all) {
    if (of.free >= asker.wanted) break;
    Use& holder = uses_[s];
    if (boundary(holder) > now) continue;
    const std::uint32_t sms = std::min(spare(holder), asker.wanted - of.free);
    if (sms == 0) continue;
    holder.held = static_cast<std::uint16_t>(holder.held - sms);
    of.free += sms;
  }
  return at;
}

SmPool::Admission SmPool::admit(std::uint32_t device, Picoseconds now,
                                std::vector<std::uint32_t>& started) {
  Of& of = devices_[device];
  Admission result;
  bool blocked = false;
  for (std::uint32_t i = 0; i < of.line;) {
    const std::uint32_t s = line_[of.first + i];
    Use& use = uses_[s];
    if (use.resident) {
      const std::uint32_t more =
          blocked ? 0 : std::min<std::uint32_t>(of.free, use.wanted - use.held);
      use.held = static_cast<std::uint16_t>(use.held + more);
      of.free -= more;
    } else if (use.wanted == 0 || (!blocked && of.free >= use.needs->sms_least)) {
      start(of, s, std::min<std::uint32_t>(of.free, use.wanted), now);
      started.push_back(s);
    } else if (!blocked && use.needs->collective) {
      const Picoseconds at = hand_over(of, s, now);
      if (at == now) {
        start(of, s, use.wanted, now);
        started.push_back(s);
      } else {
        result.asker = s;
        result.ask_at = at;
        blocked = true;
      }
    } else {
      blocked = true;
    }
    if (use.resident && use.held == use.wanted)
      leave_line(of, s);
    else
      ++i;
  }
  // Who handed SMs over stands in line for others.
  for (const std::uint32_t s : residents(device))
    if (uses_[s].held < uses_[s].wanted) stand_in_line(of, s);
  return result;
}

void SmPool::release(std::uint32_t device, std::uint32_t stream) {
  Of& of = devices_[device];
  Use& use = uses_[stream];
  leave_line(of, stream);
  of.free += use.held;
  use.resident = false;
  std::uint32_t* const all = &residents_[of.first];
  std::uint32_t* const last = all + of.residents--;
  std::copy(std::find(all, last, stream) + 1, last, std::find(all, last, stream));
}

void SmPool::append_state(std::uint32_t stream, Picoseconds now,
                          std::vector<std::int64_t>& state) const {
  const Use& use = uses_[stream];
  state.insert(state.end(), {use.ready - now, use.resident ? use.start - now : 1, use.held,
                             use.wanted, use.in_line});
}

void SmPool::delay(std::uint32_t stream, std::uint32_t ops, Picoseconds by) {
  Use& use = uses_[stream];
  use.ready += by;
  use.start += by;
  use.op += ops;
}

std::vector<std::uint32_t> SmPool::waiting(std::uint32_t device) const {
  std::vector<std::uint32_t> streams;
  for (std::uint32_t i = 0; i < devices_[device].line; ++i)
    if (const std::uint32_t s = line_[devices_[device].first + i]; !uses_[s].resident)
      streams.push_back(s);
  return streams;
}

}  // namespace steploom
