#include "profiler/place.h"

#include <gmock/gmock.h>

#include "models/error.h"

namespace steploom {
namespace {

using ::testing::HasSubstr;

struct Case {
  const char* name;
  Environment environment;
  const char* launcher;
  int rank, ranks, local_rank;
  std::vector<std::string> addresses;
  int first_port = 0;  // 0: one derived from the run's name
};

const Environment kTorchrun{{"RANK", "5"},
                            {"WORLD_SIZE", "8"},
                            {"LOCAL_RANK", "1"},
                            {"GROUP_RANK", "1"},
                            {"LOCAL_WORLD_SIZE", "4"},
                            {"MASTER_ADDR", "node7"},
                            {"MASTER_PORT", "29500"},
                            {"TORCHELASTIC_RUN_ID", "none"}};
const Environment kOpenMpi{
    {"OMPI_COMM_WORLD_RANK", "1"},
    {"OMPI_COMM_WORLD_SIZE", "2"},
    {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
    {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
    {"OMPI_MCA_orte_hnp_uri", "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911"},
    {"PMIX_NAMESPACE", "1531576321"},
    {"PMIX_RANK", "1"}};
const Environment kHydra{
    {"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "2"}};
const Environment kSrun{{"SLURM_JOB_ID", "4711"},
                        {"SLURM_STEP_ID", "2"},
                        {"SLURM_PROCID", "9"},
                        {"SLURM_NTASKS", "64"},
                        {"SLURM_STEP_NUM_TASKS", "16"},
                        {"SLURM_STEP_NUM_NODES", "2"},
                        {"SLURM_LOCALID", "1"},
                        {"SLURM_STEP_NODELIST", "gpu[007-008]"},
                        {"SLURM_LAUNCH_NODE_IPADDR", "10.0.0.1"}};

Environment with(Environment environment, const Environment& more) {
  for (const auto& [name, value] : more) environment[name] = value;
  return environment;
}

Environment without(Environment environment, const char* name) {
  environment.erase(name);
  return environment;
}

TEST(Place, IsReadFromEachLauncher) {
  const std::vector<Case> cases{
      {"nothing", {{"PATH", "/bin"}}, "", 0, 1, 0, {}, 0},
      {"torchrun", kTorchrun, "torchrun", 5, 8, 1, {"node7"}, 0},
      {"torchrun, one host",
       with(kTorchrun, {{"LOCAL_WORLD_SIZE", "8"}}),
       "torchrun",
       5,
       8,
       1,
       {"127.0.0.1"},
       0},
      {"set by hand",
       without(kTorchrun, "TORCHELASTIC_RUN_ID"),
       "torchrun",
       5,
       8,
       1,
       {"node7"},
       29500},
      {"mpirun, one host", kOpenMpi, "Open MPI", 1, 2, 1, {"127.0.0.1"}, 0},
      {"mpirun, two hosts",
       with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "0"}}),
       "Open MPI",
       1,
       2,
       0,
       {"10.96.0.1", "10.148.0.1"},
       0},
      {"mpirun, IPv6",
       with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "1"},
                       {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                       {"OMPI_MCA_orte_hnp_uri", "13.0;tcp6://[fe80::b9b,2620:10d::2]:43370"}}),
       "Open MPI",
       1,
       2,
       0,
       {"fe80::b9b", "2620:10d::2"},
       0},
      {"mpirun, told where",
       with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "1"},
                       {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                       {"MASTER_ADDR", "node3"},
                       {"MASTER_PORT", "5000"}}),
       "Open MPI",
       1,
       2,
       0,
       {"node3"},
       5000},
      {"mpiexec of MPICH", kHydra, "PMI", 1, 2, 1, {"127.0.0.1"}, 0},
      {"Cray",
       {{"PMI_RANK", "4"},
        {"PMI_SIZE", "8"},
        {"PMI_LOCAL_RANK", "0"},
        {"PMI_LOCAL_SIZE", "4"},
        {"MASTER_ADDR", "x1000"}},
       "PMI",
       4,
       8,
       0,
       {"x1000"},
       0},
      {"srun", kSrun, "Slurm", 9, 16, 1, {"gpu007"}, 0},
      {"srun --mpi=pmi2",
       with(kSrun, {{"PMI_RANK", "9"}, {"PMI_SIZE", "16"}}),
       "Slurm",
       9,
       16,
       1,
       {"gpu007"},
       0},
      {"srun --mpi=pmix", with(kSrun, {{"PMIX_RANK", "9"}}), "Slurm", 9, 16, 1, {"gpu007"}, 0},
      {"srun, one host",
       with(kSrun, {{"SLURM_STEP_NUM_NODES", "1"}}),
       "Slurm",
       9,
       16,
       1,
       {"127.0.0.1"},
       0},
      {"srun, hosts with a tail",
       with(kSrun, {{"SLURM_STEP_NODELIST", "a[3,5-9]-ib,b1"}}),
       "Slurm",
       9,
       16,
       1,
       {"a3-ib"},
       0},
      {"srun, plain hosts",
       with(kSrun, {{"SLURM_STEP_NODELIST", "n1,n2"}}),
       "Slurm",
       9,
       16,
       1,
       {"n1"},
       0},
      {"batch script",
       {{"SLURM_JOB_ID", "4711"}, {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "16"}},
       "",
       0,
       1,
       0,
       {},
       0},
      {"salloc's shell",
       with(kSrun, {{"SLURM_STEP_ID", "4294967290"}, {"SLURM_PROCID", "0"}}),
       "",
       0,
       1,
       0,
       {},
       0},
      {"mpirun in a Slurm job", with(kSrun, kOpenMpi), "Open MPI", 1, 2, 1, {"127.0.0.1"}, 0},
      {"mpiexec of MPICH, its proxies started by srun",
       with(with(kSrun, {{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}}), kHydra),
       "PMI",
       1,
       2,
       1,
       {"127.0.0.1"},
       0},
      {"torchrun started by srun", with(kSrun, kTorchrun), "torchrun", 5, 8, 1, {"node7"}, 0},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.name);
    const Place place = place_from(one.environment);
    EXPECT_EQ(place.launcher, one.launcher);
    EXPECT_EQ(place.rank, one.rank);
    EXPECT_EQ(place.ranks, one.ranks);
    EXPECT_EQ(place.local_rank, one.local_rank);
    EXPECT_EQ(place.addresses, one.addresses);
    if (place.launcher.empty()) continue;
    ASSERT_GE(place.ports.size(), static_cast<std::size_t>(kPorts));
    if (one.first_port != 0) {
      EXPECT_EQ(place.ports.front(), one.first_port);
    }
    EXPECT_GE(place.ports.back(), 61000);
    EXPECT_LE(place.ports.back(), 65535);
  }
}

TEST(Place, ARunsRanksAgreeAndOtherRunsDiffer) {
  const Place one = place_from(kSrun);
  const Place other_rank = place_from(with(kSrun, {{"SLURM_PROCID", "3"}}));
  EXPECT_EQ(one.run, other_rank.run);
  EXPECT_EQ(one.ports, other_rank.ports);
  EXPECT_NE(one.run, place_from(with(kSrun, {{"SLURM_STEP_ID", "3"}})).run);
  EXPECT_NE(place_from(kOpenMpi).run, place_from(with(kOpenMpi, {{"PMIX_NAMESPACE", "7"}})).run);
  EXPECT_NE(place_from(kTorchrun).run,
            place_from(with(kTorchrun, {{"TORCHELASTIC_RESTART_COUNT", "1"}})).run);
}

struct Refused {
  Environment environment;
  const char* place;
  const char* says;
};

TEST(Place, HalfSetOrContradictingIsRefused) {
  const std::vector<Refused> cases{
      {without(kTorchrun, "WORLD_SIZE"), "WORLD_SIZE", "as RANK is"},
      {without(kTorchrun, "RANK"), "RANK", "as WORLD_SIZE is"},
      {without(kTorchrun, "LOCAL_RANK"), "LOCAL_RANK", "nothing"},
      {without(kTorchrun, "MASTER_ADDR"), "MASTER_ADDR", "nothing"},
      {without(kTorchrun, "MASTER_PORT"), "MASTER_PORT", "nothing"},
      {with(kTorchrun, {{"RANK", "8"}}), "RANK", "less than WORLD_SIZE (8)"},
      {with(kTorchrun, {{"RANK", "five"}}), "RANK", "'five'"},
      {with(kTorchrun, {{"RANK", "-1"}}), "RANK", "'-1'"},
      {with(kTorchrun, {{"LOCAL_RANK", "6"}}), "LOCAL_RANK", "at most RANK (5)"},
      {with(kTorchrun, {{"LOCAL_RANK", "5"}}), "LOCAL_WORLD_SIZE", "found 4"},
      {with(without(kTorchrun, "TORCHELASTIC_RUN_ID"), {{"MASTER_PORT", "70000"}}), "MASTER_PORT",
       "'70000'"},
      {{{"WORLD_SIZE", "4"}}, "WORLD_SIZE", "with it RANK"},
      {with(kOpenMpi, {{"WORLD_SIZE", "4"}}), "WORLD_SIZE", "2, as Open MPI says"},
      {without(kOpenMpi, "OMPI_COMM_WORLD_SIZE"), "OMPI_COMM_WORLD_SIZE", "nothing"},
      {without(kHydra, "MPI_LOCALRANKID"), "MPI_LOCALRANKID", "nothing"},
      {without(kHydra, "MPI_LOCALNRANKS"), "MASTER_ADDR", "several hosts"},
      {without(kSrun, "SLURM_LOCALID"), "SLURM_LOCALID", "nothing"},
      {without(kSrun, "SLURM_STEP_NODELIST"), "MASTER_ADDR", "several hosts"},
      {{{"PMIX_RANK", "1"}}, "PMIX_RANK", "the number of ranks"},
  };
  for (const Refused& one : cases) {
    SCOPED_TRACE(std::string(one.place) + ": " + one.says);
    try {
      place_from(one.environment);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.where().place, one.place);
      EXPECT_EQ(error.status(), ExitStatus::refused);
      EXPECT_THAT(error.what(), HasSubstr(one.says));
    }
  }
}

}  // namespace
}  // namespace steploom
