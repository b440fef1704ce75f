#include "models/op_graph.h"

#include <array>
// g++ 12 sees a false "may be used uninitialized" in Boost's copy of an adjacency_list.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <boost/graph/adjacency_list.hpp>
#pragma GCC diagnostic pop
#include <boost/range/iterator_range.hpp>
#include <cassert>
#include <utility>

namespace steploom {
namespace {

constexpr std::array<std::string_view, kCommGroups> kGroupNames{"none",
                                                                "tp",
                                                                "cp",
                                                                "ep",
                                                                "etp",
                                                                "dp",
                                                                "expert_dp",
                                                                "dp_outer",
                                                                "expert_dp_outer",
                                                                "pp_forward_in",
                                                                "pp_forward_out",
                                                                "pp_backward_in",
                                                                "pp_backward_out",
                                                                "embedding",
                                                                "world"};
constexpr std::array<std::string_view, kStreamKinds> kStreamNames{
    "compute", "tp", "cp", "ep", "dp", "expert_dp", "gather", "pp_send", "pp_recv"};

// What an edge carries. A struct, for its initializer: Boost copies edges through one made by
// default.
struct Carried {
  TensorId tensor = 0;
};
using Graph =
    boost::adjacency_list<boost::vecS, boost::vecS, boost::bidirectionalS, OpNode, Carried>;

}  // namespace

std::string_view name_of(CommGroup g) {
  return kGroupNames.at(static_cast<std::size_t>(g));
}
std::string_view name_of(StreamKind s) {
  return kStreamNames.at(static_cast<std::size_t>(s));
}

// Copies share a graph until one of them is changed.
struct OpGraph::Impl {
  std::shared_ptr<Graph> shared = std::make_shared<Graph>();

  const Graph& graph() const { return *shared; }
  Graph& own() {
    if (shared.use_count() > 1) shared = std::make_shared<Graph>(*shared);
    return *shared;
  }
};

OpGraph::OpGraph() : impl_(std::make_unique<Impl>()) {}
OpGraph::OpGraph(const OpGraph& o) : impl_(std::make_unique<Impl>(*o.impl_)) {}
OpGraph::OpGraph(OpGraph&&) noexcept = default;
OpGraph& OpGraph::operator=(const OpGraph& o) {
  impl_ = std::make_unique<Impl>(*o.impl_);
  return *this;
}
OpGraph& OpGraph::operator=(OpGraph&&) noexcept = default;
OpGraph::~OpGraph() = default;

OpId OpGraph::add(OpNode node) {
  return static_cast<OpId>(boost::add_vertex(std::move(node), impl_->own()));
}

void OpGraph::depend(OpId producer, OpId consumer, TensorId tensor) {
  assert(producer < consumer && consumer < size());
  boost::add_edge(producer, consumer, Carried{tensor}, impl_->own());
}

std::size_t OpGraph::size() const {
  return boost::num_vertices(impl_->graph());
}
const OpNode& OpGraph::node(OpId op) const {
  return impl_->graph()[op];
}

std::vector<OpGraph::Edge> OpGraph::predecessors(OpId op) const {
  std::vector<Edge> edges;
  for (const auto& e : boost::make_iterator_range(boost::in_edges(op, impl_->graph())))
    edges.push_back(
        {static_cast<OpId>(boost::source(e, impl_->graph())), impl_->graph()[e].tensor});
  return edges;
}

std::vector<OpGraph::Edge> OpGraph::successors(OpId op) const {
  std::vector<Edge> edges;
  for (const auto& e : boost::make_iterator_range(boost::out_edges(op, impl_->graph())))
    edges.push_back(
        {static_cast<OpId>(boost::target(e, impl_->graph())), impl_->graph()[e].tensor});
  return edges;
}

}  // namespace steploom
