#include "traces/text_file.h"

#include <fmt/format.h>
#include <zlib.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <ostream>
#include <sstream>
#include <system_error>
#include <vector>

#include "models/atomic_file.h"
#include "models/error.h"

namespace steploom {
namespace {

// zlib writes a gzip header without name or time, so that equal texts are equal files.
std::string compressed(const std::string& text) {
  constexpr int kGzip = 15 + 16;  // deflateInit2's windowBits: the largest window, a gzip header
  constexpr int kMemory = 8;      // its default
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  z_stream z{};
  if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzip, kMemory, Z_DEFAULT_STRATEGY) !=
      Z_OK)
    throw std::bad_alloc();
  const std::unique_ptr<z_stream, int (*)(z_stream*)> closed(&z, deflateEnd);
  std::vector<unsigned char> in(text.begin(), text.end());
  std::vector<unsigned char> piece(kPiece);
  std::string out;
  std::size_t at = 0;
  int state = Z_OK;
  while (state != Z_STREAM_END) {
    if (z.avail_in == 0 && at < in.size()) {
      z.next_in = in.data() + at;
      z.avail_in = static_cast<uInt>(std::min(kPiece, in.size() - at));
      at += z.avail_in;
    }
    z.next_out = piece.data();
    z.avail_out = static_cast<uInt>(piece.size());
    state = deflate(&z, at == in.size() ? Z_FINISH : Z_NO_FLUSH);
    out.append(piece.begin(), piece.end() - z.avail_out);
  }
  return out;
}

}  // namespace

std::string read_text_file(const std::filesystem::path& file, std::size_t most_bytes) {
  const std::string reading = file.string();
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored))
    throw Error({reading, "", "a file", "a directory", ""});
  errno = 0;
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> in(gzopen(file.c_str(), "rb"), gzclose);
  if (!in)
    throw Error({reading, "", "a file that can be read",
                 errno == ENOENT ? "no such file" : std::strerror(errno), ""});
  std::string text;
  std::array<char, 1 << 16> piece{};
  int got = 0;
  while ((got = gzread(in.get(), piece.data(), static_cast<unsigned>(piece.size()))) > 0) {
    text.append(piece.data(), static_cast<std::size_t>(got));
    if (text.size() > most_bytes)
      throw Error(
          {reading, "", fmt::format("at most {} MiB", most_bytes >> 20), "a larger file", ""});
  }
  int fault = Z_OK;
  gzerror(in.get(), &fault);
  if (got < 0 || fault == Z_BUF_ERROR)  // the latter: cut short
    throw Error({reading, "", "an intact gzip file", "a damaged one", ""});
  return text;
}

void write_text_file(const std::filesystem::path& file,
                     const std::function<void(std::ostream&)>& write) {
  if (file.extension() != ".gz") return write_file_atomically(file, write);
  write_file_atomically(file, [&](std::ostream& out) {
    std::ostringstream text;
    write(text);
    const std::string packed = compressed(std::move(text).str());
    out.write(packed.data(), static_cast<std::streamsize>(packed.size()));
  });
}

}  // namespace steploom
