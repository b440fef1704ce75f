#include "models/parameter_list.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "models/config_reader.h"
#include "models/parameters.h"

namespace steploom {
namespace {

const char* const kModels[] = {
    "deepseek-v3-mtp",   "deepseek-v2-lite", "gpt-oss-20b",  "llama4-maverick", "opt-350m",
    "qwen1.5-moe-a2.7b", "deepseek-v3",      "gpt2",         "gpt2-xl",         "llama-2-7b",
    "llama-3.1-8b",      "mistral-7b",       "mixtral-8x7b", "qwen2-7b",        "qwen3-8b"};

struct Degrees {
  int tp, pp, ep, etp;
};

// The list counts what stage_parameters() counts, bucket by bucket.
TEST(ParameterList, CountsAreThoseOfTheStage) {
  for (const char* name : kModels) {
    const ModelSpec m = load_model(name);
    for (const Degrees d : {Degrees{1, 1, 1, 1}, {2, 1, 1, 1}, {1, 1, 8, 1}, {2, 1, 4, 2}}) {
      Layout l;
      l.tp = m.attention.heads % d.tp == 0 && m.attention.kv_heads % d.tp == 0 ? d.tp : 1;
      if (m.has_moe()) {
        l.ep = m.moe->experts % d.ep == 0 ? d.ep : 1;
        l.etp = m.moe->expert.bias ? 1 : d.etp;
      }
      for (l.pp = 1; l.pp <= 2 && m.layers % l.pp == 0; ++l.pp)
        for (int s = 0; s < l.pp; ++s) {
          const StageSpan span = stage_span(m, l, s);
          std::int64_t count[3] = {};
          for (const ParameterTensor& p : parameter_list(m, l, span, {}))
            count[static_cast<int>(p.bucket)] += p.elements();
          const StageParameters expected = stage_parameters(m, l, span);
          EXPECT_EQ(count[0], expected.sharded) << name << " " << to_text(l);
          EXPECT_EQ(count[1], expected.replicated) << name << " " << to_text(l);
          EXPECT_EQ(count[2], expected.experts) << name << " " << to_text(l);
        }
    }
  }
}

ModelSpec tiny() {
  ModelSpec m;
  m.name = "tiny";
  m.hidden = 8;
  m.layers = 2;
  m.vocab = 256;
  m.max_positions = 16;
  m.norm_bias = true;
  m.learned_positions = true;
  m.attention.heads = 4;
  m.attention.kv_heads = 2;
  m.attention.head_dim = 4;
  m.attention.v_head_dim = 4;
  m.attention.qkv_bias = true;
  m.dense = {.width = 16, .gated = true, .bias = true};
  MoeSpec moe;
  moe.experts = 4;
  moe.top_k = 2;
  moe.expert.width = 8;
  moe.shared_width = 8;
  m.moe = moe;
  m.layer_is_moe = {false, true};
  return m;
}

// Whole index -> how many ranks hold it, by name.
using Held = std::map<std::string, std::map<std::int64_t, int>>;

Held held(const ModelSpec& m, const Layout& l) {
  Held out;
  for (int s = 0; s < l.pp; ++s)
    for (int t = 0; t < l.tp; ++t)
      for (int e = 0; e < l.ep; ++e)
        for (int x = 0; x < l.etp; ++x)
          for (const ParameterTensor& p : parameter_list(m, l, stage_span(m, l, s), {t, x, e})) {
            std::int64_t rows = 0;
            for (const ParameterTensor::Run& run : p.runs) {
              EXPECT_EQ(run.first, rows) << p.name;
              rows += run.count;
              for (std::int64_t r = 0; r < run.count; ++r)
                for (std::int64_t c = 0; c < p.width; ++c)
                  ++out[p.name][(run.whole_first + r) * p.whole_width + p.first_column + c];
            }
            EXPECT_EQ(rows, p.rows) << p.name;
          }
  return out;
}

// Under every layout the ranks' parts tile the same whole tensors.
TEST(ParameterList, PartsTileTheWholeTensors) {
  const ModelSpec m = tiny();
  const Held whole = held(m, Layout{});
  for (const Degrees d : {Degrees{2, 1, 1, 1}, {1, 2, 1, 1}, {1, 1, 2, 1}, {2, 1, 2, 2}}) {
    Layout l;
    l.tp = d.tp;
    l.pp = d.pp;
    l.ep = d.ep;
    l.etp = d.etp;
    const Held cut = held(m, l);
    ASSERT_EQ(cut.size(), whole.size());
    for (const auto& [name, elements] : whole) {
      ASSERT_TRUE(cut.count(name)) << name;
      const auto& mine = cut.at(name);
      ASSERT_EQ(mine.size(), elements.size()) << name;
      for (const auto& [index, copies] : mine) {
        EXPECT_EQ(elements.count(index), 1U) << name;
        EXPECT_EQ(copies, mine.begin()->second) << name << " unevenly cut";
      }
    }
  }
}

}  // namespace
}  // namespace steploom
