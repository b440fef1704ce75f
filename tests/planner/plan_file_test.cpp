#include "planner/plan_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "models/error.h"
#include "models/flops.h"
#include "models/parameters.h"
#include "planner/make_plan.h"
#include "tests/planner/planning.h"
#include "tests/temp_folder.h"

namespace steploom {
namespace {

namespace fs = std::filesystem;

class PlanFile : public ::testing::Test {
 protected:
  const TempFolder own_;
  const fs::path file_ = own_ / "plan.json";
};

// What is read is what was written, for every family's shape of model.
TEST_F(PlanFile, RoundTrips) {
  for (const char* model : {"gpt2", "llama-3.1-8b", "mixtral-8x7b"}) {
    if (kOneIn > 1 && model != std::string("gpt2")) continue;
    const World world(model, model == std::string("mixtral-8x7b") ? 4 : 1, 1024, 64);
    const Plan plan = make_plan(world.setting, world.profile, PlanOptions{});
    save_plan(plan, file_);
    const Plan read = load_plan(file_);
    EXPECT_EQ(to_json(read), to_json(plan)) << model;
    EXPECT_EQ(read.cluster.fabric, "nvlink");
    EXPECT_EQ(read.rows.front().layout, plan.rows.front().layout);
  }
  for (const char* model : {"deepseek-v3", "deepseek-v3-mtp", "opt-350m", "gpt-oss-20b",
                            "llama4-scout", "qwen1.5-moe-a2.7b"}) {
    World deep(model, 256, 4096, 2048);
    Plan plan;
    plan.model = deep.model;
    plan.work.precision = Precision::fp8_block;
    plan.work.optimizer = Optimizer::sgd;
    plan.cluster = deep.cluster;
    plan.runtime = "megatron-core";
    save_plan(plan, file_);
    const Plan read = load_plan(file_);
    EXPECT_EQ(to_json(read), to_json(plan));
    EXPECT_EQ(read.work.precision, Precision::fp8_block);
    EXPECT_EQ(read.work.optimizer, Optimizer::sgd);
    EXPECT_EQ(read.model.notes, deep.model.notes);
    // Nothing that shapes a step is lost.
    EXPECT_EQ(model_flops(read.model, deep.work), model_flops(deep.model, deep.work)) << model;
    EXPECT_EQ(count_parameters(read.model).total, count_parameters(deep.model).total) << model;
  }
}

TEST_F(PlanFile, HoldsWhatWasMeasured) {
  const World world("gpt2", 1, 1024, 8);
  Plan plan;
  plan.model = world.model;
  plan.cluster = world.cluster;
  plan.runtime = "megatron-core";
  EXPECT_EQ(to_json(plan).find("measured"), std::string::npos);
  plan.measured = {world.layout("tp=2,pp=2"), 900, 1000};
  save_plan(plan, file_);
  const Plan read = load_plan(file_);
  EXPECT_EQ(to_json(read), to_json(plan));
  EXPECT_EQ(read.measured->layout, plan.measured->layout);
  EXPECT_DOUBLE_EQ(read.measured->error(), -0.1);
}

TEST_F(PlanFile, HoldsTheCalibration) {
  const World world("gpt2", 1, 1024, 8);
  Calibration c{"rank0.json.gz", "00ff", 7'000'000, 6'000'000, {}, 6000, 7500};
  c.classes[0] = {1000, 1300};
  const CostModel costs(world.profile, world.cluster, &c);
  Setting setting = {world.model,   world.work, world.setting.runtime,
                     world.cluster, costs,      &world.contention};
  const Plan plan = make_plan(setting, world.profile, PlanOptions{1, 1, 0, {}});
  ASSERT_TRUE(plan.calibration);
  save_plan(plan, file_);
  const Plan read = load_plan(file_);
  EXPECT_EQ(to_json(read), to_json(plan));
  EXPECT_EQ(read.calibration->classes[0].measured, 1300);
  EXPECT_EQ(read.calibration->launch, 7500);

  // It was fitted against one profile: another is refused even when rebased.
  EXPECT_NO_THROW(check_digests(read, plan.profile_digest, true, "p.json"));
  EXPECT_THROW(check_digests(read, "another", true, "p.json"), Error);

  c.classes[0].measured = 2001;
  Plan far = plan;
  far.calibration = c;
  save_plan(far, file_);
  EXPECT_THROW(load_plan(file_), Error);
}

TEST_F(PlanFile, HoldsTheFabric) {
  World world("gpt2", 1, 1024, 8);
  world.cluster.fabric = "sockets";
  Plan plan;
  plan.model = world.model;
  plan.cluster = world.cluster;
  plan.runtime = "megatron-core";
  save_plan(plan, file_);
  EXPECT_EQ(load_plan(file_).cluster.fabric, "sockets");
  plan.cluster.fabric = "soket";
  save_plan(plan, file_);
  EXPECT_THROW(load_plan(file_), Error);
}

// Written where it says something, so that other plans are as they were.
TEST_F(PlanFile, HoldsTheNvlinkDomain) {
  World world("gpt2", 36, 1024, 144, "megatron-core", "gb200");
  Plan plan;
  plan.model = world.model;
  plan.cluster = world.cluster;
  plan.runtime = "megatron-core";
  save_plan(plan, file_);
  EXPECT_EQ(load_plan(file_).cluster.nodes_per_domain, 18);
  plan.cluster.nodes_per_domain = 1;
  EXPECT_EQ(to_json(plan).find("nodes_per_domain"), std::string::npos);
}

TEST_F(PlanFile, HoldsPeaksWhereThePrecisionNeedsThem) {
  World world("gpt2", 1, 1024, 8);
  Plan plan;
  plan.model = world.model;
  plan.cluster = world.cluster;
  plan.runtime = "megatron-core";
  EXPECT_EQ(to_json(plan).find(kPeaksKey), std::string::npos);
  plan.work.precision = Precision::fp8;
  save_plan(plan, file_);
  EXPECT_EQ(load_plan(file_).cluster.device.peak_of, plan.cluster.device.peak_of);
  EXPECT_GT(plan.cluster.device.peak_of[static_cast<std::size_t>(Precision::fp8)], 0);
}

TEST_F(PlanFile, CountsAddUp) {
  const World world(small_moe(4), 1, 1024, 16);
  const Plan p = make_plan(world.setting, world.profile, PlanOptions{});
  const SearchCounts& c = p.searched;
  EXPECT_EQ(c.enumerated,
            c.refused_total() + c.out_of_memory + c.pruned_bound + c.pruned_relaxed + c.replayed);
  EXPECT_GT(p.fitted_share, 0);
  EXPECT_LT(p.fitted_share, 1);
  for (std::size_t i = 1; i < p.rows.size(); ++i) EXPECT_LE(p.rows[i - 1].step, p.rows[i].step);
  double stays = 0;
  for (const PlanRow& r : p.rows) stays += r.stays_best;
  EXPECT_NEAR(stays, 1, 1e-9);
}

TEST_F(PlanFile, AnotherProfileOrEngineIsRefused) {
  Plan plan;
  plan.profile_digest = "aaaa";
  plan.engine = "bbbb";
  EXPECT_THROW(check_digests(plan, "cccc", false, "p.json"), Error);
  EXPECT_THROW(check_digests(plan, "aaaa", false, "p.json"), Error);  // the engine's
  EXPECT_NO_THROW(check_digests(plan, "cccc", true, "p.json"));
}

TEST_F(PlanFile, AFileThatIsNoPlanIsRefused) {
  for (const char* text : {"[]", "{}", "{\"steploom_plan\": 2}", "{\"steploom_plan\": \"1\"}"}) {
    std::ofstream(file_) << text;
    EXPECT_THROW(load_plan(file_), Error) << text;
  }
}

}  // namespace
}  // namespace steploom
