// The model and the layout that a run's flags describe.
#include "models/from_megatron.h"

#include <gmock/gmock.h>

#include "models/config_reader.h"
#include "models/error.h"
#include "models/layout_rules.h"
#include "models/parameters.h"

namespace steploom {
namespace {

using testing::HasSubstr;

MegatronQuestion read(std::string_view text) {
  return from_megatron(parse_megatron_shell(text, "run.sh"), "run");
}

MegatronQuestion example(const std::string& name) {
  return from_megatron(load_megatron_args(STEPLOOM_SOURCE_DIR "/examples/megatron/" + name), name);
}

constexpr const char* kSmall =
    "--num-layers 4 --hidden-size 512 --num-attention-heads 8 --seq-length 1024 --vocab-size 1000 "
    "--micro-batch-size 2 --global-batch-size 64 --bf16 ";

std::string refusal(const std::string& more) {
  try {
    (void)read(kSmall + more);
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

TEST(FromMegatron, MixtralIsTheShippedMixtral) {
  const MegatronQuestion q = example("mixtral-8x7b.yaml");
  const ModelSpec shipped = load_model("mixtral-8x7b");
  EXPECT_EQ(count_parameters(q.model).total, count_parameters(shipped).total);
  EXPECT_EQ(count_parameters(q.model).active, count_parameters(shipped).active);
  EXPECT_EQ(q.layout, "tp=1,pp=4,mbs=1,sp=0,zero=1,replicate=2,ep=8,etp=1,recompute=none");
  EXPECT_TRUE(q.runtime.overlap_grad_reduce);
  EXPECT_THAT(q.not_modelled, testing::Contains("--moe-permute-fusion"));
}

TEST(FromMegatron, DenseDefaultsAreMegatrons) {
  const MegatronQuestion q = read(kSmall);
  EXPECT_EQ(q.model.dense.width, 4 * 512);
  EXPECT_FALSE(q.model.dense.gated);
  EXPECT_TRUE(q.model.dense.bias);
  EXPECT_TRUE(q.model.tied_embeddings);
  EXPECT_TRUE(q.model.learned_positions);
  EXPECT_TRUE(q.model.norm_bias);
  EXPECT_EQ(q.model.vocab, 1000);  // the builder pads it to 1024, as Megatron does
  EXPECT_FALSE(q.runtime.overlap_grad_reduce);
  const std::string by_64 = std::string(kSmall) + "--make-vocab-size-divisible-by 64 ";
  EXPECT_EQ(read(by_64).model.vocab, 1000);  // 1024 too
  EXPECT_EQ(read(by_64 + "--tensor-model-parallel-size 2 --vocab-size 1030").model.vocab, 1152);
  EXPECT_EQ(read(std::string(kSmall) + "--padded-vocab-size 1024").model.vocab, 1000);
  EXPECT_EQ(read(std::string(kSmall) + "--padded-vocab-size 1032").model.vocab, 1032);
  // int(4 · 512 · 2/3 / 64) · 64
  EXPECT_EQ(read(std::string(kSmall) + "--swiglu").model.dense.width, 1344);
}

TEST(FromMegatron, ExpertLayers) {
  using L = std::vector<bool>;
  EXPECT_EQ(expert_layers("2", 5, 100), (L{true, false, true, false, true}));
  EXPECT_EQ(expert_layers("([0]*2+[1]*3)", 5, 100), (L{false, false, true, true, true}));
  EXPECT_EQ(expert_layers("[0,1]*2 + [1]", 5, 100), (L{false, true, false, true, true}));
  EXPECT_TRUE(expert_layers("[0", 5, 100).empty());
  EXPECT_TRUE(expert_layers("[2]*5", 5, 100).empty());
  EXPECT_TRUE(expert_layers("0", 5, 100).empty());
  EXPECT_TRUE(expert_layers("[1]*1000000000000", 5, 100).empty());
  EXPECT_TRUE(expert_layers(std::string(100000, '('), 5, 100).empty());
}

TEST(FromMegatron, PrecisionsOptimizerAndPrediction) {
  EXPECT_EQ(read(kSmall).work.precision, Precision::bf16);
  const MegatronQuestion q =
      read(std::string(kSmall) + "--fp8-format e4m3 --fp8-recipe blockwise --optimizer sgd");
  EXPECT_EQ(q.work.precision, Precision::fp8_block);
  EXPECT_EQ(q.work.optimizer, Optimizer::sgd);
  EXPECT_EQ(read(std::string(kSmall) + "--mtp-num-layers 2").model.mtp_modules, 2);
}

TEST(FromMegatron, EveryExampleIsReadOrRefusedForAReason) {
  EXPECT_EQ(example("dense-7b.sh").layout, "tp=4,pp=1,mbs=1,sp=1,zero=1,recompute=none");
  EXPECT_EQ(example("dense-70b.sh").layout,
            "tp=8,pp=4,mbs=1,sp=1,zero=1,tp_overlap=1,recompute=full");
  EXPECT_EQ(example("gpt-175b-line.sh").layout,
            "tp=8,pp=8,mbs=1,sp=1,zero=0,vpp=3,recompute=selective:core_attn+layernorm+moe_act");
  EXPECT_EQ(example("uneven-pipeline.yaml").layout,
            "tp=1,pp=4,mbs=2,sp=0,zero=0,stages=Et*11|t*12|t*12|t*11L,recompute=none");
  const MegatronQuestion deepseek = example("deepseek-v3.yaml");
  const Layout asked = parse_layout(deepseek.layout, 1024, true);
  EXPECT_FALSE(refuse({deepseek.model, deepseek.work, asked, 1024, &deepseek.runtime, 8}));
  EXPECT_EQ(deepseek.layout,
            "tp=1,pp=8,mbs=1,sp=0,zero=1,ep=64,etp=1,vpp=4,stages=Et|(tt|)*30L,dispatcher=deepep,"
            "ctas.ep=20,weave=1,recompute=selective:mlp+mla_up_proj");
  EXPECT_EQ(example("dense-70b.sh").work.global_batch, 512);
  EXPECT_EQ(example("moe-capacity.sh").model.layer_is_moe[1], false);
  EXPECT_THAT(example("moe-capacity.sh").notes, testing::ElementsAre(HasSubstr("line 12")));
}

TEST(FromMegatron, ContextParallelism) {
  const std::string two = std::string(kSmall) + "--context-parallel-size 2 ";
  EXPECT_EQ(read(two).layout, "tp=1,pp=1,mbs=2,sp=0,zero=0,cp=2,recompute=none");
  EXPECT_EQ(read(two + "--cp-comm-type all_gather").layout,
            "tp=1,pp=1,mbs=2,sp=0,zero=0,cp=2,cp_comm=allgather,recompute=none");
  EXPECT_EQ(read(two + "--cp-comm-type a2a a2a a2a a2a").layout,
            "tp=1,pp=1,mbs=2,sp=0,zero=0,cp=2,cp_comm=a2a,recompute=none");
}

TEST(FromMegatron, Sharding) {
  EXPECT_THAT(example("fsdp-8b.sh").layout, HasSubstr("zero=3"));
  EXPECT_THAT(example("fsdp2-8b.sh").layout, HasSubstr("zero=3"));
  EXPECT_THAT(read(std::string(kSmall) + "--use-megatron-fsdp --data-parallel-sharding-strategy "
                                         "optim_grads --num-distributed-optimizer-instances 2")
                  .layout,
              HasSubstr("zero=2,replicate=2"));
  const std::string torch = "--use-torch-fsdp2 --untie-embeddings-and-output-weights ";
  EXPECT_THAT(
      refusal(torch + "--pipeline-model-parallel-size 2"),
      testing::AllOf(HasSubstr("--pipeline-model-parallel-size"), HasSubstr("--use-torch-fsdp2")));
  EXPECT_THAT(refusal(torch + "--use-distributed-optimizer"), HasSubstr("one of it"));
  EXPECT_THAT(refusal("--use-torch-fsdp2"), HasSubstr("--untie-embeddings"));
  EXPECT_THAT(refusal("--num-distributed-optimizer-instances 2"),
              HasSubstr("--use-distributed-optimizer"));
  EXPECT_THAT(refusal("--use-megatron-fsdp --outer-dp-sharding-strategy optim"),
              HasSubstr("--outer-dp-sharding-strategy"));
}

TEST(FromMegatron, OverlapInsideTensorParallelism) {
  const std::string parts =
      std::string(kSmall) +
      "--tensor-model-parallel-size 2 --sequence-parallel --disable-tp-comm-bulk-wgrad "
      "--disable-tp-comm-split-ag --tp-comm-overlap-cfg overlap.yaml ";
  const MegatronQuestion off = read(parts), on = read(parts + "--tp-comm-overlap");
  EXPECT_EQ(off.layout, "tp=2,pp=1,mbs=2,sp=1,zero=0,recompute=none");
  EXPECT_THAT(off.not_modelled, testing::IsEmpty());
  EXPECT_EQ(on.layout, "tp=2,pp=1,mbs=2,sp=1,zero=0,tp_overlap=1,recompute=none");
  EXPECT_THAT(on.not_modelled, testing::ElementsAre("--disable-tp-comm-bulk-wgrad",
                                                    "--tp-comm-overlap-cfg overlap.yaml"));
  EXPECT_THAT(on.unknown, testing::IsEmpty());
  const MegatronQuestion latent = read(parts + "--tp-comm-overlap --multi-latent-attention");
  EXPECT_EQ(latent.layout, off.layout);
  EXPECT_THAT(latent.notes, testing::ElementsAre(HasSubstr("latent attention")));
}

TEST(FromMegatron, WrongFlagsAreRefusedByNameAndLine) {
  EXPECT_THAT(refusal("--hidden-size 0"),
              testing::AllOf(HasSubstr("--hidden-size"), HasSubstr("'0'")));
  EXPECT_THAT(refusal("--num-layers $LAYERS"), HasSubstr("write the value in"));
  EXPECT_THAT(refusal("--num-attention-heads 7"), HasSubstr("a divisor"));
  EXPECT_THAT(refusal("--fp16"), HasSubstr("--bf16"));
  EXPECT_THAT(refusal("--fp8-format hybrid --fp8-recipe custom"), HasSubstr("--fp8-recipe"));
  EXPECT_THAT(refusal("--recompute-granularity selective --recompute-modules mla_up"),
              testing::AllOf(HasSubstr("--recompute-modules"), HasSubstr("mla_up_proj")));
  EXPECT_THAT(refusal("--pipeline-model-parallel-size 2 --pipeline-model-parallel-layout Et|tm|L"),
              HasSubstr("--pipeline-model-parallel-layout"));
  EXPECT_THAT(refusal("--context-parallel-size 4 --cp-comm-type a2a+p2p"),
              testing::AllOf(HasSubstr("--cp-comm-type"), HasSubstr("hierarchical")));
  EXPECT_THAT(refusal("--context-parallel-size 4 --cp-comm-type p2p a2a"),
              HasSubstr("one type for all layers"));
  EXPECT_THAT(refusal("--num-experts 4 --moe-layer-freq [1]*3"), HasSubstr("--moe-layer-freq"));
  EXPECT_THAT(refusal("--normalization Batch"), HasSubstr("RMSNorm"));
  EXPECT_THAT(refusal("--global-batch-size 99999999999999999999"),
              HasSubstr("--global-batch-size"));
}

}  // namespace
}  // namespace steploom
