#include <cmath>
#include <memory>
#include <utility>

#include "profiler/attention.h"
#include "profiler/attention_reference.h"
#include "profiler/trial.h"

namespace steploom {
namespace {

// bf16 results are rounded once. The kernel rounds every probability and its gradient to bf16 too,
// by at most 0.004 and some 0.001 in the mean: so much of the reference's noise a result may be
// off, several times over.
constexpr double kRounding = 0.004;
constexpr double kNoise = 0.01;
// What fp32 sums of some hundred products near 1 leave where they should cancel.
constexpr double kCancelled = 1e-5;
constexpr double kLogarithm = 1e-3;  // of lse, fp32 and fast exponentials
// Scores are then spread as those of a trained model are: probabilities far from even.
constexpr float kSpread = 2;

// What one layer's attention reads and writes, packed, in every set.
struct Tensors {
  AttentionShape shape;
  int sets;
  Slab<Bf16> qkv, out;
  Slab<float> lse;
  std::unique_ptr<Slab<Bf16>> d_out, dqkv;  // backward only

  Tensors(const AttentionShape& s, Bytes bytes, bool backward, Bytes rotate)
      : shape(s),
        sets(sets_for(bytes, rotate)),
        qkv(tokens() * packed_layout(s).q.row, sets),
        out(tokens() * packed_layout(s).out.row, sets),
        lse(tokens() * s.heads, sets) {
    qkv.randomize(1, kSpread);
    if (!backward) return;
    d_out = std::make_unique<Slab<Bf16>>(out.count(), sets);
    d_out->randomize(2, 1);
    dqkv = std::make_unique<Slab<Bf16>>(qkv.count(), sets);
  }
  std::int64_t tokens() const { return shape.sequence * shape.sequences; }
  AttentionTensors at(int set) const {
    return packed_tensors(shape, qkv.at(set), out.at(set), lse.at(set),
                          d_out ? d_out->at(set) : nullptr, dqkv ? dqkv->at(set) : nullptr);
  }
};

// First, last and scattered tokens, over sequences and heads.
std::vector<AttentionRow> sampled(const AttentionShape& s, int heads) {
  std::vector<AttentionRow> rows;
  std::int64_t i = 0;
  for (const std::int64_t token : sampled_rows(s.sequence)) {
    rows.push_back({(s.sequences - 1 + 5 * i) % s.sequences, (heads - 1 + 7 * i) % heads, token});
    ++i;
  }
  return rows;
}

// Elements of `got` from `at` on against the reference.
void expect_row(Proof& proof, const Slab<Bf16>& got, std::int64_t at, const ReferenceRow& want,
                const char* what, const AttentionRow& row) {
  const std::vector<Bf16> values = got.read(at, static_cast<std::int64_t>(want.values.size()));
  for (std::size_t c = 0; c < values.size(); ++c) {
    proof.expect_within(static_cast<double>(to_float(values[c])), want.values[c],
                        kRounding * std::abs(want.values[c]) + kNoise * want.noise[c] + kCancelled,
                        what, row.token, static_cast<std::int64_t>(c));
  }
}

std::string prove_forward(const Tensors& t, const AttentionPlan& attention, void* workspace,
                          Stream stream) {
  t.out.spoil(stream);
  t.lse.spoil(stream);
  attention.run(t.at(0), workspace, stream);
  wait_for_device();
  const AttentionLayout layout = packed_layout(t.shape);
  const AttentionReference reference(t.shape, layout, t.at(0));
  Proof proof(0, 0);
  for (const AttentionRow& row : sampled(t.shape, t.shape.heads)) {
    const ReferenceForward want = reference.forward(row);
    const std::int64_t token = row.sequence * t.shape.sequence + row.token;
    expect_row(proof, t.out, token * layout.out.row + row.head * layout.out.head, want.out, "out",
               row);
    const std::int64_t at =
        (row.sequence * t.shape.heads + row.head) * t.shape.sequence + row.token;
    proof.expect_within(static_cast<double>(t.lse.read(at, 1)[0]), want.lse, kLogarithm, "lse",
                        row.head, row.token);
  }
  proof.expect_written(t.out, stream);
  proof.expect_written(t.lse, stream);
  return proof.fault();
}

std::string prove_backward(const Tensors& t, const AttentionPlan& attention, void* workspace,
                           Stream stream) {
  t.dqkv->spoil(stream);
  attention.run(t.at(0), workspace, stream);
  wait_for_device();
  const AttentionLayout layout = packed_layout(t.shape);
  const AttentionTensors all = t.at(0);
  const AttentionReference reference(t.shape, layout, all);
  Proof proof(0, 0);
  const auto check = [&](const Bf16* gradient, const AttentionLayout::Heads& at,
                         const ReferenceRow& want, const char* what, const AttentionRow& row) {
    const std::int64_t token = row.sequence * t.shape.sequence + row.token;
    expect_row(proof, *t.dqkv, (gradient - all.dq) + token * at.row + row.head * at.head, want,
               what, row);
  };
  for (const AttentionRow& row : sampled(t.shape, t.shape.heads)) {
    check(all.dq, layout.q, reference.dq(row), "dq", row);
  }
  for (const AttentionRow& row : sampled(t.shape, t.shape.kv_heads)) {
    ReferenceRow dk;
    ReferenceRow dv;
    reference.dkv(row, dk, dv);
    check(all.dk, layout.k, dk, "dk", row);
    check(all.dv, layout.v, dv, "dv", row);
  }
  proof.expect_written(*t.dqkv, stream);
  return proof.fault();
}

}  // namespace

Trial attention_trial(const Ask& ask, const Libraries& libraries, Bytes rotate) {
  const AttentionShape shape = attention_of(ask.work);
  const bool backward = ask.work.phase != Phase::forward;
  const auto tensors = std::make_shared<const Tensors>(shape, ask.work.bytes, backward, rotate);
  const AttentionLayout layout = packed_layout(shape);
  const Dnn& dnn = libraries.dnn();
  const auto attention = std::make_shared<const AttentionPlan>(dnn, ask.work.phase, shape, layout);
  const auto workspace = std::make_shared<const DeviceBuffer>(attention->workspace_bytes());
  if (backward) {
    // The real out and lse of every set.
    const AttentionPlan forward(dnn, Phase::forward, shape, layout);
    const DeviceBuffer space(forward.workspace_bytes());
    wait_for_device();
    for (int set = 0; set < tensors->sets; ++set) {
      forward.run(tensors->at(set), space.data(), nullptr);
    }
    wait_for_device();
  }
  Trial trial;
  trial.sets = tensors->sets;
  trial.launch = [tensors, attention, workspace](int set, Stream stream) {
    attention->run(tensors->at(set), workspace->data(), stream);
  };
  trial.prove = [tensors, attention, workspace, backward](Stream stream) {
    return (backward ? prove_backward : prove_forward)(*tensors, *attention, workspace->data(),
                                                       stream);
  };
  return trial;
}

}  // namespace steploom
