#include "sim/check.h"

#include <algorithm>

#include "models/error.h"
#include "sim/contention.h"
#include "sim/engine.h"
#include "sim/flat_program.h"
#include "sim/tensor_lifetimes.h"

namespace steploom {
namespace {

constexpr std::size_t kMostFaults = 100;

class Faults {
 public:
  void add(std::string text) {
    if (++count_ <= kMostFaults) texts_.push_back(std::move(text));
  }
  bool none() const { return count_ == 0; }
  std::vector<std::string> take() {
    if (count_ > kMostFaults)
      texts_.push_back("and " + std::to_string(count_ - kMostFaults) + " more");
    return std::move(texts_);
  }

 private:
  std::vector<std::string> texts_;
  std::size_t count_ = 0;
};

struct Op {
  const OpTemplate* op;
  const OpInfo* info;
  std::uint32_t device;
};

Op op_of(const Program& p, std::uint32_t id) {
  const std::uint32_t s = slot_of_op(p, id);
  const BlockTemplate& block = p.blocks[p.slots[s].block];
  const std::uint32_t i = id - p.slots[s].first_op;
  return {&block.ops[i], &block.infos[i], p.device_of_slot[s]};
}

// All members issue as many operators on a communicator, and the k-th of each are of one kind.
void check_communicators(const Program& p, Faults& faults) {
  for (std::uint32_t r = 0; r < p.communicator_of_rendezvous.size(); ++r) {
    const Communicator& c = p.communicators[p.communicator_of_rendezvous[r]];
    const std::uint32_t first = p.rendezvous_ops.first[r], last = p.rendezvous_ops.first[r + 1];
    const std::uint32_t id = p.rendezvous_ops.items[first];
    const Op one = op_of(p, id);
    std::vector<std::uint32_t> absent = c.members;
    int senders = 0;
    for (std::uint32_t i = first; i < last; ++i) {
      const Op other = op_of(p, p.rendezvous_ops.items[i]);
      std::erase(absent, other.device);
      senders += other.op->sender;
      const char* differs = nullptr;
      if (other.info->work.kind != one.info->work.kind)
        differs = "kind";
      else if (other.info->work.bytes != one.info->work.bytes)
        differs = "size";
      if (differs != nullptr)
        faults.add("communicator '" + c.name + "': '" + describe_op(p, id) + "' meets '" +
                   describe_op(p, p.rendezvous_ops.items[i]) + "' of another " + differs);
    }
    if (!absent.empty())
      faults.add("communicator '" + c.name + "': '" + describe_op(p, id) + "' waits for device '" +
                 p.devices[*std::min_element(absent.begin(), absent.end())].name +
                 "', which issues fewer operators on it");
    else if (one.info->work.kind == OpKind::send_recv && !has_rings(one.info->group) &&
             last - first == 2 && senders != 1)
      faults.add("communicator '" + c.name + "': '" + describe_op(p, id) + "' and its peer " +
                 (senders == 0 ? "both receive" : "both send"));
  }
}

// A plain replay finds circular waits through rendezvous, one with SMs those for SMs.
void check_waits(const Program& p, Faults& faults) {
  std::size_t classes = 1;
  for (const BlockTemplate& block : p.blocks)
    for (const OpTemplate& op : block.ops)
      classes = std::max<std::size_t>(classes, op.kernel_class + std::size_t{1});
  const Contention neutral = neutral_contention(classes);
  for (const Contention* contention : {static_cast<const Contention*>(nullptr), &neutral}) {
    try {
      ReplayOptions options;
      options.contention = contention;
      replay(p, options);
    } catch (const Error& e) {
      faults.add(e.where().found);
      return;
    }
  }
}

}  // namespace

std::vector<std::string> check(const Program& program) {
  Faults faults;
  try {
    validate(program);
  } catch (const Error& e) {
    faults.add(e.what());
    return faults.take();
  }
  const FlatProgram flat(program);
  check_lifetimes(flat, [&faults](std::string text) { faults.add(std::move(text)); });
  check_communicators(program, faults);
  check_waits(program, faults);
  return faults.take();
}

}  // namespace steploom
