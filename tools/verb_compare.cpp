// steploom compare: two timelines of a step, predicted and measured above all.
#include <fmt/format.h>

#include <memory>
#include <ostream>

#include "models/atomic_file.h"
#include "sim/side_by_side.h"
#include "tools/compare_report.h"
#include "tools/verb.h"
#include "traces/chrome_trace.h"
#include "traces/load_timeline.h"

namespace steploom {
namespace {

struct Flags {
  std::string a, b;
  std::string trace;
  std::string format = "table";
  int top = 10;
};

ExitStatus run(const Flags& f) {
  const TableFormat format = parse_table_format(f.format, "--format");
  if (f.top < 0) throw Error({"command line", "--top", "at least 0", std::to_string(f.top), ""});
  const LoadedTimeline a = load_timeline(f.a), b = load_timeline(f.b);
  Report report = compare_report({a.timeline, b.timeline, f.a, f.b, f.top});
  for (const LoadedTimeline* loaded : {&a, &b})
    for (const std::string& note : loaded->notes) report.note(note);
  if (!f.trace.empty()) {
    const Timeline both = side_by_side(a.timeline, "A", b.timeline, "B");
    TraceOptions options;
    options.name = f.a + " and " + f.b;
    write_file_atomically(f.trace,
                          [&](std::ostream& out) { write_chrome_trace(out, both, options); });
    report.note("trace written to " + f.trace + "; open it at https://ui.perfetto.dev");
  }
  report.print(format);
  return ExitStatus::done;
}

}  // namespace

RunVerb prepare_compare(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  app.add_option("A", f->a, "Timeline, or PyTorch profiler trace; plain or .gz")->required();
  app.add_option("B", f->b, "What it is compared with, likewise")->required();
  app.add_option("--trace", f->trace, "Write one Chrome trace with both to this file");
  app.add_option("--top", f->top, "How many of the largest differences to show")
      ->capture_default_str();
  add_format_flag(app, f->format);
  return [f] { return run(*f); };
}

}  // namespace steploom
