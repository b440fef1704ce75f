#include "traces/dot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/graphviz.hpp>
#include <boost/graph/subgraph.hpp>
#include <map>
#include <ostream>
#include <set>
#include <tuple>

#include "models/error.h"
#include "models/nearest.h"
#include "traces/units.h"

namespace steploom {
namespace {

using Words = std::map<std::string, std::string>;
using Graph = boost::subgraph<boost::adjacency_list<
    boost::vecS, boost::vecS, boost::directedS, boost::property<boost::vertex_attribute_t, Words>,
    boost::property<boost::edge_index_t, int, boost::property<boost::edge_attribute_t, Words>>,
    boost::property<
        boost::graph_name_t, std::string,
        boost::property<boost::graph_graph_attribute_t, Words,
                        boost::property<boost::graph_vertex_attribute_t, Words,
                                        boost::property<boost::graph_edge_attribute_t, Words>>>>>>;

// By OpClass; light, so that black text can be read on them.
constexpr std::array<const char*, kOpClasses> kColours{"#c6dbef", "#9ecae1", "#fdd0a2",
                                                       "#e5e5e5", "#dadaeb", "#fee391", "#c7e9c0"};

// Indices into Program::blocks, in the order of their first slot on the device.
std::vector<std::uint32_t> blocks_of(const Program& p, std::uint32_t device) {
  std::vector<std::uint32_t> out;
  const Device& d = p.devices.at(device);
  for (std::uint32_t s = d.first_slot; s < d.first_slot + d.slot_count; ++s)
    if (std::find(out.begin(), out.end(), p.slots[s].block) == out.end())
      out.push_back(p.slots[s].block);
  return out;
}

std::vector<std::uint32_t> wanted(const Program& p, const DotOptions& o) {
  std::vector<std::uint32_t> out = blocks_of(p, o.device);
  if (!o.blocks.empty())
    std::erase_if(out, [&](std::uint32_t b) {
      return std::find(o.blocks.begin(), o.blocks.end(), p.blocks[b].name) == o.blocks.end();
    });
  return out;
}

std::string stream_name(const Program& p, std::uint16_t stream) {
  return stream < p.stream_names.size() ? p.stream_names[stream] : std::to_string(stream);
}

Words words_of(const Program& p, const BlockTemplate& block, std::size_t op) {
  const OpInfo& info = block.infos[op];
  const OpTemplate& t = block.ops[op];
  std::string label = info.layer >= 0 ? fmt::format("layer {} · ", info.layer) : "";
  label += fmt::format("{}\\n{} {} · {}", info.name, name_of(info.work.kind),
                       name_of(info.work.phase), stream_name(p, t.stream));
  label += "\\n" + time_text(t.duration);
  if (info.group != CommGroup::none)
    label += fmt::format(" · {} · {}", name_of(info.group), bytes_text(info.work.bytes));
  return {{"label", label},
          {"shape", info.group == CommGroup::none ? "box" : "ellipse"},
          {"style", "filled"},
          {"fillcolor", kColours.at(static_cast<std::size_t>(class_of(info.work.kind)))}};
}

}  // namespace

std::vector<std::string> block_names(const Program& program, std::uint32_t device) {
  std::vector<std::string> names;
  for (const std::uint32_t b : blocks_of(program, device)) names.push_back(program.blocks[b].name);
  return names;
}

void check_dot(const Program& p, const DotOptions& o) {
  const std::vector<std::string> names = block_names(p, o.device);
  const std::vector<std::string_view> known(names.begin(), names.end());
  for (const std::string& name : o.blocks)
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw Error({"dot", "--block", "a pass of " + p.devices[o.device].name, "'" + name + "'",
                   nearest_hint(name, known)});
  std::size_t nodes = 0;
  std::string each;
  for (const std::uint32_t b : wanted(p, o)) {
    const std::size_t n = p.blocks[b].ops.size();
    nodes += n;
    each += fmt::format("{}'{}' {}", each.empty() ? "" : ", ", p.blocks[b].name, n);
  }
  if (nodes > kMostDotNodes)
    throw Error({"dot", "", fmt::format("at most {} operators", kMostDotNodes),
                 fmt::format("{} ({})", nodes, each),
                 "draw some passes alone with --block, or a layout with more stages"});
}

void write_dot(std::ostream& out, const Program& p, const DotOptions& o) {
  Graph g(0);
  boost::get_property(g, boost::graph_name) = o.title;
  boost::get_property(g, boost::graph_graph_attribute) = {{"rankdir", "TB"}, {"label", o.title}};
  boost::get_property(g, boost::graph_vertex_attribute) = {{"fontname", "sans-serif"},
                                                           {"fontsize", "10"}};
  std::map<std::uint32_t, std::vector<Graph::vertex_descriptor>> vertices;  // by block
  int cluster = 0;
  const auto arrow = [](Graph& in, auto from, auto to, Words words) {
    const auto [edge, is_new] = boost::add_edge(from, to, in);
    if (is_new) boost::put(boost::get(boost::edge_attribute, in), edge, std::move(words));
  };
  for (const std::uint32_t b : wanted(p, o)) {
    const BlockTemplate& block = p.blocks[b];
    Graph& sub = g.create_subgraph();
    boost::get_property(sub, boost::graph_name) = fmt::format("cluster_{}", cluster++);
    boost::get_property(sub, boost::graph_graph_attribute) = {{"label", block.name},
                                                              {"color", "grey50"}};
    std::vector<Graph::vertex_descriptor>& of_block = vertices[b];
    for (std::size_t i = 0; i < block.ops.size(); ++i) {
      const auto local = boost::add_vertex(sub);
      of_block.push_back(sub.local_to_global(local));
      boost::put(boost::get(boost::vertex_attribute, g), of_block.back(), words_of(p, block, i));
    }
    for (std::size_t i = 0; i < block.ops.size(); ++i)
      for (std::uint32_t d = 0; d < block.ops[i].deps; ++d)
        arrow(g, of_block[block.deps[block.ops[i].first_dep + d]], of_block[i], {});
  }
  // Slots repeat: each arrow between passes once.
  std::set<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>> drawn;
  for (const SlotEdge& e : p.edges) {
    if (p.device_of_slot[e.from_slot] != o.device) continue;
    const std::uint32_t from = p.slots[e.from_slot].block, to = p.slots[e.to_slot].block;
    if (!vertices.contains(from) || !vertices.contains(to)) continue;
    if (!drawn.insert({from, e.from_op, to, e.to_op}).second) continue;
    arrow(g, vertices[from][e.from_op], vertices[to][e.to_op], {{"style", "dashed"}});
  }
  boost::write_graphviz(out, g);
}

}  // namespace steploom
