// steploom whatif: the best plan at every point of some sweeps.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <set>
#include <utility>

#include "models/config_reader.h"
#include "tools/report.h"
#include "tools/sweep.h"
#include "tools/verb.h"
#include "tools/whatif.h"
#include "tools/whatif_plot.h"

namespace steploom {
namespace {

constexpr std::size_t kMostPoints = 1000;

struct Flags {
  QuestionFlags question;
  std::vector<std::string> sweeps;
  unsigned threads = 0;
  std::string svg;
  std::string plot{plot_names().front()};
  std::string format = "table";
};

std::vector<Sweep> sweeps_of(const Flags& f, const CLI::App& app) {
  std::vector<Sweep> sweeps;
  std::set<std::string> keys;
  for (const std::string& text : f.sweeps) {
    sweeps.push_back(parse_sweep(text));
    const Sweep& sweep = sweeps.back();
    if (!keys.insert(sweep.key).second)
      throw Error({"--sweep", "", "every key once", "'" + sweep.key + "' twice", ""});
    const std::string flag = flag_of(sweep);
    if (app.get_option(flag)->count() > 0)
      throw Error({"command line", flag, "it or a sweep of " + sweep.key, "both", ""});
  }
  if (point_count(sweeps) > kMostPoints)
    throw Error({"--sweep", "", fmt::format("at most {} points in all", kMostPoints),
                 std::to_string(point_count(sweeps)), ""});
  // Every name that is swept, once, before anything is searched.
  QuestionFlags flags = f.question;
  for (const Sweep& s : sweeps) apply(s, 0, flags);
  for (const Sweep& s : sweeps) {
    for (std::size_t v = s.values.size(); v-- > 0;) {
      apply(s, v, flags);
      check_flags(flags);
    }
  }
  return sweeps;
}

std::string place(const std::vector<Sweep>& sweeps, const WhatIfPoint& p, std::size_t but) {
  std::string text;
  for (std::size_t i = 0; i < sweeps.size(); ++i)
    if (i != but) text += (text.empty() ? "" : " · ") + label_of(sweeps[i], p.at[i]);
  return text;
}

bool is_whole(const Sweep& s) {
  return std::all_of(s.numbers.begin(), s.numbers.end(), [](double n) {
    return n == static_cast<double>(static_cast<std::int64_t>(n));
  });
}

Table points_table(const std::vector<WhatIfPoint>& points, const std::vector<Sweep>& sweeps,
                   const std::vector<LayoutChange>& changes) {
  std::vector<Column> columns;
  for (const Sweep& s : sweeps)
    columns.push_back(s.numbers.empty() ? Column{s.key}
                      : is_whole(s)     ? Column{s.key, CellKind::integer}
                                        : Column{s.key, CellKind::number});
  for (Column c : std::initializer_list<Column>{
           {"GPUs", CellKind::integer, 0, "", "devices"},
           {"layout"},
           {"micro", CellKind::integer, 0, "", "micro_batch"},
           {"recompute"},
           {"step", CellKind::time},
           {"tokens/s", CellKind::count, 0, "", "tokens_per_second"},
           {"tokens/s/GPU", CellKind::number, 0, "", "tokens_per_second_per_gpu"},
           {"MFU", CellKind::share, 0, "", "mfu"},
           {"memory", CellKind::bytes},
           {"GPU-hours/1T tokens", CellKind::count, 0, "", "gpu_hours_per_1e12_tokens"},
           {"layout changed along", CellKind::text, 0, "", "changed_along"},
           {"no plan because", CellKind::text, 0, "", "failure"}})
    columns.push_back(std::move(c));
  std::vector<std::string> changed(points.size());
  for (const LayoutChange& c : changes)
    changed[c.to] += (changed[c.to].empty() ? "" : ", ") + sweeps[c.sweep].key;

  Table t(std::move(columns));
  for (std::size_t i = 0; i < points.size(); ++i) {
    const WhatIfPoint& p = points[i];
    std::vector<Cell> row;
    for (std::size_t s = 0; s < sweeps.size(); ++s) {
      if (sweeps[s].numbers.empty())
        row.emplace_back(sweeps[s].values[p.at[s]]);
      else if (is_whole(sweeps[s]))
        row.emplace_back(static_cast<std::int64_t>(sweeps[s].numbers[p.at[s]]));
      else
        row.emplace_back(sweeps[s].numbers[p.at[s]]);
    }
    row.emplace_back(p.devices > 0 ? Cell(p.devices) : Cell());
    if (const auto& b = p.best) {
      for (Cell c : std::initializer_list<Cell>{
               short_name(b->layout), b->layout.micro_batch,
               to_text(b->layout.recompute, b->layout.recompute_detail), b->step,
               tokens_per_second(p), b->tokens_per_second, b->mfu, b->memory,
               gpu_hours_per_trillion(p), changed[i], std::string()})
        row.push_back(std::move(c));
    } else {
      row.resize(t.columns().size() - 1);
      row.emplace_back(p.failure);
    }
    t.add(std::move(row));
  }
  return t;
}

Table changes_table(const std::vector<WhatIfPoint>& points, const std::vector<Sweep>& sweeps,
                    const std::vector<LayoutChange>& changes) {
  Table t({{"along"}, {"from"}, {"to"}, {"at"}, {"layout before"}, {"layout after"}});
  const auto named = [](const PlanRow& r) {
    return fmt::format("{} mbs{} {}", short_name(r.layout), r.layout.micro_batch,
                       to_text(r.layout.recompute, r.layout.recompute_detail));
  };
  for (const LayoutChange& c : changes) {
    const WhatIfPoint &from = points[c.from], &to = points[c.to];
    t.add({sweeps[c.sweep].key, sweeps[c.sweep].values[from.at[c.sweep]],
           sweeps[c.sweep].values[to.at[c.sweep]], place(sweeps, to, c.sweep), named(*from.best),
           named(*to.best)});
  }
  return t;
}

ExitStatus run(const Flags& f, const CLI::App& app) {
  const TableFormat format = parse_table_format(f.format, "--format");
  check_plot_name(f.plot, "--plot");
  const std::vector<Sweep> sweeps = sweeps_of(f, app);
  const ModelSpec model = load_model(f.question.model);
  for (const std::string& note : model.notes)
    fmt::print(stderr, "note: {}: {}\n", model.name, note);
  std::function<void(std::size_t)> progress;
  const bool terminal = isatty(STDERR_FILENO) != 0;
  if (terminal)
    progress = [all = point_count(sweeps)](std::size_t done) {
      std::fprintf(stderr, "\r%zu of %zu points", done, all);
    };
  const std::vector<WhatIfPoint> points = what_if(f.question, sweeps, f.threads, progress);
  if (terminal) std::fputs("\r\033[K", stderr);
  const std::vector<LayoutChange> changes = layout_changes(points, sweeps);
  const auto planned = std::count_if(points.begin(), points.end(),
                                     [](const WhatIfPoint& p) { return p.best.has_value(); });

  std::string headline = "what if: " + model.name;
  for (const Sweep& s : sweeps) headline += fmt::format(" · {} {}", s.values.size(), s.key);
  Report report(headline);
  report.add("points", "", points_table(points, sweeps, changes));
  if (!changes.empty())
    report.add("changes", "Where the best layout changes, replicas aside:",
               changes_table(points, sweeps, changes));
  report.note("");
  report.note(fmt::format("{} of {} points have a plan, each the best of its whole space", planned,
                          points.size()));
  if (!f.svg.empty()) {
    save_plot(f.svg, model.name, f.plot, points, sweeps, changes);
    report.note("plot written to " + f.svg);
  }
  report.print(format);
  return planned > 0 ? ExitStatus::done : ExitStatus::negative;
}

}  // namespace

RunVerb prepare_whatif(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  app.add_option("model", f->question.model, "Shipped model or a config.json")->required();
  app.add_option("--sweep", f->sweeps,
                 "KEY=VALUES, once a key; the first is the plot's x axis. Keys: nodes, gpus (of "
                 "each node), network-gbps (of each NIC), gpu (a cluster, with its profile), "
                 "seq-length, global-batch, precision, runtime. Values: a,b,c; of numbers also "
                 "a..b, which doubles from a up to b, and a..b:step")
      ->required()
      ->type_name("KEY=VALUES")
      ->allow_extra_args(false);
  add_question_flags(app, f->question);
  app.add_option("--threads", f->threads, "Threads that share the points (default: all cores)")
      ->check(CLI::Range(1U, 1024U));
  CLI::Option* svg = app.add_option("--svg", f->svg, "Write a plot to this file");
  app.add_option("--plot", f->plot, fmt::format("What it shows: {}", fmt::join(plot_names(), ", ")))
      ->capture_default_str()
      ->needs(svg);
  add_format_flag(app, f->format);
  return [f, &app] { return run(*f, app); };
}

}  // namespace steploom
