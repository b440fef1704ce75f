// Whole text files, plain or gzip: a name that ends in ".gz" is written compressed, and what is
// compressed is read as if it were not.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <iosfwd>
#include <string>

namespace steploom {

// Throws Error on a file that is missing, a directory, damaged or, unpacked, larger than
// `most_bytes`.
std::string read_text_file(const std::filesystem::path& file, std::size_t most_bytes);

// Atomically, as write_file_atomically. The same text gives the same bytes.
void write_text_file(const std::filesystem::path& file,
                     const std::function<void(std::ostream&)>& write);

}  // namespace steploom
