// A rank's NCCL communicators: one for each of an Execution's, with the CTA count that the plan
// chose, and the launches on them.
//
// All are split from one communicator of the whole run, in the order of their numbers, by all ranks
// together. Minimum and maximum CTAs of a communicator are what its operators want, so that the
// profile's tables hold. Connections are made by the first launch of each kind and size; warm_up()
// does that on all members in one order, before anything else can stand in the way. Faults are
// thrown as DeviceError.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "profiler/device.h"
#include "profiler/execution.h"
#include "profiler/peers.h"

struct ncclComm;

namespace steploom {

class Communicators {
 public:
  using Address = std::function<void*(const TensorRef&)>;

  // All ranks of the run together.
  Communicators(Peers& peers, const std::vector<CommunicatorSpec>& specs);
  ~Communicators();
  Communicators(const Communicators&) = delete;
  Communicators& operator=(const Communicators&) = delete;

  void launch(const Collective& call, const Address& address, Stream stream) const;

  // Runs each call that differs from those before it on its communicator once, communicator after
  // communicator. All ranks of the run together; memory must hold zeros.
  void warm_up(Peers& peers, const std::vector<Call>& calls, const Address& address,
               Stream stream) const;

  void check_health() const;  // throws what NCCL found out since the launch

 private:
  std::vector<CommunicatorSpec> specs_;
  ncclComm* world_ = nullptr;
  std::vector<ncclComm*> comms_;  // by place in specs_
};

}  // namespace steploom
