// Every kernel call of CudaKernels: operands to addresses, and the kernel that does it.
#include "profiler/cuda_kernels.h"
#include "profiler/kernels.h"

namespace steploom {

void CudaKernels::launch(const Linear& c, int stream) {
  const Product& product = plans(stream).product(StreamPlans::key_of(c));
  if (c.phase == Phase::weight_grad) {
    product.run(floats(c.result), values(c.a), values(c.b), on(stream));
    if (c.bias) {
      kernels::add_columns(floats(c.bias), scratch(stream), values(c.b), c.b.rows, c.b.width,
                           on(stream));
    }
    return;
  }
  product.run(values(c.result), values(c.a), values(c.b), on(stream),
              c.phase == Phase::forward ? values(c.bias) : nullptr);
}

void CudaKernels::launch(const ExpertLinear& c, int stream) {
  const Product& product = plans(stream).product(StreamPlans::key_of(c));
  if (c.phase == Phase::weight_grad) {
    product.run(floats(c.result), values(c.a), values(c.b), on(stream));
  } else {
    product.run(values(c.result), values(c.a), values(c.b), on(stream));
  }
}

void CudaKernels::launch(const Attention& c, int stream) {
  const StreamPlans& plans = this->plans(stream);
  plans.attention({Phase::forward, c.sizes})
      .run(packed_tensors(shape_of(c.sizes), values(c.qkv), values(c.out), floats(c.log_sum)),
           plans.scratch(), on(stream));
}

void CudaKernels::launch(const AttentionBackward& c, int stream) {
  const StreamPlans& plans = this->plans(stream);
  plans.attention({Phase::data_grad, c.sizes})
      .run(packed_tensors(shape_of(c.sizes), values(c.qkv), values(c.out), floats(c.log_sum),
                          values(c.d_out), values(c.d_qkv)),
           plans.scratch(), on(stream));
}

void CudaKernels::launch(const Rotary& c, int stream) {
  const kernels::RotaryShape shape{c.x.rows, c.positions, c.heads, c.head_dim, c.x.width};
  const auto kernel = c.backward ? kernels::rotary_backward : kernels::rotary;
  kernel(values(c.y), values(c.x), floats(c.table), shape, on(stream));
}

void CudaKernels::launch(const Norm& c, int stream) {
  const auto epsilon = static_cast<float>(c.epsilon);
  if (c.bias) {
    kernels::layer_norm(values(c.y), floats(c.mean), floats(c.scale), values(c.x), values(c.gain),
                        values(c.bias), c.x.rows, c.x.width, epsilon, on(stream));
  } else {
    kernels::rms_norm(values(c.y), floats(c.scale), values(c.x), values(c.gain), c.x.rows,
                      c.x.width, epsilon, on(stream));
  }
}

void CudaKernels::launch(const NormBackward& c, int stream) {
  if (c.d_bias) {
    kernels::layer_norm_backward(values(c.dx), floats(c.d_gain), floats(c.d_bias), scratch(stream),
                                 values(c.dy), values(c.x), floats(c.mean), floats(c.scale),
                                 values(c.gain), c.x.rows, c.x.width, on(stream));
  } else {
    kernels::rms_norm_backward(values(c.dx), floats(c.d_gain), scratch(stream), values(c.dy),
                               values(c.x), floats(c.scale), values(c.gain), c.x.rows, c.x.width,
                               on(stream));
  }
}

void CudaKernels::launch(const Activation& c, int stream) {
  const auto kernel = c.gated ? kernels::swiglu : kernels::gelu;
  kernel(values(c.y), values(c.x), c.y.rows, c.y.width, on(stream));
}

void CudaKernels::launch(const ActivationBackward& c, int stream) {
  const auto kernel = c.gated ? kernels::swiglu_backward : kernels::gelu_backward;
  kernel(values(c.dx), values(c.dy), values(c.x), c.dy.rows, c.dy.width, on(stream));
}

void CudaKernels::launch(const Add& c, int stream) {
  kernels::residual(values(c.y), values(c.a), values(c.b), c.y.rows, c.y.width, on(stream));
}

void CudaKernels::launch(const Router& c, int stream) {
  const std::int64_t m = c.logits.rows;
  const auto n = static_cast<int>(c.logits.width);
  const auto k = static_cast<int>(c.chosen.width);
  kernels::Placing placing{words(c.position), words(c.source), nullptr, words(c.chosen), m * k, n,
                           c.capacity,        c.chunks};
  if (c.mode == TapeMode::replay) {
    kernels::router_again(words(c.chosen), floats(c.weight), words(c.source), values(c.logits),
                          words(c.tape), m, n, k, on(stream));
    placing.choice = words(c.tape);
  } else {
    kernels::router(nullptr, words(c.chosen), floats(c.weight), values(c.logits), m, n, k,
                    on(stream), words(c.source));
    if (c.mode == TapeMode::record) placing.record = words(c.tape);
  }
  kernels::place(placing, reinterpret_cast<std::int32_t*>(scratch(stream)), on(stream));
}

void CudaKernels::launch(const RouterBackward& c, int stream) {
  kernels::router_backward(values(c.d_logits), floats(c.d_weight), floats(c.weight),
                           words(c.chosen), c.d_logits.rows, static_cast<int>(c.d_logits.width),
                           static_cast<int>(c.chosen.width), on(stream));
}

void CudaKernels::launch(const Permute& c, int stream) {
  kernels::permute_rows(values(c.y), values(c.x), words(c.source), c.y.rows, c.k, c.y.width,
                        on(stream));
}

void CudaKernels::launch(const PermuteBackward& c, int stream) {
  kernels::sum_rows(values(c.dx), values(c.dy), words(c.position), nullptr, nullptr, c.dx.rows,
                    static_cast<int>(c.position.width), c.dx.width, on(stream));
}

void CudaKernels::launch(const Unpermute& c, int stream) {
  kernels::sum_rows(values(c.y), values(c.x), words(c.position), floats(c.weight), values(c.shared),
                    c.y.rows, static_cast<int>(c.position.width), c.y.width, on(stream));
}

void CudaKernels::launch(const UnpermuteBackward& c, int stream) {
  kernels::unpermute_backward(values(c.dx), floats(c.d_weight), values(c.dy), values(c.x),
                              words(c.position), floats(c.weight), words(c.source), c.dy.rows,
                              static_cast<int>(c.position.width), c.dy.width, on(stream));
}

void CudaKernels::launch(const SortRows& c, int stream) {
  kernels::swap_blocks(values(c.y), values(c.x), c.outer, c.inner, c.x.rows, c.x.width, on(stream));
}

void CudaKernels::launch(const Embedding& c, int stream) {
  kernels::embed(values(c.y), words(c.ids), values(c.table), {c.first_id, c.table.rows},
                 values(c.positions), c.sequence, c.y.rows, c.y.width, on(stream));
}

void CudaKernels::launch(const EmbeddingBackward& c, int stream) {
  kernels::add_rows(floats(c.d_table), values(c.dy), words(c.ids), c.dy.rows, c.dy.width,
                    on(stream), {c.first_id, c.d_table.rows});
  if (!c.d_positions) return;
  kernels::add_positions(floats(c.d_positions), values(c.dy), c.sequence, c.dy.rows, c.dy.width,
                         on(stream));
}

void CudaKernels::launch(const CrossEntropy& c, int stream) {
  kernels::cross_entropy(floats(c.loss), floats(c.log_sum), values(c.logits), words(c.targets),
                         c.logits.rows, c.logits.width, on(stream));
}

void CudaKernels::launch(const CrossEntropySlice& c, int stream) {
  kernels::cross_entropy_slice(floats(c.maximum), floats(c.local), values(c.logits),
                               words(c.targets), static_cast<std::int32_t>(c.first_id),
                               c.logits.rows, c.logits.width, on(stream));
}

void CudaKernels::launch(const CrossEntropySums& c, int stream) {
  kernels::cross_entropy_sums(floats(c.sums), floats(c.local), floats(c.maximum), c.sums.rows,
                              on(stream));
}

void CudaKernels::launch(const CrossEntropyEnd& c, int stream) {
  kernels::cross_entropy_end(floats(c.loss), floats(c.log_sum), floats(c.maximum), floats(c.sums),
                             c.sums.rows, on(stream));
}

void CudaKernels::launch(const CrossEntropyBackward& c, int stream) {
  kernels::cross_entropy_backward(values(c.logits), values(c.logits), floats(c.log_sum),
                                  words(c.targets), static_cast<float>(c.factor), c.logits.rows,
                                  c.logits.width, on(stream),
                                  static_cast<std::int32_t>(c.first_id));
}

void CudaKernels::launch(const SumOfSquares& c, int stream) {
  std::vector<kernels::SquarePiece> pieces;
  pieces.reserve(c.pieces.size());
  for (const SumOfSquares::Piece& p : c.pieces) {
    pieces.push_back({floats(p.x), p.x.elements(), static_cast<float>(p.factor)});
  }
  kernels::sum_of_squares(floats(c.sum), scratch(stream), pieces, on(stream));
}

void CudaKernels::launch(const Adam& c, int stream) {
  const kernels::AdamStep step{static_cast<float>(c.rate),
                               static_cast<float>(c.beta1),
                               static_cast<float>(c.beta2),
                               static_cast<float>(c.epsilon),
                               static_cast<float>(c.decay),
                               1,
                               1,
                               c.squares ? floats(c.squares) : nullptr,
                               static_cast<float>(c.clip),
                               static_cast<const kernels::AdamCorrections*>(corrections_.data())};
  for (const Adam::Piece& p : c.pieces) {
    kernels::adam(values(p.parameters), floats(p.master), floats(p.first), floats(p.second),
                  floats(p.gradient), p.master.elements(), step, on(stream));
  }
}

void CudaKernels::launch(const ZeroFill& c, int stream) {
  for (const TensorRef& t : c.pieces) fill_zero(address(t), t.bytes(), on(stream));
}

void CudaKernels::launch(const Collective& c, int stream) {
  communicators_->launch(
      c, [this](const TensorRef& t) { return address(t); }, on(stream));
}

}  // namespace steploom
