// How long the routed operators of a rank take, micro-batch by micro-batch, under its own load.
//
// Blocks are lowered with balanced shapes. Their routed operators (OpNode::routed) have, in every
// slot, as many rows as routing brings to the rank there (sim/routed_rows.h): grouped products take
// the mean over the rank's experts of what they would take if all had as many rows as this one, and
// up to 2^kUnevenOctaves more (all of it where the longest has twice the mean, in proportion to
// octaves below: assumed); exchanges take what the busiest rank or node needs; everything else is
// in proportion to rows, and so are the tensors at the experts (Tensor::routed; what DeepEP brings,
// a row a token for all of a rank's experts, too: assumed). A load that is even gives the
// template's own durations and bytes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <tuple>
#include <vector>

#include "models/layout.h"
#include "planner/block.h"
#include "planner/setting.h"
#include "sim/routed_rows.h"

namespace steploom {

// Over all layers with experts and micro-batches.
struct RoutingSummary {
  double dropped = 0;  // share of the rows that a capacity cuts
  double busiest = 1;  // rows on the fullest rank of a group over an even share, on the mean
};

// What slots of a block have of their own: so many durations and so many layers' shares.
struct RoutedCount {
  std::uint16_t durations = 0, shares = 0;
};
// Numbers the operators of a block whose duration varies, and its layers with routed bytes.
RoutedCount number_routed(BlockTemplate& block);

// Of the slots of a rank, slot after slot.
struct OwnLoad {
  std::vector<Picoseconds> durations;
  std::vector<std::uint32_t> shares;  // as Program::shares
  auto operator<=>(const OwnLoad&) const = default;
};

class RoutedLoads {
 public:
  RoutedLoads(const Setting& setting, const Layout& layout);

  // A place in an expert-parallel group: the node of each member, numbered from 0 in order of first
  // appearance, and which member it is.
  struct Place {
    std::vector<int> node_of;
    int member = 0;
    auto operator<=>(const Place&) const = default;
  };

  // Appends what a numbered block has of its own in one micro-batch. `id` tells blocks apart;
  // `type` is that of the device that runs it.
  void append(std::uint32_t id, const BlockTemplate& block, std::size_t type,
              const GroupShapes& shapes, const Place& place, std::int64_t micro_batch,
              OwnLoad& to);

  RoutingSummary summary() const;  // of what was asked for

 private:
  enum class Kind : std::uint8_t { exchange, grouped, rows };
  // Operators of one shape.
  struct Shape {
    Kind kind = Kind::rows;
    const CostModel* costs = nullptr;
    CostQuery balanced;
    std::vector<Picoseconds> known;  // by rows (of an expert, or of the rank); -1: not yet
  };
  struct Varying {
    std::uint32_t shape = 0;
    int layer = 0;
  };
  // A layer in one micro-batch, in groups that lie alike.
  struct Load {
    std::vector<std::int64_t> experts;  // rows of each, from one group of sources
    std::vector<std::int64_t> ranks;    // their sums by rank
    std::vector<double> longer;         // by rank: a grouped product over the mean
    EvenExchange exchange;
    std::vector<std::pair<std::uint32_t, Picoseconds>> exchanges;  // by shape
  };

  Load& load(const std::vector<int>& node_of, int layer, std::int64_t micro_batch);
  const std::vector<Varying>& varying(std::uint32_t id, const BlockTemplate& block,
                                      std::size_t type, const GroupShapes& shapes);
  std::uint32_t shape_of(const OpInfo& info, std::size_t type, const GroupShapes& shapes);
  Picoseconds exchange(std::uint32_t shape, Load& load);
  Picoseconds grouped(Shape& shape, const Load& load, std::size_t member);
  Picoseconds rows(Shape& shape, std::int64_t rows);
  template <class Query>
  Picoseconds remembered(Shape& shape, std::int64_t rows, const Query& query);

  const Setting& s_;
  const Layout& l_;
  std::int64_t tokens_ = 0;    // of a rank
  std::int64_t balanced_ = 0;  // rows on a rank
  std::vector<Shape> shapes_;
  std::map<std::tuple<OpKind, Phase, Precision, std::int64_t, std::int64_t, std::int64_t, Bytes,
                      ExpertExchange, GroupShape, int, std::size_t>,
           std::uint32_t>
      shape_ids_;
  std::map<std::uint32_t, std::vector<Varying>> blocks_;
  std::map<std::vector<int>, std::map<int, std::vector<std::unique_ptr<Load>>>> loads_;
  std::int64_t dropped_ = 0, routed_ = 0, counted_ = 0;
  double busiest_ = 0;
};

}  // namespace steploom
