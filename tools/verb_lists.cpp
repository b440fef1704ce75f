// steploom models, clusters, doctor: what there is.
#include <fmt/format.h>

#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "models/config_reader.h"
#include "models/parameters.h"
#include "models/runtime.h"
#include "sim/cluster.h"
#include "sim/engine.h"
#include "sim/profile.h"
#include "tools/report.h"
#include "tools/verb.h"

namespace steploom {
namespace {

std::string attention_text(const ModelSpec& m) {
  const AttentionSpec& a = m.attention;
  if (a.kind == AttentionKind::latent) return fmt::format("MLA {}×{}", a.heads, a.head_dim);
  const std::string window =
      a.window == 0 ? "" : fmt::format(", {} of {}", a.chunked ? "chunks" : "windows", a.window);
  return fmt::format("{} {}/{}×{}{}", a.heads == a.kv_heads ? "MHA" : "GQA", a.heads, a.kv_heads,
                     a.head_dim, window);
}

ExitStatus list_models(TableFormat format) {
  Table t({{"model"},
           {"family"},
           {"parameters", CellKind::count},
           {"active", CellKind::count},
           {"layers", CellKind::integer},
           {"hidden", CellKind::integer},
           {"attention"},
           {"experts"},
           {"vocabulary", CellKind::integer}});
  for (const std::string& name : model_names()) {
    const ModelSpec m = load_model(name);
    const ParameterCount n = count_parameters(m);
    t.add({m.name, m.family, n.total, n.active, std::int64_t{m.layers}, m.hidden, attention_text(m),
           m.moe ? fmt::format("{}, top {}", m.moe->experts, m.moe->top_k) : std::string("-"),
           m.vocab});
  }
  Report report;
  report.add("models", "", std::move(t));
  report.print(format);
  return ExitStatus::done;
}

ExitStatus list_clusters(TableFormat format) {
  Table t({{"cluster"},
           {"device"},
           {"GPUs a node", CellKind::integer, 0, "", "gpus_per_node"},
           {"memory", CellKind::bytes},
           {"peak", CellKind::number, 0, "TFLOP/s", "peak_bf16_tflops"},
           {"memory bandwidth", CellKind::number, 0, "GB/s", "memory_gb_per_s"},
           {"NVLink", CellKind::number, 0, "GB/s", "nvlink_gb_per_s"},
           {"NICs a node", CellKind::integer, 0, "", "nics_per_node"},
           {"NIC", CellKind::number, 0, "Gb/s", "nic_gbit_per_s"}});
  for (const std::string_view name : cluster_names()) {
    const Cluster c = load_cluster(name, 1);
    t.add({c.name, c.device.name, std::int64_t{c.devices_per_node}, c.device.memory,
           c.device.peak_flops * 1e-12, c.device.memory_bandwidth * 1e-9, c.nvlink.bandwidth * 1e-9,
           std::int64_t{c.nics_per_node}, c.nic.bandwidth * 8e-9});
  }
  Report report;
  report.add("clusters", "", std::move(t));
  report.print(format);
  return ExitStatus::done;
}

std::string ranks_text(const ProfiledFabric& f) {
  std::set<int> ranks;
  for (const CtaCurve& c : f.curves) ranks.insert(c.ranks);
  return fmt::format("{} GPUs", fmt::join(ranks, ", "));
}

// "attention as matmul, ..."
std::string assumed_text(const ProfiledFabric& f) {
  std::vector<std::string> all;
  for (const ProfiledFabric::Assumed& a : f.assumed)
    all.push_back(fmt::format("{} as {}", name_of(a.of), name_of(a.as)));
  return fmt::format("{}", fmt::join(all, ", "));
}

// "copy_to_host by an engine, copy_on_device on SMs"
std::string copies_text(const ProfiledFabric& f) {
  std::vector<std::string> all;
  for (int c = 0; c < kKernelClasses; ++c) {
    const auto copy = static_cast<KernelClass>(c);
    if (!is_copy(copy) || !f.measures_copy(copy)) continue;
    all.push_back(
        fmt::format("{} {}", name_of(copy), f.needs_sms(copy) ? "on SMs" : "by an engine"));
  }
  return all.empty() ? "not measured" : fmt::format("{}", fmt::join(all, ", "));
}

ExitStatus diagnose(TableFormat format) {
  Table found({{"what"}, {"found"}});
  found.add({std::string("steploom"), std::string(STEPLOOM_VERSION)});
  found.add({std::string("engine"), std::string(engine_signature())});
  found.add({std::string("cores"), std::to_string(std::thread::hardware_concurrency())});
  found.add({std::string("shipped models"), std::to_string(model_names().size())});
  for (const Runtime& r : built_in_runtimes()) found.add({std::string("runtime"), r.name});
  Table profiles({{"cluster"}, {"profile"}, {"digest"}, {"date"}});
  Table errors({{"profile"},
                {"what was left out"},
                {"points", CellKind::integer},
                {"median error", CellKind::share},
                {"95th percentile", CellKind::share},
                {"worst", CellKind::share}});
  Table fabrics({{"profile"},
                 {"fabric"},
                 {"date"},
                 {"collectives of"},
                 {"not measured, assumed", CellKind::text, 0, "", "assumed"},
                 {"copies beside kernels", CellKind::text, 0, "", "copies"}});
  Report report;
  for (const std::string_view name : cluster_names()) {
    const Cluster c = load_cluster(name, 1);
    const Profile& p = built_in_profile(c.device.name);
    profiles.add({c.name, p.name, p.digest, p.date});
    report.note(p.name + ": " + p.source);
    for (const ProfiledFabric& f : p.fabrics)
      fabrics.add({p.name, f.name, f.date, ranks_text(f), assumed_text(f), copies_text(f)});
    for (const LeaveOut& e : p.leave_out)
      errors.add({p.name, e.what, e.points, e.median, e.p95, e.worst});
  }
  report.add("found", "", std::move(found));
  report.add("profiles", "Profiles that would be used:", std::move(profiles));
  report.add("fabrics", "Fabrics whose collectives and contention they hold:", std::move(fabrics));
  report.add("errors", "Their errors on measurements left out of the fit:", std::move(errors));
  report.print(format);
  return ExitStatus::done;
}

RunVerb prepare_list(CLI::App& app, ExitStatus (*list)(TableFormat)) {
  const auto format = std::make_shared<std::string>("table");
  add_format_flag(app, *format);
  return [format, list] { return list(parse_table_format(*format, "--format")); };
}

}  // namespace

RunVerb prepare_models(CLI::App& app) {
  return prepare_list(app, list_models);
}
RunVerb prepare_clusters(CLI::App& app) {
  return prepare_list(app, list_clusters);
}
RunVerb prepare_doctor(CLI::App& app) {
  return prepare_list(app, diagnose);
}

}  // namespace steploom
