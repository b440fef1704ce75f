// How fast Programs are replayed: 64 pipeline stages, 512 micro-batches, every forward and backward
// block 40 operators on 2 streams, 5 of them communication (the pipeline's receive and send, and
// three on the device's own communicator). 2.6 M operators, replayed in full: nothing is folded or
// contracted, and recurring periods are skipped only where the name says so.
#include <benchmark/benchmark.h>

#include "sim/contention.h"
#include "sim/engine.h"
#include "sim/program.h"
#include "sim/relax.h"
#include "tests/sim/pipeline_programs.h"

namespace {

using namespace steploom;

constexpr std::uint32_t kStages = 64, kMicroBatches = 512, kOperators = 40;

// Operator 0 receives and 39 sends; 10, 20 and 30 are collectives, on which the operator two
// places later depends; the others are kernels in a chain.
BlockTemplate block(const char* name, Picoseconds kernel, testing::PipelineRole in,
                    testing::PipelineRole out) {
  BlockTemplate b;
  b.name = name;
  for (std::uint32_t i = 0; i < kOperators; ++i) {
    OpTemplate op;
    op.launch = 2'000'000;
    op.first_dep = static_cast<std::uint32_t>(b.deps.size());
    if (i > 0) b.deps.push_back(i - 1);
    if (i > 2 && i % 10 == 2) b.deps.push_back(i - 2);
    op.deps = static_cast<std::uint16_t>(b.deps.size() - op.first_dep);
    const bool collective = i % 10 == 0 || i + 1 == kOperators;
    op.stream = collective ? 1 : 0;
    op.kernel_class = collective ? 1 : 0;
    op.duration = collective ? 20'000'000 : kernel + i * 1'000'000;
    op.sms_wanted = collective ? 16 : 132;
    op.wave = collective ? 0 : 5'000'000;
    op.persistent = collective;
    if (i % 4 == 1) (in == testing::kForwardIn ? op.alloc : op.free) = 1 << 20;
    // Eager, or the one communication stream would deadlock: a stage sends before it receives.
    op.eager = i == 0 || i + 1 == kOperators;
    op.sender = i + 1 == kOperators;
    if (i == 0)
      op.role = in;
    else if (i + 1 == kOperators)
      op.role = out;
    else if (collective)
      op.role = 4;
    b.ops.push_back(op);
    b.infos.emplace_back().name = "operator " + std::to_string(i);
  }
  // Kernels after a collective run beside it: they wait for the kernel before it instead.
  for (std::uint32_t i = 11; i < kOperators; i += 10) b.deps[b.ops[i].first_dep] = i - 2;
  return b;
}

const Program& program() {
  static const Program made = [] {
    Program p =
        testing::pipeline(kStages, kMicroBatches,
                          {block("F", 30'000'000, testing::kForwardIn, testing::kForwardOut),
                           block("B", 60'000'000, testing::kBackwardIn, testing::kBackwardOut)},
                          2);
    for (std::uint32_t s = 0; s < kStages; ++s) {
      p.communicators.push_back({"experts", {s}, {}});
      p.devices[s].communicator_of_role.push_back(
          static_cast<std::uint32_t>(p.communicators.size() - 1));
    }
    p.kernel_classes = {"gemm", "nccl"};
    finalize(p);
    return p;
  }();
  return made;
}

// A product loses a fifth beside a collective and works in proportion to its SMs.
Contention tables() {
  Contention c = neutral_contention(2);
  for (std::uint32_t i = 0; i <= 16; ++i) c.share[0][i] = 1 + (kFullRate - 1) * i / 16;
  c.beside[1] = {{}, {8, 32}, {58'000, 46'000}};
  c.beside[2] = {{8, 32}, {}, {40'000, 50'000}};
  return c;
}

void report(benchmark::State& state, std::size_t bytes_per_op) {
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * program().op_count);
  state.counters["bytes_per_op"] = static_cast<double>(bytes_per_op);
}

void relax_bench(benchmark::State& state) {
  program();
  for (auto _ : state) benchmark::DoNotOptimize(relaxed_makespan(program()));
  report(state, relax_bytes_per_op(program()));
}

void simulate_bench(benchmark::State& state, const Contention* contention, bool skip_periods) {
  ReplayOptions options;
  options.contention = contention;
  options.skip_periods = skip_periods;
  program();
  for (auto _ : state) benchmark::DoNotOptimize(replay(program(), options).makespan);
  report(state, dynamic_bytes_per_op(program(), options));
}

void plain_bench(benchmark::State& state) {
  simulate_bench(state, nullptr, false);
}

void contended_bench(benchmark::State& state) {
  const Contention c = tables();
  simulate_bench(state, &c, false);
}

void skipping_bench(benchmark::State& state) {
  const Contention c = tables();
  simulate_bench(state, &c, true);
}

void makespan_bench(benchmark::State& state) {
  const Contention c = tables();
  ReplayOptions options;
  options.contention = &c;
  program();
  for (auto _ : state) benchmark::DoNotOptimize(makespan(program(), options));
  report(state, dynamic_bytes_per_op(program(), options));
}

BENCHMARK(relax_bench)->Name("relax/1f1b_p64_m512_k40")->Unit(benchmark::kMillisecond);
BENCHMARK(plain_bench)->Name("simulate/1f1b_p64_m512_k40_plain")->Unit(benchmark::kMillisecond);
BENCHMARK(contended_bench)
    ->Name("simulate/1f1b_p64_m512_k40_contended")
    ->Unit(benchmark::kMillisecond);
BENCHMARK(skipping_bench)
    ->Name("simulate/1f1b_p64_m512_k40_contended_skipping")
    ->Unit(benchmark::kMillisecond);
BENCHMARK(makespan_bench)
    ->Name("makespan/1f1b_p64_m512_k40_contended")
    ->Unit(benchmark::kMillisecond);

}  // namespace
