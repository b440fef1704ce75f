#include "tools/exporter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <ostream>

#include "traces/units.h"

namespace steploom {

std::string file_stem(const Asked& asked) {
  std::string stem = asked.question->setting().model.name;
  std::replace_if(
      stem.begin(), stem.end(),
      [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) == 0 &&
               std::string_view("._-").find(c) == std::string_view::npos;
      },
      '-');
  return stem.empty() || stem.front() == '.' || stem.front() == '-' ? "model" + stem : stem;
}

MegatronJob job_of(const Asked& asked) {
  const Cluster& c = asked.question->setting().cluster;
  MegatronJob job{file_stem(asked), c.nodes, c.devices_per_node, asked.question->headline() + "\n"};
  job.comment += to_text(asked.layout);
  if (asked.plan)
    for (const PlanRow& row : asked.plan->rows)
      if (row.layout == asked.layout)
        job.comment += fmt::format("\npredicted: {} a step", time_text(row.step));
  return job;
}

ExportedFile text_file(std::string name, std::string text, std::string what) {
  return {std::move(name), [text = std::move(text)](std::ostream& out) { out << text; },
          std::move(what)};
}

void add_node_order(const Cluster& cluster, std::vector<std::string>& items) {
  int first = 0;
  std::vector<std::string> groups;
  for (const NodeGroup& group : cluster.groups) {
    const int ranks = group.nodes * cluster.devices_per_node;
    groups.push_back(
        fmt::format("ranks {} to {} on {}", first, first + ranks - 1, group.device.name));
    first += ranks;
  }
  if (!groups.empty())
    items.push_back(fmt::format("types of GPU: {}; list the launcher's nodes in this order",
                                fmt::join(groups, ", ")));
}

ExportedFile not_expressed_file(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += item + "\n";
  return text_file("not-expressed.txt",
                   items.empty() ? "Everything in the plan is expressed.\n" : std::move(text),
                   "what of the plan is not in the other files");
}

}  // namespace steploom
