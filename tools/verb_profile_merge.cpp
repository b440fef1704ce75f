// steploom profile merge: the points of two profiles of one device in one.
#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "profiler/fit_measured.h"
#include "tools/profile_verbs.h"

namespace steploom {
namespace {

struct Flags {
  std::string first, second, output;
};

ExitStatus run(const Flags& f) {
  const Profile a = load_profile(f.first), b = load_profile(f.second);
  Profile both = merge_profiles(a, b, f.second);
  both.made = "steploom profile merge " + f.first + " (" + a.digest + ") " + f.second + " (" +
              b.digest + ")";
  save_profile(both, f.output);
  fmt::print("{} points of {} and {} of {}: {} in {}\n", a.points.kernels.size(), f.first,
             b.points.kernels.size(), f.second, both.points.kernels.size(), f.output);
  return ExitStatus::done;
}

}  // namespace

RunVerb prepare_profile_merge(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  app.add_option("first", f->first, "Profile")->required();
  app.add_option("second", f->second, "Profile; the later measured wins where both have a point")
      ->required();
  app.add_option("-o,--output", f->output, "The profile to write")->required();
  return [f] { return run(*f); };
}

}  // namespace steploom
