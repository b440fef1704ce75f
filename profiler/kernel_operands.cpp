#include "profiler/kernel_operands.h"

#include <utility>
#include <variant>

namespace steploom {
namespace {

struct Finder {
  std::vector<TensorRef> in, out;

  void of(const Linear& c) {
    in = {c.a, c.b, c.bias};
    out = {c.result};
    if (c.phase != Phase::weight_grad) return;
    in.push_back(c.result);
    out.push_back(c.bias);
  }
  void of(const ExpertLinear& c) {
    in = {c.a, c.b};
    out = {c.result};
    if (c.phase == Phase::weight_grad) in.push_back(c.result);
  }
  void of(const Attention& c) { set({c.qkv}, {c.out, c.log_sum}); }
  void of(const AttentionBackward& c) { set({c.d_out, c.qkv, c.out, c.log_sum}, {c.d_qkv}); }
  void of(const Rotary& c) { set({c.x, c.table}, {c.y}); }
  void of(const Norm& c) { set({c.x, c.gain, c.bias}, {c.y, c.scale, c.mean}); }
  void of(const NormBackward& c) {
    set({c.dy, c.x, c.scale, c.gain, c.mean, c.d_gain, c.d_bias}, {c.dx, c.d_gain, c.d_bias});
  }
  void of(const Activation& c) { set({c.x}, {c.y}); }
  void of(const ActivationBackward& c) { set({c.dy, c.x}, {c.dx}); }
  void of(const Add& c) { set({c.a, c.b}, {c.y}); }
  void of(const Router& c) { set({c.logits}, {c.chosen, c.weight, c.position, c.source}); }
  void of(const RouterBackward& c) { set({c.d_weight, c.weight, c.chosen}, {c.d_logits}); }
  void of(const Permute& c) { set({c.x, c.source}, {c.y}); }
  void of(const PermuteBackward& c) { set({c.dy, c.position}, {c.dx}); }
  void of(const Unpermute& c) { set({c.x, c.position, c.weight, c.shared}, {c.y}); }
  void of(const UnpermuteBackward& c) {
    set({c.dy, c.x, c.position, c.weight, c.source}, {c.dx, c.d_weight});
  }
  void of(const SortRows& c) { set({c.x}, {c.y}); }
  void of(const Embedding& c) { set({c.ids, c.table, c.positions}, {c.y}); }
  void of(const EmbeddingBackward& c) {
    set({c.dy, c.ids, c.d_table, c.d_positions}, {c.d_table, c.d_positions});
  }
  void of(const CrossEntropy& c) { set({c.logits, c.targets}, {c.log_sum, c.loss}); }
  void of(const CrossEntropySlice& c) { set({c.logits, c.targets}, {c.maximum, c.local}); }
  void of(const CrossEntropySums& c) { set({c.local, c.maximum}, {c.sums}); }
  void of(const CrossEntropyEnd& c) { set({c.maximum, c.sums}, {c.log_sum, c.loss}); }
  void of(const CrossEntropyBackward& c) { set({c.logits, c.log_sum, c.targets}, {c.logits}); }
  void of(const SumOfSquares& c) {
    for (const SumOfSquares::Piece& p : c.pieces) in.push_back(p.x);
    out = {c.sum};
  }
  void of(const Adam& c) {
    for (const Adam::Piece& p : c.pieces) {
      in.insert(in.end(), {p.master, p.first, p.second, p.gradient});
      out.insert(out.end(), {p.parameters, p.master, p.first, p.second});
    }
    in.push_back(c.squares);
  }
  void of(const ZeroFill& c) { out = c.pieces; }
  void of(const Collective& c) {
    for (const Collective::Piece& p : c.pieces) {
      in.push_back(p.from);
      out.push_back(p.to);
    }
  }

 private:
  void set(std::vector<TensorRef> reads, std::vector<TensorRef> writes) {
    in = std::move(reads);
    out = std::move(writes);
  }
};

bool overlap(const std::vector<TensorRef>& a, const std::vector<TensorRef>& b) {
  for (const TensorRef& x : a)
    for (const TensorRef& y : b)
      if (x.memory == y.memory && x.offset < y.offset + y.bytes() &&
          y.offset < x.offset + x.bytes())
        return true;
  return false;
}

}  // namespace

Operands::Operands(const KernelCall& call) {
  Finder finder;
  std::visit([&](const auto& c) { finder.of(c); }, call);
  in = std::move(finder.in);
  out = std::move(finder.out);
  std::erase_if(in, [](const TensorRef& t) { return !t; });
  std::erase_if(out, [](const TensorRef& t) { return !t; });
}

bool depends(const KernelCall& later, const KernelCall& earlier) {
  const Operands a(earlier), b(later);
  return overlap(a.out, b.in) || overlap(a.out, b.out) || overlap(a.in, b.out);
}

}  // namespace steploom
