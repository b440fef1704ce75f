// What can be asked of the profiler: one kernel, by one provider, on one shape.
//
// As text an Ask is one line,  kind phase m n k groups spread provider , and for attention
// attention phase m n heads kv_heads head_dim v_head_dim provider , for example
//
//   matmul forward 4096 14336 4096 1 even cublaslt
//   grouped_matmul weight_grad 4096 28672 8192 8 uneven cublaslt-each
//   norm data_grad 8192 4096 0 1 even steploom-rms
//   attention forward 4096 2 32 8 128 128 cudnn
//
// in which '#' begins a comment. m, n, k are those of Work: a product's in its own phase;
// attention's m is the length of a sequence and n the number of sequences. For other
// kinds k says, where it means something: experts chosen for a token (router, permute, unpermute),
// width of a head (rotary), entries of the table (embedding); n of adam, grad_norm and zero_fill is
// 1. An Ask's Work holds the bytes that the provider's kernel must move, which can differ from what
// the model's builder counts for that operator: a kernel may fuse or need more than the ideal one.
// Providers torch-... are PyTorch's, measured by profiler/torch_eager.py.
// cublas-grouped has no weight gradient: cuBLAS 13.1 refuses bf16 products into fp32 there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "models/shapes.h"
#include "models/work.h"

namespace steploom {

struct Ask {
  Work work;
  bool uneven = false;   // grouped products: tokens of expert e in proportion to 1/√(e + 1)
  std::string provider;  // whose kernel: "cublaslt", "cublas-grouped", "steploom-rms"
  bool operator==(const Ask& other) const;  // same kernel on the same shape
};

// Names as Work has them; throw Error naming the nearest known one.
OpKind kind_of(std::string_view name, const std::string& reading, const std::string& place);
Phase phase_of(std::string_view name, const std::string& reading, const std::string& place);

// Refuses (Error) a provider that has no such kernel and shapes that mean nothing.
Ask make_ask(OpKind kind, Phase phase, std::int64_t m, std::int64_t n, std::int64_t k,
             std::int64_t groups, bool uneven, std::string_view provider,
             const std::string& reading = "ask", const std::string& place = "");

// Causal attention, forward or data_grad; heads in whole groups, widths multiples of 8.
Ask make_attention_ask(Phase phase, const AttentionShape& shape, std::string_view provider,
                       const std::string& reading = "ask", const std::string& place = "");

bool is_product(const Ask& ask);  // dense or grouped

// Bound by the tensor cores, and so by the card's heat: a product or attention.
bool is_hot(const Ask& ask);

// Refuses (Error) asks of PyTorch's kernels, which this program cannot run.
void refuse_pytorch(const std::vector<Ask>& asks, const std::string& reading);

// The operator that the kernel stands for, with the bytes that it is known by
// (sim/operator_bytes.h): what a point of a profile is filed under and a correction is fitted at.
Work operator_of(const Ask& ask);

// k as lines and files have it: 0 for a norm, whose Work says what its provider's name says.
std::int64_t written_k(const Ask& ask);

std::string to_text(const Ask& ask);
std::vector<Ask> parse_asks(std::string_view text, const std::string& reading);
std::vector<Ask> read_asks(const std::filesystem::path& file);

// How many of `tokens` each expert has; they add up.
std::vector<std::int64_t> expert_tokens(std::int64_t tokens, std::int64_t groups, bool uneven);

// A linear layer's own shape behind a product in any phase.
struct LayerShape {
  std::int64_t tokens, outputs, inputs;
};
LayerShape layer_of(const Work& product);

// The shape behind a Work of attention.
AttentionShape attention_of(const Work& attention);

// The built-in list: layers of Mixtral-8x7B, Llama-2-7B, Llama-3.1-8B and 70B cut over 1 to 8
// tensor-parallel ranks at 2048 to 16384 tokens, experts 1 to 32 to a rank, and memory-bound
// kernels at several sizes; the most used first, so that a budget that ends early cuts off the
// rest. Attention comes last.
std::vector<Ask> built_in_asks();

// Attention of Llama-2-7B, Llama-3.1-8B and 70B, Mixtral-8x7B, GPT-2 and DeepSeek-V3 cut over 1 to
// 8 tensor-parallel ranks, and other lengths and numbers of sequences of their shapes.
std::vector<Ask> built_in_attention();

}  // namespace steploom
