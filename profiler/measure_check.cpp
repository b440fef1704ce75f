#include "profiler/measure_check.h"

#include <string>

namespace steploom {
namespace {

void refuse(const char* library, const char* reason, const Where& where) {
  fail(std::string(library) + ": " + reason + " (" + where.file_name() + ":" +
       std::to_string(where.line()) + ")");
}

}  // namespace

void check(cudaError_t code, Where where) {
  if (code != cudaSuccess) refuse("CUDA", cudaGetErrorString(code), where);
}

void check(ncclResult_t code, Where where) {
  if (code != ncclSuccess) {
    refuse("NCCL",
           (std::string(ncclGetErrorString(code)) + ", " + ncclGetLastError(nullptr)).c_str(),
           where);
  }
}

void check(cublasStatus_t code, Where where) {
  if (code != CUBLAS_STATUS_SUCCESS) refuse("cuBLAS", cublasGetStatusString(code), where);
}

void check(CUptiResult code, Where where) {
  if (code == CUPTI_SUCCESS) return;
  const char* reason = nullptr;
  cuptiGetResultString(code, &reason);
  refuse("CUPTI", reason != nullptr ? reason : "an unknown error", where);
}

}  // namespace steploom
