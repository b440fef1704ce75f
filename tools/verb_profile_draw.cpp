// steploom profile draw: points to test a profile on, drawn at random by rule (drawn_asks.h).
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>

#include "models/atomic_file.h"
#include "profiler/drawn_asks.h"
#include "tools/profile_verbs.h"

namespace steploom {
namespace {

struct Flags {
  std::int64_t points = 0;
  std::uint64_t seed = 0;
  std::string output;
};

template <class List>
void write_list(const std::string& path, const Flags& f, const List& list) {
  write_file_atomically(path, [&](std::ostream& out) {
    fmt::print(out, "# steploom profile draw {} --seed {}\n", f.points, f.seed);
    for (const auto& ask : list) out << to_text(ask) << '\n';
  });
}

ExitStatus run(const Flags& f) {
  const DrawnAsks drawn = drawn_asks(f.points, f.seed);
  write_list(f.output + ".asks", f, drawn.kernels);
  write_list(f.output + ".collectives", f, drawn.collectives);
  fmt::print(stderr, "{} kernels in {}.asks, {} collectives in {}.collectives\n",
             drawn.kernels.size(), f.output, drawn.collectives.size(), f.output);
  return ExitStatus::done;
}

}  // namespace

RunVerb prepare_profile_draw(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  app.add_option("points", f->points, "How many points")->required();
  app.add_option("--seed", f->seed, "Of the draw; the same number, the same points")->required();
  app.add_option("-o,--output", f->output,
                 "Begins the names of the two lists: OUTPUT.asks, OUTPUT.collectives")
      ->required();
  return [f] { return run(*f); };
}

}  // namespace steploom
