#include "planner/plan_file.h"

#include <nlohmann/json.hpp>

#include <fstream>
#include <limits>
#include <type_traits>
#include <utility>

#include "models/atomic_file.h"
#include "models/error.h"
#include "models/json_reader.h"
#include "models/runtime.h"
#include "planner/plan_routing.h"
#include "sim/engine.h"

namespace steploom {
namespace {

using Out = nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr const char* kDomain = "nodes_per_domain";  // of a cluster, where it is more than one
constexpr const char* kGroups = "groups";            // where it has several types of device
constexpr double kMost = std::numeric_limits<double>::max();

// The fields of each struct, named once for writing and reading: `f(name, member)`, or
// `f.or_else(name, member, default)` for one that is left out where it has its default.
template <class S, class F>
void fields_of_attention(S& a, F&& f) {
  f("latent", a.kind);
  f("heads", a.heads);
  f("kv_heads", a.kv_heads);
  f("head_dim", a.head_dim);
  f("v_head_dim", a.v_head_dim);
  f("qkv_bias", a.qkv_bias);
  f("out_bias", a.out_bias);
  f("qk_norm", a.qk_norm);
  f("rotary", a.rotary);
  f("q_lora_rank", a.q_lora_rank);
  f("kv_lora_rank", a.kv_lora_rank);
  f("qk_nope_head_dim", a.qk_nope_head_dim);
  f("qk_rope_head_dim", a.qk_rope_head_dim);
  f.or_else("qk_gain", a.qk_gain, true);
  f.or_else("sinks", a.sinks, false);
  f.or_else("both_ways", a.both_ways, false);
  f.or_else("window", a.window, 0);
  f.or_else("chunked", a.chunked, false);
  f.or_else("global_rotary", a.global_rotary, true);
}

template <class S, class F>
void fields_of_ffn(S& s, F&& f) {
  f("width", s.width);
  f("gated", s.gated);
  f("bias", s.bias);
}

template <class S, class F>
void fields_of_moe(S& m, F&& f) {
  f("experts", m.experts);
  f("top_k", m.top_k);
  f("expert_width", m.expert.width);
  f("expert_gated", m.expert.gated);
  f("expert_bias", m.expert.bias);
  f("shared_width", m.shared_width);
  f("correction_bias", m.correction_bias);
  f("groups", m.groups);
  f("top_groups", m.top_groups);
  f.or_else("shared_gate", m.shared_gate, false);
  f.or_else("router_bias", m.router_bias, false);
}

template <class S, class F>
void fields_of_model(S& m, F&& f) {
  f("name", m.name);
  f("family", m.family);
  f("hidden", m.hidden);
  f("layers", m.layers);
  f("vocab", m.vocab);
  f("max_positions", m.max_positions);
  f("tied_embeddings", m.tied_embeddings);
  f("learned_positions", m.learned_positions);
  f("norm_bias", m.norm_bias);
  f.or_else("unused_positions", m.unused_positions, 0);
  f.or_else("embedding_width", m.embedding_width, 0);
  f.or_else("final_norm", m.final_norm, true);
  f.or_else("mtp_modules", m.mtp_modules, 0);
}

template <class S, class F>
void fields_of_device(S& d, F&& f) {
  f("device", d.name);
  f("sms", d.sms);
  f("memory", d.memory);
  f("memory_bandwidth", d.memory_bandwidth);
  f("peak_flops", d.peak_flops);
}

template <class S, class F>
void fields_of_group(S& g, F&& f) {
  fields_of_device(g.device, f);
  f("nodes", g.nodes);
  f.or_else("nvlink_bandwidth", g.nvlink.bandwidth, 0);
  f.or_else("nvlink_latency_ps", g.nvlink.latency, 0);
  f.or_else("nic_bandwidth", g.nic.bandwidth, 0);
  f.or_else("nic_latency_ps", g.nic.latency, 0);
  f.or_else("bf16", g.device.bf16, true);
}

template <class S, class F>
void fields_of_cluster(S& c, F&& f) {
  f("name", c.name);
  fields_of_device(c.device, f);
  f("nodes", c.nodes);
  f("devices_per_node", c.devices_per_node);
  f("nics_per_node", c.nics_per_node);
  f("nvlink_bandwidth", c.nvlink.bandwidth);
  f("nvlink_latency_ps", c.nvlink.latency);
  f("nic_bandwidth", c.nic.bandwidth);
  f("nic_latency_ps", c.nic.latency);
  f.or_else("host_bandwidth", c.host.bandwidth, 0);
  f.or_else("host_latency_ps", c.host.latency, 0);
  f("nodes_per_leaf", c.nodes_per_leaf);
  f("oversubscription", c.oversubscription);
  f("fabric", c.fabric);
}

template <class S, class F>
void fields_of_row(S& r, F&& f) {
  f("step_ps", r.step);
  f("closed_form_ps", r.closed_form);
  f("relaxed_ps", r.relaxed);
  f("tokens_per_second_per_device", r.tokens_per_second);
  f("mfu", r.mfu);
  f("hfu", r.hfu);
  f("memory_bytes", r.memory);
  f("bubble", r.bubble);
  f("exposed_communication", r.exposed_communication);
  f("stays_best", r.stays_best);
  f("worst_regret", r.worst_regret);
  f.or_else("busiest_over_even", r.busiest, 0);
  f.or_else("dropped_rows", r.dropped, 0);
  f.or_else("routing_sample", r.sample, 0);
  f.or_else("median_step_ps", r.median, 0);
  f.or_else("p95_step_ps", r.p95, 0);
}

template <class S, class F>
void fields_of_counts(S& c, F&& f) {
  f("enumerated", c.enumerated);
  f("out_of_memory", c.out_of_memory);
  f("pruned_closed_form", c.pruned_bound);
  f("pruned_relaxed", c.pruned_relaxed);
  f("replayed", c.replayed);
  f.or_else("not_looked_at", c.unseen, 0);
}

struct Writer {
  Out& out;
  template <class T>
  void operator()(const char* name, const T& value) const {
    if constexpr (std::is_same_v<T, AttentionKind>)
      out[name] = value == AttentionKind::latent;
    else
      out[name] = value;
  }
  template <class T, class Default>
  void or_else(const char* name, const T& value, Default usual) const {
    if (value != static_cast<T>(usual)) out[name] = value;
  }
};

// Reads the members and remembers their names, so that unknown ones can be refused.
struct Reader {
  const Json& in;
  std::vector<std::string_view>& names;

  template <class T>
  void operator()(const char* name, T& value) const {
    names.emplace_back(name);
    const Json at = in.at(name);
    if constexpr (std::is_same_v<T, AttentionKind>)
      value = at.boolean() ? AttentionKind::latent : AttentionKind::grouped_query;
    else if constexpr (std::is_same_v<T, std::string>)
      value = at.text();
    else if constexpr (std::is_same_v<T, bool>)
      value = at.boolean();
    else if constexpr (std::is_floating_point_v<T>)
      value = at.number(0, kMost);
    else
      value = static_cast<T>(at.integer(0, std::numeric_limits<T>::max()));
  }
  template <class T, class Default>
  void or_else(const char* name, T& value, Default usual) const {
    if (in.has(name)) {
      (*this)(name, value);
    } else {
      names.emplace_back(name);
      value = static_cast<T>(usual);
    }
  }
};

template <class Visit>
Out written(const Visit& visit) {
  Out out = Out::object();
  visit(Writer{out});
  return out;
}

// `more`: names that the caller reads itself.
template <class Visit>
void read_object(const Json& in, std::vector<std::string_view> more, const Visit& visit) {
  visit(Reader{in, more});
  in.allow_only(more);
}

// One letter a layer.
std::string letters(const std::vector<bool>& layers, char yes, char no) {
  std::string text;
  for (const bool layer : layers) text += layer ? yes : no;
  return text;
}

std::vector<bool> read_letters(const Json& in, int layers, char yes, char no,
                               const std::string& expected) {
  const std::string text = in.text();
  std::vector<bool> out;
  for (const char c : text) {
    if (c != yes && c != no) in.refuse(expected);
    out.push_back(c == yes);
  }
  if (text.size() != static_cast<std::size_t>(layers)) in.refuse(expected);
  return out;
}

Out model_json(const ModelSpec& m) {
  Out out = written([&](const Writer& w) { fields_of_model(m, w); });
  out["attention"] = written([&](const Writer& w) { fields_of_attention(m.attention, w); });
  out["dense"] = written([&](const Writer& w) { fields_of_ffn(m.dense, w); });
  if (m.moe) out["moe"] = written([&](const Writer& w) { fields_of_moe(*m.moe, w); });
  out["layer_kinds"] = letters(m.layer_is_moe, 'M', 'd');
  if (!m.layer_is_local.empty()) out["layer_windows"] = letters(m.layer_is_local, 'w', 'a');
  if (!m.notes.empty()) out["notes"] = m.notes;
  return out;
}

ModelSpec read_model(const Json& in) {
  ModelSpec m;
  read_object(in, {"attention", "dense", "moe", "layer_kinds", "layer_windows", "notes"},
              [&](const Reader& r) { fields_of_model(m, r); });
  read_object(in.at("attention"), {},
              [&](const Reader& r) { fields_of_attention(m.attention, r); });
  read_object(in.at("dense"), {}, [&](const Reader& r) { fields_of_ffn(m.dense, r); });
  if (const auto moe = in.find("moe")) {
    m.moe.emplace();
    read_object(*moe, {}, [&](const Reader& r) { fields_of_moe(*m.moe, r); });
  }
  m.layer_is_moe = read_letters(in.at("layer_kinds"), m.layers, 'M', 'd',
                                "one letter a layer, d (dense) or M (experts)");
  if (const auto windows = in.find("layer_windows"))
    m.layer_is_local = read_letters(*windows, m.layers, 'w', 'a',
                                    "one letter a layer, w (a window) or a (all tokens)");
  if (const auto notes = in.find("notes"))
    for (std::size_t i = 0; i < notes->size(); ++i) m.notes.push_back(notes->at(i).text());
  return m;
}

Out row_json(const PlanRow& r) {
  Out out = Out::object();
  out["layout"] = to_text(r.layout);
  out.update(written([&](const Writer& w) { fields_of_row(r, w); }));
  return out;
}

Precision precision_named(const Json& in) {
  const std::string text = in.text();
  for (int p = 0; p < kPrecisions; ++p)
    if (name_of(static_cast<Precision>(p)) == text) return static_cast<Precision>(p);
  in.refuse("a precision that is known");
}

std::int64_t positive(const Json& in) {
  return in.integer(1, std::int64_t{1} << 40);
}

template <class S, class F>
void fields_of_calibration(S& c, F&& f) {
  f("trace", c.trace);
  f("trace_digest", c.trace_digest);
  f("step_ps", c.step);
  f("predicted_step_ps", c.predicted_step);
  f("assumed_launch_ps", c.assumed_launch);
  f("launch_ps", c.launch);
}

template <class S, class F>
void fields_of_calibrated(S& c, F&& f) {
  f("predicted_ps", c.predicted);
  f("measured_ps", c.measured);
}

Out calibration_json(const Calibration& c) {
  Out out = written([&](const Writer& w) { fields_of_calibration(c, w); });
  out["classes"] = Out::object();
  for (std::size_t i = 0; i < c.classes.size(); ++i)
    out["classes"][std::string(name_of(static_cast<OpClass>(i)))] =
        written([&](const Writer& w) { fields_of_calibrated(c.classes[i], w); });
  return out;
}

Calibration read_calibration(const Json& in) {
  Calibration c;
  read_object(in, {"classes"}, [&](const Reader& r) { fields_of_calibration(c, r); });
  const Json classes = in.at("classes");
  std::vector<std::string_view> known;
  for (std::size_t i = 0; i < c.classes.size(); ++i) {
    known.push_back(name_of(static_cast<OpClass>(i)));
    read_object(classes.at(known.back()), {},
                [&](const Reader& r) { fields_of_calibrated(c.classes[i], r); });
  }
  classes.allow_only(known);
  check_factors(c, in.reading());
  return c;
}

MeasuredStep read_measured(const Json& in, const Plan& p) {
  constexpr std::string_view known[] = {"layout", "predicted_ps", "step_ps"};
  in.allow_only(known);
  return {parse_layout(in.at("layout").text(), p.cluster.devices(), p.model.has_moe()),
          in.at("predicted_ps").integer(1), in.at("step_ps").integer(1)};
}

}  // namespace

std::int64_t SearchCounts::refused_total() const {
  std::int64_t sum = 0;
  for (const auto& [rule, count] : refused) sum += count;
  return sum;
}

namespace {

Out peaks_json(const DeviceType& d) {
  Out out = Out::object();
  for (const Precision p : {Precision::fp32, Precision::tf32, Precision::fp8})
    if (const double peak = d.peak_of[static_cast<std::size_t>(p)]; peak > 0)
      out[std::string(name_of(p))] = peak;
  return out;
}

}  // namespace

namespace {

Out groups_json(const Plan& p) {
  Out out = Out::array();
  for (const NodeGroup& g : p.cluster.groups) {
    out.push_back(written([&](const Writer& w) { fields_of_group(g, w); }));
    if (!is_16_bit(p.work.precision)) out.back()[kPeaksKey] = peaks_json(g.device);
  }
  return out;
}

std::vector<NodeGroup> read_groups(const Json& in) {
  std::vector<NodeGroup> out;
  for (std::size_t i = 0; i < in.size(); ++i) {
    NodeGroup& g = out.emplace_back();
    read_object(in.at(i), {kPeaksKey}, [&](const Reader& r) { fields_of_group(g, r); });
    if (const auto peaks = in.at(i).find(kPeaksKey)) g.device.peak_of = read_peaks(*peaks);
  }
  return out;
}

Out alone_json(const std::vector<TypeAlone>& types) {
  Out out = Out::array();
  for (const TypeAlone& t : types) {
    out.push_back({{"device", t.device}, {"devices", t.devices}});
    if (t.best) out.back()["row"] = row_json(*t.best);
    if (!t.proven) out.back()["proven"] = false;
    if (!t.failure.empty()) out.back()["failure"] = t.failure;
  }
  return out;
}

PlanRow read_row(const Json& in, int devices, bool has_moe) {
  PlanRow row;
  read_object(in, {"layout"}, [&](const Reader& r) { fields_of_row(row, r); });
  row.layout = parse_layout(in.at("layout").text(), devices, has_moe);
  return row;
}

std::vector<TypeAlone> read_alone(const Json& in, bool has_moe) {
  constexpr std::string_view known[] = {"device", "devices", "row", "proven", "failure"};
  std::vector<TypeAlone> out;
  for (std::size_t i = 0; i < in.size(); ++i) {
    const Json one = in.at(i);
    one.allow_only(known);
    TypeAlone& t = out.emplace_back();
    t.device = one.at("device").text();
    t.devices = one.at("devices").small_integer(1, std::numeric_limits<int>::max());
    if (const auto row = one.find("row")) t.best = read_row(*row, t.devices, has_moe);
    if (const auto proven = one.find("proven")) t.proven = proven->boolean();
    if (const auto failure = one.find("failure")) t.failure = failure->text();
  }
  return out;
}

}  // namespace

std::string to_json(const Plan& p) {
  Out out = Out::object();
  out["steploom_plan"] = kVersion;
  out["engine"] = p.engine;
  out["profile"] = {{"name", p.profile}, {"digest", p.profile_digest}};
  out["model"] = model_json(p.model);
  out["workload"] = {{"seq_length", p.work.seq_length},
                     {"global_batch", p.work.global_batch},
                     {"precision", name_of(p.work.precision)}};
  if (p.work.optimizer != Optimizer::adam) out["workload"]["optimizer"] = name_of(p.work.optimizer);
  if (p.work.routing.uneven()) out["workload"]["routing"] = routing_json(p.work.routing);
  out["cluster"] = written([&](const Writer& w) { fields_of_cluster(p.cluster, w); });
  if (p.cluster.nodes_per_domain > 1) out["cluster"][kDomain] = p.cluster.nodes_per_domain;
  if (!is_16_bit(p.work.precision)) out["cluster"][kPeaksKey] = peaks_json(p.cluster.device);
  if (!p.cluster.groups.empty()) out["cluster"][kGroups] = groups_json(p);
  out["runtime"] = p.runtime;
  out["rows"] = Out::array();
  for (const PlanRow& r : p.rows) out["rows"].push_back(row_json(r));
  out["searched"] = written([&](const Writer& w) { fields_of_counts(p.searched, w); });
  out["searched"]["refused"] = p.searched.refused;
  out["bound_ps"] = p.bound;
  out["gap"] = p.gap;
  out["fitted_share"] = p.fitted_share;
  if (p.calibration) out["calibration"] = calibration_json(*p.calibration);
  if (!p.alone.empty()) out["alone"] = alone_json(p.alone);
  if (p.measured)
    out["measured"] = {{"layout", to_text(p.measured->layout)},
                       {"predicted_ps", p.measured->predicted},
                       {"step_ps", p.measured->measured}};
  return out.dump(2) + "\n";
}

void save_plan(const Plan& plan, const std::filesystem::path& file) {
  write_file_atomically(file, [&](std::ostream& out) { out << to_json(plan); });
}

Plan load_plan(const std::filesystem::path& file) {
  const Json in = Json::load(file);
  if (!in.is_object() || !in.has("steploom_plan"))
    in.refuse("a plan written by `steploom plan -o`");
  const Json version = in.at("steploom_plan");
  if (version.integer() != kVersion) version.refuse("version " + std::to_string(kVersion));
  constexpr std::string_view known[] = {"steploom_plan", "engine",      "profile", "model",
                                        "workload",      "cluster",     "runtime", "rows",
                                        "searched",      "bound_ps",    "gap",     "fitted_share",
                                        "measured",      "calibration", "alone"};
  in.allow_only(known);
  Plan p;
  p.engine = in.at("engine").text();
  p.profile = in.at("profile").at("name").text();
  p.profile_digest = in.at("profile").at("digest").text();
  p.model = read_model(in.at("model"));
  const Json work = in.at("workload");
  p.work.seq_length = positive(work.at("seq_length"));
  p.work.global_batch = positive(work.at("global_batch"));
  p.work.precision = precision_named(work.at("precision"));
  if (const auto optimizer = work.find("optimizer"))
    p.work.optimizer = optimizer_named(optimizer->text(), in.reading());
  if (const auto routing = work.find("routing")) p.work.routing = read_routing(*routing);
  check_routing(p.work.routing, p.model, in.reading());
  validate(p.work, in.reading().c_str());
  const Json cluster = in.at("cluster");
  read_object(cluster, {kDomain, kPeaksKey, kGroups},
              [&](const Reader& r) { fields_of_cluster(p.cluster, r); });
  if (const auto domain = cluster.find(kDomain))
    p.cluster.nodes_per_domain = domain->small_integer(2, 1 << 14);
  if (const auto peaks = cluster.find(kPeaksKey)) p.cluster.device.peak_of = read_peaks(*peaks);
  if (const auto groups = cluster.find(kGroups)) {
    p.cluster.groups = read_groups(*groups);
    int nodes = 0;
    for (const NodeGroup& group : p.cluster.groups) nodes += group.nodes;
    if (nodes != p.cluster.nodes)
      groups->refuse("groups of " + std::to_string(p.cluster.nodes) + " nodes together");
  }
  use_fabric(p.cluster, p.cluster.fabric);
  p.runtime = runtime_named(in.at("runtime").text()).name;
  const Json rows = in.at("rows");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    p.rows.push_back(read_row(rows.at(i), p.cluster.devices(), p.model.has_moe()));
  }
  const Json searched = in.at("searched");
  read_object(searched, {"refused"}, [&](const Reader& r) { fields_of_counts(p.searched, r); });
  const Json refused = searched.at("refused");
  for (const std::string& rule : refused.keys())
    p.searched.refused[rule] = refused.at(rule).integer(0);
  p.bound = in.at("bound_ps").integer(0);
  p.gap = in.at("gap").number(0, 1);
  p.fitted_share = in.at("fitted_share").number(0, 1);
  if (const auto c = in.find("calibration")) p.calibration = read_calibration(*c);
  if (const auto alone = in.find("alone")) p.alone = read_alone(*alone, p.model.has_moe());
  if (const auto measured = in.find("measured")) p.measured = read_measured(*measured, p);
  return p;
}

void check_digests(const Plan& plan, const std::string& profile_digest, bool rebase,
                   const std::string& reading) {
  const bool same = plan.profile_digest == profile_digest && plan.engine == engine_signature();
  if (rebase && plan.calibration && !same)
    throw Error({reading, "/calibration", "the profile and the engine that it was fitted against",
                 plan.profile_digest == profile_digest ? "another engine" : "another profile",
                 "plan again with --calibrate " + plan.calibration->trace});
  if (rebase) return;
  if (plan.profile_digest != profile_digest)
    throw Error({reading, "/profile/digest",
                 profile_digest + " (profile " + plan.profile + " as it is now)",
                 plan.profile_digest,
                 "plan again, or pass --rebase to replay with the profile at hand"});
  if (plan.engine != engine_signature())
    throw Error({reading, "/engine", std::string(engine_signature()), plan.engine,
                 "plan again, or pass --rebase to replay with this engine"});
}

}  // namespace steploom
