// Folding: ranks that do the same work become one.
//
// The fold is the coarsest equitable partition (colour refinement) of the graph of ranks,
// communicators and links. Ranks start with a colour that stands for their device type, slot list
// and durations, communicators with their kind and cost; a rank's next colour is its own with those
// of its communicators by role, a communicator's its own with those of its members (how many of
// each) and links, a link's its own with those of its users. When no class splits any more, ranks
// of one class evolve alike, so one of them stands for all, and a class of communicators joins one
// rank of each class of its members.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace steploom {

struct RankGraph {
  struct Member {
    std::uint32_t rank = 0;
    std::uint32_t role = 0;  // as which the rank takes part: sender and receiver differ
  };
  struct Communicator {
    std::uint64_t colour = 0;     // kind and cost: equal colours mean equal durations
    std::vector<Member> members;  // any order
    std::vector<std::uint32_t> links;
  };
  std::vector<std::uint64_t> rank_colour;
  std::vector<Communicator> communicators;
  std::vector<std::uint64_t> link_colour;  // type and capacity
};

// Classes are numbered by their lowest member, so numbering is canonical.
struct Fold {
  std::vector<std::uint32_t> class_of_rank;
  std::vector<std::uint32_t> class_of_communicator;
  std::vector<std::uint32_t> class_of_link;
  std::vector<std::uint32_t> first_rank;          // by class: its lowest rank
  std::vector<std::uint32_t> first_communicator;  // by class
  std::vector<std::uint32_t> first_link;          // by class
  std::vector<std::uint32_t> ranks_in_class;
};

Fold fold(const RankGraph& graph);
Fold unfolded(const RankGraph& graph);  // every rank its own class

}  // namespace steploom
