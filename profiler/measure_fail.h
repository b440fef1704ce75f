// How a measurement ends when it cannot go on: one message and exit status 1, whichever thread of
// whichever rank comes first. The output file keeps the lines that were written (json_lines.h).
#pragma once

#include <functional>
#include <string>

namespace steploom {

[[noreturn]] void fail(const std::string& message);

// Says the message, with the program's name. A second one in this process waits for the first to
// end it, and is not said.
void say_once(const std::string& message);
[[noreturn]] void say_and_end(const std::string& message);

// While set, fail() hands the message to it, which does not return: the processes of one run say
// one message together (peers.h).
void on_fail(std::function<void(const std::string&)> handler);

}  // namespace steploom
