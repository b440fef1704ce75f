// One number for all that the engine computes: any unintended change of a time shows.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "sim/contention.h"
#include "sim/engine.h"
#include "tests/sim/pipeline_programs.h"
#include "tests/sim/random_programs.h"

namespace steploom {
namespace {

// FNV-1a over the bytes of integers, least first.
class Hash {
 public:
  void add(std::int64_t value) {
    for (int byte = 0; byte < 8; ++byte) {
      hash_ ^= static_cast<std::uint64_t>(value) >> (8 * byte) & 0xff;
      hash_ *= 0x100000001b3;
    }
  }
  void add(const Replay& r) {
    add(r.makespan);
    for (const Picoseconds t : r.start) add(t);
    for (const Picoseconds t : r.end) add(t);
    for (const Bytes b : r.peak_memory) add(b);
  }
  std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325;
};

TEST(Signature, AllTimes) {
  Hash hash;
  const auto both = [&hash](const Program& program, std::uint64_t seed) {
    const Contention tables = testing::random_contention(seed);
    ReplayOptions options;
    hash.add(replay(program, options));
    options.contention = &tables;
    hash.add(replay(program, options));
  };
  for (std::uint64_t seed = 0; seed < 40; ++seed) both(testing::random_program(seed), seed);
  testing::PipelineShape shape;
  shape.stages = 4;
  shape.micro_batches = 12;
  shape.message = 300;
  both(testing::simple_pipeline(shape), 1);
  EXPECT_EQ(fmt::format("{:016x}", hash.value()), engine_signature());
}

}  // namespace
}  // namespace steploom
