// Room in a Program for what is known of its passes as a whole: an operator in each pass, on a
// stream of its own, that starts when the pass's first kernel ends, and without which the pass does
// not end. It takes no time until it is given some. In a forward pass the last kernel waits for it,
// and so what the pass sends; in others only what follows on the compute stream.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/program.h"

namespace steploom {

struct PassFloor {
  bool forward = false;
  std::uint32_t op = 0;     // its template index; 0: the pass has none
  std::uint32_t first = 0;  // the first kernel
  std::uint32_t last = 0;   // forward: the last one
};

// By block. `program` is finalized before and after; what its operators touch is forgotten.
std::vector<PassFloor> add_pass_floors(Program& program);

}  // namespace steploom
