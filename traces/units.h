// Times, sizes and counts as people write and read them.
//
// Three significant digits and the unit in which they are at least 1, trailing zeros left out:
// "3.05 s", "41.2 ms", "7.3 us", "71.2 GiB", "46.7 B". Sizes are binary (KiB, MiB, ...), counts
// decimal (K, M, B, T), shares are percent. For machines print the raw numbers instead (table.h).
#pragma once

#include <string>
#include <string_view>

#include "models/work.h"

namespace steploom {

std::string time_text(Picoseconds time);  // "41.2 ms"; ps, ns, us, ms, s
std::string bytes_text(Bytes bytes);      // "71.2 GiB"; B to PiB
std::string count_text(double count);     // "46.7 B"; K, M, B, T; of parameters, tokens, FLOPs
std::string share_text(double share);     // 0.1234 -> "12.3%"; always one decimal

// "13.75s", "412 ms", "800us", "2min": a positive number and its unit, which must be there. Throws
// Error that names `reading` on anything else, and beyond 10^6 seconds.
Picoseconds parse_time(std::string_view text, std::string_view reading);

// "64M", "1.5GiB", "200 KB", "512": a number and a unit. K, M, G, T alone and KiB, MiB, ... are
// binary, KB, MB, ... decimal; upper or lower case. Throws Error that names `reading` and `place`
// on anything else, a negative size or one beyond 2^60.
Bytes parse_bytes(std::string_view text, std::string_view reading, std::string_view place = "");

}  // namespace steploom
