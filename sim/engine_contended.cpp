#include "sim/engine_contended.h"

#include <algorithm>
#include <utility>

#include "sim/event_tree.h"
#include "sim/flows.h"
#include "sim/frontier.h"
#include "sim/period_watch.h"
#include "sim/slow_down.h"
#include "sim/sm_pool.h"

namespace steploom {
namespace {

// What a stream's head is doing.
enum class Doing : std::uint8_t {
  nothing,  // something that it waits for has not ended
  issuing,  // its event is the moment at which the host has issued it
  lining,   // ready; waits for SMs
  running,  // resident; perhaps waiting for the other members
};

// A rendezvous while its members arrive.
struct Meeting {
  Picoseconds work = 0;          // longest duration so far
  std::uint32_t leader = kNoOp;  // the member that came first; eager: the receiver
  std::uint32_t arrived = 0;
  std::uint32_t link_share = 0;  // largest so far
};

class ContendedEngine {
 public:
  ContendedEngine(const FlatProgram& flat, const Contention& contention, Picoseconds* start,
                  Picoseconds* end)
      : flat_(flat),
        start_(start),
        end_(end),
        slow_down_(flat, contention),
        frontier_(flat, end),
        events_(flat.first_stream.back()),
        flows_(flat, events_),
        pool_(flat),
        doing_(flat.first_stream.back(), Doing::nothing),
        device_of_(flat.first_stream.back()),
        meetings_(flat.program.communicator_of_rendezvous.size()),
        to_poll_(flat.program.devices.size()),
        to_rate_(flat.program.devices.size()) {
    for (std::uint32_t d = 0; d < flat.program.devices.size(); ++d) {
      std::fill(device_of_.begin() + flat.first_stream[d],
                device_of_.begin() + flat.first_stream[d + 1], d);
      to_poll_.mark(d);
    }
  }

  // Skip what recurs; call it before run(). `every_op`: fill in the times of what is skipped.
  void skip_periods(bool every_op) {
    every_op_ = every_op;
    watch_of_.assign(flat_.first_stream.back(), kNoOp);
    for (SteadyState& steady : find_steady_states(flat_)) {
      watches_.emplace_back(flat_, std::move(steady));
      if (watches_.back().stream() != kNoOp)
        watch_of_[watches_.back().stream()] = static_cast<std::uint32_t>(watches_.size() - 1);
    }
  }

  // True if all ended.
  bool run() {
    for (;;) {
      for (const std::uint32_t d : to_poll_.items()) poll(d);
      to_poll_.clear();
      for (const std::uint32_t d : to_rate_.items()) rate(d);
      to_rate_.clear();
      flows_.settle(now_);
      if (events_.next() == kUnknown) break;
      for (const std::uint32_t w : due_) {
        const Moment now = moment(watches_[w]);
        const PeriodWatch::Found found = watches_[w].look(now, frontier_);
        if (found.times > 0) skip(watches_[w].steady(), found, now);
      }
      due_.clear();
      now_ = events_.next();
      while (events_.next() == now_) happen(events_.pop());
    }
    for (std::uint32_t s = 0; s < flat_.first_stream.back(); ++s)
      if (!frontier_.done(s)) return false;
    return true;
  }

  Picoseconds now() const { return now_; }
  std::uint64_t skipped() const { return skipped_; }

  // By stream, for whose SMs its head waits: the one before it in line, or a holder.
  std::vector<std::uint32_t> sms_held_by() const {
    std::vector<std::uint32_t> by(flat_.first_stream.back(), kNoOp);
    for (std::uint32_t d = 0; d < flat_.program.devices.size(); ++d) {
      const std::vector<std::uint32_t> line = pool_.waiting(d);
      std::uint32_t before = kNoOp;  // a stream that holds SMs, then the one before in line
      for (const std::uint32_t s : pool_.residents(d))
        if (before == kNoOp && pool_.held(s) > 0) before = s;
      for (const std::uint32_t s : line) {
        by[s] = frontier_.head(before).id;
        before = s;
      }
    }
    return by;
  }

 private:
  // All that the future of the devices of a watch depends on, between two instants.
  Moment moment(const PeriodWatch& watch) const {
    Moment m;
    m.at = now_;
    for (const auto& [d, first, last, period, reach] : watch.steady().devices) {
      m.issuing.push_back(frontier_.issuing_slot(d));
      frontier_.append_host(d, now_, m.state);
      for (std::uint32_t s = flat_.first_stream[d]; s < flat_.first_stream[d + 1]; ++s) {
        m.slots.push_back(frontier_.done(s) ? kNoOp : frontier_.head(s).slot);
        m.state.push_back(static_cast<std::int64_t>(doing_[s]));
        m.state.push_back(events_.of(s) == kUnknown ? -1 : events_.of(s) - now_);
        frontier_.append_stream(s, now_, watch.window(), m.state);
        if (doing_[s] == Doing::lining || doing_[s] == Doing::running)
          pool_.append_state(s, now_, m.state);
        if (doing_[s] == Doing::running) flows_.append_state(s, now_, m.state);
      }
    }
    return m;
  }

  // Moves a group of devices on by the periods that recur, and fills in their starts and ends. The
  // clock stays: what they do next lies so much later, and nothing of others reaches them before.
  void skip(const SteadyState& steady, const PeriodWatch::Found& found, const Moment& now) {
    std::size_t at = 0;  // among the group's streams
    for (std::size_t i = 0; i < steady.devices.size(); ++i) {
      const std::uint32_t d = steady.devices[i].device;
      const Skip& by = found.by[i];
      const std::uint32_t first = flat_.first_stream[d], last = flat_.first_stream[d + 1];
      const auto moves = [&](std::uint32_t s) {
        return now.slots[at + s - first] != found.from.slots[at + s - first];
      };
      skipped_ += by.ops;
      for (std::uint32_t s = first; s < last; ++s)
        if (moves(s))
          repeat(s - first, {found.from.slots[at + s - first], now.slots[at + s - first]},
                 frontier_.head(s).position, by, every_op_ ? 1 : found.first_read[i], found.times);
      frontier_.skip_host(d, by);
      for (std::uint32_t s = first; s < last; ++s) {
        if (!moves(s)) continue;
        if (doing_[s] == Doing::running)
          start_[frontier_.head(s).id + by.ops] = start_[frontier_.head(s).id] + by.time;
        frontier_.skip_stream(s, by);
        pool_.delay(s, by.ops, by.time);
        flows_.delay(s, by.time);
        if (events_.of(s) != kUnknown) events_.set(s, events_.of(s) + by.time);
      }
      at += last - first;
    }
    // The k-th of a communicator's rendezvous takes over what the one so many before it had.
    const std::vector<std::uint32_t>& of = flat_.program.communicator_of_rendezvous;
    for (const auto& [communicator, operators] : steady.issued) {
      const auto [first, last] = std::equal_range(of.begin(), of.end(), communicator);
      const auto back = static_cast<std::ptrdiff_t>(operators) * found.periods;
      for (std::ptrdiff_t r = last - of.begin(); r-- > first - of.begin() + back;)
        meetings_[static_cast<std::size_t>(r)] = meetings_[static_cast<std::size_t>(r - back)];
    }
  }

  // The starts and ends of a stream's last period, from one position in two slots to the same in
  // the other, once for each of the `times` periods skipped from number `first` on.
  void repeat(std::uint32_t local, std::pair<std::uint32_t, std::uint32_t> slots,
              std::uint32_t position, const Skip& by, std::uint32_t first, std::uint32_t times) {
    const std::uint32_t ops = by.ops / times;
    const Picoseconds time = by.time / times;
    for (std::uint32_t slot = slots.first; slot <= slots.second; ++slot) {
      const auto list = flat_.stream_ops(slot, local);
      const std::size_t from = slot == slots.first ? position : 0;
      const std::size_t to = slot == slots.second ? position : list.size();
      for (std::size_t i = from; i < to; ++i) {
        const std::uint32_t id = flat_.program.slots[slot].first_op + list[i];
        for (std::uint32_t k = first; k <= times; ++k) {
          start_[id + k * ops] = start_[id] + k * time;
          end_[id + k * ops] = end_[id] + k * time;
        }
      }
    }
  }

  // Ends at this instant; what becomes possible is looked at when all have been treated.
  void happen(std::uint32_t stream) {
    if (doing_[stream] != Doing::running) {
      if (doing_[stream] == Doing::issuing) doing_[stream] = Doing::nothing;
      to_poll_.mark(device_of_[stream]);
      return;
    }
    flows_.finish(stream);
    const StreamHead& h = frontier_.head(stream);
    std::uint32_t waiting = kNoOp;  // a receiver that came before its eager message
    if (h.op->eager && meets_others(stream)) {
      Meeting& meeting = meetings_[flat_.rendezvous(h.slot, *h.op)];
      if (h.op->sender) {
        waiting = meeting.leader;
        meeting.work = 1;  // the message is there
      }
    }
    for (std::uint32_t member = stream; member != kNoOp;) {
      const std::uint32_t next = flows_.next_member(member);
      end(member);
      member = next;
    }
    if (waiting != kNoOp) end(waiting);
  }

  void end(std::uint32_t stream) {
    const std::uint32_t d = device_of_[stream];
    end_[frontier_.head(stream).id] = now_;
    pool_.release(d, stream);
    frontier_.finished(d, stream);
    doing_[stream] = Doing::nothing;
    if (!watch_of_.empty() && watch_of_[stream] != kNoOp &&
        watches_[watch_of_[stream]].due(frontier_))
      due_.push_back(watch_of_[stream]);
    to_poll_.mark(d);
    to_rate_.mark(d);
  }

  // Starts what can start on a device.
  void poll(std::uint32_t d) {
    for (bool again = true; again;) {
      again = false;
      const auto [first, last] = frontier_.may_start(d);
      for (std::uint32_t s = first; s < last; ++s) {
        if (doing_[s] != Doing::nothing || frontier_.done(s)) continue;
        const Picoseconds at = frontier_.earliest(d, s);
        if (at == kUnknown) continue;
        if (at > now_) {
          doing_[s] = Doing::issuing;
          events_.set(s, at);
          continue;
        }
        doing_[s] = Doing::lining;
        pool_.enqueue(d, s, slow_down_.needs(frontier_.head(s).op), now_, frontier_.head(s).id);
      }
      started_.clear();
      const SmPool::Admission admission = pool_.admit(d, now_, started_);
      if (admission.asker != kNoOp) events_.set(admission.asker, admission.ask_at);
      for (const std::uint32_t s : started_) {
        begin(d, s);
        again = flat_.program.devices[d].hardware_connections == 1;
      }
    }
  }

  void begin(std::uint32_t d, std::uint32_t s) {
    const StreamHead& h = frontier_.head(s);
    start_[h.id] = now_;
    frontier_.started(d, s, now_);
    events_.set(s, kUnknown);
    doing_[s] = Doing::running;
    to_rate_.mark(d);
    flows_.arrive(s);
    const std::uint32_t communicator =
        h.op->role == kNoRole ? kNoOp : flat_.program.devices[d].communicator_of_role[h.op->role];
    const Picoseconds duration = flat_.duration(h.slot, *h.op);
    const std::uint32_t link_share = pool_.needs(s).link_share;
    if (!meets_others(s)) {
      flows_.begin(s, duration, now_, communicator, link_share);
      return;
    }
    Meeting& meeting = meetings_[flat_.rendezvous(h.slot, *h.op)];
    if (h.op->eager) {
      if (h.op->sender)
        flows_.begin(s, duration, now_, communicator, link_share);
      else if (meeting.work != 0)
        flows_.begin(s, 0, now_, kNoOp, 0);
      else
        meeting.leader = s;
      return;
    }
    meeting.work = std::max(meeting.work, duration);
    meeting.link_share = std::max(meeting.link_share, link_share);
    if (meeting.leader == kNoOp)
      meeting.leader = s;
    else
      flows_.join(meeting.leader, s);
    if (++meeting.arrived < flat_.program.communicators[communicator].members.size()) return;
    flows_.begin(meeting.leader, meeting.work, now_, communicator, meeting.link_share);
  }

  // The rates that a device allows its residents.
  void rate(std::uint32_t d) {
    const auto residents = pool_.residents(d);
    for (const std::uint32_t s : residents) {
      const KernelNeeds& needs = pool_.needs(s);
      std::uint64_t rate = slow_down_.on(needs, pool_.held(s), pool_.wanted(s));
      for (const std::uint32_t other : residents)
        if (other != s) rate = rate * slow_down_.beside(needs, pool_.needs(other)) / kFullRate;
      flows_.set_local(s, static_cast<std::uint32_t>(std::max<std::uint64_t>(rate, 1)));
    }
  }

  bool meets_others(std::uint32_t stream) const {
    return flat_.meets_others(flat_.program.devices[device_of_[stream]],
                              *frontier_.head(stream).op);
  }

  const FlatProgram& flat_;
  Picoseconds* start_;
  Picoseconds* end_;
  SlowDown slow_down_;
  Frontier frontier_;
  EventTree events_;
  Flows flows_;
  SmPool pool_;
  std::vector<Doing> doing_;              // by stream
  std::vector<std::uint32_t> device_of_;  // by stream
  std::vector<Meeting> meetings_;         // by rendezvous
  MarkList to_poll_, to_rate_;            // devices
  std::vector<std::uint32_t> started_;
  Picoseconds now_ = 0;
  std::vector<PeriodWatch> watches_;
  std::vector<std::uint32_t> watch_of_;  // by stream: the watch that asks for it, or kNoOp
  std::vector<std::uint32_t> due_;       // watches
  bool every_op_ = true;
  std::uint64_t skipped_ = 0;  // operators
};

}  // namespace

ContendedReplay replay_contended(const FlatProgram& flat, const Contention& contention,
                                 Periods periods, std::vector<Picoseconds>& start,
                                 std::vector<Picoseconds>& end) {
  start.assign(flat.program.op_count, kUnknown);
  end.assign(flat.program.op_count, kUnknown);
  ContendedEngine engine(flat, contention, start.data(), end.data());
  if (periods != Periods::all) engine.skip_periods(periods == Periods::filled);
  ContendedReplay result;
  result.ended = engine.run();
  result.last = engine.now();
  result.skipped = engine.skipped();
  if (!result.ended) result.sms_held_by = engine.sms_held_by();
  return result;
}

std::size_t contended_state_bytes(const FlatProgram& flat) {
  const std::size_t a_stream = Flows::bytes_per_stream() + SmPool::bytes_per_stream() +
                               sizeof(Doing) + sizeof(std::uint32_t);
  return std::size_t{flat.program.op_count} * 2 * sizeof(Picoseconds) + Frontier::bytes(flat) +
         EventTree(flat.first_stream.back()).bytes() + flat.first_stream.back() * a_stream +
         flat.program.communicator_of_rendezvous.size() * sizeof(Meeting);
}

}  // namespace steploom
