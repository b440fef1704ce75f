// What nccl-tests prints and what it writes with -J, read back.
//
// A run is one test program's: a collective, the ranks and their hosts, and a row a size. Text:
// comment lines begin with '#', the columns are named by the header "size count type redop root
// time algbw busbw #wrong", the four last twice (out of place, in place); with -I 1 there are four
// more columns a half. Other programs' lines are refused by number, but for what mpirun and NCCL
// put between (tags "[1,0]<stdout>:", lines of NCCL_DEBUG). JSON: versions 1 to 3. A file without
// its footer, with wrong results or with CPU times is refused; sizes of 0 bytes are left out.
// Formats: NVIDIA/nccl-tests, src/util.cu of release 2.19. Times in microseconds.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "models/work.h"

namespace steploom {

struct NcclTestsRow {
  Bytes bytes = 0;          // the larger of a rank's send and receive buffer, as Work has it
  double out_of_place = 0;  // us; 0: not given
  double in_place = 0;
};

struct NcclTestsRun {
  OpKind collective = OpKind::all_reduce;
  int ranks = 0;
  int nodes = 0;                   // distinct hosts; each has as many ranks
  std::string device;              // "NVIDIA H100 80GB HBM3"; empty where not printed
  std::string type;                // "float", and redop "sum": what was reduced
  std::string redop;               //
  std::string tests;               // version of nccl-tests, "" where not printed
  std::string nccl;                // as "2.29.7", likewise
  std::string reading;             // the file
  std::vector<NcclTestsRow> rows;  // sizes ascending, each once (of repetitions the median)
};

// `collective`: the name to use where the text does not say which program ran ("all_reduce"); else
// empty. Throws Error.
std::vector<NcclTestsRun> parse_nccl_tests(std::string_view text, const std::string& reading,
                                           std::string_view collective = "");
std::vector<NcclTestsRun> read_nccl_tests(const std::filesystem::path& file,
                                          std::string_view collective = "");

}  // namespace steploom
