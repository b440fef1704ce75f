// Does a plan's step compute what it should? Its gradients against a float64 reference, or, where
// that would take too long, against another run.
//
// Routing is decided once: the first plan's run records which experts every token chose and which
// choices were dropped, and every other run, the reference included, replays it (a choice between
// two nearly equal scores may fall either way in bf16, and everything behind it changes with it).
//
// Small steps (at most kReferenceFlops): the relative L2 error of every gradient tensor against the
// reference. The first plan, the plain one, must stay below kPlainError; any other below twice the
// plain one's own error of that tensor and 1e-3. How often bf16 and the reference choose the same
// experts when each decides for itself is reported, not judged.
//
// Larger steps: distances. The plain plan runs twice, the second time with other algorithms for
// its products and a fixed order in attention: the distance of two right answers. Any other plan
// must be within three times that distance (and 1e-3 at least) of the plain run; all plans
// must then cut parameters alike.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "profiler/bind.h"
#include "profiler/dropped_edges.h"
#include "profiler/peers.h"

namespace steploom {

inline constexpr double kReferenceFlops = 3e10;
inline constexpr double kPlainError = 0.05;

// What a self-test (dropped_edges.h) does to the step of a plan.
struct Tampering {
  std::vector<CrossEdge> delayed;  // their producers are held back, after their outputs' poison
  std::optional<CrossEdge> dropped;
  double delay_ms = 0;
};

struct VerifyOptions {
  bool poison = true;
  double patience = 120;               // seconds
  std::vector<Tampering> tampering{};  // by plan; empty: none
};

struct TensorError {
  std::string name;
  double error = 0;  // relative L2
  double bound = 0;
  bool passes() const { return error <= bound; }  // NaN does not
};

struct Verification {
  bool against_reference = false;
  std::vector<TensorError> tensors;  // by name; empty: nothing to compare with
  double loss = 0;                   // of the first step
  double expected_loss = 0;          // the reference's, or the plain run's
  double router_agreement = -1;      // share of equal choices; -1: no router, or no reference
  bool passes() const;
  const TensorError& worst() const;  // the largest error over its bound
};

// FLOPs of the step over all ranks.
double flops_of(const Program& program);

// All ranks of the run together; complete at rank 0.
std::vector<Verification> verify_on_gpus(Peers& peers, std::span<const BindInput> plans,
                                         const VerifyOptions& options);

// The relative L2 difference; NaN where a value is.
double relative_error(std::span<const double> got, std::span<const double> want);

}  // namespace steploom
