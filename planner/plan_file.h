// plan.json: the decisions, never the Program.
//
// A plan holds the resolved question (model, workload, cluster, runtime), the rows of the answer
// with their layouts, what was searched and how, and digests of the profile and of the engine.
// Replaying a plan lowers it anew. A plan that was made with another profile or engine is refused
// by check_digests() unless the user rebases it. The text is the same for any number of threads.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "models/layout.h"
#include "models/model_spec.h"
#include "models/workload.h"
#include "sim/calibration.h"
#include "sim/cluster.h"

namespace steploom {

// One ranked layout with what the table shows of it. Shares are of the step.
struct PlanRow {
  Layout layout;
  Picoseconds closed_form = 0;  // the three rungs of the ladder
  Picoseconds relaxed = 0;
  Picoseconds step = 0;
  double tokens_per_second = 0;      // per device
  double mfu = 0;                    // model FLOPs over time and peak
  double hfu = 0;                    // executed FLOPs likewise, recomputation included
  Bytes memory = 0;                  // peak of the worst rank
  double bubble = 0;                 // share saved if no stage waited for another
  double exposed_communication = 0;  // share saved if all communication were free
  double stays_best = 0;             // share of the draws in which it is the fastest row
  double worst_regret = 0;           // most that it loses to the fastest row over the draws
  // Under uneven routing: rows on the fullest rank of a group over an even share, on the mean, and
  // the share of the rows that is dropped.
  double busiest = 0;
  double dropped = 0;
  // Where routing is drawn more than once: the draw that the row is of, and over all draws.
  int sample = 0;
  Picoseconds median = 0;
  Picoseconds p95 = 0;
};

// How the space was settled; the numbers add up to `enumerated`.
struct SearchCounts {
  std::int64_t enumerated = 0;
  std::map<std::string, std::int64_t> refused;  // by rule
  std::int64_t out_of_memory = 0;
  std::int64_t pruned_bound = 0;    // the closed form does not beat the rows
  std::int64_t pruned_relaxed = 0;  // the longest path does not
  std::int64_t replayed = 0;
  std::int64_t unseen = 0;  // the search's time was over before

  std::int64_t refused_total() const;
  std::int64_t valid() const { return enumerated - refused_total(); }
};

// The user's own measurement of one layout's step, beside its prediction.
struct MeasuredStep {
  Layout layout;
  Picoseconds predicted = 0;
  Picoseconds measured = 0;
  double error() const {  // prediction minus measurement, as a share of the measurement
    return static_cast<double>(predicted - measured) / static_cast<double>(measured);
  }
};

// One type of device of a cluster with several, by itself.
struct TypeAlone {
  std::string device;
  int devices = 0;
  std::optional<PlanRow> best;
  bool proven = true;   // best of its whole space, or of what there was time for
  std::string failure;  // why there is none
};

struct Plan {
  ModelSpec model;
  Workload work;
  Cluster cluster;
  std::string runtime;
  std::string profile;  // name; of several types of device one each, "a,b", and so their digests
  std::string profile_digest;
  std::string engine;         // engine_signature() (sim/engine.h) of the program that wrote it
  std::vector<PlanRow> rows;  // best first
  SearchCounts searched;
  Picoseconds bound = 0;    // no layout of the space can be faster than this
  double gap = 0;           // (best step - bound) / best step; 0: proven optimal in the space
  double fitted_share = 0;  // of the best row's critical path: all but modelled
  std::optional<MeasuredStep> measured;    // where the user gave one
  std::optional<Calibration> calibration;  // of its durations, on a trace of the user's
  std::vector<TypeAlone> alone;            // by type, where the cluster has several
};

std::string to_json(const Plan& plan);
void save_plan(const Plan& plan, const std::filesystem::path& file);
Plan load_plan(const std::filesystem::path& file);  // throws Error

// Throws Error if the plan rests on another profile or engine, unless `rebase`. A calibration was
// fitted against one profile and engine, so a calibrated plan is refused even then.
void check_digests(const Plan& plan, const std::string& profile_digest, bool rebase,
                   const std::string& reading);

}  // namespace steploom
