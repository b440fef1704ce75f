// What was measured of a fabric, the links between GPUs of one node: collectives by CTA count, and
// how kernels and collectives slow each other beside each other.
//
// A Profile holds any number of fabrics under their names ("nvlink", "host", "sockets"). Made by
// profiler/fit_fabric.h from raw lines; read strictly ("version": 1). A class of kernels that was
// not measured takes the rows of one that was, by name, never silently. A copy by an engine
// has rows beside kernels alone, one on SMs takes those of a kernel. Times are in
// nanoseconds, rates out of 65536.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/json_reader.h"
#include "sim/contention.h"
#include "sim/kernel_class.h"

namespace steploom {

// One collective at one setting of NCCL's CTAs (minCTAs = maxCTAs): measured medians.
struct CtaCurve {
  OpKind collective = OpKind::all_reduce;
  int ranks = 0;
  int ctas = 0;                      // asked for
  std::vector<Bytes> bytes;          // increasing, as Work::bytes counts
  std::vector<std::uint16_t> grids;  // by size: CTAs that it then ran on, at most `ctas`
  std::vector<std::int64_t> ns;      // by size: what it takes alone

  // CTAs at a size: those of the measured size at or below it.
  std::uint16_t grid(double at_bytes) const;

  // Log-log linear between the sizes, constant below the first, in proportion to bytes above the
  // last.
  double seconds(double at_bytes) const;
  bool operator==(const CtaCurve&) const = default;
};

// Device memory that NCCL takes of a rank, bytes: for each communicator when it is made, when it
// first runs an all-reduce, all-gather or reduce-scatter, and when it first sends or receives (an
// all-to-all does), for each peer; and `once` when the first communicator does. Parts grow with the
// communicator's CTAs.
struct CommunicatorMemory {
  struct Part {
    Bytes once = 0;  // of `made`: the communicator of all ranks too, from which others are split
    Bytes each = 0, per_cta = 0;
    Bytes of(Bytes ctas) const { return each + per_cta * ctas; }
    bool operator==(const Part&) const = default;
  };
  Part made, rings, messages;
  Bytes idle = 0;        // one without a CTA setting that never runs anything
  std::string source{};  // how and where it was measured
  bool operator==(const CommunicatorMemory&) const = default;
};

struct ProfiledFabric {
  std::string name;                   // "nvlink"
  std::string date;                   // of the measurement, ISO 8601
  std::string measured;               // the command that measured
  std::string made;                   // how the tables were made from its lines
  std::string attribution;            // whose measurements they are
  std::vector<std::string> software;  // versions that were measured

  std::vector<CtaCurve> curves;  // by (collective, ranks, ctas)

  // Of the fabric's capacity, what a collective takes at the speed of its fastest CTA count.
  struct LinkWeight {
    OpKind collective = OpKind::all_reduce;
    double weight = 1;
    bool operator==(const LinkWeight&) const = default;
  };
  std::vector<LinkWeight> link_weights;  // by collective

  struct Share {
    KernelClass of = KernelClass::matmul;
    Contention::ShareCurve rates{};
    std::int64_t priority_wave_ns = 0;  // Contention::priority_wave
    bool operator==(const Share&) const = default;
  };
  std::vector<Share> shares;  // by class: kernels only

  struct Beside {
    KernelClass own = KernelClass::matmul;
    KernelClass other = KernelClass::matmul;
    PairRates rates;
    bool operator==(const Beside&) const = default;
  };
  std::vector<Beside> besides;  // by (own, other)

  // `of` was not measured; `as` was.
  struct Assumed {
    KernelClass of = KernelClass::matmul;
    KernelClass as = KernelClass::matmul;
    bool operator==(const Assumed&) const = default;
  };
  std::vector<Assumed> assumed;  // by class

  std::optional<CommunicatorMemory> memory;  // none: not measured

  bool measures(int ranks) const;              // are there curves of so many ranks?
  KernelClass row_of(KernelClass c) const;     // itself, or what it is assumed as
  bool measures_copy(KernelClass copy) const;  // has it rows?
  bool needs_sms(KernelClass copy) const;      // false: a copy engine does it
  double link_weight(OpKind collective) const;
  bool operator==(const ProfiledFabric&) const = default;
};

std::vector<ProfiledFabric> read_fabrics(const Json& json);
std::string to_json(const std::vector<ProfiledFabric>& fabrics);

}  // namespace steploom
