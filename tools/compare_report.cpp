#include "tools/compare_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "sim/step_difference.h"
#include "sim/timeline_match.h"
#include "sim/timeline_usage.h"
#include "traces/units.h"

namespace steploom {
namespace {

// Times that may be negative.
std::string signed_time(Picoseconds time) {
  return (time > 0 ? "+" : "") + time_text(time);
}

// No share of nothing.
Cell share(Picoseconds part, Picoseconds whole) {
  if (whole == 0) return {};
  if (part == 0) return 0.0;  // not -0
  return static_cast<double>(part) / static_cast<double>(whole);
}

Table difference_table(const std::string& what) {
  return Table({{what},
                {"A", CellKind::time, 0, "", "a_ps"},
                {"B", CellKind::time, 0, "", "b_ps"},
                {"difference", CellKind::time},
                {"of the step's", CellKind::share, 0, "", "of_step_difference_share"}});
}

void add_row(Table& t, const std::string& what, Picoseconds a, Picoseconds b, Picoseconds step) {
  t.add({what, a, b, b - a, share(b - a, step)});
}

bool is_measured(const Timeline& t) {
  return t.origin.source != TimelineSource::simulated;
}

// The step whose length the other is held against: the measured one, else A.
const Timeline& reference(const ComparedTimelines& c) {
  return is_measured(c.b) && !is_measured(c.a) ? c.b : c.a;
}

std::optional<double> repeatability(const ComparedTimelines& c) {
  std::optional<double> r;
  for (const Timeline* t : {&c.a, &c.b})
    if (t->origin.repeats) r = std::max(r.value_or(0), t->origin.repeats->repeatability);
  return r;
}

Table step_table(const ComparedTimelines& c) {
  Table t({{"step"},
           {"A", CellKind::time, 0, "", "a_ps"},
           {"B", CellKind::time, 0, "", "b_ps"},
           {"difference", CellKind::time},
           {"error", CellKind::share},
           {"repeatability", CellKind::share},
           {"beyond it", CellKind::share, 0, "", "beyond_repeatability_share"}});
  const Picoseconds a = c.a.origin.step, b = c.b.origin.step;
  // The error of a prediction is the prediction minus the measurement.
  const Timeline& held_against = reference(c);
  const Picoseconds off = &held_against == &c.b ? a - b : b - a;
  const Cell error = share(off, held_against.origin.step);
  Cell r, beyond;
  if (const auto known = repeatability(c)) {
    r = *known;
    if (const double* e = std::get_if<double>(&error))
      beyond = std::max(0.0, std::abs(*e) - *known);
  }
  t.add({std::string("step time"), a, b, b - a, error, r, beyond});
  if (a != c.a.makespan || b != c.b.makespan)
    t.add({std::string("the step shown"), c.a.makespan, c.b.makespan, c.b.makespan - c.a.makespan,
           Cell{}, Cell{}, Cell{}});
  return t;
}

Table classes_table(const TimelineUsage& a, const TimelineUsage& b, Picoseconds step) {
  Table t = difference_table("operators");
  for (std::size_t c = 0; c < a.by_class.size(); ++c)
    if (a.by_class[c] != 0 || b.by_class[c] != 0)
      add_row(t, std::string(name_of(static_cast<OpClass>(c))), a.by_class[c], b.by_class[c], step);
  return t;
}

// Rows of A and B by name, in A's order and then B's.
template <class Row, class Name>
std::vector<std::pair<Row, Row>> paired(const std::vector<Row>& a, const std::vector<Row>& b,
                                        Name name) {
  std::vector<std::pair<Row, Row>> out;
  for (const Row& x : a) out.emplace_back(x, Row{});
  for (const Row& y : b) {
    const auto at = std::find_if(out.begin(), out.end(),
                                 [&](const auto& pair) { return pair.first.*name == y.*name; });
    if (at != out.end()) {
      at->second = y;
      continue;
    }
    Row none;
    none.*name = y.*name;
    out.emplace_back(none, y);
  }
  return out;
}

Table streams_table(const TimelineUsage& a, const TimelineUsage& b, Picoseconds step) {
  Table t = difference_table("stream");
  for (const auto& [x, y] : paired(a.streams, b.streams, &StreamUsage::name))
    add_row(t, x.name, x.busy, y.busy, step);
  return t;
}

Table communication_table(const TimelineUsage& a, const TimelineUsage& b) {
  Table t({{"communication"},
           {"exposed A", CellKind::time},
           {"exposed B", CellKind::time},
           {"difference", CellKind::time, 0, "", "exposed_difference_ps"},
           {"hidden A", CellKind::time},
           {"hidden B", CellKind::time},
           {"difference", CellKind::time, 0, "", "hidden_difference_ps"},
           {"waiting A", CellKind::time},
           {"waiting B", CellKind::time}});
  for (const auto& [x, y] : paired(a.communication, b.communication, &CommunicationUsage::what))
    t.add({x.what, x.exposed, y.exposed, y.exposed - x.exposed, x.hidden(), y.hidden(),
           y.hidden() - x.hidden(), x.waiting, y.waiting});
  return t;
}

Table idle_table(const IdleUsage& a, const IdleUsage& b, Picoseconds step) {
  Table t = difference_table("no compute kernel runs");
  add_row(t, "communication", a.communication, b.communication, step);
  add_row(t, "waiting for a peer", a.peers, b.peers, step);
  add_row(t, "the host issuing", a.host, b.host, step);
  add_row(t, "other", a.other, b.other, step);
  add_row(t, "in all", a.total(), b.total(), step);
  return t;
}

// The fullest device of each; device by device where they are the same ones.
Table memory_table(const ComparedTimelines& c, bool same) {
  Table t({{"memory"},
           {"peak A", CellKind::bytes},
           {"peak B", CellKind::bytes},
           {"difference", CellKind::bytes},
           {"static A", CellKind::bytes},
           {"static B", CellKind::bytes}});
  const auto known = [](Bytes bytes) { return bytes > 0 ? Cell(bytes) : Cell(); };
  const auto add = [&](const std::string& name, const TimelineDevice& x, const TimelineDevice& y) {
    const bool both = x.peak_memory > 0 && y.peak_memory > 0;
    t.add({name, known(x.peak_memory), known(y.peak_memory),
           both ? Cell(y.peak_memory - x.peak_memory) : Cell(), known(x.static_memory),
           known(y.static_memory)});
  };
  const auto fullest = [](const Timeline& of) {
    const auto at = std::max_element(
        of.devices.begin(), of.devices.end(),
        [](const auto& x, const auto& y) { return x.peak_memory < y.peak_memory; });
    return at == of.devices.end() ? TimelineDevice{} : *at;
  };
  if (!same) {
    const TimelineDevice x = fullest(c.a), y = fullest(c.b);
    if (x.peak_memory > 0 || y.peak_memory > 0) add("the fullest device", x, y);
    return t;
  }
  for (std::size_t d = 0; d < c.a.devices.size(); ++d)
    if (c.a.devices[d].peak_memory > 0 || c.b.devices[d].peak_memory > 0)
      add(c.a.devices[d].name, c.a.devices[d], c.b.devices[d]);
  return t;
}

Table causes_table(const StepDifference& d) {
  Table t({{"why the step differs"},
           {"along A's chain", CellKind::time, 0, "", "along_a_ps"},
           {"along B's chain", CellKind::time, 0, "", "along_b_ps"},
           {"mean", CellKind::time},
           {"of the difference", CellKind::share, 0, "", "of_step_difference_share"}});
  for (int i = 0; i < kDifferenceCauses; ++i) {
    const auto cause = static_cast<DifferenceCause>(i);
    const auto at = static_cast<std::size_t>(i);
    t.add({std::string(name_of(cause)), d.along_a[at], d.along_b[at], d.mean(cause),
           share(d.mean(cause), d.difference)});
  }
  t.add({std::string("explained"), Cell{}, Cell{}, d.explained(),
         share(d.explained(), d.difference)});
  t.add({std::string("left"), Cell{}, Cell{}, d.left(), share(d.left(), d.difference)});
  return t;
}

Table operators_table(const ComparedTimelines& c, const StepDifference& d) {
  Table t({{"device"},
           {"block"},
           {"micro", CellKind::integer, 0, "", "micro_batch"},
           {"operator"},
           {"cause"},
           {"A", CellKind::time, 0, "", "a_ps"},
           {"B", CellKind::time, 0, "", "b_ps"},
           {"difference", CellKind::time},
           {"on chain", CellKind::text, 0, "", "on_chain"}});
  const std::size_t shown = std::min(d.operators.size(), static_cast<std::size_t>(c.top));
  for (std::size_t i = 0; i < shown; ++i) {
    const OperatorDifference& o = d.operators[i];
    const TimelineEvent& e = c.a.events[o.event_a];
    const TimelineSlot& slot = c.a.slots[e.slot];
    const std::string chain =
        std::string(o.on_chain_a ? "A" : "") + std::string(o.on_chain_b ? "B" : "");
    t.add({c.a.devices[e.device].name, c.a.names[slot.name],
           slot.micro_batch < 0 ? Cell{} : Cell{std::int64_t{slot.micro_batch}}, c.a.names[e.name],
           std::string(name_of(o.cause)), o.a, o.b, o.difference(), chain.empty() ? "-" : chain});
  }
  return t;
}

std::string described(const Timeline& t, const std::string& name) {
  std::string text = fmt::format("{}: {}", name, name_of(t.origin.source));
  for (const std::string* part :
       {&t.origin.model, &t.origin.layout, &t.origin.cluster, &t.origin.runtime, &t.origin.date})
    if (!part->empty()) text += " · " + *part;
  return text + " · step " + time_text(t.origin.step);
}

// Of every collective, when its last member came?
bool knows_joins(const Timeline& t) {
  return std::none_of(t.events.begin(), t.events.end(), [](const TimelineEvent& e) {
    return is_communication(e.kind) && e.joined == kUnknownTime;
  });
}

void compare_operators(const ComparedTimelines& c, const TimelineMatch& match, Report& report) {
  const StepDifference d = step_difference(c.a, c.b, match);
  report.add("causes",
             "Along the critical chains, B minus A (docs/comparing.md):", causes_table(d));
  if (!d.operators.empty())
    report.add("largest", "The largest differences, operator by operator:", operators_table(c, d));
  report.note("");
  report.note(d.difference == 0 && d.operators.empty()
                  ? "the same in every operator"
                  : fmt::format("explained {} of {}, left {}", signed_time(d.explained()),
                                signed_time(d.difference), signed_time(d.left())));
}

}  // namespace

Report compare_report(const ComparedTimelines& c) {
  Report report("A " + described(c.a, c.name_a) + "\nB " + described(c.b, c.name_b));
  const TimelineMatch match = match_timelines(c.a, c.b);
  const TimelineUsage a = usage_of(c.a), b = usage_of(c.b);
  const Picoseconds step = c.b.makespan - c.a.makespan;
  report.add("step", "", step_table(c));
  report.add("operators", "Time in operators, mean over ranks:", classes_table(a, b, step));
  report.add("streams", "Streams, busy, mean over ranks:", streams_table(a, b, step));
  if (!a.communication.empty() || !b.communication.empty())
    report.add("communication",
               "Communication, mean over ranks; exposed: no compute kernel runs beside it:",
               communication_table(a, b));
  report.add("idle", "Idle compute, by what was going on, mean over ranks:",
             idle_table(a.idle, b.idle, step));
  if (Table memory = memory_table(c, match.same()); !memory.rows().empty())
    report.add("memory", "Memory:", std::move(memory));
  if (match.same()) {
    compare_operators(c, match, report);
  } else {
    report.note("");
    report.note("not of the same Program, so compared by totals only: " + match.why_not);
    const auto folded = [](const Timeline& t) {
      return std::any_of(t.devices.begin(), t.devices.end(),
                         [](const TimelineDevice& d) { return d.multiplicity > 1; });
    };
    if (c.a.devices.size() != c.b.devices.size() && folded(c.a) != folded(c.b))
      report.note("one stands for ranks alike: simulate it with --unfold to compare rank by rank");
  }
  if (!knows_joins(c.a) || !knows_joins(c.b))
    report.note(
        "when the last member of a collective came is not known: waiting for it counts as the "
        "collective's own time");
  return report;
}

}  // namespace steploom
