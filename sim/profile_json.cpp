// A Profile as JSON text: what fit_profile writes and parse_profile reads back.
#include <fmt/format.h>

#include <cstddef>

#include "sim/json_text.h"
#include "sim/profile.h"
#include "sim/profile_clock_json.h"
#include "sim/profile_points_json.h"

namespace steploom {
namespace {

std::string members(const Grid& grid) {
  std::string axes;
  for (const Axis& axis : grid.axes) {
    axes += fmt::format("{}{{\"name\": {}, \"knots\": {}}}", axes.empty() ? "" : ",\n",
                        json_string(axis.name), json_list(axis.knots));
  }
  return fmt::format("\"axes\": [{}],\n\"octaves_thousandths\": {}", axes, json_list(grid.values));
}

std::string members(const Surface& surface) {
  return fmt::format("\"launch_us\": {}, {}", surface.launch_us, members(surface.grid));
}

}  // namespace

std::string to_json(const Profile& p) {
  std::string software, attention, collectives, corrections, leave_out, precisions;
  const auto add = [](std::string& list, const std::string& item) {
    list += (list.empty() ? "" : ",\n") + item;
  };
  for (const std::string& s : p.software) add(software, json_string(s));
  for (const AttentionSurface& a : p.attention) {
    add(attention, fmt::format("{{\"head_dim\": {}, {}}}", a.head_dim, members(a.surface)));
  }
  for (const CollectiveCurve& c : p.collectives) {
    const std::string nodes = c.nodes > 1 ? fmt::format("\"nodes\": {}, ", c.nodes) : "";
    const std::string source =
        c.source.empty() ? "" : fmt::format("\"source\": {}, ", json_string(c.source));
    add(collectives,
        fmt::format("{{\"collective\": {}, \"ranks\": {}, {}{}{}}}",
                    json_string(name_of(c.collective)), c.ranks, nodes, source, members(c.grid)));
  }
  for (const Correction& c : p.corrections) {
    add(corrections,
        fmt::format("{{\"kind\": {}, \"phase\": {}, {}}}", json_string(name_of(c.kind)),
                    json_string(name_of(c.phase)), members(c.grid)));
  }
  for (const PrecisionSurface& s : p.precisions)
    add(precisions, fmt::format("{{\"precision\": {}, {}}}", json_string(name_of(s.precision)),
                                members(s.grid)));
  for (const LeaveOut& l : p.leave_out) {
    add(leave_out,
        fmt::format("{{\"what\": {}, \"points\": {}, \"median\": {:.4f}, \"p95\": {:.4f}, "
                    "\"worst\": {:.4f}}}",
                    json_string(l.what), l.points, l.median, l.p95, l.worst));
  }
  std::string text = "{\n\"steploom_profile\": 1,\n";
  const auto member = [&text](std::string_view key, const std::string& value,
                              std::string_view end = ",\n") {
    text += fmt::format("{}: {}{}", json_string(key), value, end);
  };
  member("name", json_string(p.name));
  member("device",
         fmt::format("{{\"name\": {}, \"sms\": {}, \"peak_flops\": {}, "
                     "\"memory_bandwidth\": {}{}}}",
                     json_string(p.device.name), p.device.sms, p.device.peak_flops,
                     p.device.memory_bandwidth, p.device.bf16 ? "" : ", \"bf16\": false"));
  member("source", json_string(p.source));
  member("attribution", json_string(p.attribution));
  member("made", json_string(p.made));
  member("date", json_string(p.date));
  member("software", "[" + software + "]");
  member("leave_out", "[" + leave_out + "]");
  std::string modelled;
  for (const ModelledPart part : p.modelled) add(modelled, json_string(name_of(part)));
  if (!modelled.empty()) member("modelled", "[" + modelled + "]");
  member("memory", fmt::format("{{\"bandwidth_factor\": {}, \"latency_us\": {}}}",
                               p.memory.bandwidth_factor, p.memory.latency_us));
  if (p.gaps != Gaps{})
    member("gaps", fmt::format("{{\"kernel_us\": {}, \"kernel_event_us\": {}, "
                               "\"collective_event_us\": {},\n\"source\": {}}}",
                               p.gaps.kernel_us, p.gaps.kernel_event_us, p.gaps.collective_event_us,
                               json_string(p.gaps.source)));
  if (p.clock) member("clock", to_json(*p.clock));
  if (!corrections.empty()) member("corrections", "[" + corrections + "]");
  if (!p.points.kernels.empty()) member("points", to_json(p.points));
  member("attention_backward", "{" + members(p.attention_backward) + "}");
  member("collectives", "[" + collectives + "]");
  if (!p.fabrics.empty()) member("fabrics", to_json(p.fabrics));
  member("attention", "[" + attention + "]");
  member("grouped_matmul", "{" + members(p.grouped_matmul) + "}");
  if (!precisions.empty()) member("precisions", "[" + precisions + "]");
  member("matmul", "{" + members(p.matmul) + "}", "\n}\n");
  return text;
}

}  // namespace steploom
