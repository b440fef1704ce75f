#include "traces/load_timeline.h"

#include <fmt/format.h>

#include "models/error.h"
#include "traces/kineto.h"
#include "traces/text_file.h"
#include "traces/timeline_file.h"

namespace steploom {
namespace {

constexpr std::size_t kMostBytes = std::size_t{64} << 20;  // unpacked; as Json::parse
constexpr const char* kExpected =
    "a timeline (\"steploom_timeline\") or a Chrome trace (\"traceEvents\")";

std::vector<std::string> notes_of(const KinetoImport& import, const std::string& file) {
  std::vector<std::string> notes;
  if (!import.step.empty())
    notes.push_back(fmt::format("{}: {}, the step of median duration of {}", file, import.step,
                                import.timeline.origin.steps));
  if (!import.unnamed.empty())
    notes.push_back(fmt::format("{}: {} kind(s) of kernel that no rule names count as memory: {}{}",
                                file, import.unnamed.size(), import.unnamed.front().substr(0, 60),
                                import.unnamed.size() > 1 ? ", …" : ""));
  return notes;
}

}  // namespace

LoadedTimeline load_timeline(const std::filesystem::path& file) {
  const std::string reading = file.string();
  const Json json = Json::parse(read_text_file(file, kMostBytes), reading);
  if (!json.is_object()) json.refuse(kExpected);
  if (json.has("steploom_timeline")) return {read_timeline(json), {}, {}, {}};
  if (json.has("traceEvents")) {
    KinetoImport import = import_kineto(json);
    std::vector<std::string> notes = notes_of(import, reading);
    return {std::move(import.timeline), import.rank, import.world, std::move(notes)};
  }
  if (json.has("steploom_plan"))
    throw Error({reading, "", kExpected, "a plan",
                 "replay it first: steploom simulate " + reading + " --timeline FILE"});
  throw Error({reading, "", kExpected, "neither", ""});
}

}  // namespace steploom
