// One step of all ranks on the reference kernels, in any order that the Program allows.
//
// An operator may run when it heads its stream and the events that it waits for have been recorded;
// a collective runs when all members are there. Among what may run, a seed picks: if the Program
// orders what it must, every seed gives the same bits; if an edge is missing, a reader finds NaNs
// or old values, because tensors are poisoned before their first write and after their last use.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "profiler/bind.h"
#include "profiler/reference_kernels.h"
#include "profiler/step_data.h"

namespace steploom {

inline constexpr std::uint32_t kNothingDelayed = 0xffffffff;

struct ReferenceOrder {
  std::uint64_t seed = 0;                   // 0: as issued, rank after rank as far as each can go
  std::uint32_t delayed = kNothingDelayed;  // operator id: runs only when nothing else can
};

struct StepResult {
  double loss = 0;                                       // mean over the tokens of the global batch
  std::map<std::string, std::vector<double>> gradients;  // whole tensors by name, before the update
};

class ReferenceRun {
 public:
  explicit ReferenceRun(const BindInput& input, const BindOptions& options = {});

  // Throws Error if ranks wait for each other, PoisonRead on a poisoned index.
  StepResult step(const ReferenceOrder& order = {});

  std::map<std::string, std::vector<double>> parameters();  // whole tensors by name
  RoutingTape routing();                                    // recorded by the last step
  void replay_routing(const RoutingTape& tape);
  const Execution& execution(int rank) const {
    return ranks_[static_cast<std::size_t>(rank)].execution;
  }
  KernelSet& kernels(int rank) { return *ranks_[static_cast<std::size_t>(rank)].kernels; }
  int size() const { return static_cast<int>(ranks_.size()); }

 private:
  struct Rank {
    Execution execution;
    std::unique_ptr<ReferenceKernels> kernels;
    std::vector<ParameterTensor> list;
  };
  class Scheduler;

  BindInput input_;
  ReferenceMeeting meeting_;
  void require_memory() const;

  std::vector<Rank> ranks_;
  std::int64_t steps_ = 0;
};

}  // namespace steploom
