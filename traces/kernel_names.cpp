#include "traces/kernel_names.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <string>

namespace steploom {
namespace {

struct Rule {
  std::string_view word;  // in lower case, anywhere in the name
  OpKind kind;
};

// PyTorch's names of collectives ("Collective name"), where a kernel's own name says less:
// ncclDevKernel_SendRecv runs both all-to-all and point to point.
constexpr Rule kCollectives[] = {
    {"all_to_all", OpKind::all_to_all},
    {"alltoall", OpKind::all_to_all},
    {"reduce_scatter", OpKind::reduce_scatter},
    {"allgather", OpKind::all_gather},
    {"all_gather", OpKind::all_gather},
    {"allreduce", OpKind::all_reduce},
    {"barrier", OpKind::all_reduce},
    {"send", OpKind::send_recv},
    {"recv", OpKind::send_recv},
};

// NCCL's kernels (src/device/generate.py of NCCL) and DeepEP's.
constexpr Rule kCommunication[] = {
    {"allreduce", OpKind::all_reduce},  {"reducescatter", OpKind::reduce_scatter},
    {"allgather", OpKind::all_gather},  {"broadcast", OpKind::all_gather},
    {"reduce", OpKind::reduce_scatter}, {"sendrecv", OpKind::send_recv},
    {"alltoall", OpKind::all_to_all},
};
constexpr std::string_view kDeepEp[] = {"deep_ep", "::internode", "::intranode",
                                        "ep::internode_ll"};

// Kernels of PyTorch, cuBLAS, CUTLASS, cuDNN, FlashAttention, Transformer Engine, Apex. A word that
// is part of another stands after it.
constexpr Rule kKernels[] = {
    {"l2norm", OpKind::grad_norm},
    {"lpnorm", OpKind::grad_norm},
    {"adam", OpKind::adam},
    {"multi_tensor", OpKind::adam},
    {"multitensor", OpKind::adam},
    {"flash", OpKind::attention},
    {"fmha", OpKind::attention},
    {"attention", OpKind::attention},
    {"attn", OpKind::attention},
    {"cross_entropy", OpKind::cross_entropy},
    {"crossentropy", OpKind::cross_entropy},
    {"nll_loss", OpKind::cross_entropy},
    {"logsoftmax", OpKind::cross_entropy},
    {"log_softmax", OpKind::cross_entropy},
    {"softmax", OpKind::attention},
    {"groupproblemshape", OpKind::grouped_matmul},
    {"grouped_gemm", OpKind::grouped_matmul},
    {"group_gemm", OpKind::grouped_matmul},
    {"grouped_mm", OpKind::grouped_matmul},
    {"layer_norm", OpKind::norm},
    {"layernorm", OpKind::norm},
    {"rms_norm", OpKind::norm},
    {"rmsnorm", OpKind::norm},
    {"batch_norm", OpKind::norm},
    {"gammabeta", OpKind::norm},
    {"gemm", OpKind::matmul},
    {"nvjet", OpKind::matmul},
    {"cublas", OpKind::matmul},
    {"xmma", OpKind::matmul},
    {"splitkreduce", OpKind::matmul},
    {"matmul", OpKind::matmul},
    {"cutlass", OpKind::matmul},
    {"gemv", OpKind::matmul},
    {"embedding", OpKind::embedding},
    {"rotary", OpKind::rotary},
    {"rope", OpKind::rotary},
    {"swiglu", OpKind::activation},
    {"silu", OpKind::activation},
    {"gelu", OpKind::activation},
    {"topk", OpKind::router},
    {"router", OpKind::router},
    {"unpermute", OpKind::unpermute},
    {"permute", OpKind::permute},
    {"memcpy", OpKind::residual},
    {"memset", OpKind::residual},
    {"elementwise", OpKind::residual},
    {"copy", OpKind::residual},
    {"cast", OpKind::residual},
    {"catarray", OpKind::residual},
    {"reduce_kernel", OpKind::residual},
    {"index", OpKind::residual},
    {"gather", OpKind::residual},
    {"scatter", OpKind::residual},
    {"fill", OpKind::residual},
    {"dropout", OpKind::residual},
    {"transpose", OpKind::residual},
    {"sort", OpKind::residual},
    {"scan", OpKind::residual},
    {"triton_", OpKind::residual},
};

template <class Table>
std::optional<OpKind> first_match(const Table& table, std::string_view name) {
  const auto rule = std::find_if(std::begin(table), std::end(table), [&](const Rule& r) {
    return name.find(r.word) != std::string_view::npos;
  });
  if (rule == std::end(table)) return std::nullopt;
  return rule->kind;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

}  // namespace

std::optional<OpKind> kind_of_kernel(std::string_view kernel, std::string_view collective) {
  const std::string name = lower(kernel);
  if (name.starts_with("nccl")) {
    const auto told = first_match(kCollectives, lower(collective));
    return told ? told : first_match(kCommunication, name);
  }
  if (std::any_of(std::begin(kDeepEp), std::end(kDeepEp),
                  [&](std::string_view w) { return name.find(w) != name.npos; }))
    return OpKind::all_to_all;
  return first_match(kKernels, name);
}

}  // namespace steploom
