#include "profiler/peers.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <exception>

#include "profiler/measure_fail.h"

namespace steploom {
namespace {

// A rank's fault is often the echo of another's end, which the watcher sees about as soon and which
// says more.
constexpr auto kEcho = std::chrono::milliseconds(200);
// How long a rank that failed waits for rank 0 to say so.
constexpr auto kLastWords = std::chrono::seconds(2);
constexpr std::size_t kMostText = 300;
constexpr std::size_t kMostNamed = 4;

std::string bytes_of(double value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

double number_in(const std::string& bytes) {
  double value = 0;
  std::memcpy(&value, bytes.data(), std::min(bytes.size(), sizeof value));
  return value;
}

double seconds_since(Clock::time_point then) {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

std::string seconds_text(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g s", seconds);
  return text;
}

std::string named(std::size_t rank) {
  return "rank " + std::to_string(rank);
}

}  // namespace

std::unique_ptr<Peers> Peers::join(const Place& place, double patience_seconds) {
  return std::unique_ptr<Peers>(new Peers(place, patience_seconds));
}

Peers::Peers(const Place& place, double patience_seconds)
    : place_(place), patience_(patience_seconds) {
  if (ranks() == 1) {
    members_.emplace_back();
  } else {
    for (Link& link : find_peers(place, patience_seconds)) {
      members_.emplace_back();
      members_.back().link = std::move(link);
    }
  }
  start_ = met_ = Clock::now();
  if (pipe2(wake_, O_CLOEXEC) != 0) say_and_end("no file descriptor is left for a pipe");
  on_fail([this](const std::string& message) { failed(message); });
  watcher_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
}

Peers::~Peers() {
  if (std::uncaught_exceptions() == 0) turn(Op::leave, "");  // else the others see it go
  on_fail(nullptr);
  watcher_.request_stop();
  close(wake_[1]);
  watcher_.join();
  close(wake_[0]);
}

double Peers::seconds() const {
  return seconds_since(start_);
}

std::string Peers::share(std::string bytes) {
  return turn(Op::share, first() ? std::move(bytes) : "");
}

double Peers::most(double value) {
  return number_in(turn(Op::most, bytes_of(value)));
}

std::vector<std::string> Peers::gather(std::string bytes) {
  std::vector<std::string> parts;
  turn(Op::gather, std::move(bytes), &parts);
  return parts;
}

void Peers::meet() {
  turn(Op::meet, "");
}

void Peers::doing(const std::string& what) {
  {
    const std::lock_guard lock(mutex_);
    if (what == doing_) return;
    doing_ = what.substr(0, kMostText);
    if (first()) members_[0].doing = doing_;
  }
  if (first()) return;
  const std::lock_guard lock(sending_);
  send_frame(members_[0].link.socket.fd(), {kDoing, 0, 0, what.substr(0, kMostText)});
}

void Peers::keeping(const std::string& file) {
  const std::lock_guard lock(mutex_);
  kept_ = file;
}

// One round: brings a part, waits for the others, and returns what rank 0 made of all parts.
std::string Peers::turn(Op op, std::string part, std::vector<std::string>* parts) {
  if (part.size() > kMostBody) fail("a message of more than 1 GiB between ranks");
  std::unique_lock lock(mutex_);
  const std::uint32_t round = round_;
  if (first()) {
    arrive(0, op, std::move(part));
  } else {
    lock.unlock();
    {
      // A rank 0 that is gone is the watcher's to report.
      const std::lock_guard one(sending_);
      send_frame(members_[0].link.socket.fd(),
                 {kPart, static_cast<std::uint32_t>(op), round, std::move(part)});
    }
    lock.lock();
  }
  changed_.wait(lock, [&] { return round_ != round; });
  if (parts != nullptr) *parts = std::move(parts_);
  return std::move(reply_);
}

// At rank 0.
void Peers::arrive(std::size_t rank, Op op, std::string part) {
  Member& member = members_[rank];
  member.arrived = true;
  member.op = op;
  member.part = std::move(part);
  if (!std::all_of(members_.begin(), members_.end(), [](const Member& m) { return m.arrived; })) {
    return;
  }
  for (std::size_t other = 1; other < members_.size(); ++other) {
    if (members_[other].op != members_[0].op) {
      end_run(named(other) + " came to another round than rank 0 while " + members_[other].doing +
              " (a fault of this program)");
    }
  }
  const std::string reply = reply_to(members_[0].op);
  parts_.clear();
  for (Member& each : members_) {
    each.arrived = false;
    each.left = each.op == Op::leave;
    if (each.link.socket.open()) {
      send_frame(each.link.socket.fd(),
                 {kReply, static_cast<std::uint32_t>(each.op), round_, reply});
    }
    parts_.push_back(std::move(each.part));
  }
  finish_round(reply);
}

std::string Peers::reply_to(Op op) const {
  if (op == Op::share) return members_[0].part;
  if (op != Op::most) return "";
  double most = number_in(members_[0].part);
  for (const Member& member : members_) most = std::max(most, number_in(member.part));
  return bytes_of(most);
}

void Peers::finish_round(std::string reply) {
  reply_ = std::move(reply);
  ++round_;
  met_ = Clock::now();
  changed_.notify_all();
}

void Peers::watch(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    std::vector<pollfd> all{{wake_[0], POLLIN, 0}};
    double left = patience_ / 10;
    {
      const std::lock_guard lock(mutex_);
      for (const Member& member : members_) {
        if (member.link.socket.open()) all.push_back({member.link.socket.fd(), POLLIN, 0});
      }
      left = std::clamp(kFirstShare * patience_ - seconds_since(met_), 1e-3, left);
    }
    poll(all.data(), all.size(), static_cast<int>(1000 * left) + 1);
    if (stop.stop_requested()) return;
    read_all();
    check_patience();
  }
}

void Peers::read_all() {
  const std::lock_guard lock(mutex_);
  for (std::size_t from = 0; from < members_.size(); ++from) {
    Link& link = members_[from].link;
    if (!link.socket.open()) continue;
    const bool there = link.reader.take(link.socket.fd());
    for (Frame frame; link.reader.next(frame);) take(from, std::move(frame));
    if (there && !link.reader.garbage()) continue;
    link.socket.close();
    if (!members_[from].left) lost(from);
  }
}

void Peers::take(std::size_t from, Frame frame) {
  const auto op = static_cast<Op>(frame.op);
  if (frame.kind == kDoing) {
    members_[from].doing = std::move(frame.body);
  } else if (frame.kind == kFailed) {
    end_run(named(from) + ": " + frame.body);
  } else if (frame.kind == kEnded) {
    _exit(1);
  } else if (frame.kind == kPart && first() && frame.round == round_) {
    arrive(from, op, std::move(frame.body));
  } else if (frame.kind == kReply && !first() && frame.round == round_) {
    members_[0].left = op == Op::leave;
    finish_round(std::move(frame.body));
  }
}

void Peers::check_patience() {
  const std::lock_guard lock(mutex_);
  const double waited = seconds_since(met_);
  if (first()) {
    if (waited >= kFirstShare * patience_ && !members_[0].left) end_run(missing_text(waited));
  } else if (waited >= patience_ && !members_[0].left) {
    if (rank() != 1) _exit(1);  // one rank speaks
    say_and_end("rank 0 has not answered for " + seconds_text(waited) + " while rank 1 was " +
                doing_);
  }
}

std::string Peers::missing_text(double waited) const {
  std::vector<std::size_t> missing;
  for (std::size_t rank = 0; rank < members_.size(); ++rank) {
    if (!members_[rank].arrived) missing.push_back(rank);
  }
  std::string names, doings;
  bool same = true;
  for (std::size_t i = 0; i < missing.size(); ++i) {
    const std::string& doing = members_[missing[i]].doing;
    same = same && doing == members_[missing[0]].doing;
    if (i >= kMostNamed) continue;
    names += (i == 0 ? "" : ", ") + named(missing[i]);
    doings += (i == 0 ? "" : ", ") + named(missing[i]) + " " + doing;
  }
  if (missing.size() > kMostNamed) {
    names += " and " + std::to_string(missing.size() - kMostNamed) + " more";
  }
  if (missing.size() == members_.size()) names = "every rank";
  return names + (missing.size() == 1 || names == "every rank" ? " has" : " have") +
         " not come back for " + seconds_text(waited) +
         (same ? " while " + members_[missing[0]].doing : ": " + doings);
}

void Peers::lost(std::size_t from) {
  if (first())
    end_run(named(from) + " is gone (it ended or was killed) while " + members_[from].doing);
  rank_zero_gone_ = true;
  if (failing_) std::this_thread::sleep_for(2 * kLastWords);  // failed() speaks and ends
  if (rank() != 1) _exit(1);                                  // one rank speaks
  say_and_end("rank 0 is gone (it ended or was killed) while rank 1 was " + doing_);
}

// At rank 0. The message first: a launcher may end this process as soon as another rank ends.
void Peers::end_run(const std::string& message) {
  say_once(message + (kept_.empty() ? "" : "; what was written before is in " + kept_));
  for (const Member& member : members_) {
    if (member.link.socket.open()) send_frame(member.link.socket.fd(), {kEnded, 0, 0, ""});
  }
  _exit(1);
}

void Peers::failed(const std::string& message) {
  failing_ = true;
  std::this_thread::sleep_for(kEcho);
  if (first()) end_run(ranks() > 1 ? "rank 0: " + message : message);
  {
    const std::lock_guard lock(sending_);
    send_frame(members_[0].link.socket.fd(), {kFailed, 0, 0, message});
  }
  const Clock::time_point end = Clock::now() + kLastWords;
  while (!rank_zero_gone_ && Clock::now() < end) {  // until the watcher ends the process
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  say_and_end(named(static_cast<std::size_t>(rank())) + ": " + message);
}

}  // namespace steploom
