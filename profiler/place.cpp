#include "profiler/place.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>

#include "models/error.h"

namespace steploom {
namespace {

constexpr int kFirstPort = 61'000;  // Linux's ephemeral ports end at 60999
constexpr int kLastPort = 65'535;
// Slurm numbers the steps that are no srun (batch script, interactive shell) from the top.
constexpr long long kSpecialSteps = 0xffff'fff0;

[[noreturn]] void refuse(const std::string& name, const std::string& expected,
                         const std::string& found, const std::string& hint = "") {
  throw Error({"the environment", name, expected, found, hint});
}

class Reader {
 public:
  explicit Reader(const Environment& environment) : environment_(environment) {}

  std::string text(const std::string& name) const {
    const auto at = environment_.find(name);
    return at == environment_.end() ? "" : at->second;
  }
  bool has(const std::string& name) const { return !text(name).empty(); }
  std::string needed(const std::string& name, const std::string& because) const {
    if (!has(name)) refuse(name, "set, as " + because + " is", "nothing");
    return text(name);
  }
  long long number(const std::string& name, long long least, long long most) const {
    const std::string written = text(name);
    long long value = 0;
    const char* end = written.data() + written.size();
    const auto [stop, fault] = std::from_chars(written.data(), end, value);
    if (fault != std::errc() || stop != end || value < least || value > most) {
      refuse(name, "a number from " + std::to_string(least) + " to " + std::to_string(most),
             "'" + written + "'");
    }
    return value;
  }
  int needed_number(const std::string& name, const std::string& because, long long least,
                    long long most) const {
    needed(name, because);
    return static_cast<int>(number(name, least, most));
  }
  std::string first_of(std::initializer_list<const char*> names) const {
    for (const char* name : names) {
      if (has(name)) return name;
    }
    return "";
  }

 private:
  const Environment& environment_;
};

constexpr long long kMostRanks = 1'000'000;

// The three numbers that every launcher gives, under its names.
void read_ranks(const Reader& read, const std::string& rank, const std::string& ranks,
                const std::string& local_rank, Place& place) {
  place.ranks = read.needed_number(ranks, rank, 1, kMostRanks);
  place.rank = read.needed_number(rank, ranks, 0, kMostRanks);
  if (place.rank >= place.ranks) {
    refuse(rank, "less than " + ranks + " (" + read.text(ranks) + ")", read.text(rank));
  }
  place.local_rank = read.needed_number(local_rank, rank, 0, kMostRanks);
  if (place.local_rank > place.rank) {
    refuse(local_rank, "at most " + rank + " (" + read.text(rank) + ")", read.text(local_rank));
  }
}

// Whether all ranks are on this host, by the variable that counts the ranks here (may be unset).
bool one_host(const Reader& read, const std::string& local_ranks, const Place& place) {
  if (place.ranks == 1) return true;
  if (!read.has(local_ranks)) return false;
  const long long here = read.number(local_ranks, 1, kMostRanks);
  if (here > place.ranks || place.local_rank >= here) {
    refuse(local_ranks, "more than the local rank and at most the ranks of the run",
           read.text(local_ranks));
  }
  return here == place.ranks;
}

std::vector<int> ports_of(const std::string& run, std::optional<int> wanted) {
  std::uint64_t hash = 0xcbf2'9ce4'8422'2325;  // FNV-1a
  for (const char c : run) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100'0000'01b3;
  std::vector<int> ports;
  if (wanted) ports.push_back(*wanted);
  const auto room = static_cast<std::uint64_t>(kLastPort - kFirstPort - kPorts);
  const int first = kFirstPort + static_cast<int>(hash % room);
  for (int i = 0; i < kPorts; ++i) ports.push_back(first + i);
  return ports;
}

std::optional<int> master_port(const Reader& read) {
  if (!read.has("MASTER_PORT")) return std::nullopt;
  return static_cast<int>(read.number("MASTER_PORT", 1, kLastPort));
}

// Where rank 0 of a run over several hosts is: MASTER_ADDR, or what the launcher told.
std::vector<std::string> master(const Reader& read, bool one, std::vector<std::string> told,
                                const std::string& launcher) {
  if (one) return {"127.0.0.1"};
  if (read.has("MASTER_ADDR")) return {read.text("MASTER_ADDR")};
  if (told.empty()) {
    refuse("MASTER_ADDR", "the host of rank 0, as the ranks are on several hosts", "nothing",
           launcher + " does not tell it; set it for all ranks");
  }
  return told;
}

// The addresses of mpirun in "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911" or
// "1314521088.0;tcp6://[fe80::1,2620::2]:43370".
std::vector<std::string> addresses_in(const std::string& uri) {
  std::vector<std::string> all;
  for (std::size_t at = uri.find("://"); at != std::string::npos; at = uri.find("://", at)) {
    at += 3;
    const bool bracket = at < uri.size() && uri[at] == '[';
    const std::size_t from = at + (bracket ? 1 : 0);
    const std::size_t end = std::min(uri.find(bracket ? ']' : ':', from), uri.size());
    for (std::size_t i = from; i < end;) {
      const std::size_t comma = std::min(uri.find(',', i), end);
      if (comma > i) all.push_back(uri.substr(i, comma - i));
      i = comma + 1;
    }
    at = end;
  }
  return all;
}

// The first host of "node[007-015,020],other", "node7" or "node7,node8".
std::string first_host(const std::string& list) {
  const std::size_t end = std::min(list.find_first_of(",["), list.size());
  std::string host = list.substr(0, end);
  if (end < list.size() && list[end] == '[') {
    host += list.substr(end + 1, list.find_first_of(",-]", end) - end - 1);
    // What follows the bracket belongs to each of its hosts: "node[1-2]-ib".
    const std::size_t close = std::min(list.find(']', end), list.size() - 1);
    const std::size_t next = std::min(list.find(',', close), list.size());
    host += list.substr(close + 1, next - close - 1);
  }
  return host;
}

Place from_torchrun(const Reader& read) {
  Place place;
  place.launcher = "torchrun";
  read_ranks(read, "RANK", "WORLD_SIZE", "LOCAL_RANK", place);
  const std::string address = read.needed("MASTER_ADDR", "RANK");
  read.needed("MASTER_PORT", "RANK");
  place.run = "torchrun " + read.text("TORCHELASTIC_RUN_ID") + " " +
              read.text("TORCHELASTIC_RESTART_COUNT") + " " + address + " " +
              read.text("MASTER_PORT");
  const bool one = one_host(read, "LOCAL_WORLD_SIZE", place);
  place.addresses = master(read, one, {}, place.launcher);
  const bool agent = read.has("TORCHELASTIC_RUN_ID");  // it listens at MASTER_PORT itself
  const std::optional<int> port = master_port(read);
  place.ports = ports_of(place.run, agent ? std::nullopt : port);
  return place;
}

Place from_open_mpi(const Reader& read) {
  Place place;
  place.launcher = "Open MPI";
  read_ranks(read, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
             place);
  const std::string name =
      read.first_of({"PMIX_NAMESPACE", "OMPI_MCA_orte_hnp_uri", "OMPI_MCA_ess_base_jobid"});
  place.run = "Open MPI " + read.text(name);
  const bool one = one_host(read, "OMPI_COMM_WORLD_LOCAL_SIZE", place);
  place.addresses =
      master(read, one, addresses_in(read.text("OMPI_MCA_orte_hnp_uri")), place.launcher);
  place.ports = ports_of(place.run, master_port(read));
  return place;
}

Place from_pmi(const Reader& read) {
  Place place;
  place.launcher = "PMI";
  const std::string local = read.first_of({"MPI_LOCALRANKID", "PMI_LOCAL_RANK"});
  read_ranks(read, "PMI_RANK", "PMI_SIZE", local.empty() ? "MPI_LOCALRANKID" : local, place);
  place.run = "PMI " + read.text(read.first_of({"PMI_JOBID", "SLURM_JOB_ID", "PBS_JOBID"}));
  const bool one =
      one_host(read, local == "PMI_LOCAL_RANK" ? "PMI_LOCAL_SIZE" : "MPI_LOCALNRANKS", place);
  place.addresses = master(read, one, {}, "mpiexec");
  place.ports = ports_of(place.run, master_port(read));
  return place;
}

Place from_slurm(const Reader& read) {
  Place place;
  place.launcher = "Slurm";
  read_ranks(read, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", place);
  place.run =
      "Slurm " + read.needed("SLURM_JOB_ID", "SLURM_STEP_ID") + "." + read.text("SLURM_STEP_ID");
  const bool one = place.ranks == 1 || read.text("SLURM_STEP_NUM_NODES") == "1";
  std::vector<std::string> told;
  if (read.has("SLURM_STEP_NODELIST")) told = {first_host(read.text("SLURM_STEP_NODELIST"))};
  place.addresses = master(read, one, std::move(told), place.launcher);
  place.ports = ports_of(place.run, master_port(read));
  return place;
}

bool in_srun(const Reader& read) {
  return read.has("SLURM_STEP_ID") && read.has("SLURM_PROCID") &&
         read.number("SLURM_STEP_ID", 0, 0xffff'ffff) < kSpecialSteps;
}

Place from_launcher(const Reader& read) {
  if (read.has("RANK") || read.has("LOCAL_RANK")) return from_torchrun(read);
  if (read.has("OMPI_COMM_WORLD_RANK") || read.has("OMPI_COMM_WORLD_SIZE")) {
    return from_open_mpi(read);
  }
  // srun speaks PMI too (--mpi=pmi2) and then says the same twice; but a proxy of Hydra's that srun
  // started leaves its own Slurm numbers to the ranks.
  const bool slurm = in_srun(read);
  const bool same = read.text("PMI_RANK") == read.text("SLURM_PROCID") &&
                    read.text("PMI_SIZE") == read.text("SLURM_STEP_NUM_TASKS");
  if ((read.has("PMI_RANK") || read.has("PMI_SIZE")) && !(slurm && same)) return from_pmi(read);
  if (slurm) return from_slurm(read);
  if (read.has("PMIX_RANK")) {
    refuse("PMIX_RANK", "with it the number of ranks, which PMIx does not put here",
           "'" + read.text("PMIX_RANK") + "'",
           "start with mpirun, srun or torchrun, or set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR "
           "and MASTER_PORT");
  }
  return {};
}

}  // namespace

Place place_from(const Environment& environment) {
  const Reader read(environment);
  Place place = from_launcher(read);
  // Batch scripts often set WORLD_SIZE for what they start.
  if (read.has("WORLD_SIZE") && read.number("WORLD_SIZE", 1, kMostRanks) != place.ranks) {
    refuse("WORLD_SIZE",
           place.launcher.empty()
               ? "with it RANK, LOCAL_RANK, MASTER_ADDR and MASTER_PORT"
               : std::to_string(place.ranks) + ", as " + place.launcher + " says",
           "'" + read.text("WORLD_SIZE") + "'");
  }
  return place;
}

Environment environment() {
  Environment all;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    const std::size_t equals = text.find('=');
    if (equals != std::string::npos) all[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return all;
}

}  // namespace steploom
