#include "models/op_graph.h"

#include <array>
#include <cassert>
#include <cstddef>
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
    "compute", "tp",      "cp",      "ep",      "dp",      "expert_dp",
    "gather",  "pp_send", "pp_recv", "copy_in", "copy_out"};

}  // namespace

std::string_view name_of(CommGroup g) {
  return kGroupNames.at(static_cast<std::size_t>(g));
}
std::string_view name_of(StreamKind s) {
  return kStreamNames.at(static_cast<std::size_t>(s));
}

// Copies share what they hold until one of them is changed.
struct OpGraph::Impl {
  struct Held {
    std::vector<OpNode> nodes;
    std::vector<Edge> before;           // of each node in turn, what it waits for
    std::vector<std::size_t> first{0};  // by node: where its own begin; and the total
  };
  std::shared_ptr<Held> held = std::make_shared<Held>();

  Held& own() {
    if (held.use_count() > 1) held = std::make_shared<Held>(*held);
    return *held;
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
  Impl::Held& held = impl_->own();
  held.nodes.push_back(std::move(node));
  held.first.push_back(held.before.size());
  return static_cast<OpId>(held.nodes.size() - 1);
}

// Mostly of the last node, behind which nothing has to move.
void OpGraph::depend(OpId producer, OpId consumer, TensorId tensor) {
  assert(producer < consumer && consumer < size());
  Impl::Held& held = impl_->own();
  const auto end = static_cast<std::ptrdiff_t>(held.first[consumer + 1]);
  held.before.insert(held.before.begin() + end, {producer, tensor});
  for (std::size_t i = consumer + 1; i < held.first.size(); ++i) ++held.first[i];
}

std::size_t OpGraph::size() const {
  return impl_->held->nodes.size();
}
const OpNode& OpGraph::node(OpId op) const {
  return impl_->held->nodes[op];
}

std::vector<OpGraph::Edge> OpGraph::predecessors(OpId op) const {
  const Impl::Held& held = *impl_->held;
  const auto at = [&](std::size_t i) {
    return held.before.begin() + static_cast<std::ptrdiff_t>(held.first[i]);
  };
  return {at(op), at(op + 1)};
}

std::vector<OpGraph::Edge> OpGraph::successors(OpId op) const {
  std::vector<Edge> edges;
  for (OpId to = op + 1; to < size(); ++to)
    for (const Edge& e : predecessors(to))
      if (e.op == op) edges.push_back({to, e.tensor});
  return edges;
}

}  // namespace steploom
