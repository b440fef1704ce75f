#include "profiler/side_attention.h"

#include "profiler/measure_fail.h"
#include "profiler/trial.h"

namespace steploom {
namespace {

Ask ask_of(Phase phase) {
  AttentionShape shape;
  shape.sequence = 4096;
  shape.sequences = 2;
  shape.heads = 32;
  shape.kv_heads = 8;
  shape.head_dim = shape.v_head_dim = 128;
  return make_attention_ask(phase, shape, "cudnn");
}

// A fault of the device ends the process: no rank can carry on alone (measure_check.h).
template <class Call>
auto or_end(const Call& call) {
  try {
    return call();
  } catch (const DeviceError& error) {
    fail(error.what());
  }
}

}  // namespace

struct SideAttention::Parts {
  Libraries libraries;
  // One set of tensors each: 250 MB and more, which no L2 cache holds.
  Trial forward = attention_trial(ask_of(Phase::forward), libraries, 0);
  Trial backward = attention_trial(ask_of(Phase::data_grad), libraries, 0);

  const Trial& of(Phase phase) const { return phase == Phase::forward ? forward : backward; }
};

bool SideAttention::built_in() {
  return Dnn::version() != 0;
}

SideAttention::SideAttention() : parts_(or_end([] { return std::make_unique<Parts>(); })) {}
SideAttention::~SideAttention() = default;

void SideAttention::run(Phase phase, Stream stream) const {
  or_end([&] { parts_->of(phase).launch(0, stream); });
}

std::string SideAttention::fault(Phase phase, Stream stream) const {
  return or_end([&] { return parts_->of(phase).prove(stream); });
}

}  // namespace steploom
