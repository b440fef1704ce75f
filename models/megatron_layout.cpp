#include "models/megatron_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "models/error.h"
#include "models/layout.h"
#include "models/recompute.h"
#include "models/stages.h"

namespace steploom {
namespace {

constexpr int kMostDegree = 1 << 20;

int degree(const MegatronRun& run, std::string_view flag) {
  return static_cast<int>(run.integer_or(flag, 1, 1, kMostDegree));
}

int zero_stage(const MegatronRun& run) {
  if (run.has("use-torch-fsdp2")) {
    for (const std::string_view flag :
         {"pipeline-model-parallel-size", "expert-model-parallel-size"})
      if (degree(run, flag) > 1)
        run.refuse(flag, "1 with --use-torch-fsdp2", std::to_string(degree(run, flag)));
    if (run.has("use-distributed-optimizer"))
      run.refuse("use-distributed-optimizer", "one of it and --use-torch-fsdp2", "both");
    if (!run.has("untie-embeddings-and-output-weights"))
      run.refuse("use-torch-fsdp2", "--untie-embeddings-and-output-weights with it", "tied");
    return 3;
  }
  if (!run.has("use-megatron-fsdp")) return run.has("use-distributed-optimizer") ? 1 : 0;
  static constexpr std::array<std::string_view, 4> kStrategies{"no_shard", "optim", "optim_grads",
                                                               "optim_grads_params"};
  const std::string found = run.text_or("data-parallel-sharding-strategy", kStrategies[0]);
  const auto at = std::find(kStrategies.begin(), kStrategies.end(), found);
  if (at == kStrategies.end())
    run.refuse("data-parallel-sharding-strategy", fmt::format("{}", fmt::join(kStrategies, ", ")),
               "'" + found + "'");
  return static_cast<int>(at - kStrategies.begin());
}

// Copies of what is sharded.
int copies(const MegatronRun& run, int zero) {
  if (run.text_or("outer-dp-sharding-strategy", "no_shard") != "no_shard")
    run.refuse("outer-dp-sharding-strategy", "no_shard",
               "'" + run.text_or("outer-dp-sharding-strategy", "") + "'",
               "shards between copies are not modelled");
  const int found = degree(run, "num-distributed-optimizer-instances");
  if (found > 1 && zero == 0)
    run.refuse("num-distributed-optimizer-instances", "--use-distributed-optimizer with it",
               std::to_string(found));
  return found;
}

// Model chunks of a pipeline rank.
int chunks_of(const MegatronRun& run, const ModelSpec& m, int pp) {
  if (run.has("num-virtual-stages-per-pipeline-rank"))
    return degree(run, "num-virtual-stages-per-pipeline-rank");
  constexpr std::string_view kLayers = "num-layers-per-virtual-pipeline-stage";
  if (!run.has(kLayers)) return 1;
  const int each = degree(run, kLayers);
  if (m.layers % (pp * each) != 0)
    run.refuse(kLayers,
               fmt::format("a number that {} layers on {} ranks share out in", m.layers, pp),
               std::to_string(each));
  return m.layers / (pp * each);
}

// The letters without the prediction modules, if these lie where layouts have them: with the loss.
std::string without_predictions(std::string letters, const ModelSpec& m) {
  const auto modules = static_cast<std::size_t>(m.mtp_modules);
  const std::string end = std::string(modules, 'm') + "L";
  if (modules > 0 && letters.ends_with(end))
    letters.replace(letters.size() - end.size(), modules, "");
  return letters;
}

// "" where all stages hold equally many layers.
std::string stages_of(const MegatronRun& run, const ModelSpec& m, int pp, int& vpp) {
  constexpr std::string_view kLayout = "pipeline-model-parallel-layout";
  constexpr std::string_view kFirst = "decoder-first-pipeline-num-layers";
  constexpr std::string_view kLast = "decoder-last-pipeline-num-layers";
  std::vector<int> split;
  if (run.has(kLayout)) {
    try {
      split = parse_stages(without_predictions(stage_letters_of(run.text_or(kLayout, "")), m));
    } catch (const Error& e) {
      run.refuse(kLayout, e.where().expected, e.where().found, e.where().hint);
    }
    if (split.size() % static_cast<std::size_t>(pp) != 0)
      run.refuse(kLayout, fmt::format("stages for {} pipeline ranks", pp),
                 fmt::format("{} stages", split.size()));
    vpp = static_cast<int>(split.size()) / pp;
  } else if (run.has(kFirst) || run.has(kLast)) {
    split =
        stages_between(m.layers, pp * vpp, static_cast<int>(run.integer_or(kFirst, 0, 1, m.layers)),
                       static_cast<int>(run.integer_or(kLast, 0, 1, m.layers)));
    if (split.empty())
      run.refuse(run.has(kFirst) ? kFirst : kLast, "layers that leave an even split to the others",
                 fmt::format("{} layers on {} stages", m.layers, pp * vpp));
  } else {
    const bool embedding = run.has("account-for-embedding-in-pipeline-split");
    const bool loss = run.has("account-for-loss-in-pipeline-split");
    if (!embedding && !loss) return "";
    split = even_stages(m.layers, pp * vpp, embedding, loss);
    if (split.empty())
      run.refuse("num-layers", fmt::format("layers that {} stages share evenly", pp * vpp),
                 std::to_string(m.layers));
  }
  return stages_text(split);
}

// Megatron's names of the ways to communicate; one for all layers, or one a layer, all alike.
std::string context_of(const MegatronRun& run) {
  const int cp = degree(run, "context-parallel-size");
  if (cp == 1) return "";
  constexpr std::string_view kComm = "cp-comm-type";
  static constexpr std::array<std::string_view, 3> kTypes{"p2p", "all_gather", "a2a"};
  const std::vector<std::string> found =
      run.has(kComm) ? run.list(kComm) : std::vector{1, std::string(kTypes[0])};
  const auto at = std::find(kTypes.begin(), kTypes.end(), found.front());
  if (at == kTypes.end())
    run.refuse(kComm, fmt::format("{}", fmt::join(kTypes, ", ")), "'" + found.front() + "'",
               found.front() == "a2a+p2p"
                   ? "rings of exchanges (--hierarchical-context-parallel-sizes) are not modelled"
                   : "");
  if (std::any_of(found.begin(), found.end(),
                  [&](const std::string& t) { return t != found.front(); }))
    run.refuse(kComm, "one type for all layers", fmt::format("'{}'", fmt::join(found, " ")));
  const auto comm = static_cast<ContextComm>(at - kTypes.begin());
  std::string text = fmt::format(",cp={}", cp);
  if (comm != ContextComm::p2p) text += fmt::format(",cp_comm={}", name_of(comm));
  return text;
}

std::string recompute_of(const MegatronRun& run) {
  if (!run.has("recompute-granularity") && !run.has("recompute-activations")) return "none";
  const std::string how = run.text_or("recompute-granularity", "selective");
  std::string text = how;
  if (how == "full" && run.has("recompute-method"))
    text += fmt::format(":{}:{}", run.text_or("recompute-method", ""),
                        degree(run, "recompute-num-layers"));
  if (how == "selective" && run.has("recompute-modules"))
    text += fmt::format(":{}", fmt::join(run.list("recompute-modules"), "+"));
  try {
    const RecomputeChoice choice = parse_recompute(text);
    return to_text(choice.what, choice.detail);
  } catch (const Error& e) {
    run.refuse(how == "full"        ? "recompute-method"
               : how == "selective" ? "recompute-modules"
                                    : "recompute-granularity",
               e.where().expected, e.where().found, e.where().hint);
  }
}

}  // namespace

bool overlaps_tp(const MegatronRun& run, const ModelSpec& m) {
  return run.has("tp-comm-overlap") && m.attention.kind != AttentionKind::latent;
}

std::string megatron_layout(const MegatronRun& run, const ModelSpec& m) {
  const int tp = degree(run, "tensor-model-parallel-size");
  const int pp = degree(run, "pipeline-model-parallel-size");
  int vpp = chunks_of(run, m, pp);
  const std::string stages = stages_of(run, m, pp, vpp);
  const int zero = zero_stage(run);
  std::string text =
      fmt::format("tp={},pp={},mbs={},sp={:d},zero={}", tp, pp, degree(run, "micro-batch-size"),
                  run.has("sequence-parallel"), zero);
  if (const int found = copies(run, zero); found > 1) text += fmt::format(",replicate={}", found);
  if (m.has_moe())
    text += fmt::format(",ep={},etp={}", degree(run, "expert-model-parallel-size"),
                        run.integer_or("expert-tensor-parallel-size", tp, 1, kMostDegree));
  text += context_of(run);
  if (vpp > 1) text += fmt::format(",vpp={}", vpp);
  constexpr std::string_view kGroup = "microbatch-group-size-per-virtual-pipeline-stage";
  if (vpp > 1 && run.has(kGroup)) text += fmt::format(",vpp_group={}", degree(run, kGroup));
  if (!stages.empty()) text += ",stages=" + stages;
  if (overlaps_tp(run, m)) text += ",tp_overlap=1";
  if (run.has("overlap-moe-expert-parallel-comm")) text += ",weave=1";
  return text + ",recompute=" + recompute_of(run);
}

}  // namespace steploom
