#include "profiler/run_gpus.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "models/error.h"
#include "profiler/cuda_kernels.h"
#include "profiler/fork_local.h"
#include "profiler/kernel_trace.h"
#include "profiler/run_step.h"
#include "profiler/step_data.h"

namespace steploom {
namespace {

constexpr int kFewestSteps = 3;  // of a block that is cut short
constexpr int kIssued = 5;       // steps whose host time is taken
constexpr Picoseconds kNanosecond = 1000;

// A plan set up on this rank's GPU.
struct Variant {
  BindInput input;
  Execution execution;
  std::unique_ptr<CudaKernels> kernels;
  Bytes free_before = 0, free_after = 0;  // of the device
  std::int64_t steps = 0;
  MeasuredRun run;
};

Bytes bytes_of(const Execution& e, std::initializer_list<MemoryKind> kinds) {
  Bytes sum = 0;
  for (const MemoryKind k : kinds) sum += e.memories[static_cast<std::size_t>(k)].bytes;
  return sum;
}

Bytes all_bytes(const Execution& e) {
  Bytes sum = 0;
  for (const MemorySpec& m : e.memories) sum += m.bytes;
  return sum;
}

void issue(Variant& v, const GpuRunOptions& options) {
  v.kernels->begin_step(++v.steps);
  if (options.graph) {
    v.kernels->replay();
  } else {
    StepHooks hooks;
    hooks.poison = options.poison;
    issue_step(*v.kernels, v.execution, hooks);
  }
}

// What a graph cannot hold.
void require_capturable(const Variant& v) {
  for (const Call& call : v.execution.calls) {
    if (!call.host_waits) continue;
    throw Error({"--graph", describe_op(v.input.program, call.op),
                 "a step whose host never waits for the device", "an operator that it waits for",
                 "run without --graph"});
  }
}

void set_up_variant(Peers& peers, Variant& v, const GpuRunOptions& options) {
  v.free_before = device_memory().free;
  if (all_bytes(v.execution) > v.free_before) {
    throw DeviceError("the plan's tensors need " + std::to_string(all_bytes(v.execution)) +
                      " bytes, and of the GPU's memory are free: " + std::to_string(v.free_before));
  }
  CudaOptions cuda;
  cuda.patience_seconds = options.patience;
  v.kernels = std::make_unique<CudaKernels>(peers, cuda);
  set_up(*v.kernels, v.input, v.execution);
  peers.doing("the first steps");
  GpuRunOptions plain = options;
  plain.graph = false;
  issue(v, plain);
  v.kernels->wait_for_all();
  if (options.graph) {
    peers.doing("capturing a graph");
    StepHooks hooks;
    hooks.poison = options.poison;
    v.kernels->capture([&] { issue_step(*v.kernels, v.execution, hooks); });
  }
  for (int i = 1; i < options.warm_up; ++i) issue(v, options);
  v.kernels->wait_for_all();
  v.free_after = device_memory().free;
  peers.meet();
}

// Back-to-back steps, a leading one left out; the longest over the ranks.
double time_steps(Peers& peers, Variant& v, int steps, const GpuRunOptions& options) {
  peers.meet();
  issue(v, options);
  const std::size_t start = v.kernels->mark();
  for (int i = 0; i < steps; ++i) issue(v, options);
  const std::size_t end = v.kernels->mark();
  const double us = v.kernels->microseconds(start, end) / steps;
  v.kernels->forget_marks();
  return peers.most(us);
}

// Host time of one step. CUDA holds back a host that is about a thousand launches ahead, so the
// clock stands still between slots until the device has caught up.
double time_issue(Peers& peers, Variant& v, const GpuRunOptions& options) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> us;
  for (int i = 0; i < kIssued; ++i) {
    peers.meet();
    v.kernels->wait_for_all();
    Clock::duration paused{};
    std::uint32_t slot = v.execution.calls.front().slot;
    StepHooks hooks;
    hooks.poison = options.poison;
    hooks.before = [&](const Call& call) {
      if (call.slot == slot) return;
      slot = call.slot;
      const Clock::time_point start = Clock::now();
      v.kernels->wait_for_all();
      paused += Clock::now() - start;
    };
    const Clock::time_point start = Clock::now();
    v.kernels->begin_step(++v.steps);
    if (options.graph) {
      v.kernels->replay();
    } else {
      issue_step(*v.kernels, v.execution, hooks);
    }
    us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start - paused).count());
  }
  v.kernels->wait_for_all();
  return peers.most(spread_of(us).median);
}

void time_blocks(Peers& peers, std::vector<Variant>& variants, const GpuRunOptions& options) {
  for (Variant& v : variants) {
    peers.doing("timing single steps");
    const double us = time_steps(peers, v, kFewestSteps, options);
    v.run.steps = options.steps;
    if (options.seconds <= 0) continue;
    const double fit = options.seconds * 1e6 / options.blocks / us;
    v.run.steps = std::clamp(static_cast<int>(std::min(fit, 1e6)),
                             std::min(kFewestSteps, options.steps), options.steps);
  }
  for (int block = 0; block < options.blocks; ++block) {
    peers.doing("timing block " + std::to_string(block + 1));
    for (Variant& v : variants) {
      v.run.block_us.push_back(time_steps(peers, v, v.run.steps, options));
    }
  }
  for (Variant& v : variants) {
    const auto [least, most] = std::minmax_element(v.run.block_us.begin(), v.run.block_us.end());
    v.run.step_us = spread_of(v.run.block_us);
    v.run.repeatability = (*most - *least) / 2 / v.run.step_us.median;
  }
}

// ---- Traces --------------------------------------------------------------------------------

struct OpTimes {
  std::uint32_t op = 0;
  std::int64_t start_ns = std::numeric_limits<std::int64_t>::max();
  std::int64_t end_ns = 0, issued_ns = 0;
};

template <class T>
std::string to_bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

template <class T>
std::vector<T> from_bytes(const std::string& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

// Times of one traced step that finds the device idle, after some back to back that say what
// tracing costs.
std::vector<OpTimes> trace_steps(Peers& peers, Variant& v, const GpuRunOptions& options) {
  const std::vector<Call>& calls = v.execution.calls;
  std::uint64_t tag = 0;
  StepHooks hooks;
  hooks.poison = options.poison;
  hooks.before = [&](const Call&) { push_tag(++tag); };
  hooks.after = [](const Call&) { pop_tag(); };
  const auto step = [&] {
    tag = 0;
    v.kernels->begin_step(++v.steps);
    issue_step(*v.kernels, v.execution, hooks);
  };
  peers.meet();
  step();
  const std::size_t start = v.kernels->mark();
  for (int i = 0; i < options.traced_steps; ++i) step();
  const std::size_t end = v.kernels->mark();
  v.run.traced_us = peers.most(v.kernels->microseconds(start, end) / options.traced_steps);
  v.kernels->forget_marks();
  take_trace();  // of these
  peers.meet();
  step();
  v.kernels->wait_for_all();
  std::vector<OpTimes> times(calls.size());
  for (std::size_t i = 0; i < calls.size(); ++i) times[i].op = calls[i].op;
  for (const KernelRun& k : take_trace()) {
    if (k.tag == 0 || k.tag > times.size()) continue;  // between steps
    OpTimes& t = times[k.tag - 1];
    t.start_ns = std::min(t.start_ns, k.start_ns);
    t.end_ns = std::max(t.end_ns, k.end_ns);
    if (t.issued_ns == 0) t.issued_ns = k.issued_ns;
  }
  // In a stream one after the other; what left no kernel takes no time.
  std::vector<std::int64_t> stream_end(v.execution.streams.size(), 0);
  for (std::size_t i = 0; i < times.size(); ++i) {
    std::int64_t& before = stream_end[static_cast<std::size_t>(calls[i].stream)];
    if (times[i].end_ns == 0) times[i].start_ns = times[i].end_ns = before;
    times[i].start_ns = std::max(times[i].start_ns, before);
    times[i].end_ns = std::max(times[i].end_ns, times[i].start_ns);
    before = times[i].end_ns;
  }
  return times;
}

void keep_trace(Peers& peers, Variant& v, const std::vector<OpTimes>& mine) {
  const std::vector<std::string> all = peers.gather(to_bytes(mine));
  if (!peers.first()) return;
  std::vector<OpTimes> times;
  for (const std::string& bytes : all)
    for (const OpTimes& t : from_bytes<OpTimes>(bytes)) times.push_back(t);
  std::int64_t first = std::numeric_limits<std::int64_t>::max();
  for (const OpTimes& t : times)
    if (t.start_ns > 0)
      first = std::min({first, t.start_ns, t.issued_ns > 0 ? t.issued_ns : first});
  Replay& r = v.run.traced;
  const std::uint32_t ops = v.input.program.op_count;
  r.start.assign(ops, 0);
  r.end.assign(ops, 0);
  v.run.issued.assign(ops, 0);
  const auto since = [first](std::int64_t ns) {
    return std::max<Picoseconds>(0, (ns - first) * kNanosecond);
  };
  for (const OpTimes& t : times) {
    r.start[t.op] = since(t.start_ns);
    r.end[t.op] = since(t.end_ns);
    v.run.issued[t.op] = since(t.issued_ns);
    r.makespan = std::max(r.makespan, r.end[t.op]);
  }
}

void trace(Peers& peers, std::vector<Variant>& variants, const GpuRunOptions& options) {
  if (options.traced_steps < 1) return;
  peers.doing("tracing");
  const std::string origin = peers.share(std::to_string(clock_ns()));
  start_trace(std::stoll(origin), TraceTags::on);
  for (Variant& v : variants) keep_trace(peers, v, trace_steps(peers, v, options));
  stop_trace();
  peers.meet();
}

// ---- What is kept of a run -----------------------------------------------------------------

void keep_loss(Peers& peers, Variant& v) {
  std::vector<double> mine{0, 0};
  if (v.execution.loss) {
    for (const double x : v.kernels->read(v.execution.loss)) mine[0] += x;
    mine[1] = static_cast<double>(v.execution.loss.rows);
  }
  double sum = 0;
  double rows = 0;
  for (const std::string& bytes : peers.gather(to_bytes(mine))) {
    const std::vector<double> part = from_bytes<double>(bytes);
    sum += part[0];
    rows += part[1];
  }
  v.run.loss = sum / rows;
}

void keep_memory(Peers& peers, Variant& v, Bytes context) {
  using enum MemoryKind;
  const Execution& e = v.execution;
  MeasuredMemory m;
  m.context = context;
  m.arena = bytes_of(e, {arena});
  m.parameters = bytes_of(e, {parameters});
  m.gradients = bytes_of(e, {gradients});
  m.optimizer = bytes_of(e, {master, first, second});
  m.other = bytes_of(e, {constants, tokens, loss, tape});
  m.workspace = v.kernels->workspace_bytes();
  m.communicators = v.kernels->communicator_bytes();
  m.peak = context + v.free_before - v.free_after;
  for (const std::string& bytes : peers.gather(to_bytes(std::vector{m})))
    v.run.ranks.push_back(from_bytes<MeasuredMemory>(bytes)[0]);
}

}  // namespace

int gpus_here() {
  return std::max(0, ask_child([] { return gpu_count(); }));
}

bool can_run_on_gpus() {
  return true;
}

std::vector<MeasuredRun> run_on_gpus(Peers& peers, std::span<const BindInput> plans,
                                     const GpuRunOptions& options) {
  take_gpu(peers);
  const DeviceMemory at_first = device_memory();
  const Bytes context = at_first.total - at_first.free;
  std::vector<Variant> variants;
  for (const BindInput& plan : plans) {
    Variant v{plan, bind(plan, peers.rank()), nullptr, 0, 0, 0, {}};
    if (options.graph) require_capturable(v);
    variants.push_back(std::move(v));
  }
  for (Variant& v : variants) set_up_variant(peers, v, options);
  time_blocks(peers, variants, options);
  peers.doing("timing the host");
  for (Variant& v : variants) v.run.issue_us = time_issue(peers, v, options);
  trace(peers, variants, options);
  std::vector<MeasuredRun> out;
  for (Variant& v : variants) {
    keep_loss(peers, v);
    keep_memory(peers, v, context);
    out.push_back(std::move(v.run));
  }
  return out;
}

}  // namespace steploom
