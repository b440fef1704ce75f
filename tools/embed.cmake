# Writes OUT, a C++ file that defines steploom::FUNCTION() as a table of the given FILES' names and
# texts. Run by the build: cmake -DOUT=… -DFUNCTION=… -DFILES=a;b -P tools/embed.cmake
set(rows "")
foreach(file IN LISTS FILES)
  get_filename_component(name "${file}" NAME_WLE)
  file(READ "${file}" text)
  # A string literal may not exceed 64 KiB portably: cut it into adjacent pieces.
  string(LENGTH "${text}" length)
  set(pieces "")
  set(at 0)
  while(at LESS length)
    string(SUBSTRING "${text}" ${at} 12000 piece)
    string(APPEND pieces "R\"embed(${piece})embed\"\n")
    math(EXPR at "${at} + 12000")
  endwhile()
  string(APPEND rows "    EmbeddedFile{\"${name}\",\n${pieces}},\n")
endforeach()
file(WRITE "${OUT}.new" "// Written by tools/embed.cmake; do not edit.
#include <vector>

#include \"models/embedded.h\"

namespace steploom {
std::span<const EmbeddedFile> ${FUNCTION}() {
  static const std::vector<EmbeddedFile> files{
${rows}  };
  return files;
}
}  // namespace steploom
")
file(COPY_FILE "${OUT}.new" "${OUT}" ONLY_IF_DIFFERENT)
