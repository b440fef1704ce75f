#include "profiler/communicators.h"

#include <nccl.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <tuple>

#include "profiler/device_check.cuh"

namespace steploom {
namespace {

void check(ncclResult_t code, const std::string& what) {
  if (code == ncclSuccess || code == ncclInProgress) return;
  throw DeviceError("NCCL, " + what + ": " + ncclGetErrorString(code) + ", " +
                    ncclGetLastError(nullptr));
}

ncclDataType_t type_of(ElementType t) {
  switch (t) {
    case ElementType::bf16:
      return ncclBfloat16;
    case ElementType::fp32:
      return ncclFloat32;
    case ElementType::int32:
      return ncclInt32;
  }
  throw DeviceError("NCCL: no such type");
}

ncclComm_t connect_world(Peers& peers) {
  ncclUniqueId id{};
  if (peers.first()) check(ncclGetUniqueId(&id), "unique id");
  const std::string bytes = peers.share({reinterpret_cast<const char*>(&id), sizeof id});
  std::memcpy(&id, bytes.data(), sizeof id);
  ncclComm_t world = nullptr;
  check(ncclCommInitRank(&world, peers.ranks(), id, peers.rank()), "connecting all ranks");
  return world;
}

// What decides which channels, protocol and connections a call needs. A message's two ends are one.
using Shape = std::tuple<std::uint32_t, int, std::int64_t>;
Shape shape_of(const Collective& call) {
  Bytes bytes = 0;
  for (const Collective::Piece& p : call.pieces) bytes += std::max(p.from.bytes(), p.to.bytes());
  const int kind =
      static_cast<int>(call.kind == CollectiveKind::receive ? CollectiveKind::send : call.kind);
  return {call.communicator, kind, bytes};
}

}  // namespace

Communicators::Communicators(Peers& peers, const std::vector<CommunicatorSpec>& specs)
    : specs_(specs), comms_(specs.size(), nullptr) {
  double highest = -1;
  for (const CommunicatorSpec& s : specs_) highest = std::max(highest, static_cast<double>(s.id));
  const auto last = static_cast<std::int64_t>(peers.most(highest));
  if (last < 0) return;
  peers.doing("connecting all ranks");
  world_ = connect_world(peers);
  for (std::int64_t id = 0; id <= last; ++id) {
    const auto at = std::find_if(specs_.begin(), specs_.end(),
                                 [id](const CommunicatorSpec& s) { return s.id == id; });
    const bool member = at != specs_.end();
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    if (member && at->ctas > 0) config.minCTAs = config.maxCTAs = at->ctas;
    const std::string name = member ? at->name : "of other ranks";
    peers.doing("connecting " + name);
    ncclComm_t comm = nullptr;
    check(ncclCommSplit(world_, member ? 0 : NCCL_SPLIT_NOCOLOR, member ? at->index : 0, &comm,
                        &config),
          "connecting " + name);
    if (member) comms_[static_cast<std::size_t>(at - specs_.begin())] = comm;
  }
  peers.meet();
}

Communicators::~Communicators() {
  for (ncclComm_t comm : comms_)
    if (comm != nullptr) ncclCommDestroy(comm);
  if (world_ != nullptr) ncclCommDestroy(world_);
}

void Communicators::launch(const Collective& call, const Address& address, Stream stream) const {
  const CommunicatorSpec& spec = specs_.at(call.communicator);
  ncclComm_t comm = comms_[call.communicator];
  const auto n = static_cast<std::int64_t>(spec.ranks.size());
  check(ncclGroupStart(), spec.name);
  for (const Collective::Piece& p : call.pieces) {
    const ElementType element = p.from ? p.from.type : p.to.type;
    const ncclDataType_t type = type_of(element);
    void* from = p.from ? address(p.from) : nullptr;
    void* to = p.to ? address(p.to) : nullptr;
    const auto sent = static_cast<std::size_t>(p.from.elements());
    const auto received = static_cast<std::size_t>(p.to.elements());
    switch (call.kind) {
      case CollectiveKind::all_reduce_sum:
        check(ncclAllReduce(from, to, sent, type, ncclSum, comm, stream), spec.name);
        break;
      case CollectiveKind::all_reduce_max:
        check(ncclAllReduce(from, to, sent, type, ncclMax, comm, stream), spec.name);
        break;
      case CollectiveKind::all_gather:
        check(ncclAllGather(from, to, sent, type, comm, stream), spec.name);
        break;
      case CollectiveKind::reduce_scatter:
        check(ncclReduceScatter(from, to, received, type, ncclSum, comm, stream), spec.name);
        break;
      case CollectiveKind::send:
        check(ncclSend(from, sent, type, 1, comm, stream), spec.name);
        break;
      case CollectiveKind::receive:
        check(ncclRecv(to, received, type, 0, comm, stream), spec.name);
        break;
      case CollectiveKind::all_to_all: {
        auto* out = static_cast<char*>(from);
        auto* in = static_cast<char*>(to);
        for (std::int64_t peer = 0; peer < n; ++peer) {
          const auto i = static_cast<std::size_t>(peer);
          const std::int64_t out_count =
              p.send_rows.empty() ? p.from.elements() / n : p.send_rows[i] * p.from.width;
          const std::int64_t in_count =
              p.receive_rows.empty() ? p.to.elements() / n : p.receive_rows[i] * p.to.width;
          check(ncclSend(out, static_cast<std::size_t>(out_count), type, static_cast<int>(peer),
                         comm, stream),
                spec.name);
          check(ncclRecv(in, static_cast<std::size_t>(in_count), type, static_cast<int>(peer), comm,
                         stream),
                spec.name);
          out += out_count * bytes_of(element);
          in += in_count * bytes_of(element);
        }
        break;
      }
    }
  }
  check(ncclGroupEnd(), spec.name);
}

void Communicators::warm_up(Peers& peers, const std::vector<Call>& calls, const Address& address,
                            Stream stream) const {
  std::vector<std::size_t> order(specs_.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return specs_[a].id < specs_[b].id; });
  std::set<Shape> done;
  for (const std::size_t at : order) {
    peers.doing("the first collectives of " + specs_[at].name);
    for (const Call& call : calls) {
      const auto* collective = std::get_if<Collective>(&call.kernel);
      if (collective == nullptr || collective->communicator != at) continue;
      if (!done.insert(shape_of(*collective)).second) continue;
      launch(*collective, address, stream);
      check(cudaStreamSynchronize(stream), "the first collectives");
    }
  }
}

void Communicators::check_health() const {
  for (std::size_t i = 0; i < comms_.size(); ++i) {
    if (comms_[i] == nullptr) continue;
    ncclResult_t state = ncclSuccess;
    check(ncclCommGetAsyncError(comms_[i], &state), specs_[i].name);
    check(state, specs_[i].name);
  }
}

}  // namespace steploom
