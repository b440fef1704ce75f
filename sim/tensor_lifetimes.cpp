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
  using Latest = std::vector<std::uint32_t>;  // by stream (0: none)

  // One copy of a tensor with its slices: the latest use, and the latest write of it and of each
  // slice by its place behind it (empty: none).
  struct Copy {
    Latest use;
    std::vector<Latest> write;
    std::uint32_t freed_by = 0;
  };

  void access(const Slot& slot, const Access& access) {
    const ProgramTensor& tensor = table_[access.tensor];
    const bool step = tensor.scope == TensorScope::step;
    const TensorId owner = owner_of(table_, access.tensor);
    const std::uint64_t key =
        std::uint64_t{owner} << 32 | static_cast<std::uint32_t>(
            step ? -1 : micro_batch_of(slot, p_.blocks[slot.block].ops[access.op]));
    Copy& copy = copies_[key];
    const std::uint32_t me = clocks_.number(slot.first_op + access.op);
    if (copy.use.empty() || (access.mode == AccessMode::write && copy.freed_by != 0)) {
      copy = Copy{};
      copy.use.assign(clocks_.streams(), 0);
    }
    const bool frees = access.mode == AccessMode::free;
    const std::string what = std::string(frees ? "frees" : "reads") + " '" + tensor.name + "'";
    if (copy.freed_by != 0) {
      report(me, what + ", which " + name(copy.freed_by) + " has freed");
      return;
    }
    if (access.mode == AccessMode::write) {
      write_of(copy, access.tensor - owner)[clocks_.stream(me)] = me;
    } else if (!written(copy, access.tensor) && !step) {
      report(me, what + ", which nothing has written before");
    } else if (frees) {
      expect_known(me, copy.use, what + ", which ", " may still use");
    } else {
      each_overlapping(table_, access.tensor, [&](TensorId t) {
        if (t - owner < copy.write.size())
          expect_known(me, copy.write[t - owner], what + ", but ", " may not have written it yet");
      });
    }
    copy.use[clocks_.stream(me)] = me;
    if (frees) copy.freed_by = me;
  }

  Latest& write_of(Copy& copy, std::uint32_t part) const {
    if (part >= copy.write.size()) copy.write.resize(part + 1);
    if (copy.write[part].empty()) copy.write[part].assign(clocks_.streams(), 0);
    return copy.write[part];
  }

  // Has it been, all of it? A whole may be by its slices.
  bool written(const Copy& copy, TensorId t) const {
    const TensorId owner = owner_of(table_, t);
    const auto part = [&](TensorId i) {
      return i - owner < copy.write.size() && !copy.write[i - owner].empty();
    };
    if (part(t) || part(owner)) return true;
    bool slices = t == owner, any = false;
    each_overlapping(table_, t, [&](TensorId i) {
      if (i == owner) return;
      any = true;
      slices = slices && part(i);
    });
    return slices && any;
  }

  void expect_known(std::uint32_t me, const Latest& others, const std::string& before,
                    const std::string& after) const {
    for (const std::uint32_t other : others)
      if (other != 0 && other != me && !clocks_.knows(me, other))
        report(me, before + name(other) + after);
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
