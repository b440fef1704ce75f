#include "profiler/measured_on.h"

#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <vector>

#include "profiler/attention.h"
#include "profiler/measure_check.h"

namespace steploom {
namespace {

std::string first_line(const char* path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::string dotted(int code, int major, int minor) {
  return std::to_string(code / major) + "." + std::to_string(code % major / minor) + "." +
         std::to_string(code % minor);
}

}  // namespace

JsonLine measured_on(const char* format, const std::string& fabric, const std::string& command,
                     int ranks, int index) {
  int driver = 0, runtime = 0, nccl = 0, cublas[3] = {};
  cudaDeviceProp device{};
  check(cudaDriverGetVersion(&driver));
  check(cudaRuntimeGetVersion(&runtime));
  check(ncclGetVersion(&nccl));
  check(cublasGetProperty(MAJOR_VERSION, &cublas[0]));
  check(cublasGetProperty(MINOR_VERSION, &cublas[1]));
  check(cublasGetProperty(PATCH_LEVEL, &cublas[2]));
  check(cudaGetDeviceProperties(&device, index));
  std::vector<std::string> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    if (text.starts_with("NCCL_") || text.starts_with("CUDA_DEVICE_MAX_CONNECTIONS=")) {
      environment.push_back(text);
    }
  }
  std::sort(environment.begin(), environment.end());
  char date[32];
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  JsonLine line;
  return line.add(format, 1)
      .add("date", date)
      .add("command", command)
      .add("fabric", fabric)
      .add("ranks", ranks)
      .add("gpu", device.name)
      .add("sms", device.multiProcessorCount)
      .add("driver", first_line("/proc/driver/nvidia/version"))
      .add("cuda_driver", dotted(driver, 1000, 10))
      .add("cuda_runtime", dotted(runtime, 1000, 10))
      .add("nccl", dotted(nccl, 10000, 100))
      .add("cublas", dotted(10000 * cublas[0] + 100 * cublas[1] + cublas[2], 10000, 100))
      .add("cudnn", dotted(Dnn::version(), 10000, 100))
      .add("environment", environment)
      .add("precision", "bf16");
}

}  // namespace steploom
