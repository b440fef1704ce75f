// Place: which rank of which run this process is, as whoever started it says in the environment.
//
// Known launchers, the first that shows wins:
//   torchrun   RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT (or the same set by hand)
//   Open MPI   OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE
//   PMI        PMI_RANK, PMI_SIZE with MPI_LOCALRANKID, MPI_LOCALNRANKS (MPICH's and Intel's Hydra)
//              or PMI_LOCAL_RANK, PMI_LOCAL_SIZE (Cray)
//   Slurm      SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID in a step that srun started
// None of them: one process alone. Half of a set, or numbers that contradict each other, are
// refused with an Error.
//
// Where rank 0 listens: at 127.0.0.1 if all ranks are on one host. Else at MASTER_ADDR if that is
// set; else at what the launcher tells: the host of mpirun (Open MPI 4's OMPI_MCA_orte_hnp_uri),
// the first host of SLURM_STEP_NODELIST. The port is MASTER_PORT, except under torchrun, whose own
// agent listens there; else, and if that port is taken, one of kPorts derived from the name of the
// run, above Linux's ephemeral ports. Hydra gives a run no name: two at a time on one host need
// their own MASTER_PORT.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace steploom {

inline constexpr int kPorts = 8;  // derived from a run's name

struct Place {
  std::string launcher;  // empty: alone
  int rank = 0;
  int ranks = 1;
  int local_rank = 0;                  // on this host
  std::vector<std::string> addresses;  // of rank 0, tried in turn: names or numbers
  std::vector<int> ports;              // likewise
  std::string run;                     // the same for all ranks of a run, another for another run
  int listener = -1;                   // a socket that listens already (fork_local.h)
};

using Environment = std::map<std::string, std::string>;

Place place_from(const Environment& environment);

// Of this process.
Environment environment();

}  // namespace steploom
