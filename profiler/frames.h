// Frames: messages between the processes of one run, over TCP sockets of the plain kind.
//
// A frame is a header of four 32-bit words (kind, op, round, bytes of the body; the run's processes
// have one byte order, which the greeting shows) and a body. Nothing here waits without a limit.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace steploom {

using Clock = std::chrono::steady_clock;

// An open file descriptor, closed at the end.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() { close(); }
  Socket(Socket&& other) noexcept : fd_(other.release()) {}
  Socket& operator=(Socket&& other) noexcept;
  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  void close();
  int release();

 private:
  int fd_ = -1;
};

struct Frame {
  std::uint32_t kind = 0;
  std::uint32_t op = 0;
  std::uint32_t round = 0;
  std::string body;
};

inline constexpr std::uint32_t kMostBody = 1u << 30;

// False if the other side is gone, or takes nothing for the socket's send time-out.
bool send_frame(int fd, const Frame& frame);
bool send_bytes(int fd, const std::string& bytes);

// What has come on a socket, cut into frames.
class FrameReader {
 public:
  // Takes what is there, without waiting. False once the other side is gone; whole frames that came
  // before are kept.
  bool take(int fd);
  // The next whole frame, if there is one.
  bool next(Frame& frame);
  bool garbage() const { return garbage_; }  // a header that no rank sends

 private:
  std::string bytes_;
  bool garbage_ = false;
};

// Takes bytes up to `wanted` in all; false if the other side is gone or the time is over.
bool receive_until(int fd, std::string& bytes, std::size_t wanted, Clock::time_point end);

// Listens on the port, on this host alone or on all its addresses; closed if the port is taken.
// Port 0: any free one.
Socket listen_on(int port, bool this_host_only);
int port_of(const Socket& listener);
Socket accept_one(const Socket& listener);
// Closed if nothing listens there, or nothing answers in time.
Socket connect_to(const std::string& address, int port, Clock::time_point end);

// No delay for small frames, and a limit for sending.
void prepare(const Socket& socket, double send_seconds);

// Whether the socket can be read within the time.
bool readable(int fd, Clock::time_point end);

}  // namespace steploom
