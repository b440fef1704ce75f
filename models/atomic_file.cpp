#include "models/atomic_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

#include "models/error.h"

namespace steploom {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const fs::path& path, int fault) {
  throw Error({path.string(), "", "a file that can be written",
               fault != 0 ? std::strerror(fault) : "an error while writing", ""});
}

void write_to(const fs::path& file, const fs::path& named,
              const std::function<void(std::ostream&)>& write) {
  errno = 0;
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  if (!out) refuse(named, errno);
  write(out);
  out.close();
  if (!out) refuse(named, errno);
}

}  // namespace

void write_file_atomically(const fs::path& path, const std::function<void(std::ostream&)>& write) {
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  if (fs::is_directory(status)) refuse(path, EISDIR);
  if (fs::exists(status) && !fs::is_regular_file(status)) return write_to(path, path, write);

  // A link stays a link: the file that it leads to is replaced.
  const fs::path target = fs::is_symlink(path, ignored) ? fs::weakly_canonical(path) : path;
  fs::path beside = target;
  beside += "." + std::to_string(getpid()) + ".partial";
  try {
    write_to(beside, path, write);
    std::error_code fault;
    fs::rename(beside, target, fault);
    if (fault) refuse(path, fault.value());
  } catch (...) {
    fs::remove(beside, ignored);
    throw;
  }
}

}  // namespace steploom
