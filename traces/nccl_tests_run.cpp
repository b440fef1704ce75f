#include "traces/nccl_tests_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "models/error.h"
#include "models/nearest.h"

namespace steploom {
namespace {

struct Program {
  std::string_view test;  // the program is this and "_perf"
  OpKind collective;
};
constexpr std::array<Program, 5> kPrograms{{{"all_reduce", OpKind::all_reduce},
                                            {"all_gather", OpKind::all_gather},
                                            {"reduce_scatter", OpKind::reduce_scatter},
                                            {"alltoall", OpKind::all_to_all},
                                            {"sendrecv", OpKind::send_recv}}};

// "/opt/bin/all_reduce_perf_mpi" and "all_reduce" are all_reduce.
OpKind collective_of(const NcclTestsParts& parts, const std::string& reading) {
  std::string name = parts.program.empty() ? parts.collective : parts.program;
  if (name.empty())
    throw Error({reading, parts.place, "the name of the test program", "none",
                 "older releases do not print it: say --collective all_reduce"});
  name = name.substr(name.rfind('/') + 1);
  const std::string test = name.substr(0, name.find("_perf"));
  std::vector<std::string_view> known;
  for (const Program& p : kPrograms) {
    if (p.test == test || name_of(p.collective) == test) return p.collective;
    known.push_back(p.test);
  }
  throw Error({reading, parts.place,
               "a test of all_reduce, all_gather, reduce_scatter, alltoall "
               "or sendrecv",
               "'" + name + "'", nearest_hint(test, known)});
}

double median(std::vector<double> times) {
  std::erase(times, 0.0);
  if (times.empty()) return 0;
  std::sort(times.begin(), times.end());
  const std::size_t half = times.size() / 2;
  return times.size() % 2 == 1 ? times[half] : (times[half - 1] + times[half]) / 2;
}

}  // namespace

std::string nccl_version(long code) {
  if (code <= 0) return "";
  const long major = code >= 10000 ? 10000 : 1000;  // 2.9 and later; before
  return fmt::format("{}.{}.{}", code / major, code % major / 100, code % 100);
}

NcclTestsRun make_run(const NcclTestsParts& parts, const std::string& reading) {
  const auto refuse = [&](const std::string& place, std::string expected, std::string found,
                          std::string hint = "") {
    throw Error({reading, place, std::move(expected), std::move(found), std::move(hint)});
  };
  NcclTestsRun run;
  run.collective = collective_of(parts, reading);
  run.reading = reading;
  run.device = parts.device;
  run.tests = parts.tests;
  run.nccl = parts.nccl;
  std::map<std::string, int> on_host;
  for (const std::string& host : parts.hosts) ++on_host[host];
  run.ranks = static_cast<int>(parts.hosts.size());
  run.nodes = static_cast<int>(on_host.size());
  if (run.ranks < 2)
    refuse(parts.place, "the devices of two ranks or more", fmt::format("{}", run.ranks));
  for (const auto& [host, ranks] : on_host)
    if (ranks * run.nodes != run.ranks)
      refuse(parts.place, "as many ranks on every host",
             fmt::format("{} of {} on {}", ranks, run.ranks, host));
  std::map<Bytes, std::pair<std::vector<double>, std::vector<double>>> by_size;
  for (const NcclTestsLine& l : parts.lines) {
    const NcclTestsLine& first = parts.lines.front();
    if (l.type != first.type || l.redop != first.redop || l.root != first.root)
      refuse(l.place,
             fmt::format("rows of type {}, redop {} and root {}, as above", first.type, first.redop,
                         first.root),
             fmt::format("{}, {}, {}", l.type, l.redop, l.root),
             "run the test with one -d, -o and -r");
    if (l.bytes == 0) continue;
    by_size[l.bytes].first.push_back(l.out_of_place);
    by_size[l.bytes].second.push_back(l.in_place);
  }
  for (const auto& [bytes, times] : by_size)
    run.rows.push_back({bytes, median(times.first), median(times.second)});
  if (run.rows.size() < 2)
    refuse(parts.place, "two sizes or more", fmt::format("{}", run.rows.size()));
  run.type = parts.lines.front().type;
  run.redop = parts.lines.front().redop;
  return run;
}

}  // namespace steploom
