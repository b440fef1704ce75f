#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <utility>

#include "profiler/trial.h"

namespace steploom {
namespace {

// bf16 results are rounded once; fp32 sums of k products wander by some of their last bits.
constexpr double kRounding = 0.004;
constexpr double kWander = 1e-4;

// A product's three tensors in every set. The result is bf16, or for a weight gradient fp32.
struct Tensors {
  Slab<Bf16> a, b;
  std::unique_ptr<Slab<Bf16>> result;
  std::unique_ptr<Slab<float>> sums;
  int sets;

  Tensors(std::int64_t a_count, std::int64_t b_count, std::int64_t result_count, bool accumulates,
          Bytes rotate)
      : Tensors(a_count, b_count, result_count, accumulates,
                sets_for(2 * (a_count + b_count) + (accumulates ? 4 : 2) * result_count, rotate),
                0) {}

  void* result_at(int set) const {
    return sums ? static_cast<void*>(sums->at(set)) : static_cast<void*>(result->at(set));
  }

 private:
  Tensors(std::int64_t a_count, std::int64_t b_count, std::int64_t result_count, bool accumulates,
          int set_count, int)
      : a(a_count, set_count), b(b_count, set_count), sets(set_count) {
    a.randomize(1, 1);
    b.randomize(2, 1);
    if (accumulates) {
      sums = std::make_unique<Slab<float>>(result_count, set_count);
      sums->randomize(3, 1);
    } else {
      result = std::make_unique<Slab<Bf16>>(result_count, set_count);
    }
  }
};

// Where one product (of an expert, or the only one) lies in the tensors, and how its elements come
// about: result (i, j) = Σ_l a·b.
struct Part {
  std::int64_t rows, columns;          // of the result
  std::int64_t result_at, a_at, b_at;  // elements before it
  DotShape dot;
};

Part part_of(Phase phase, const LayerShape& s) {
  if (phase == Phase::forward) {  // y = x·Wᵀ
    return {s.tokens, s.outputs, 0, 0, 0, {s.inputs, 1, s.inputs, 1, s.inputs}};
  }
  if (phase == Phase::data_grad) {  // dx = dy·W
    return {s.tokens, s.inputs, 0, 0, 0, {s.outputs, 1, 1, s.inputs, s.outputs}};
  }
  // dW = dyᵀ·x, with a = x and b = dy: element (i, j) takes column j of x and column i of dy, so
  // the dot's roles are exchanged by the caller's places.
  return {s.outputs, s.inputs, 0, 0, 0, {1, s.inputs, 1, s.outputs, s.tokens}};
}

std::vector<ElementPlace> places_of(const Part& p, int most) {
  std::vector<ElementPlace> places{{0, 0}, {p.rows - 1, p.columns - 1}};
  for (int i = 1; i < most; ++i) {
    places.push_back(
        {(p.rows * i * 37 / most + i) % p.rows, (p.columns * i * 53 / most) % p.columns});
  }
  return places;
}

using Run = std::function<void(int set, Stream stream)>;

std::string prove(const Tensors& t, const std::vector<Part>& parts, const Run& run, Stream stream) {
  const int most = parts.size() > 4 ? 4 : 12;  // places of each part
  const bool adds = t.sums != nullptr;
  std::vector<double> before;
  if (adds) {
    for (const Part& p : parts) {
      for (const ElementPlace& place : places_of(p, most)) {
        const std::int64_t at = p.result_at + place.row * p.columns + place.column;
        before.push_back(static_cast<double>(t.sums->read(at, 1)[0]));
      }
    }
  } else {
    t.result->spoil(stream);
  }
  run(0, stream);
  std::string fault;
  std::size_t next = 0;
  for (const Part& p : parts) {
    const std::vector<ElementPlace> places = places_of(p, most);
    std::vector<ElementPlace> swapped = places;
    if (adds) {
      for (ElementPlace& place : swapped) std::swap(place.row, place.column);
    }
    const std::vector<double> dots =
        reference_dots(t.a.at(0) + p.a_at, t.b.at(0) + p.b_at, p.dot, swapped, stream);
    Proof proof(adds ? 1e-5 : kRounding, kWander * std::sqrt(static_cast<double>(p.dot.length)));
    for (std::size_t i = 0; i < places.size(); ++i) {
      const std::int64_t at = p.result_at + places[i].row * p.columns + places[i].column;
      const double got = adds ? static_cast<double>(t.sums->read(at, 1)[0])
                              : static_cast<double>(to_float(t.result->read(at, 1)[0]));
      proof.expect(got, dots[i] + (adds ? before[next++] : 0), "element", places[i].row,
                   places[i].column);
    }
    if (fault.empty()) fault = proof.fault();
  }
  if (!fault.empty() || adds) return fault;
  Proof written(0, 0);
  written.expect_written(*t.result, stream);
  return written.fault();
}

Trial make(std::shared_ptr<const Tensors> tensors, std::vector<Part> parts, Run run) {
  Trial trial;
  trial.sets = tensors->sets;
  trial.launch = run;
  trial.prove = [tensors = std::move(tensors), parts = std::move(parts), run = std::move(run)](
                    Stream stream) { return prove(*tensors, parts, run, stream); };
  return trial;
}

std::int64_t result_count(Phase phase, const LayerShape& s) {
  if (phase == Phase::forward) return s.tokens * s.outputs;
  if (phase == Phase::data_grad) return s.tokens * s.inputs;
  return s.outputs * s.inputs;
}
std::int64_t a_count(Phase phase, const LayerShape& s) {
  return s.tokens * (phase == Phase::data_grad ? s.outputs : s.inputs);
}
std::int64_t b_count(Phase phase, const LayerShape& s) {
  return (phase == Phase::weight_grad ? s.tokens : s.inputs) * s.outputs;
}

// Experts one after the other, `rows` of them each.
std::vector<Part> expert_parts(Phase phase, const LayerShape& layer,
                               const std::vector<std::int64_t>& rows) {
  std::vector<Part> parts;
  std::int64_t result = 0;
  std::int64_t a = 0;
  std::int64_t b = 0;
  for (const std::int64_t tokens : rows) {
    const LayerShape one{tokens, layer.outputs, layer.inputs};
    Part part = part_of(phase, one);
    part.result_at = result;
    part.a_at = a;
    part.b_at = b;
    if (tokens > 0) parts.push_back(part);
    result += result_count(phase, one);
    a += a_count(phase, one);
    b += b_count(phase, one);
  }
  return parts;
}

std::shared_ptr<const Tensors> expert_tensors(Phase phase, const LayerShape& layer,
                                              const std::vector<std::int64_t>& rows, Bytes rotate) {
  std::int64_t result = 0;
  std::int64_t a = 0;
  std::int64_t b = 0;
  for (const std::int64_t tokens : rows) {
    const LayerShape one{tokens, layer.outputs, layer.inputs};
    result += result_count(phase, one);
    a += a_count(phase, one);
    b += b_count(phase, one);
  }
  return std::make_shared<const Tensors>(a, b, result, phase == Phase::weight_grad, rotate);
}

}  // namespace

Trial product_trial(const Ask& ask, const Blas& blas, Bytes rotate) {
  const Phase phase = ask.work.phase;
  const LayerShape s = layer_of(ask.work);
  const auto product =
      std::make_shared<const Product>(blas, phase, LinearShape{s.tokens, s.outputs, s.inputs, 1});
  const auto tensors = expert_tensors(phase, s, {s.tokens}, rotate);
  return make(tensors, {part_of(phase, s)}, [product, tensors](int set, Stream stream) {
    product->run(tensors->result_at(set), tensors->a.at(set), tensors->b.at(set), stream);
  });
}

Trial grouped_trial(const Ask& ask, const Blas& blas, Bytes rotate) {
  const Phase phase = ask.work.phase;
  const LayerShape layer = layer_of(ask.work);
  std::vector<std::int64_t> rows = expert_tokens(layer.tokens, ask.work.groups, ask.uneven);
  if (ask.provider == "cublaslt-padded") {
    // Every expert gets the rows of the fullest; what is padding is computed too.
    std::fill(rows.begin(), rows.end(), *std::max_element(rows.begin(), rows.end()));
    const auto tensors = expert_tensors(phase, layer, rows, rotate);
    const auto product = std::make_shared<const Product>(
        blas, phase, LinearShape{rows[0], layer.outputs, layer.inputs, ask.work.groups});
    return make(tensors, expert_parts(phase, layer, rows), [product, tensors](int set, Stream s) {
      product->run(tensors->result_at(set), tensors->a.at(set), tensors->b.at(set), s);
    });
  }
  const auto tensors = expert_tensors(phase, layer, rows, rotate);
  const ExpertShape shape{rows, layer.outputs, layer.inputs};
  if (ask.provider == "cublaslt-each") {
    const auto each = std::make_shared<const EachProduct>(blas, phase, shape);
    return make(tensors, expert_parts(phase, layer, rows), [each, tensors](int set, Stream s) {
      each->run(tensors->result_at(set), tensors->a.at(set), tensors->b.at(set), s);
    });
  }
  const auto grouped = std::make_shared<const GroupedProduct>(blas, phase, shape);
  const auto addresses = std::make_shared<std::vector<DeviceBuffer>>();
  for (int set = 0; set < tensors->sets; ++set) {
    addresses->push_back(
        grouped->addresses(tensors->result_at(set), tensors->a.at(set), tensors->b.at(set)));
  }
  Trial trial = make(tensors, expert_parts(phase, layer, rows),
                     [grouped, tensors, addresses](int set, Stream stream) {
                       grouped->run((*addresses)[static_cast<std::size_t>(set)], stream);
                     });
  trial.in_graph = false;  // cuBLAS copies the sizes from the host in every call
  return trial;
}

}  // namespace steploom
