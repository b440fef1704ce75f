#include "models/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/models/refusal.h"

namespace steploom {
namespace {

using testing::HasSubstr;

Error::Where parse_refusal(std::string_view text, int devices = 64) {
  return refusal([&] { parse_layout(text, devices, true); });
}

TEST(Layout, ReadsKeysInAnyOrder) {
  const Layout l =
      parse_layout("sp=1, mbs=2,ep=8,recompute=full,pp=4 ,zero=0,tp=2,etp=1", 64, true);
  EXPECT_EQ(l.tp, 2);
  EXPECT_EQ(l.pp, 4);
  EXPECT_EQ(l.ep, 8);
  EXPECT_EQ(l.etp, 1);
  EXPECT_EQ(l.dp, 8);
  EXPECT_EQ(l.micro_batch, 2);
  EXPECT_TRUE(l.sp);
  EXPECT_EQ(l.zero, 0);
  EXPECT_EQ(l.recompute, Recompute::full);
}

TEST(Layout, KeysLeftOutKeepTheirDefaults) {
  Layout want;
  want.dp = 64;
  EXPECT_EQ(parse_layout("", 64, true), want);
  EXPECT_EQ(parse_layout("  ", 64, false), want);
}

TEST(Layout, ExpertsAreCutLikeTheRestUnlessSaid) {
  EXPECT_EQ(parse_layout("tp=4", 64, true).etp, 4);
  EXPECT_EQ(parse_layout("etp=2,tp=4", 64, true).etp, 2);
  EXPECT_EQ(parse_layout("tp=4", 64, false).etp, 1);  // a dense model has no experts
}

TEST(Layout, RefusesUnknownKeys) {
  EXPECT_EQ(parse_refusal("recompue=full").hint, "did you mean 'recompute'?");
  EXPECT_EQ(parse_refusal("tpp=2").hint, "did you mean 'tp'?");
  EXPECT_EQ(parse_refusal("zp=2").hint,
            "known: tp, pp, ep, etp, mbs, sp, zero, recompute, chunks, vpp, vpp_group, stages, cp, "
            "cp_comm, reshard, replicate, schedule, partition, dw, bucket, grad_micro, a2a_first, "
            "tp_overlap, dispatcher, weave, pairwise, offload, ctas");
  EXPECT_EQ(parse_refusal("dp=2").hint, "dp follows from the devices, tp, cp and pp");
  EXPECT_EQ(parse_refusal("=2").expected, "a known key");
}

TEST(Layout, Schedules) {
  const Layout l = parse_layout("pp=4,schedule=zb-h1", 4, false);
  EXPECT_EQ(l.schedule, PipelineOrder::zb_h1);
  EXPECT_THAT(to_text(l), testing::EndsWith("recompute=none,schedule=zb-h1"));
  EXPECT_EQ(short_name(l), "tp1 pp4 zero1 zb-h1");
  EXPECT_EQ(to_text(parse_layout("schedule=1f1b", 1, false)), to_text(Layout{}));
  EXPECT_EQ(parse_refusal("schedule=zb-h3").hint, "did you mean 'zb-h1'?");
}

TEST(Layout, StepsOfExchangesAndExpertsOnTheHost) {
  const Layout l = parse_layout("ep=8,offload=experts,pairwise=4", 8, true);
  EXPECT_EQ(l.pairwise, 4);
  EXPECT_EQ(l.expert_parts(), 4);
  EXPECT_EQ(l.offload, Offload::experts);
  EXPECT_THAT(to_text(l), testing::EndsWith("recompute=none,pairwise=4,offload=experts"));
  EXPECT_EQ(parse_layout(to_text(l), 8, true), l);
  EXPECT_EQ(short_name(l), "tp1 pp1 ep8 dp8 zero1 pairwise4 offloaded experts");
  EXPECT_EQ(parse_refusal("offload=expert").hint, "did you mean 'experts'?");
}

TEST(Layout, ContextParallelism) {
  const Layout l = parse_layout("tp=2,cp=4,cp_comm=a2a", 64, false);
  EXPECT_EQ(l.cp, 4);
  EXPECT_EQ(l.dp, 8);
  EXPECT_EQ(l.dp_cp(), 32);
  EXPECT_EQ(l.devices(), 64);
  EXPECT_THAT(to_text(l), testing::EndsWith("recompute=none,cp=4,cp_comm=a2a"));
  EXPECT_EQ(short_name(l), "tp2 pp1 cp4 a2a dp8 zero1");
  for (const char* text : {"cp=2", "cp=8,cp_comm=allgather,vpp=2,pp=2,ctas.cp=4"})
    EXPECT_EQ(parse_layout(to_text(parse_layout(text, 64, false)), 64, false),
              parse_layout(text, 64, false));
  EXPECT_EQ(parse_refusal("cp_comm=ring").expected, "p2p, allgather, a2a");
  EXPECT_EQ(parse_refusal("cp=3").place, "tp·cp·pp");
}

TEST(Layout, Sharding) {
  const Layout l = parse_layout("tp=2,zero=3,reshard=0,replicate=4", 64, false);
  EXPECT_EQ(l.dp_shards(), 8);
  EXPECT_THAT(to_text(l), testing::EndsWith(",zero=3,recompute=none,reshard=0,replicate=4"));
  EXPECT_EQ(parse_layout(to_text(l), 64, false), l);
  EXPECT_EQ(short_name(l), "tp2 pp1 dp32 zero3 kept x4");
}

TEST(Layout, CtasOfAllGroupsOrOfOne) {
  const Layout all = parse_layout("ctas=8", 64, true);
  for (const CommGroup g : {CommGroup::tp, CommGroup::expert_dp, CommGroup::pp_backward_in})
    EXPECT_EQ(all.ctas_of(g), 8);
  for (const char* text : {"ctas=8,ctas.pp=2", "ctas.pp=2,ctas=8"}) {
    const Layout l = parse_layout(text, 64, true);
    EXPECT_EQ(l.ctas_of(CommGroup::tp), 8) << text;
    EXPECT_EQ(l.ctas_of(CommGroup::pp_forward_in), 2) << text;
    EXPECT_EQ(l.ctas_of(CommGroup::pp_backward_out), 2) << text;
    EXPECT_EQ(parse_layout(to_text(l), 64, true), l) << to_text(l);
  }
  EXPECT_THAT(to_text(all), testing::EndsWith("recompute=none,ctas=8"));
  EXPECT_THAT(short_name(parse_layout("ctas.ep=4", 64, true)), testing::EndsWith(" ctas.ep=4"));
  EXPECT_EQ(to_text(Layout{}).find("ctas"), std::string::npos);
  EXPECT_EQ(parse_refusal("ctas=0").expected, "an integer from 1 to 1024");
  EXPECT_EQ(parse_refusal("ctas.dp=4,ctas.dp=4").expected, "each key once");
  EXPECT_EQ(parse_refusal("ctas.dpp=4").hint, "did you mean 'ctas.dp'?");
}

TEST(Layout, ChunksAreNamedWhereThereAreSeveral) {
  const Layout l = parse_layout("ep=8,chunks=4,ctas=8", 64, true);
  EXPECT_EQ(l.chunks, 4);
  EXPECT_EQ(parse_layout(to_text(l), 64, true), l);
  EXPECT_THAT(to_text(l), testing::EndsWith("recompute=none,chunks=4,ctas=8"));
  EXPECT_THAT(short_name(l), HasSubstr(" chunks4"));
  EXPECT_EQ(to_text(Layout{}).find("chunks"), std::string::npos);
  EXPECT_EQ(short_name(Layout{}).find("chunks"), std::string::npos);
  const auto bad = parse_refusal("ep=8,chunks=0");
  EXPECT_EQ(bad.place, "chunks");
  EXPECT_EQ(bad.expected, "an integer from 1 to 1000000");
  EXPECT_EQ(parse_refusal("chunk=2").hint, "did you mean 'chunks'?");
}

TEST(Layout, GradientsAreNamedWhereTheyDiffer) {
  const Layout l =
      parse_layout("ep=8,dw=solved,bucket=10000000,grad_micro=30000000,a2a_first=1", 64, true);
  EXPECT_EQ(l.dw, WeightPlacement::solved);
  EXPECT_EQ(l.bucket, 10'000'000);
  EXPECT_EQ(l.grad_micro, 30'000'000);
  EXPECT_TRUE(l.a2a_first);
  EXPECT_EQ(parse_layout(to_text(l), 64, true), l);
  EXPECT_THAT(short_name(l),
              HasSubstr(" dw=solved bucket=10000000 grad_micro=30000000 a2a_first=1"));
  for (const char* key : {"dw", "bucket", "grad_micro", "a2a_first"})
    EXPECT_EQ(to_text(Layout{}).find(key), std::string::npos) << key;
  EXPECT_EQ(parse_layout("dw=none", 8, true), parse_layout("", 8, true));
  const auto bad = parse_refusal("dw=lancett");
  EXPECT_EQ(bad.expected, "none, lancet, solved");
  EXPECT_EQ(bad.hint, "did you mean 'lancet'?");
  EXPECT_EQ(parse_refusal("a2a_first=2").expected, "an integer from 0 to 1");
  EXPECT_EQ(parse_refusal("bucket=-1").place, "bucket");
  EXPECT_EQ(parse_refusal("grad_mirco=1").hint, "did you mean 'grad_micro'?");
}

TEST(Layout, OverlapInsideTensorParallelism) {
  const Layout l = parse_layout("tp=4,sp=1,tp_overlap=1", 8, false);
  EXPECT_TRUE(l.tp_overlap);
  EXPECT_EQ(parse_layout(to_text(l), 8, false), l);
  EXPECT_THAT(to_text(l), testing::EndsWith(",tp_overlap=1"));
  EXPECT_THAT(short_name(l), HasSubstr(" sp tp-overlap"));
  EXPECT_EQ(parse_refusal("tp=4,tp_overlap=2").place, "tp_overlap");
  EXPECT_EQ(parse_refusal("tp-overlap=1").hint, "did you mean 'tp_overlap'?");
}

TEST(Layout, RefusesBadItems) {
  EXPECT_EQ(parse_refusal("tp=2,tp=2").expected, "each key once");
  EXPECT_EQ(parse_refusal("tp").expected, "key=value");
  EXPECT_EQ(parse_refusal("tp=2,,pp=2").expected, "key=value");
  EXPECT_EQ(parse_refusal("tp=2,").expected, "key=value after the last comma");
  EXPECT_THAT(parse_refusal("recompute=some").expected, testing::StartsWith("none, full, "));
}

TEST(Layout, RefusesBadNumbers) {
  for (const char* value :
       {"0", "-1", "1000001", "9223372036854775808", "2.0", "0x2", "two", "", "+2", "2 2", "1e3"}) {
    const auto where = parse_refusal(std::string("tp=") + value);
    EXPECT_EQ(where.place, "tp") << value;
    EXPECT_EQ(where.expected, "an integer from 1 to 1000000") << value;
    EXPECT_THAT(where.found, HasSubstr(value));
  }
  EXPECT_EQ(parse_refusal("sp=2").expected, "an integer from 0 to 1");
  EXPECT_EQ(parse_refusal("zero=4").expected, "an integer from 0 to 3");
}

TEST(Layout, RefusesDegreesThatDoNotDivideTheDevices) {
  EXPECT_EQ(parse_refusal("tp=3").expected, "a divisor of the 64 devices");
  EXPECT_EQ(parse_refusal("tp=16,pp=8").found, "128");
  EXPECT_EQ(parse_refusal("tp=1000000,pp=1000000").found, "1000000000000");
  EXPECT_EQ(parse_refusal("", 0).expected, "a divisor of the 0 devices");
}

Layout random_layout(std::mt19937& random) {
  const auto degree = [&random] { return 1 << (random() % 5); };
  Layout l;
  l.tp = degree();
  l.pp = degree();
  l.dp = degree();
  l.ep = degree();
  l.etp = degree();
  l.micro_batch = degree();
  l.zero = static_cast<int>(random() % 2);
  l.sp = random() % 2 == 1;
  l.recompute = random() % 2 == 1 ? Recompute::full : Recompute::none;
  return l;
}

TEST(Layout, TextReadsBackAsTheSameLayout) {
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    const Layout l = random_layout(random);
    EXPECT_EQ(parse_layout(to_text(l), l.devices(), random() % 2 == 1), l) << to_text(l);
  }
  EXPECT_EQ(to_text(Layout{}), "tp=1,pp=1,ep=1,etp=1,mbs=1,sp=0,zero=1,recompute=none");
}

TEST(Layout, ShortNamesLeaveOutDegreesOfOne) {
  Layout l;
  EXPECT_EQ(short_name(l), "tp1 pp1 zero1");
  l.pp = 4;
  l.ep = 8;
  l.dp = 16;
  EXPECT_EQ(short_name(l), "tp1 pp4 ep8 dp16 zero1");
  l.sp = true;
  l.micro_batch = 2;
  l.zero = 0;
  l.recompute = Recompute::full;
  EXPECT_EQ(short_name(l), "tp1 pp4 ep8 dp16 zero0 sp");
}

TEST(Layout, ShortNameMicroBatchAndRecomputeTellLayoutsApart) {
  std::mt19937 random(2);
  std::set<Layout> layouts;
  std::set<std::string> names;
  for (int i = 0; i < 2000; ++i) {
    const Layout l = random_layout(random);
    layouts.insert(l);
    names.insert(short_name(l) + " " + std::to_string(l.micro_batch) +
                 std::string(name_of(l.recompute)));
  }
  EXPECT_EQ(names.size(), layouts.size());
}

TEST(Layout, ExpertsFoldOverTensorAndDataParallelism) {
  const Layout l = parse_layout("tp=2,pp=2,ep=8,etp=1", 64, true);
  EXPECT_EQ(l.devices(), 64);
  EXPECT_EQ(l.dp, 16);
  EXPECT_EQ(l.expert_dp(), 4);
  EXPECT_EQ(l.micro_batches(256), 16);
}

}  // namespace
}  // namespace steploom
