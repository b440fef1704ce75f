// A Timeline, indexed: what ran before and beside an event, and whom it met.
//
// Everything is read off the times; nothing is simulated. The Timeline must outlive its index.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sim/timeline.h"

namespace steploom {

class TimelineIndex {
 public:
  explicit TimelineIndex(const Timeline& timeline);

  const Timeline& timeline() const { return t_; }

  // The event before it in its stream; kNoEvent: none.
  std::uint32_t before_in_stream(std::uint32_t event) const { return before_[event]; }

  // Does anything run on another stream of its device within [from, to)?
  bool beside(std::uint32_t event, Picoseconds from, Picoseconds to) const;
  // For how much of [from, to)?
  Picoseconds held(std::uint32_t event, Picoseconds from, Picoseconds to) const;

  // Of all that ended on its device, not after it started, what ended last; kNoEvent: nothing.
  std::uint32_t last_ended(std::uint32_t event) const;

  // What the event waits for besides stream, host and peers; empty where unknown.
  std::span<const std::uint32_t> waits(std::uint32_t event) const;

  // Of the members of its collective, the one whose coming let this one go on: by its start or,
  // for an eager message, by its end. The event itself if it waited for nobody known.
  struct Comer {
    std::uint32_t event = kNoEvent;
    bool by_end = false;
  };
  Comer last_to_come(std::uint32_t event) const;

 private:
  // Events of a stream of a device, none empty, by start.
  struct Lane {
    std::vector<std::uint32_t> events;
    std::vector<Picoseconds> latest_end;  // of this event and all before it
  };
  const Lane& lane(std::uint32_t device, std::size_t stream) const {
    return lanes_[device * t_.streams.size() + stream];
  }
  // How many of a lane's events start before `time`.
  std::size_t started_before(const Lane& lane, Picoseconds time) const;

  const Timeline& t_;
  std::vector<std::uint32_t> before_;
  std::vector<Lane> lanes_;                           // device after device
  std::vector<std::uint32_t> meeting_of_;             // by event; kNoEvent: meets nobody
  std::vector<std::vector<std::uint32_t>> meetings_;  // the k-th events of a group's members
};

}  // namespace steploom
