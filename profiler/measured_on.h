// The first line of raw lines between GPUs: when, on what, with which versions and settings.
#pragma once

#include <string>

#include "profiler/json_lines.h"

namespace steploom {

// `format` names the lines' format, of version 1; `index` is this process's GPU.
JsonLine measured_on(const char* format, const std::string& fabric, const std::string& command,
                     int ranks, int index);

}  // namespace steploom
