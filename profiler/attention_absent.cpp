// What stands in for attention where cuDNN was not found: planning one is refused.
#include "profiler/attention.h"

namespace steploom {

struct Dnn::Handles {};
struct Attention::Plan {};

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

Attention::Attention(const Dnn&, Phase, const AttentionShape&, const AttentionLayout&,
                     AttentionOrder) {
  refuse();
}
Attention::~Attention() = default;
Attention::Attention(Attention&&) noexcept = default;
Attention& Attention::operator=(Attention&&) noexcept = default;

std::int64_t Attention::workspace_bytes() const {
  refuse();
}
void Attention::run(const AttentionTensors&, void*, Stream) const {
  refuse();
}

}  // namespace steploom
