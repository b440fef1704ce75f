#include "tools/profile_verbs.h"

#include <fmt/format.h>

#include <array>
#include <fstream>
#include <ostream>
#include <string_view>

#include "models/atomic_file.h"
#include "models/error.h"
#include "profiler/profile_of_points.h"

namespace steploom {

bool is_points_file(const std::string& argument) {
  std::array<char, 256> begin{};
  std::ifstream in(argument, std::ios::binary);
  in.read(begin.data(), begin.size());
  const std::string_view text(begin.data(), static_cast<std::size_t>(in.gcount()));
  return argument.ends_with(".jsonl") ||
         text.find("\"steploom_measurements\"") != std::string_view::npos;
}

Profile fitting_profile(const std::string& gpu, int sms, const char* flag) {
  if (const Profile* p = built_in_for(gpu, sms)) return *p;
  std::string names;
  for (const std::string_view name : profile_names())
    names += (names.empty() ? "" : ", ") + std::string(name);
  throw Error({flag, "", fmt::format("a profile of {} with {} SMs", gpu, sms),
               "none of the built-in ones: " + names,
               fmt::format("name the profile with {}", flag)});
}

void save_profile(const Profile& profile, const std::string& path) {
  write_file_atomically(path, [&](std::ostream& out) { out << to_json(profile); });
}

}  // namespace steploom
