#include "profiler/frames.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

namespace steploom {
namespace {

using Header = std::array<std::uint32_t, 4>;

constexpr std::uint32_t kMostKind = 64;

int milliseconds_until(Clock::time_point end) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
  return static_cast<int>(std::clamp<long long>(left, 0, 60'000));
}

bool again() {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

// Connects without blocking for longer than until `end`.
Socket connect_address(const addrinfo& one, Clock::time_point end) {
  Socket socket(::socket(one.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.open()) return {};
  if (connect(socket.fd(), one.ai_addr, one.ai_addrlen) != 0) {
    if (errno != EINPROGRESS) return {};
    pollfd wait{socket.fd(), POLLOUT, 0};
    if (poll(&wait, 1, milliseconds_until(end)) != 1) return {};
    int fault = 0;
    socklen_t size = sizeof fault;
    if (getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &fault, &size) != 0 || fault != 0) return {};
  }
  const int flags = fcntl(socket.fd(), F_GETFL);
  fcntl(socket.fd(), F_SETFL, flags & ~O_NONBLOCK);
  return socket;
}

Socket listen_at(int family, const sockaddr* address, socklen_t size) {
  Socket socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.open()) return {};
  const int on = 1, off = 0;
  setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (family == AF_INET6) setsockopt(socket.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (bind(socket.fd(), address, size) != 0 || listen(socket.fd(), SOMAXCONN) != 0) return {};
  return socket;
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = other.release();
  }
  return *this;
}

void Socket::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

int Socket::release() {
  return std::exchange(fd_, -1);
}

bool send_bytes(int fd, const std::string& bytes) {
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t some = send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (some < 0 && errno == EINTR) continue;
    if (some <= 0) return false;
    sent += static_cast<std::size_t>(some);
  }
  return true;
}

bool send_frame(int fd, const Frame& frame) {
  const Header header{frame.kind, frame.op, frame.round,
                      static_cast<std::uint32_t>(frame.body.size())};
  std::string bytes(sizeof header, '\0');
  std::memcpy(bytes.data(), header.data(), sizeof header);
  return send_bytes(fd, bytes += frame.body);
}

bool FrameReader::take(int fd) {
  std::array<char, 65536> some;
  while (true) {
    const ssize_t count = recv(fd, some.data(), some.size(), MSG_DONTWAIT);
    if (count > 0) {
      bytes_.append(some.data(), static_cast<std::size_t>(count));
    } else if (count < 0 && errno == EINTR) {
      continue;
    } else {
      return count < 0 && again();
    }
  }
}

bool FrameReader::next(Frame& frame) {
  Header header;
  if (garbage_ || bytes_.size() < sizeof header) return false;
  std::memcpy(header.data(), bytes_.data(), sizeof header);
  if (header[0] > kMostKind || header[3] > kMostBody) {
    garbage_ = true;
    return false;
  }
  if (bytes_.size() < sizeof header + header[3]) return false;
  frame = {header[0], header[1], header[2], bytes_.substr(sizeof header, header[3])};
  bytes_.erase(0, sizeof header + header[3]);
  return true;
}

bool readable(int fd, Clock::time_point end) {
  pollfd wait{fd, POLLIN, 0};
  return poll(&wait, 1, milliseconds_until(end)) == 1;
}

bool receive_until(int fd, std::string& bytes, std::size_t wanted, Clock::time_point end) {
  std::array<char, 256> some;
  while (bytes.size() < wanted) {
    if (!readable(fd, end)) {
      if (Clock::now() >= end) return false;
      continue;
    }
    const ssize_t count =
        recv(fd, some.data(), std::min(some.size(), wanted - bytes.size()), MSG_DONTWAIT);
    if (count < 0 && again()) continue;
    if (count <= 0) return false;
    bytes.append(some.data(), static_cast<std::size_t>(count));
  }
  return true;
}

Socket listen_on(int port, bool this_host_only) {
  const auto number = htons(static_cast<std::uint16_t>(port));
  if (!this_host_only) {
    sockaddr_in6 any{};  // of IPv4 too
    any.sin6_family = AF_INET6;
    any.sin6_port = number;
    any.sin6_addr = in6addr_any;
    Socket both = listen_at(AF_INET6, reinterpret_cast<const sockaddr*>(&any), sizeof any);
    if (both.open()) return both;
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = number;
  address.sin_addr.s_addr = htonl(this_host_only ? INADDR_LOOPBACK : INADDR_ANY);
  return listen_at(AF_INET, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

int port_of(const Socket& listener) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(listener.fd(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port
                   : reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

Socket accept_one(const Socket& listener) {
  return Socket(accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC));
}

Socket connect_to(const std::string& address, int port, Clock::time_point end) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(address.c_str(), std::to_string(port).c_str(), &wanted, &found) != 0) return {};
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> all(found, freeaddrinfo);
  for (const addrinfo* one = found; one != nullptr && Clock::now() < end; one = one->ai_next) {
    Socket socket = connect_address(*one, end);
    if (socket.open()) return socket;
  }
  return {};
}

void prepare(const Socket& socket, double send_seconds) {
  const int on = 1;
  setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  timeval limit{};
  limit.tv_sec = static_cast<time_t>(send_seconds);
  limit.tv_usec =
      static_cast<suseconds_t>(1e6 * (send_seconds - static_cast<double>(limit.tv_sec)));
  setsockopt(socket.fd(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

}  // namespace steploom
