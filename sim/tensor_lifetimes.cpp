#include "sim/tensor_lifetimes.h"

#include <algorithm>
#include <unordered_map>

#include "sim/device_clocks.h"

namespace steploom {
namespace {

class Lifetimes {
 public:
  Lifetimes(const FlatProgram& flat, std::uint32_t device,
            const std::function<void(std::string)>& fault)
      : p_(flat.program),
        table_(p_.tensor_tables[p_.devices[device].tensor_table]),
        clocks_(flat, device),
        fault_(fault) {}

  void visit(const Slot& slot) {
    const std::vector<Access>& all = p_.blocks[slot.block].accesses;
    for (std::size_t first = 0, last = 0; first < all.size(); first = last) {
      while (last < all.size() && all[last].op == all[first].op) ++last;
      for (const AccessMode mode : {AccessMode::read, AccessMode::write, AccessMode::free})
        for (std::size_t i = first; i < last; ++i)
          if (all[i].mode == mode) access(slot, all[i]);
    }
  }

 private:
  // One copy of a tensor: the latest write and the latest use on every stream (0: none).
  struct Copy {
    std::vector<std::uint32_t> write, use;
    std::uint32_t freed_by = 0;
    bool written = false;
  };

  void access(const Slot& slot, const Access& access) {
    const ProgramTensor& tensor = table_[access.tensor];
    const bool step = tensor.scope == TensorScope::step;
    const std::uint64_t key = std::uint64_t{access.tensor} << 32 |
                              static_cast<std::uint32_t>(step ? -1 : slot.micro_batch);
    Copy& copy = copies_[key];
    const std::uint32_t me = clocks_.number(slot.first_op + access.op);
    if (copy.use.empty() || (access.mode == AccessMode::write && copy.freed_by != 0)) {
      copy = Copy{};
      copy.write.assign(clocks_.streams(), 0);
      copy.use.assign(clocks_.streams(), 0);
    }
    const bool frees = access.mode == AccessMode::free;
    const std::string what = std::string(frees ? "frees" : "reads") + " '" + tensor.name + "'";
    if (copy.freed_by != 0) {
      report(me, what + ", which " + name(copy.freed_by) + " has freed");
      return;
    }
    if (access.mode == AccessMode::write) {
      copy.written = true;
      copy.write[clocks_.stream(me)] = me;
    } else if (!copy.written && !step) {
      report(me, what + ", which nothing has written before");
    } else {
      for (const std::uint32_t other : frees ? copy.use : copy.write)
        if (other != 0 && other != me && !clocks_.knows(me, other))
          report(me, what + (frees ? ", which " + name(other) + " may still use"
                                   : ", but " + name(other) + " may not have written it yet"));
    }
    copy.use[clocks_.stream(me)] = me;
    if (frees) copy.freed_by = me;
  }

  std::string name(std::uint32_t number) const {
    return "'" + describe_op(p_, clocks_.op(number)) + "'";
  }
  void report(std::uint32_t number, const std::string& what) const {
    fault_(name(number) + " " + what);
  }

  const Program& p_;
  const std::vector<ProgramTensor>& table_;
  DeviceClocks clocks_;
  const std::function<void(std::string)>& fault_;
  std::unordered_map<std::uint64_t, Copy> copies_;  // looked up only, never walked
};

}  // namespace

void check_lifetimes(const FlatProgram& flat, const std::function<void(std::string)>& fault) {
  const Program& p = flat.program;
  for (std::uint32_t d = 0; d < p.devices.size(); ++d) {
    const Device& device = p.devices[d];
    const auto begin = p.slots.begin() + device.first_slot;
    const auto end = begin + device.slot_count;
    const auto touches = [&p](const Slot& s) { return !p.blocks[s.block].accesses.empty(); };
    if (std::none_of(begin, end, touches)) continue;
    Lifetimes lifetimes(flat, d, fault);
    for (auto slot = begin; slot != end; ++slot) lifetimes.visit(*slot);
  }
}

}  // namespace steploom
