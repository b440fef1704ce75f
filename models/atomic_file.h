// Files that are whole or not there: written beside their target, then renamed.
#pragma once

#include <filesystem>
#include <functional>
#include <iosfwd>

namespace steploom {

// Calls `write` with a stream and puts what it wrote in the place of `path`. If `write` throws or
// the disk refuses, `path` is as it was and nothing is left beside it; a refusal of the disk throws
// Error that names `path`. A path that is no regular file (a pipe, /dev/stdout) is written
// directly.
void write_file_atomically(const std::filesystem::path& path,
                           const std::function<void(std::ostream&)>& write);

}  // namespace steploom
