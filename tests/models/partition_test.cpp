// The partition of a forward pass as text, and parts of operators.
#include "models/partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/error.h"
#include "models/layout.h"
#include "models/routing.h"
#include "models/shapes.h"

namespace steploom {
namespace {

using testing::HasSubstr;

std::string refusal(const char* text) {
  try {
    parse_partition(text);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Partition, TextIsReadBack) {
  for (const char* text : {"4:gate:layer", "2:attention:attention", "8:dispatch:combine",
                           "3:permute:layer", "lancet:8"})
    EXPECT_EQ(to_text(parse_partition(text)), text);
  const Layout l = parse_layout("ep=8,mbs=4,partition=4:gate:layer", 8, true);
  EXPECT_EQ(l.partition.parts, 4);
  EXPECT_EQ(l.partition.from, PartFrom::gate);
  EXPECT_EQ(l.partition.to, PartTo::layer);
  EXPECT_EQ(parse_layout(to_text(l), 8, true), l);
  EXPECT_THAT(short_name(l), HasSubstr(" parts 4:gate:layer"));
  EXPECT_EQ(to_text(Layout{}).find("partition"), std::string::npos);
}

TEST(Partition, SaysWhatIsWrong) {
  EXPECT_THAT(refusal("4"), HasSubstr("PARTS:FROM:TO"));
  EXPECT_THAT(refusal("4:gate"), HasSubstr("PARTS:FROM:TO"));
  EXPECT_THAT(refusal("1:gate:layer"), HasSubstr("from 2 to 64"));
  EXPECT_THAT(refusal("lancet:65"), HasSubstr("from 2 to 64"));
  EXPECT_THAT(refusal("4:gte:layer"), HasSubstr("did you mean 'gate'?"));
  EXPECT_THAT(refusal("4:gate:lyer"), HasSubstr("did you mean 'layer'?"));
  EXPECT_THAT(refusal("4:gate:combine"), HasSubstr("dispatch:combine"));
  EXPECT_THAT(refusal("4:dispatch:layer"), HasSubstr("dispatch:combine"));
}

TEST(Gate, TextIsReadBack) {
  const Routing r = parse_routing("balanced,gate=batch-prioritised", "test");
  EXPECT_EQ(r.gate, Gate::batch_prioritised);
  EXPECT_FALSE(decides_on_parts(r.gate));
  EXPECT_FALSE(r.uneven());
  EXPECT_EQ(to_text(r), "balanced,gate=batch-prioritised");
  EXPECT_EQ(parse_routing("power-law:1.2,capacity=1.25,gate=switch", "test").gate,
            Gate::switch_gate);
  try {
    parse_routing("balanced,gate=swich", "test");
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("did you mean 'switch'?"));
  }
}

// So many equal parts joined are the whole, and the weights are read by each.
TEST(Parts, JoinedAreTheWhole) {
  AttentionShape a;
  a.sequence = 512;
  a.sequences = 8;
  a.heads = a.kv_heads = 12;
  a.head_dim = a.v_head_dim = 64;
  for (const Work& whole :
       {product(Phase::forward, Precision::bf16, 4096, 768, 3072),
        product(Phase::forward, Precision::fp8, 4096, 768, 3072),
        grouped_product(Phase::forward, Precision::fp32, 2, 4096, 768, 3072),
        batched_product(Phase::forward, Precision::bf16, 96, 96 * 512, 512, 64),
        causal_attention(Phase::forward, Precision::bf16, a),
        streaming(OpKind::norm, Phase::forward, Precision::bf16, 4096, 768, 4 * 4096 * 768),
        communication(OpKind::all_to_all, Phase::forward, 1 << 20)}) {
    const Work part = part_of(whole, 4);
    const Work again = joined(part, 4);
    EXPECT_EQ(again.m, whole.m) << name_of(whole.kind);
    EXPECT_EQ(again.n, whole.n) << name_of(whole.kind);
    EXPECT_EQ(again.groups, whole.groups) << name_of(whole.kind);
    EXPECT_EQ(again.bytes, whole.bytes) << name_of(whole.kind);
    EXPECT_DOUBLE_EQ(again.flops, whole.flops) << name_of(whole.kind);
    EXPECT_EQ(rows_to_cut(part) * 4, rows_to_cut(whole)) << name_of(whole.kind);
  }
  const Work whole = product(Phase::forward, Precision::bf16, 4096, 768, 3072);
  const Work part = product(Phase::forward, Precision::bf16, 1024, 768, 3072);
  EXPECT_EQ(part_of(whole, 4).bytes, part.bytes);
  EXPECT_DOUBLE_EQ(part_of(whole, 4).flops, part.flops);
}

}  // namespace
}  // namespace steploom
