#include "tools/question.h"

#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <string_view>

#include "models/config_reader.h"
#include "models/error.h"
#include "models/json_reader.h"
#include "models/nearest.h"
#include "models/parameters.h"
#include "traces/units.h"

namespace steploom {
namespace {

Precision precision_named(const std::string& text) {
  constexpr std::array<std::string_view, 2> known{"bf16", "fp16"};
  if (text == known[0]) return Precision::bf16;
  if (text == known[1]) return Precision::fp16;
  throw Error({"--precision", "", "bf16 or fp16", "'" + text + "'", nearest_hint(text, known)});
}

template <class T>
T given(T value, const char* flag) {
  if (value == T{})
    throw Error({flag, "", "a value", "nothing", std::string("give ") + flag});
  return value;
}

}  // namespace

void add_question_flags(CLI::App& verb, QuestionFlags& f) {
  verb.add_option("--cluster", f.cluster, "Built-in cluster (see `steploom clusters`) or a JSON file");
  verb.add_option("--nodes", f.nodes, "Nodes of the cluster");
  verb.add_option("--seq-length", f.seq_length, "Tokens in a sequence");
  verb.add_option("--global-batch", f.global_batch, "Sequences in an optimizer step");
  verb.add_option("--precision", f.precision, "bf16 or fp16")->capture_default_str();
  verb.add_option("--runtime", f.runtime, "Framework: megatron-core or steploom")
      ->capture_default_str();
  verb.add_option("--profile", f.profile,
                  "Profile of the GPU: built-in name or JSON file (default: the cluster's device)");
}

void add_rebase_flag(CLI::App& verb, QuestionFlags& f) {
  verb.add_flag("--rebase", f.rebase, "Accept a plan made with another profile or engine");
}

void Question::finish(const std::string& runtime, const std::string& profile) {
  const Runtime& r = runtime_named(runtime);
  profile_ = load_profile(profile.empty() ? cluster_.device.name : profile);
  contention_ = neutral_contention(kOpClasses);
  costs_ = std::make_unique<CostModel>(profile_, cluster_);
  setting_ = std::make_unique<Setting>(Setting{model_, work_, r, cluster_, *costs_});
}

std::unique_ptr<Question> Question::from_flags(const QuestionFlags& f) {
  std::unique_ptr<Question> q(new Question);
  q->model_ = load_model(f.model);
  q->work_.precision = precision_named(f.precision);
  q->work_.seq_length = given(f.seq_length, "--seq-length");
  q->work_.global_batch = given(f.global_batch, "--global-batch");
  validate(q->work_, "command line");
  q->cluster_ = load_cluster(given(f.cluster, "--cluster"), given(f.nodes, "--nodes"));
  q->finish(f.runtime, f.profile);
  return q;
}

std::unique_ptr<Question> Question::from_plan(const Plan& plan, const QuestionFlags& f,
                                              const std::string& reading) {
  std::unique_ptr<Question> q(new Question);
  q->model_ = plan.model;
  q->work_ = plan.work;
  q->cluster_ = plan.cluster;
  q->finish(plan.runtime, f.profile.empty() ? plan.profile : f.profile);
  check_digests(plan, q->profile_.digest, f.rebase, reading);
  return q;
}

std::string Question::headline() const {
  const ParameterCount n = count_parameters(model_);
  std::string count = count_text(static_cast<double>(n.total)) + " parameters";
  if (n.active != n.total) count += ", " + count_text(static_cast<double>(n.active)) + " active";
  return fmt::format("{} · {} · {} × {} · sequence {} · batch {} · {} · {}", model_.name, count,
                     cluster_.devices(), cluster_.device.name, work_.seq_length, work_.global_batch,
                     name_of(work_.precision), setting_->runtime.name);
}

bool is_plan_file(const std::string& argument) {
  if (argument.find('/') == std::string::npos && !argument.ends_with(".json")) return false;
  if (!std::filesystem::is_regular_file(argument)) return false;
  const Json json = Json::load(argument);
  return json.is_object() && json.has("steploom_plan");
}

}  // namespace steploom
