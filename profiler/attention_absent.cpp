// What stands in for attention where cuDNN was not found: planning one is refused.
#include "profiler/attention.h"

namespace steploom {

struct Dnn::Handles {};
struct AttentionPlan::Plan {};

namespace {

[[noreturn]] void refuse() {
  throw DeviceError("attention: this steploom was built without cuDNN");
}

}  // namespace

Dnn::Dnn() = default;
Dnn::~Dnn() = default;
int Dnn::version() {
  return 0;
}

AttentionPlan::AttentionPlan(const Dnn&, Phase, const AttentionShape&, const AttentionLayout&,
                             AttentionOrder) {
  refuse();
}
AttentionPlan::~AttentionPlan() = default;
AttentionPlan::AttentionPlan(AttentionPlan&&) noexcept = default;
AttentionPlan& AttentionPlan::operator=(AttentionPlan&&) noexcept = default;

std::int64_t AttentionPlan::workspace_bytes() const {
  refuse();
}
void AttentionPlan::run(const AttentionTensors&, void*, Stream) const {
  refuse();
}

}  // namespace steploom
