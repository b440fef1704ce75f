#include <array>

#include "profiler/asks.h"

namespace steploom {
namespace {

// Sequence, sequences, heads, key-value heads, width of q and k, of v; the most used first, with
// all families among them.
constexpr std::array kShapes{
    // Llama-2-7B at tensor-parallel 1, 2, 4, 8; Llama-3.1-8B and Mixtral-8x7B; Llama-3.1-70B.
    AttentionShape{4096, 1, 32, 32, 128, 128},
    AttentionShape{4096, 1, 16, 16, 128, 128},
    AttentionShape{4096, 1, 8, 8, 128, 128},
    AttentionShape{4096, 1, 4, 4, 128, 128},
    AttentionShape{4096, 1, 32, 8, 128, 128},
    AttentionShape{4096, 1, 16, 4, 128, 128},
    AttentionShape{4096, 1, 8, 2, 128, 128},
    AttentionShape{4096, 1, 4, 1, 128, 128},
    AttentionShape{4096, 1, 64, 8, 128, 128},
    AttentionShape{4096, 1, 8, 1, 128, 128},
    AttentionShape{8192, 1, 32, 8, 128, 128},
    AttentionShape{8192, 1, 16, 4, 128, 128},
    AttentionShape{8192, 1, 8, 2, 128, 128},
    AttentionShape{8192, 1, 4, 1, 128, 128},
    AttentionShape{8192, 1, 64, 8, 128, 128},
    AttentionShape{8192, 1, 32, 4, 128, 128},
    AttentionShape{8192, 1, 16, 2, 128, 128},
    AttentionShape{8192, 1, 8, 1, 128, 128},
    // DeepSeek-V3.
    AttentionShape{4096, 1, 128, 128, 192, 128},
    AttentionShape{4096, 1, 64, 64, 192, 128},
    AttentionShape{4096, 1, 32, 32, 192, 128},
    AttentionShape{4096, 1, 16, 16, 192, 128},
    AttentionShape{4096, 2, 128, 128, 192, 128},
    AttentionShape{4096, 2, 16, 16, 192, 128},
    // GPT-2.
    AttentionShape{1024, 8, 12, 12, 64, 64},
    AttentionShape{1024, 8, 16, 16, 64, 64},
    AttentionShape{1024, 8, 20, 20, 64, 64},
    AttentionShape{1024, 4, 25, 25, 64, 64},
    AttentionShape{1024, 16, 12, 12, 64, 64},
    AttentionShape{1024, 1, 12, 12, 64, 64},
    AttentionShape{1024, 8, 6, 6, 64, 64},
    AttentionShape{1024, 16, 25, 25, 64, 64},
    // More sequences, shorter and longer ones.
    AttentionShape{4096, 2, 32, 32, 128, 128},
    AttentionShape{4096, 4, 32, 8, 128, 128},
    AttentionShape{4096, 4, 8, 8, 128, 128},
    AttentionShape{2048, 1, 32, 8, 128, 128},
    AttentionShape{2048, 4, 32, 32, 128, 128},
    AttentionShape{2048, 1, 8, 1, 128, 128},
    AttentionShape{2048, 4, 8, 2, 128, 128},
    AttentionShape{2048, 8, 16, 4, 128, 128},
    AttentionShape{1024, 8, 32, 8, 128, 128},
    AttentionShape{1024, 1, 8, 8, 128, 128},
    AttentionShape{1024, 16, 8, 1, 128, 128},
    AttentionShape{512, 16, 32, 32, 128, 128},
    AttentionShape{512, 4, 8, 2, 128, 128},
    AttentionShape{8192, 2, 32, 8, 128, 128},
    AttentionShape{8192, 1, 8, 8, 128, 128},
    AttentionShape{16384, 1, 32, 8, 128, 128},
    AttentionShape{16384, 1, 8, 1, 128, 128},
    AttentionShape{32768, 1, 8, 8, 128, 128},
    AttentionShape{32768, 1, 4, 1, 128, 128},
    AttentionShape{2048, 1, 16, 16, 192, 128},
    AttentionShape{2048, 4, 32, 32, 192, 128},
    AttentionShape{1024, 4, 16, 16, 192, 128},
    AttentionShape{1024, 8, 64, 64, 192, 128},
    AttentionShape{512, 8, 16, 16, 192, 128},
    AttentionShape{8192, 1, 64, 64, 192, 128},
    AttentionShape{8192, 1, 16, 16, 192, 128},
    AttentionShape{16384, 1, 16, 16, 192, 128},
    AttentionShape{32768, 1, 16, 16, 192, 128},
    AttentionShape{512, 16, 12, 12, 64, 64},
    AttentionShape{512, 8, 25, 25, 64, 64},
    AttentionShape{2048, 4, 16, 16, 64, 64},
    AttentionShape{2048, 1, 25, 25, 64, 64},
    AttentionShape{4096, 2, 12, 12, 64, 64},
    AttentionShape{4096, 1, 32, 8, 64, 64},
    AttentionShape{8192, 1, 32, 8, 64, 64},
    AttentionShape{16384, 1, 8, 8, 64, 64},
    AttentionShape{32768, 1, 4, 4, 64, 64},
};

}  // namespace

std::vector<Ask> built_in_attention() {
  std::vector<Ask> asks;
  for (const AttentionShape& shape : kShapes) {
    for (const Phase phase : {Phase::forward, Phase::data_grad}) {
      asks.push_back(make_attention_ask(phase, shape, "cudnn"));
    }
  }
  return asks;
}

}  // namespace steploom
