// What kernels of eager PyTorch take of the host and of the device: the figures that
// eager_kernels.h's passes lay down, measured on H200s (docs/measured.md, "Parts of a model").
#pragma once

namespace steploom {

// Host time of an operator forward or backward, microseconds, shared out among its kernels
// (profiler/data/h200-sxm-141gb/torch-parts.jsonl: each part's time, times what a whole block took
// over the sum of its parts: 1.13 forward, 1.08 backward). What comes once a step (loss, embedding,
// optimizer) takes some twice as long there as when it is called in a row: torch-loops.jsonl, steps
// of two and of six small blocks.
namespace host {
inline constexpr double kMean = 24.9;  // of a Llama block's kernels, both passes
inline constexpr double kNorm = 17, kNormBackward = 20.4;        // backward: each of two
inline constexpr double kLinear = 27, kLinearBackward = 43;      // a product
inline constexpr double kRotary = 19.4, kRotaryBackward = 18.8;  // each of 5, of 9
inline constexpr double kAttention = 38.2, kAttentionBackward = 81.4;
inline constexpr double kSplit = 40, kSplitBackward = 90;  // of one Linear into q, k and v
inline constexpr double kSum = 12.7, kSumBackward = 10.8;
inline constexpr double kActivation = 9.8, kActivationBackward = 14.4;
inline constexpr double kBiasGradient = 17.9;
inline constexpr double kEmbedding = 35, kEmbeddingBackward = 90;
inline constexpr double kLoss = 20,
                        kLossBackward = 70;  // each of 3, of 4 with the call of backward()
inline constexpr double kClip = 400, kClipTensor = 5.5, kZero = 90, kZeroTensor = 0.2;
inline constexpr double kForeach = 500, kForeachTensor = 14.5, kFused = 200, kFusedTensor = 4.6;
inline constexpr double kLoop = 200,
                        kLoopTensor = 78;  // eight calls in place of 8.0, and Python's around
// Around what torch.distributed.pipelining does: any action, a pass forward and backward (its
// kernels apart) and a step; the gradients of a parameter divided by the micro-batches. Splitting
// backward passes: gradients of data over the same in a whole pass; a node that weights join at,
// and that again for every block of the stage from its first on. torch-stages-0.jsonl.
inline constexpr double kAction = 56;
inline constexpr double kForwardCall = kAction + 120, kBackwardCall = kAction + 270;
inline constexpr double kPipelineStep = 329, kScaleTensor = 15;
inline constexpr double kDataGradients = 1.41, kWeightNode = 103, kWeightNodeDepth = 21.2;
inline constexpr double kMessage = (36.4 + kAction) / 27.6;  // over dist.all_reduce
}  // namespace host

// How many times as long as an element-wise kernel over contiguous elements of the same bytes a
// kernel takes (same file, kernels by the profiler): strided and broadcast operands, reductions
// over rows, and rows that a single block goes through.
namespace slow {
inline constexpr double kNone = 1;
inline constexpr double kNorm = 1.2, kNormInput = 1.35, kNormWeights = 2.05;
inline constexpr double kLayerNorm = 2.1, kLayerNormWeights = 3.3;
inline constexpr double kNegate = 2.85, kCatenate = 4.6, kTimesCos = 3.5, kTimesSin = 2.85,
                        kTurnSum = 2.45;
inline constexpr double kTurnBack = 3.5, kHalfCopy = 3.3, kTurnBackSum = 2.7, kNegateBack = 3.1;
inline constexpr double kFill = 1.3, kSilu = 1.12, kSiluBackward = 1.08, kGelu = 1.25,
                        kGeluBackward = 1.1;
inline constexpr double kWiden = 2.05, kLogSoftmax = 1.97, kLogSoftmaxBackward = 1.5,
                        kWideFill = 0.92;
inline constexpr double kGather = 1.2, kRows = 7.7, kPositionSum = 2.3;
inline constexpr double kColumnSum = 2.7, kSplit = 1;
inline constexpr double kForeach = 1.4, kFused = 1.62, kLoop = 1, kSquares = 2,
                        kClip = 1.5;  // optimizers
// The same as bytes: one block goes through all rows of nll_loss, whatever they are; an index's
// rows of a table, where there are few.
inline constexpr double kLossBytes = 70e6, kLossBackwardBytes = 35e6, kIndexBytes = 190e3;
}  // namespace slow

}  // namespace steploom
