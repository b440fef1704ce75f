#include "profiler/fit_gaps.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "models/error.h"
#include "profiler/spread.h"

namespace steploom {
namespace {

const ChainPoint& chain(const GapPoints& points, const std::string& name, const std::string& kernel,
                        const std::string& collective = "", Bytes bytes = 0) {
  for (const ChainPoint& c : points.chains)
    if (c.chain == name && c.kernel == kernel && c.collective == collective && c.bytes == bytes)
      return c;
  throw Error({points.reading, "",
               fmt::format("a chain '{}' of {}{} {}", name, kernel, collective, bytes), "none",
               "measure again: steploom profile gaps"});
}

// Microseconds, as the profile has them.
double kernel_us(const GapPoints& points, const std::string& kernel) {
  return chain(points, "kernels_in_graph", kernel).us.median;
}
double collective_us(const GapPoints& points, const ChainPoint& of) {
  const ChainPoint& alone = chain(points, "collectives", "", of.collective, of.bytes);
  const double own = alone.traced_us("collective_us");
  return own > 0 && own < kHostBoundUs ? own : alone.us.median;
}

// To a nanosecond; a chain may come out a little faster than its parts.
double gap(const GapPoints& points, const std::vector<double>& found, const char* what) {
  if (found.empty())
    throw Error({points.reading, "", std::string("chains of ") + what, "none",
                 "measure again: steploom profile gaps"});
  return std::max(0.0, std::round(1000 * spread_of(found).median) / 1000);
}

std::string source_of(const GapPoints& points) {
  return fmt::format("steploom profile gaps --fabric {}, {}; {}, CUDA {}, NCCL {}", points.fabric,
                     points.date, points.gpu, points.cuda, points.nccl);
}

}  // namespace

Gaps gaps_of(const GapPoints& points) {
  std::vector<double> kernel, kernel_event, collective_event;
  for (const ChainPoint& c : points.chains) {
    if (c.chain == "kernels") kernel.push_back(c.us.median - kernel_us(points, c.kernel));
    if (c.chain != "kernel_and_collective") continue;
    const double cold = c.traced_us("kernel_us") -
                        chain(points, "kernels_in_graph", c.kernel).traced_us("kernel_us");
    const double both =
        c.us.median - kernel_us(points, c.kernel) - std::max(0.0, cold) - collective_us(points, c);
    const double to = c.traced_us("kernel_to_collective_us");
    const double back = c.traced_us("collective_to_kernel_us");
    const double share = to > 0 && back > 0 ? to / (to + back) : 0.5;
    collective_event.push_back(both * share);
    kernel_event.push_back(both * (1 - share));
  }
  return {gap(points, kernel, "kernels"), gap(points, kernel_event, "kernels and collectives"),
          gap(points, collective_event, "kernels and collectives"), source_of(points)};
}

CommunicatorMemory memory_of(const GapPoints& points) {
  // By communicator: when it was made, by its rings, by its messages.
  struct Taken {
    int ctas = 0;
    std::array<Bytes, 3> parts{};
    bool messages = false;
    bool one_way = false;  // its first messages go one way: the ranks take different amounts
  };
  std::map<int, Taken> taken;
  Bytes world = 0;
  for (const MemoryStep& s : points.memory) {
    if (s.step == "world") world = s.taken;
    if (s.communicator == 0) continue;
    Taken& of = taken[s.communicator];
    of.ctas = s.ctas;
    const bool message = s.step == "all_to_all" || s.step == "send_recv";
    if (message && !of.messages) of.one_way = s.step == "send_recv";
    of.messages |= message;
    of.parts[s.step == "made" ? 0 : message ? 2 : 1] += s.taken;
  }
  if (world == 0 || taken.size() < 4 || taken[1].ctas != taken[2].ctas)
    throw Error({points.reading, "",
                 "steps of a communicator of all ranks and of four others, the "
                 "first two alike",
                 "fewer", "measure again: steploom profile gaps"});
  CommunicatorMemory out;
  const std::array<CommunicatorMemory::Part*, 3> parts{&out.made, &out.rings, &out.messages};
  for (std::size_t p = 0; p < parts.size(); ++p) {
    double n = 0, x = 0, y = 0, xx = 0, xy = 0;
    for (const auto& [number, of] : taken) {
      if (number == 1 || of.ctas == 0 || (p == 2 && of.one_way)) continue;
      const auto ctas = static_cast<double>(of.ctas), bytes = static_cast<double>(of.parts[p]);
      n += 1;
      x += ctas;
      y += bytes;
      xx += ctas * ctas;
      xy += ctas * bytes;
    }
    if (n * xx == x * x)
      throw Error({points.reading, "", "communicators of several CTA counts", "one count", ""});
    const double slope = std::max(0.0, (n * xy - x * y) / (n * xx - x * x));
    parts[p]->per_cta = static_cast<Bytes>(std::llround(slope));
    parts[p]->each = std::max<Bytes>(0, std::llround((y - slope * x) / n));
    parts[p]->once = std::max<Bytes>(0, taken[1].parts[p] - taken[2].parts[p]);
  }
  out.made.once += world;
  for (const auto& [number, of] : taken)
    if (of.ctas == 0) out.idle = of.parts[0];
  out.source = source_of(points);
  return out;
}

void add_gaps(Profile& profile, const std::vector<GapPoints>& files) {
  for (const GapPoints& points : files)
    if (points.sms != profile.device.sms)
      throw Error({points.reading, "/sms",
                   std::to_string(profile.device.sms) + ", the SMs of " + profile.device.name,
                   std::to_string(points.sms), ""});
  const auto with_chains = std::find_if(files.begin(), files.end(),
                                        [](const GapPoints& f) { return !f.chains.empty(); });
  if (with_chains != files.end()) profile.gaps = gaps_of(*with_chains);
  for (const GapPoints& points : files)
    for (ProfiledFabric& fabric : profile.fabrics)
      if (fabric.name == points.fabric && !points.memory.empty()) fabric.memory = memory_of(points);
}

}  // namespace steploom
