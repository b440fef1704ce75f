#include "sim/engine_plain.h"

#include "sim/frontier.h"
#include "sim/rendezvous.h"

namespace steploom {
namespace {

class PlainEngine {
 public:
  PlainEngine(const FlatProgram& flat, Picoseconds* start, Picoseconds* end)
      : flat_(flat),
        start_(start),
        end_(end),
        frontier_(flat, end),
        awake_(flat.program.devices.size()),
        meetings_(flat, awake_) {}

  bool run() {
    for (std::uint32_t d = 0; d < flat_.program.devices.size(); ++d) awake_.push(d);
    while (!awake_.empty()) visit(awake_.pop());
    for (std::uint32_t s = 0; s < flat_.first_stream.back(); ++s)
      if (!frontier_.done(s)) return false;
    return true;
  }

 private:
  void visit(std::uint32_t device) {
    const std::uint32_t first = flat_.first_stream[device], last = flat_.first_stream[device + 1];
    for (bool moved = true; moved;) {
      moved = false;
      for (std::uint32_t s = first; s < last; ++s)
        while (!frontier_.done(s) && step(device, s)) moved = true;
    }
  }

  // Starts or finishes the stream's head; false if it has to wait.
  bool step(std::uint32_t device, std::uint32_t stream) {
    const StreamHead& h = frontier_.head(stream);
    if (start_[h.id] == kUnknown) {
      const Picoseconds at = frontier_.earliest(device, stream);
      if (at == kUnknown) return false;
      start_[h.id] = at;
      frontier_.started(device, stream, at);
      end_[h.id] = flat_.meets_others(flat_.program.devices[device], *h.op)
                       ? meetings_.join(h.slot, *h.op, h.id, at, end_)
                       : at + flat_.duration(h.slot, *h.op);
      if (end_[h.id] == kUnknown) return true;
    }
    if (end_[h.id] == kUnknown) return false;
    frontier_.finished(device, stream);
    return true;
  }

  const FlatProgram& flat_;
  Picoseconds* start_;
  Picoseconds* end_;
  Frontier frontier_;
  DeviceQueue awake_;
  Meetings meetings_;
};

}  // namespace

bool replay_plain(const FlatProgram& flat, std::vector<Picoseconds>& start,
                  std::vector<Picoseconds>& end) {
  start.assign(flat.program.op_count, kUnknown);
  end.assign(flat.program.op_count, kUnknown);
  return PlainEngine(flat, start.data(), end.data()).run();
}

std::size_t plain_state_bytes(const FlatProgram& flat) {
  return std::size_t{flat.program.op_count} * 2 * sizeof(Picoseconds) + Frontier::bytes(flat) +
         flat.program.communicator_of_rendezvous.size() * Meetings::bytes_each();
}

}  // namespace steploom
