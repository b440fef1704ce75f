// steploom profile show: what a profile holds.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "sim/correction.h"
#include "tools/profile_verbs.h"
#include "tools/report.h"

namespace steploom {
namespace {

Table about(const Profile& p) {
  Table t({{"what"}, {"found"}});
  const auto row = [&](std::string what, std::string found) {
    t.add({std::move(what), std::move(found)});
  };
  row("profile", p.name);
  row("digest", p.digest);
  row("date", p.date);
  row("device", fmt::format("{}, {} SMs, {:g} TFLOP/s, {:g} GB/s", p.device.name, p.device.sms,
                            p.device.peak_flops * 1e-12, p.device.memory_bandwidth * 1e-9));
  row("source", p.source);
  row("attribution", p.attribution);
  row("made", p.made);
  for (const std::string& s : p.software) row("software", s);
  if (!p.points.kernels.empty()) {
    const PointsOn& on = p.points.on;
    row("points measured on",
        fmt::format("{}, driver {}, CUDA {}, cuBLAS {}{}, {}", on.gpu, on.driver, on.cuda_runtime,
                    on.cublas, on.cudnn.empty() ? "" : ", cuDNN " + on.cudnn, on.date));
  }
  return t;
}

Table kernels(const Profile& p) {
  struct Held {
    std::int64_t points = 0;
    bool corrected = false;
  };
  std::map<std::pair<OpKind, Phase>, Held> classes;
  for (const KernelPoint& k : p.points.kernels) ++classes[{k.work.kind, k.work.phase}].points;
  for (const Correction& c : p.corrections) classes[{c.kind, c.phase}].corrected = true;
  Table t(
      {{"kernel"}, {"phase"}, {"exact points", CellKind::integer, 0, "", "points"}, {"corrected"}});
  for (const auto& [key, held] : classes)
    t.add({std::string(name_of(key.first)), std::string(name_of(key.second)), held.points,
           std::string(held.corrected ? "yes" : "no")});
  return t;
}

Table collectives(const Profile& p) {
  Table t({{"collective"},
           {"ranks", CellKind::integer},
           {"nodes", CellKind::integer},
           {"sizes", CellKind::integer},
           {"from", CellKind::bytes},
           {"to", CellKind::bytes},
           {"source"}});
  for (const CollectiveCurve& c : p.collectives) {
    const std::vector<double>& knots = c.grid.axes[0].knots;
    t.add({std::string(name_of(c.collective)), std::int64_t{c.ranks}, std::int64_t{c.nodes},
           static_cast<std::int64_t>(knots.size()), static_cast<std::int64_t>(knots.front()),
           static_cast<std::int64_t>(knots.back()), c.source});
  }
  return t;
}

Table fabrics(const Profile& p) {
  Table t({{"fabric"},
           {"collective"},
           {"ranks", CellKind::integer},
           {"CTA settings", CellKind::integer},
           {"from", CellKind::bytes},
           {"to", CellKind::bytes},
           {"measured"}});
  for (const ProfiledFabric& f : p.fabrics)
    for (auto c = f.curves.begin(); c != f.curves.end();) {
      const auto next = std::find_if(c, f.curves.end(), [&](const CtaCurve& other) {
        return other.collective != c->collective || other.ranks != c->ranks;
      });
      t.add({f.name, std::string(name_of(c->collective)), std::int64_t{c->ranks},
             std::int64_t{next - c}, c->bytes.front(), c->bytes.back(), f.date});
      c = next;
    }
  return t;
}

Table gaps(const Profile& p) {
  Table t({{"gap"}, {"us", CellKind::number, 3, "", "us"}, {"measured"}});
  const auto row = [&](const char* what, double us) {
    t.add({std::string(what), us, p.gaps.source});
  };
  row("kernel after kernel on a stream", p.gaps.kernel_us);
  row("kernel after another stream", p.gaps.kernel_event_us);
  row("collective after another stream", p.gaps.collective_event_us);
  return t;
}

Table communicator_memory(const Profile& p) {
  Table t({{"fabric"},
           {"taken when"},
           {"once", CellKind::bytes},
           {"each", CellKind::bytes},
           {"per CTA", CellKind::bytes}});
  for (const ProfiledFabric& f : p.fabrics) {
    if (!f.memory) continue;
    const auto row = [&](const char* when, const CommunicatorMemory::Part& part) {
      t.add({f.name, std::string(when), part.once, part.each, part.per_cta});
    };
    row("made", f.memory->made);
    row("first ring", f.memory->rings);
    row("first message to a peer", f.memory->messages);
  }
  return t;
}

// The lowest rate of the classes that `of` accepts, beside those that `beside` accepts.
template <class Of, class Beside>
std::string lowest(const ProfiledFabric& f, const Of& of, const Beside& beside) {
  std::uint32_t least = 0;
  for (const ProfiledFabric::Beside& b : f.besides) {
    if (!of(b.own) || !beside(b.other) || b.rates.rates.empty()) continue;
    const std::uint32_t rate = *std::min_element(b.rates.rates.begin(), b.rates.rates.end());
    least = least == 0 ? rate : std::min(least, rate);
  }
  return least == 0 ? "no row" : fmt::format("{:.2f}", static_cast<double>(least) / kFullRate);
}

// Whose rows a class of kernels takes, and the worst of them; no row slows nothing.
Table contention(const Profile& p) {
  Table t({{"fabric"},
           {"class"},
           {"rows"},
           {"g on half of the SMs"},
           {"beside collectives"},
           {"collectives beside it"},
           {"beside copies"},
           {"copies beside it"}});
  for (const ProfiledFabric& f : p.fabrics)
    for (int i = 0; i < kKernelClasses; ++i) {
      const auto c = static_cast<KernelClass>(i);
      if (is_collective(c)) continue;
      const KernelClass row = f.row_of(c);
      std::string rows = row == c ? "measured" : fmt::format("as {}", name_of(row));
      std::string half = "no row";
      for (const ProfiledFabric::Share& s : f.shares)
        if (s.of == row) half = fmt::format("{:.2f}", static_cast<double>(s.rates[8]) / kFullRate);
      if (is_copy(c) && f.needs_sms(c)) rows = fmt::format("on SMs, as {}", name_of(row));
      if (is_copy(c) && !f.needs_sms(c)) {
        rows = f.measures_copy(c) ? "by an engine" : "not measured";
        const auto kernels = [](KernelClass k) { return !is_collective(k) && !is_copy(k); };
        t.add({f.name, std::string(name_of(c)), rows, half, "no row", "no row",
               lowest(f, kernels, [c](KernelClass k) { return k == c; }),
               lowest(
                   f, [c](KernelClass k) { return k == c; }, kernels)});
        continue;
      }
      const auto mine = [row](KernelClass k) { return k == row; };
      t.add({f.name, std::string(name_of(c)), rows, half, lowest(f, mine, is_collective),
             lowest(f, is_collective, mine), lowest(f, mine, is_copy), lowest(f, is_copy, mine)});
    }
  return t;
}

Table errors(const Profile& p) {
  Table t({{"what was left out"},
           {"points", CellKind::integer},
           {"median error", CellKind::share},
           {"95th percentile", CellKind::share},
           {"worst", CellKind::share}});
  for (const LeaveOut& e : p.leave_out) t.add({e.what, e.points, e.median, e.p95, e.worst});
  return t;
}

ExitStatus run(const std::string& name, const std::string& format_name) {
  const TableFormat format = parse_table_format(format_name, "--format");
  const Profile p = load_profile(name);
  Report report;
  report.add("about", "", about(p));
  report.add("kernels",
             "Kernels with exact points or corrections, beyond the fitted surfaces:", kernels(p));
  report.add("collectives", "Curves of collectives:", collectives(p));
  if (!p.fabrics.empty())
    report.add("fabrics", "Collectives by CTA count, over each fabric:", fabrics(p));
  if (!p.fabrics.empty())
    report.add(
        "contention",
        "Kernels and copies: whose rows they take, and the lowest rates in them:", contention(p));
  if (p.gaps == Gaps{})
    report.note("gaps between kernels: not measured, taken as 0");
  else
    report.add("gaps", "Between kernels on streams, beyond their durations:", gaps(p));
  if (std::any_of(p.fabrics.begin(), p.fabrics.end(), [](const auto& f) { return f.memory; }))
    report.add("communicators", "Device memory of NCCL's communicators:", communicator_memory(p));
  report.add("errors", "Errors on measurements left out of the fit:", errors(p));
  report.print(format);
  return ExitStatus::done;
}

}  // namespace

RunVerb prepare_profile_show(CLI::App& app) {
  const auto name = std::make_shared<std::string>();
  const auto format = std::make_shared<std::string>("table");
  app.add_option("profile", *name, "Built-in profile or JSON file")->required();
  add_format_flag(app, *format);
  return [name, format] { return run(*name, *format); };
}

}  // namespace steploom
