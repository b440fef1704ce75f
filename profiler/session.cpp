#include "profiler/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <utility>

#include "models/error.h"
#include "profiler/measure.h"

namespace steploom {
namespace {

namespace fs = std::filesystem;

constexpr double kMostShotUs = kMostShotMs * 1e3;
constexpr int kMostFaultsInARow = 3;  // then the device is taken to be lost

double predicted_us(const Ask& ask, const CostModel& model) {
  return static_cast<double>(model.cost({ask.work, {}}).time) * 1e-6;
}

class RawFile {
 public:
  RawFile(const fs::path& path, bool fresh)
      : path_(path), out_(path, std::ios::binary | (fresh ? std::ios::trunc : std::ios::app)) {
    check();
  }
  void line(const std::string& text) {
    out_ << text << '\n' << std::flush;
    check();
  }

 private:
  void check() const {
    if (!out_) throw Error({path_.string(), "", "a file that can be written", "a refusal", ""});
  }
  fs::path path_;
  std::ofstream out_;
};

class Session {
 public:
  Session(const fs::path& file, const MeasuredOn& on, const SessionPlan& plan,
          const CostModel& model, const SessionTools& tools)
      : plan_(plan),
        model_(model),
        tools_(tools),
        start_(tools.seconds()),
        earlier_(resumable(file, on)),
        out_(file, earlier_.reading.empty()) {
    result_.measured = earlier_;
    result_.measured.reading = file.string();
    result_.measured.on = on;
    result_.resumed = earlier_.points.size();
    for (const MeasuredPoint& p : earlier_.points) {
      known_.insert(to_text(p.ask));
      if (p.stats.samples > 0) ++done_[class_of(p.ask)];
    }
    if (earlier_.reading.empty()) out_.line(to_line(on));
  }

  SessionResult run() {
    if (result_.measured.others.empty() && !tools_.stopped()) {
      result_.measured.others = tools_.others();
      for (const MeasuredOther& other : result_.measured.others) out_.line(to_line(other));
    }
    all_ = left(plan_.asks).size();
    if (plan_.in_order) {
      measure(left(plan_.asks));
    } else {
      measure(left(coarse_asks(plan_.asks, model_)));
      const ByClass errors = found_errors(plan_.errors, result_.measured.points, model_);
      measure(by_gain(left(plan_.asks), plan_.shares, errors, done_, model_));
    }
    if (!result_.interrupted)
      for (const Ask& ask : too_long_) extrapolate(ask);
    result_.left = left(plan_.asks).size();
    return std::move(result_);
  }

 private:
  std::vector<Ask> left(const std::vector<Ask>& asks) const {
    std::vector<Ask> rest;
    for (const Ask& ask : asks)
      if (known_.count(to_text(ask)) == 0) rest.push_back(ask);
    return rest;
  }

  void measure(const std::vector<Ask>& asks) {
    double needed = 0;
    for (const Ask& ask : asks) needed += seconds_of(ask, model_);
    for (const Ask& ask : asks) {
      if (over()) return;
      const double budget_left = plan_.budget_seconds - (tools_.seconds() - start_);
      if (tools_.progress) tools_.progress(at_, all_, std::min(budget_left, needed));
      needed -= seconds_of(ask, model_);
      one(ask);
    }
  }

  bool over() {
    if (tools_.stopped()) result_.interrupted = true;
    return result_.interrupted || in_a_row_ >= kMostFaultsInARow ||
           tools_.seconds() - start_ > plan_.budget_seconds;
  }

  void one(const Ask& ask) {
    if (!known_.insert(to_text(ask)).second) return;  // listed twice
    ++at_;
    if (predicted_us(ask, model_) > kMostShotUs) {
      too_long_.push_back(ask);
      return;
    }
    const Timing timing = tools_.time(ask);
    if (timing.too_long) {
      too_long_.push_back(ask);
      return;
    }
    keep({ask, timing.stats, timing.note, 0, ""});
    ++result_.timed;
    if (timing.stats.samples > 0) {
      ++done_[class_of(ask)];
      in_a_row_ = 0;
      return;
    }
    result_.not_well.push_back(result_.measured.points.back());
    if (timing.note.starts_with("skipped")) return;
    result_.faulty = true;
    ++in_a_row_;
  }

  void extrapolate(const Ask& ask) {
    const MeasuredPoint* longest = nullptr;
    for (const MeasuredPoint& p : result_.measured.points)
      if (p.stats.samples > 0 && class_of(p.ask) == class_of(ask) &&
          p.ask.provider == ask.provider && p.ask.uneven == ask.uneven &&
          (longest == nullptr || p.stats.median_us > longest->stats.median_us))
        longest = &p;
    MeasuredPoint point{
        ask, {}, fmt::format("skipped: a shot takes over {:.0f} ms", kMostShotMs), 0, ""};
    if (longest != nullptr) {
      point.extrapolated_us =
          longest->stats.median_us * predicted_us(ask, model_) / predicted_us(longest->ask, model_);
      point.extrapolated_from = to_text(longest->ask);
    }
    keep(std::move(point));
  }

  void keep(MeasuredPoint point) {
    out_.line(to_line(point));
    result_.measured.points.push_back(std::move(point));
  }

  const SessionPlan& plan_;
  const CostModel& model_;
  const SessionTools& tools_;
  double start_;
  Measurements earlier_;
  RawFile out_;
  SessionResult result_;
  std::set<std::string> known_;  // asks in the file, or taken
  std::map<KindPhase, int> done_;
  std::vector<Ask> too_long_;
  std::size_t all_ = 0;
  std::size_t at_ = 0;
  int in_a_row_ = 0;
};

}  // namespace

Measurements resumable(const fs::path& file, const MeasuredOn& on) {
  if (!fs::exists(file) || fs::is_empty(file)) return {};
  std::ifstream in(file, std::ios::binary);
  std::ostringstream read;
  read << in.rdbuf();
  const std::string text = read.str();
  // A file without any newline is none of ours: parse_points refuses it.
  const std::size_t end = text.rfind('\n');
  const std::size_t whole = end == std::string::npos ? text.size() : end + 1;
  Measurements found = parse_points(std::string_view(text).substr(0, whole), file.string());
  const auto same = [&](const char* what, const std::string& here, const std::string& there) {
    if (here == there) return;
    throw Error({file.string(), what, "'" + here + "', as on this machine", "'" + there + "'",
                 "measure into another file, or remove this one"});
  };
  same("gpu", on.gpu, found.on.gpu);
  same("driver", on.driver, found.on.driver);
  same("cuda_runtime", on.cuda_runtime, found.on.cuda_runtime);
  same("cublas", on.cublas, found.on.cublas);
  same("cudnn", on.cudnn, found.on.cudnn);
  same("method", on.method, found.on.method);
  if (whole < text.size()) fs::resize_file(file, whole);
  return found;
}

SessionResult run_session(const fs::path& file, const MeasuredOn& on, const SessionPlan& plan,
                          const CostModel& model, const SessionTools& tools) {
  return Session(file, on, plan, model, tools).run();
}

}  // namespace steploom
