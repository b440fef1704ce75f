// The verbs of `steploom profile`, one file each; profile itself measures (verb_profile.cpp).
//
// A verb of profile is a verb like any other (verb.h); these share how a profile is asked for and
// how points are counted.
#pragma once

#include <string>

#include "profiler/points.h"
#include "sim/profile.h"
#include "tools/verb.h"

namespace steploom {

RunVerb prepare_profile_show(CLI::App& app);
RunVerb prepare_profile_check(CLI::App& app);
RunVerb prepare_profile_merge(CLI::App& app);
RunVerb prepare_profile_import(CLI::App& app);
RunVerb prepare_profile_draw(CLI::App& app);
RunVerb prepare_profile_collectives(CLI::App& app);
RunVerb prepare_profile_gaps(CLI::App& app);

// Is the file one of raw points (its first line has "steploom_measurements")?
bool is_points_file(const std::string& argument);

// The built-in profile that fits what points were measured on; else refuses and asks for `flag`.
Profile fitting_profile(const std::string& gpu, int sms, const char* flag);

// `path` by the profile's JSON text.
void save_profile(const Profile& profile, const std::string& path);

// What `steploom profile` itself is asked for.
struct ProfileFlags {
  std::string output;
  std::string raw;
  std::string base;
  std::string plan;
  std::string asks;
  std::string only;  // kind
  double budget_minutes = 12;
  bool list = false;
  std::string fabric;  // empty: no collectives
  double fabric_minutes = 8;
  bool collectives_only = false;
  std::string format = "table";
};

// Measures on the GPU at hand (profile_measure.cpp).
ExitStatus measure_profile(const ProfileFlags& flags);

}  // namespace steploom
