// Every return code of CUDA, NCCL, CUPTI and cuBLAS goes through check(): the first that is not
// success ends the whole process with one message and exit status 1. A rank cannot carry on without
// the others, so there is nothing to unwind; the output file holds the lines written so far.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cupti.h>
#include <nccl.h>

#include <source_location>

#include "profiler/measure_fail.h"

namespace steploom {

using Where = std::source_location;
void check(cudaError_t code, Where where = Where::current());
void check(ncclResult_t code, Where where = Where::current());
void check(cublasStatus_t code, Where where = Where::current());
void check(CUptiResult code, Where where = Where::current());

}  // namespace steploom
