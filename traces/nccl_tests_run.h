// What the two readers of nccl-tests share: rows and devices in, a checked run out.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "traces/nccl_tests.h"

namespace steploom {

// A row as it was printed, and where.
struct NcclTestsLine {
  std::string place;  // "line 12", "/results/3"
  Bytes bytes = 0;
  std::string type, redop, root;
  double out_of_place = 0;  // us; 0: not given
  double in_place = 0;
};

struct NcclTestsParts {
  std::string place;               // of the run's beginning
  std::string program;             // "all_reduce_perf"
  std::string collective;          // the caller's name, used where there is no program
  std::vector<std::string> hosts;  // by rank, as far as printed
  std::string device;
  std::string tests, nccl;
  std::vector<NcclTestsLine> lines;
};

// NCCL's version code 22907 as "2.29.7".
std::string nccl_version(long code);

NcclTestsRun make_run(const NcclTestsParts& parts, const std::string& reading);

// The JSON reader; nccl_tests.cpp has the text's.
std::vector<NcclTestsRun> parse_nccl_tests_json(std::string_view text, const std::string& reading,
                                                std::string_view collective);

}  // namespace steploom
