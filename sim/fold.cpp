#include "sim/fold.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace steploom {
namespace {

using Signature = std::vector<std::uint64_t>;

// Replaces signatures by class numbers in order of first appearance; returns how many classes.
std::size_t intern(const std::vector<Signature>& signatures, std::vector<std::uint32_t>& classes) {
  std::map<Signature, std::uint32_t> seen;
  for (std::size_t i = 0; i < signatures.size(); ++i)
    classes[i] = seen.emplace(signatures[i], static_cast<std::uint32_t>(seen.size())).first->second;
  return seen.size();
}

void append_sorted(Signature& to, Signature part) {
  std::sort(part.begin(), part.end());
  to.push_back(part.size());
  to.insert(to.end(), part.begin(), part.end());
}

std::uint64_t pair_code(std::uint32_t a, std::uint32_t b) {
  return (std::uint64_t{a} << 32) | b;
}

std::vector<std::uint32_t> first_of(const std::vector<std::uint32_t>& classes) {
  std::vector<std::uint32_t> first;
  for (std::uint32_t i = 0; i < classes.size(); ++i)
    if (classes[i] == first.size()) first.push_back(i);
  return first;
}

void finish(Fold& f) {
  f.first_rank = first_of(f.class_of_rank);
  f.first_communicator = first_of(f.class_of_communicator);
  f.first_link = first_of(f.class_of_link);
  f.ranks_in_class.assign(f.first_rank.size(), 0);
  for (const std::uint32_t c : f.class_of_rank) ++f.ranks_in_class[c];
}

std::vector<Signature> as_signatures(const std::vector<std::uint64_t>& colours) {
  std::vector<Signature> out;
  for (const std::uint64_t c : colours) out.push_back({c});
  return out;
}

}  // namespace

Fold fold(const RankGraph& g) {
  const std::size_t ranks = g.rank_colour.size();
  const std::size_t comms = g.communicators.size();
  const std::size_t links = g.link_colour.size();
  std::vector<Signature> rank_parts(ranks), link_parts(links);
  std::vector<std::uint64_t> comm_colour(comms);
  for (std::size_t i = 0; i < comms; ++i) comm_colour[i] = g.communicators[i].colour;

  Fold f;
  f.class_of_rank.resize(ranks);
  f.class_of_communicator.resize(comms);
  f.class_of_link.resize(links);
  std::size_t classes = intern(as_signatures(g.rank_colour), f.class_of_rank) +
                        intern(as_signatures(comm_colour), f.class_of_communicator) +
                        intern(as_signatures(g.link_colour), f.class_of_link);
  for (;;) {
    for (auto& p : rank_parts) p.clear();
    for (auto& p : link_parts) p.clear();
    std::vector<Signature> comm_next(comms);
    for (std::uint32_t i = 0; i < comms; ++i) {
      const RankGraph::Communicator& c = g.communicators[i];
      Signature members, uses;
      for (const RankGraph::Member& m : c.members) {
        members.push_back(pair_code(f.class_of_rank[m.rank], m.role));
        rank_parts[m.rank].push_back(pair_code(f.class_of_communicator[i], m.role));
      }
      for (const std::uint32_t l : c.links) {
        uses.push_back(f.class_of_link[l]);
        link_parts[l].push_back(f.class_of_communicator[i]);
      }
      comm_next[i] = {f.class_of_communicator[i]};
      append_sorted(comm_next[i], std::move(members));
      append_sorted(comm_next[i], std::move(uses));
    }
    std::vector<Signature> rank_next(ranks), link_next(links);
    for (std::size_t r = 0; r < ranks; ++r) {
      rank_next[r] = {f.class_of_rank[r]};
      append_sorted(rank_next[r], rank_parts[r]);
    }
    for (std::size_t l = 0; l < links; ++l) {
      link_next[l] = {f.class_of_link[l]};
      append_sorted(link_next[l], link_parts[l]);
    }
    const std::size_t now = intern(rank_next, f.class_of_rank) +
                            intern(comm_next, f.class_of_communicator) +
                            intern(link_next, f.class_of_link);
    if (now == classes) break;  // a signature keeps its old class, so classes only split
    classes = now;
  }
  finish(f);
  return f;
}

Fold unfolded(const RankGraph& g) {
  Fold f;
  f.class_of_rank.resize(g.rank_colour.size());
  f.class_of_communicator.resize(g.communicators.size());
  f.class_of_link.resize(g.link_colour.size());
  for (auto* v : {&f.class_of_rank, &f.class_of_communicator, &f.class_of_link})
    std::iota(v->begin(), v->end(), 0U);
  finish(f);
  return f;
}

}  // namespace steploom
