// steploom plan: the fastest layouts of the whole space.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>

#include "planner/explain.h"
#include "planner/make_plan.h"
#include "tools/plan_report.h"
#include "tools/plan_shapes.h"
#include "tools/question.h"
#include "tools/verb.h"

namespace steploom {
namespace {

struct Flags {
  QuestionFlags question;
  int top = 5;
  unsigned threads = 0;
  std::string format = "table";
  std::string output;
};

ExitStatus run(const Flags& f) {
  const TableFormat format = parse_table_format(f.format, "--format");
  const auto question = Question::from_flags(f.question);
  PlanOptions options;
  options.top = f.top;
  options.threads = f.threads;
  const bool terminal = isatty(STDERR_FILENO) != 0;
  if (terminal)
    options.progress = [](double share) {
      std::fprintf(stderr, "\r%3.0f %% of the layouts that fit", share * 100);
    };
  const Plan plan = make_plan(question->setting(), question->profile(), options);
  if (terminal) std::fputs("\r\033[K", stderr);
  if (!f.output.empty()) save_plan(plan, f.output);
  const PlanShapes shapes = shapes_to_measure(question->setting(), plan.rows.front().layout);
  plan_report(plan, question->headline(), f.output,
              static_cast<std::int64_t>(shapes.kernels.size()))
      .print(format);
  return ExitStatus::done;
}

}  // namespace

RunVerb prepare_plan(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  app.add_option("model", f->question.model,
                 "Shipped model (see `steploom models`) or a config.json")
      ->required();
  add_question_flags(app, f->question);
  app.add_option("--top", f->top, "How many layouts to show")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  app.add_option("--threads", f->threads, "Threads of the search (default: all cores)")
      ->check(CLI::Range(1U, 1024U));
  app.add_option("-o,--output", f->output, "Write the plan to this file");
  add_format_flag(app, f->format);
  return [f] { return run(*f); };
}

}  // namespace steploom
