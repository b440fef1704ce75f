#include "tools/question.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "models/config_reader.h"
#include "models/error.h"
#include "models/file_name.h"
#include "models/json_reader.h"
#include "models/nearest.h"
#include "models/parameters.h"
#include "traces/units.h"

namespace steploom {
namespace {

Precision precision_named(const std::string& text) {
  std::vector<std::string_view> known;
  for (int p = 0; p < kPrecisions; ++p) {
    known.push_back(name_of(static_cast<Precision>(p)));
    if (known.back() == text) return static_cast<Precision>(p);
  }
  throw Error({"--precision", "", fmt::format("one of {}", fmt::join(known, ", ")),
               "'" + text + "'", nearest_hint(text, known)});
}

// CLI11 clamps what does not fit; we refuse it.
template <class T>
void add_integer(CLI::App& verb, const std::string& flag, std::optional<T>& value,
                 const std::string& what) {
  verb.add_option_function<std::string>(
          flag,
          [&value, flag](const std::string& text) {
            T read{};
            const char* end = text.data() + text.size();
            const auto [at, fault] = std::from_chars(text.data(), end, read);
            if (fault != std::errc{} || at != end)
              throw Error({"command line", flag,
                           fmt::format("an integer up to {}", std::numeric_limits<T>::max()),
                           "'" + text + "'", ""});
            value = read;
          },
          what)
      ->type_name("INT");
}

}  // namespace

double parse_gbps(const std::string& text, const std::string& reading) {
  double gbps = 0;
  const char* end = text.data() + text.size();
  const auto [at, fault] = std::from_chars(text.data(), end, gbps, std::chars_format::fixed);
  if (fault != std::errc{} || at != end || !(gbps >= 0.1 && gbps <= 1e5))
    throw Error({reading, "", "Gb/s from 0.1 to 100000", "'" + text + "'", ""});
  return gbps;
}

namespace {

template <class T>
T given(const std::optional<T>& value, const char* flag) {
  if (!value) throw Error({"command line", "", flag, "nothing", ""});
  return *value;
}

}  // namespace

void add_question_flags(CLI::App& verb, QuestionFlags& f) {
  verb.add_option("--cluster", f.cluster,
                  "Built-in cluster (see `steploom clusters`) or a JSON file");
  add_integer(verb, "--nodes", f.nodes, "Nodes of the cluster (a cluster file has its own)");
  add_integer(verb, "--gpus", f.gpus, "GPUs of each node that are used (default: all)");
  verb.add_option("--fabric", f.fabric,
                  "How GPUs of a node reach each other: nvlink, host (shared memory) or sockets "
                  "(default: the cluster's)");
  verb.add_option_function<std::string>(
          "--network-gbps",
          [&f](const std::string& text) { f.network_gbps = parse_gbps(text, "--network-gbps"); },
          "Of each NIC, Gb/s in one direction (default: the cluster's)")
      ->type_name("FLOAT");
  add_integer(verb, "--seq-length", f.seq_length, "Tokens in a sequence");
  add_integer(verb, "--global-batch", f.global_batch, "Sequences in an optimizer step");
  verb.add_option("--precision", f.precision,
                  "Of products: bf16, fp16, fp32, tf32, fp8 (scaled a tensor), fp8_block")
      ->capture_default_str();
  verb.add_option("--optimizer", f.optimizer, "adam, adamw-foreach, adamw-fused, adamw-loop or sgd")
      ->capture_default_str();
  verb.add_option("--routing", f.routing,
                  "Of tokens to experts: balanced, power-law:ALPHA, log-normal:SIGMA or a file of "
                  "recorded tokens; with ',capacity=FACTOR' and ',nodes=COUNT' (docs/routing.md)");
  add_integer(verb, "--routing-seed", f.routing_seed, "Of the draws of a random routing");
  add_integer(verb, "--routing-samples", f.routing_samples,
              "Steps that are drawn of a random routing (default 16)");
  verb.add_option("--quantile", f.quantile,
                  "Of the step times over these draws, what a layout is judged by (default 0.5)");
  verb.add_option("--runtime", f.runtime, "Framework: " + names_of_runtimes())
      ->capture_default_str();
  verb.add_option("--profile", f.profile,
                  "Profile of the GPU: built-in name or JSON file (default: the cluster's "
                  "device); of several types of GPU: a,b");
}

void add_rebase_flag(CLI::App& verb, QuestionFlags& f) {
  verb.add_flag("--rebase", f.rebase, "Accept a plan made with another profile or engine");
}

void Question::route(const QuestionFlags& f) {
  Routing& r = work_.routing;
  if (!f.routing.empty()) r = parse_routing(f.routing, "--routing");
  if (!r.random() && (f.routing_seed || f.routing_samples || f.quantile))
    throw Error({"command line", "--routing",
                 "power-law:ALPHA or log-normal:SIGMA beside --routing-seed, --routing-samples or "
                 "--quantile",
                 "'" + to_text(r) + "'", "nothing else is drawn"});
  if (f.routing_seed) r.seed = *f.routing_seed;
  if (f.routing_samples) r.samples = *f.routing_samples;
  if (f.quantile) r.quantile = *f.quantile;
  check_routing(r, model_, "--routing");
}

void check_flags(const QuestionFlags& f) {
  if (f.cluster.empty())
    throw Error({"command line", "", "--cluster", "nothing", "see `steploom clusters`"});
  load_cluster(f.cluster, 0);
  if (!names_a_file(f.cluster)) given(f.nodes, "--nodes");
  given(f.seq_length, "--seq-length");
  given(f.global_batch, "--global-batch");
  precision_named(f.precision);
  optimizer_named(f.optimizer, "--optimizer");
  runtime_named(f.runtime);
}

// Bandwidth alone; what the profile has measured between nodes would not follow.
void Question::use_network() {
  constexpr double kBytesPerGigabit = 1e9 / 8;
  if (!network_gbps_) return;
  bool already = true;
  for_each_network(cluster_, [&](const LinkType& nic) {
    already &= *network_gbps_ * kBytesPerGigabit == nic.bandwidth;
  });
  if (already) return;
  for (const Profile& profile : profiles_)
    for (const CollectiveCurve& curve : profile.collectives)
      if (curve.nodes > 1)
        throw Error({"--network-gbps", "",
                     fmt::format("{:g}, at which the profile {} has collectives between nodes",
                                 cluster_.nic.bandwidth / kBytesPerGigabit, profile.name),
                     fmt::format("{:g}", *network_gbps_),
                     "measurements do not follow another network"});
  for_each_network(cluster_,
                   [&](LinkType& nic) { nic.bandwidth = *network_gbps_ * kBytesPerGigabit; });
}

void Question::finish(const std::string& runtime, const std::string& profile) {
  runtime_ = runtime_named(runtime);
  load_profiles(profile);
  use_network();
  calibrate(std::nullopt);
}

// Of several types of device, in any order; those that none is named for have the built-in one.
void Question::load_profiles(const std::string& named) {
  if (cluster_.groups.empty()) {
    profiles_ = {load_profile(named.empty() ? cluster_.device.name : named)};
    return;
  }
  std::vector<Profile> given;
  for (std::size_t at = 0; at < named.size();) {
    const std::size_t end = std::min(named.find(',', at), named.size());
    given.push_back(load_profile(named.substr(at, end - at)));
    at = end + 1;
  }
  for (const DeviceType& device : cluster_.device_types()) {
    const auto of = std::find_if(given.begin(), given.end(),
                                 [&](const Profile& p) { return p.device.name == device.name; });
    profiles_.push_back(of == given.end() ? load_profile(device.name) : std::move(*of));
    if (of != given.end()) given.erase(of);
  }
  if (!given.empty())
    throw Error({"--profile", "", "one profile of each of " + devices_text(cluster_),
                 "also '" + given.front().name + "' of " + given.front().device.name, ""});
}

void Question::calibrate(const std::optional<Calibration>& calibration) {
  calibration_ = calibration;
  runtime_ = runtime_named(runtime_.name);
  if (calibration_) steploom::calibrate(runtime_, *calibration_);
  auto costed =
      std::make_unique<CostedCluster>(cluster_, profiles_, calibration_ ? &*calibration_ : nullptr);
  const int sample = setting_ ? setting_->sample : 0;
  setting_ = std::make_unique<Setting>(costed->setting(model_, work_, runtime_, sample));
  costed_ = std::move(costed);
}

std::unique_ptr<Question> Question::from_flags(const QuestionFlags& f) {
  std::unique_ptr<Question> q(new Question);
  q->model_ = load_model(f.model);
  if (!f.quiet) q->print_notes();
  q->work_.precision = precision_named(f.precision);
  q->work_.optimizer = optimizer_named(f.optimizer, "--optimizer");
  q->work_.seq_length = given(f.seq_length, "--seq-length");
  q->work_.global_batch = given(f.global_batch, "--global-batch");
  validate(q->work_, "command line");
  q->route(f);
  q->place(f);
  q->finish(f.runtime, f.profile);
  return q;
}

std::unique_ptr<Question> Question::from_run(const MegatronQuestion& run, const QuestionFlags& f) {
  std::unique_ptr<Question> q(new Question);
  q->model_ = run.model;
  q->work_ = run.work;
  q->route(f);
  q->place(f);
  q->finish(run.runtime.name, f.profile);
  return q;
}

void Question::place(const QuestionFlags& f) {
  if (f.cluster.empty())
    throw Error({"command line", "", "--cluster", "nothing", "see `steploom clusters`"});
  // A cluster file says how many nodes it has; a built-in one is of any size.
  const bool file = names_a_file(f.cluster);
  const int nodes = f.nodes || !file ? given(f.nodes, "--nodes") : 0;
  if (f.nodes && nodes < 1)
    throw Error({"command line", "--nodes", "at least 1", std::to_string(nodes), ""});
  cluster_ = load_cluster(f.cluster, nodes);
  if (f.gpus) use_gpus(cluster_, *f.gpus);
  if (!f.fabric.empty()) use_fabric(cluster_, f.fabric);
  network_gbps_ = f.network_gbps;
}

std::unique_ptr<Question> Question::from_plan(const Plan& plan, const QuestionFlags& f,
                                              const std::string& reading) {
  std::unique_ptr<Question> q(new Question);
  q->model_ = plan.model;
  q->print_notes();
  q->work_ = plan.work;
  q->route(f);
  q->cluster_ = plan.cluster;
  q->finish(plan.runtime, f.profile.empty() ? plan.profile : f.profile);
  check_digests(plan, q->profile_digest(), f.rebase, reading);
  if (plan.calibration) q->calibrate(plan.calibration);
  return q;
}

void Question::print_notes() const {
  for (const std::string& note : model_.notes)
    fmt::print(stderr, "note: {}: {}\n", model_.name, note);
}

std::string Question::headline() const {
  const ParameterCount n = count_parameters(model_);
  std::string count = count_text(static_cast<double>(n.total)) + " parameters";
  if (n.active != n.total) count += ", " + count_text(static_cast<double>(n.active)) + " active";
  const std::string fabric = cluster_.fabric == kDefaultFabric ? "" : " over " + cluster_.fabric;
  std::string how(name_of(work_.precision));
  if (work_.optimizer != Optimizer::adam) how += " · " + std::string(name_of(work_.optimizer));
  if (work_.routing.uneven()) how += " · " + to_text(work_.routing);
  return fmt::format("{} · {} · {}{} · sequence {} · batch {} · {} · {}", model_.name, count,
                     devices_text(cluster_), fabric, work_.seq_length, work_.global_batch, how,
                     setting_->runtime.name);
}

void add_model_or_plan(CLI::App& verb, QuestionFlags& f, std::string& layout) {
  verb.add_option("model", f.model, "Shipped model, config.json, or a plan.json")->required();
  add_question_flags(verb, f);
  add_rebase_flag(verb, f);
  verb.add_option(
      "--layout", layout,
      "tp=4,pp=2,ep=8,etp=1,mbs=1,sp=1,zero=1,recompute=none,vpp=1 (README lists the keys)");
}

Asked ask(const QuestionFlags& f, const std::string& layout) {
  Asked asked;
  std::string text = layout;
  if (is_plan_file(f.model)) {
    if (!f.cluster.empty() || f.nodes || f.gpus || !f.fabric.empty() || f.network_gbps ||
        f.seq_length || f.global_batch)
      throw Error({"command line", "", "a plan alone",
                   "a plan with --cluster, --nodes, --gpus, --fabric, --network-gbps, "
                   "--seq-length or --global-batch",
                   "the plan already says these; to change them, plan again"});
    asked.plan = load_plan(f.model);
    asked.question = Question::from_plan(*asked.plan, f, f.model);
    const bool same = f.routing.empty() && !f.routing_seed && text.empty();
    if (same) asked.question->use_sample(asked.plan->rows.front().sample);
    if (text.empty()) text = to_text(asked.plan->rows.front().layout);
  } else {
    asked.question = Question::from_flags(f);
    if (text.empty())
      throw Error(
          {"command line", "", "--layout, or a plan.json in place of the model", "neither", ""});
  }
  const Setting& s = asked.question->setting();
  asked.layout = parse_layout(text, s.cluster.devices(), s.model.has_moe());
  require_valid(s, asked.layout, "--layout");
  return asked;
}

bool is_plan_file(const std::string& argument) {
  if (!names_a_file(argument)) return false;
  if (!std::filesystem::is_regular_file(argument)) return false;
  const Json json = Json::load(argument);
  return json.is_object() && json.has("steploom_plan");
}

}  // namespace steploom
