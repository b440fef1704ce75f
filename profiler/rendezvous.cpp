#include "profiler/rendezvous.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "profiler/measure_fail.h"

namespace steploom {
namespace {

// What both sides say first. Its numbers are in this machine's byte order, which `order` shows.
struct Greeting {
  char name[8] = {'s', 't', 'e', 'p', 'l', 'o', 'o', 'm'};
  std::uint32_t order = 0x01020304;
  std::uint32_t version = 1;
  std::uint64_t run = 0;
  std::uint32_t ranks = 0;
  std::uint32_t rank = 0;
};
static_assert(sizeof(Greeting) == 32);

constexpr double kTrySeconds = 1;  // for one port, or for one stranger to answer
constexpr std::size_t kMostStrangers = 1024;

Clock::time_point after(double seconds) {
  return Clock::now() + std::chrono::microseconds(static_cast<std::int64_t>(1e6 * seconds));
}

Greeting greeting_of(const Place& place) {
  Greeting greeting;
  greeting.run = std::hash<std::string>()(place.run);
  greeting.ranks = static_cast<std::uint32_t>(place.ranks);
  greeting.rank = static_cast<std::uint32_t>(place.rank);
  return greeting;
}

std::string bytes_of(const Greeting& greeting) {
  return {reinterpret_cast<const char*>(&greeting), sizeof greeting};
}

// The rank that answered, or -1 for anything but a rank of this run.
int rank_in(const std::string& bytes, const Greeting& mine) {
  Greeting theirs;
  if (bytes.size() != sizeof theirs) return -1;
  std::memcpy(&theirs, bytes.data(), sizeof theirs);
  const auto rank = static_cast<int>(theirs.rank);
  theirs.rank = mine.rank;
  if (bytes_of(theirs) != bytes_of(mine)) return -1;
  return rank;
}

std::string seconds_text(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g s", seconds);
  return text;
}

std::string where(const Place& place) {
  std::string text;
  for (const std::string& address : place.addresses) text += (text.empty() ? "" : ", ") + address;
  text += " port " + std::to_string(place.ports.front());
  if (place.ports.size() > 1) {
    text += " (or " + std::to_string(place.ports[1]) + " to " + std::to_string(place.ports.back()) +
            ")";
  }
  return text;
}

struct Stranger {
  Socket socket;
  std::string bytes;
  Clock::time_point until;
};

class Host {  // rank 0
 public:
  Host(const Place& place, double patience)
      : place_(place), patience_(patience), links_(static_cast<std::size_t>(place.ranks)) {}

  std::vector<Link> gather() {
    listener_ = listen();
    const Clock::time_point end = after(patience_);
    while (!missing().empty()) {
      if (Clock::now() >= end) give_up();
      wait(end);
      admit();
      hear();
    }
    for (std::size_t rank = 1; rank < links_.size(); ++rank) {
      send_frame(links_[rank].socket.fd(), {kWelcome, 0, 0, ""});
    }
    return std::move(links_);
  }

 private:
  Socket listen() const {
    if (place_.listener >= 0) return Socket(place_.listener);
    const bool here = place_.addresses == std::vector<std::string>{"127.0.0.1"};
    for (const int port : place_.ports) {
      Socket socket = listen_on(port, here);
      if (socket.open()) return socket;
    }
    say_and_end("rank 0 cannot listen: all its ports are taken, " + where(place_));
  }

  std::vector<int> missing() const {
    std::vector<int> ranks;
    for (int rank = 1; rank < place_.ranks; ++rank) {
      if (!links_[static_cast<std::size_t>(rank)].socket.open()) ranks.push_back(rank);
    }
    return ranks;
  }

  [[noreturn]] void give_up() {
    const std::vector<int> absent = missing();
    say_once("rank " + std::to_string(absent.front()) +
             (absent.size() > 1 ? " and " + std::to_string(absent.size() - 1) + " more" : "") +
             " of " + std::to_string(place_.ranks) + " did not come within " +
             seconds_text(patience_) + "; rank 0 was listening on port " +
             std::to_string(port_of(listener_)) +
             (place_.launcher.empty() ? "" : ", as started by " + place_.launcher));
    for (const Link& link : links_) {
      if (link.socket.open()) send_frame(link.socket.fd(), {kEnded, 0, 0, ""});
    }
    _exit(1);
  }

  void wait(Clock::time_point end) const {
    std::vector<pollfd> all{{listener_.fd(), POLLIN, 0}};
    for (const Stranger& stranger : strangers_) {
      all.push_back({stranger.socket.fd(), POLLIN, 0});
      end = std::min(end, stranger.until);
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
    poll(all.data(), all.size(), static_cast<int>(std::clamp<long long>(left, 0, 60'000)));
  }

  void admit() {
    while (strangers_.size() < kMostStrangers) {
      Socket socket = accept_one(listener_);
      if (!socket.open()) return;
      prepare(socket, patience_);
      if (!send_bytes(socket.fd(), bytes_of(greeting_of(place_)))) continue;
      strangers_.push_back({std::move(socket), "", after(kTrySeconds)});
    }
  }

  void hear() {
    std::vector<Stranger> still;
    for (Stranger& stranger : strangers_) {
      const bool come =
          receive_until(stranger.socket.fd(), stranger.bytes, sizeof(Greeting), Clock::now());
      if (come) {
        const int rank = rank_in(stranger.bytes, greeting_of(place_));
        if (rank < 1 || rank >= place_.ranks) continue;
        Link& link = links_[static_cast<std::size_t>(rank)];
        if (!link.socket.open()) link.socket = std::move(stranger.socket);
      } else if (Clock::now() < stranger.until && !hung_up(stranger.socket)) {
        still.push_back(std::move(stranger));
      }
    }
    strangers_ = std::move(still);
  }

  // Whether it has something to read, all of which was read: its end.
  static bool hung_up(const Socket& socket) {
    pollfd state{socket.fd(), POLLIN | POLLRDHUP, 0};
    return poll(&state, 1, 0) == 1 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
  }

  const Place& place_;
  double patience_;
  Socket listener_;
  std::vector<Link> links_;  // by rank
  std::vector<Stranger> strangers_;
};

// Waits for rank 0's welcome; closed if rank 0 went away.
Link await_welcome(Socket socket, double patience) {
  Link link{std::move(socket), {}};
  const Clock::time_point end = after(patience);
  while (Clock::now() < end) {
    if (!readable(link.socket.fd(), end)) continue;
    const bool there = link.reader.take(link.socket.fd());
    Frame frame;
    if (link.reader.next(frame)) {
      if (frame.kind == kEnded) _exit(1);  // rank 0 has said why
      if (frame.kind == kWelcome) return link;
    }
    if (!there || link.reader.garbage()) break;
  }
  return {};
}

Link try_port(const Place& place, const std::string& address, int port, double patience) {
  const Clock::time_point end = after(std::min(kTrySeconds, patience / 2));
  Socket socket = connect_to(address, port, end);
  if (!socket.open()) return {};
  Greeting mine = greeting_of(place);
  std::string bytes;
  if (!receive_until(socket.fd(), bytes, sizeof mine, end) || rank_in(bytes, mine) != 0) return {};
  prepare(socket, patience);
  if (!send_bytes(socket.fd(), bytes_of(mine))) return {};
  return await_welcome(std::move(socket), patience);
}

Link find_first(const Place& place, double patience) {
  const Clock::time_point end = after(patience);
  while (Clock::now() < end) {
    for (const int port : place.ports) {
      for (const std::string& address : place.addresses) {
        Link link = try_port(place, address, port, patience);
        if (link.socket.open()) return link;
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  if (place.rank != 1) _exit(1);  // one rank speaks
  say_and_end("rank 0 was not found within " + seconds_text(patience) + " at " + where(place) +
              (place.launcher.empty() ? "" : ", as told by " + place.launcher));
}

}  // namespace

std::vector<Link> find_peers(const Place& place, double patience_seconds) {
  if (place.rank == 0) return Host(place, kFirstShare * patience_seconds).gather();
  std::vector<Link> links;
  links.push_back(find_first(place, patience_seconds));
  return links;
}

}  // namespace steploom
