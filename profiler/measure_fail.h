// How a measurement ends when it cannot go on: one message and exit status 1, whichever rank's
// thread comes first. The output file keeps the lines that were written (json_lines.h).
#pragma once

#include <string>

namespace steploom {

[[noreturn]] void fail(const std::string& message);

}  // namespace steploom
