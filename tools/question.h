// The question that most verbs ask: a model, a workload, a cluster and a runtime, from flags or
// from a plan file, with the profile that answers it.
#pragma once

#include <CLI/App.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/from_megatron.h"
#include "planner/costed_cluster.h"
#include "planner/make_plan.h"
#include "sim/profile.h"

namespace steploom {

// As typed; empty where not given.
struct QuestionFlags {
  std::string model;  // name, config.json, or plan.json where a verb takes one
  std::string cluster;
  std::string profile;  // default: the one named after the cluster's device; a,b of several types
  std::string precision = "bf16";
  std::string optimizer = "adam";
  std::string runtime = "megatron-core";
  std::string fabric;  // default: the cluster's
  std::optional<int> nodes;
  std::optional<int> gpus;  // of each node; default: all
  std::optional<std::int64_t> seq_length;
  std::optional<std::int64_t> global_batch;
  std::string routing;  // as parse_routing reads it; default: the plan's, or balanced
  std::optional<std::uint64_t> routing_seed;
  std::optional<int> routing_samples;
  std::optional<double> quantile;
  std::optional<double> network_gbps;  // of each NIC, Gb/s; default: the cluster's
  bool rebase = false;
  bool quiet = false;  // no notes of the model
};

// Of a NIC. Throws Error that names `reading`.
double parse_gbps(const std::string& text, const std::string& reading);

// Throws Error if a model's question lacks something, or names what nobody knows; what only its
// point's numbers make impossible is found when it is asked.
void check_flags(const QuestionFlags& flags);

// Adds --cluster, --nodes, --gpus, --fabric, --network-gbps, --seq-length, --global-batch,
// --precision, --optimizer, --runtime, --profile, --routing, --routing-seed, --routing-samples,
// --quantile.
void add_question_flags(CLI::App& verb, QuestionFlags& flags);
void add_rebase_flag(CLI::App& verb, QuestionFlags& flags);
// For verbs about one layout: a model with question flags and --layout, or a plan.json whose first
// row is meant where no --layout is given.
void add_model_or_plan(CLI::App& verb, QuestionFlags& flags, std::string& layout);

// A Question owns what a Setting refers to.
class Question {
 public:
  // From flags, or from the plan in `plan` with its flags left out.
  static std::unique_ptr<Question> from_flags(const QuestionFlags& flags);
  // The run's model and workload with the built-in runtime; the flags say cluster and profile.
  static std::unique_ptr<Question> from_run(const MegatronQuestion& run,
                                            const QuestionFlags& flags);
  static std::unique_ptr<Question> from_plan(const Plan& plan, const QuestionFlags& flags,
                                             const std::string& reading);

  // What is asked from here on is costed as calibrated; nothing: as the profile says.
  void calibrate(const std::optional<Calibration>& calibration);

  const Setting& setting() const { return *setting_; }
  void use_sample(int sample) { setting_->sample = sample; }  // of a random routing
  const std::optional<Calibration>& calibration() const { return calibration_; }
  const std::vector<Profile>& profiles() const { return profiles_; }  // by type of device
  std::string profile_name() const { return joined(profiles_, &Profile::name); }
  std::string profile_digest() const { return joined(profiles_, &Profile::digest); }
  std::string headline() const;  // "mixtral-8x7b · 46.7 B parameters, 12.9 B active · 64 × …"

 private:
  Question() = default;
  void print_notes() const;                // of the model, to standard error
  void place(const QuestionFlags& flags);  // the cluster
  void route(const QuestionFlags& flags);
  void finish(const std::string& runtime, const std::string& profile);
  void load_profiles(const std::string& named);
  void use_network();

  ModelSpec model_;
  Workload work_;
  Cluster cluster_;
  std::optional<double> network_gbps_;
  std::vector<Profile> profiles_;
  Runtime runtime_;
  std::optional<Calibration> calibration_;
  std::unique_ptr<CostedCluster> costed_;
  std::unique_ptr<Setting> setting_;
};

// One layout of a question.
struct Asked {
  std::unique_ptr<Question> question;
  Layout layout;             // keeps every rule
  std::optional<Plan> plan;  // where it came from one
};
Asked ask(const QuestionFlags& flags, const std::string& layout);

// Is the argument a plan file (a JSON object with "steploom_plan") rather than a model?
bool is_plan_file(const std::string& argument);

}  // namespace steploom
