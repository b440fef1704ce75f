#include "profiler/step_data.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "models/error.h"
#include "profiler/device.h"

namespace steploom {
namespace {

// splitmix64 (Steele, Lea, Flood 2014): a well-mixed function of its argument.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

std::uint64_t hash(std::string_view text) {  // FNV-1a
  std::uint64_t h = 0xcbf29ce484222325U;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return h;
}

template <class Visit>
void each_element(const ParameterTensor& p, const Visit& visit) {
  for (const ParameterTensor::Run& run : p.runs)
    for (std::int64_t r = 0; r < run.count; ++r)
      for (std::int64_t c = 0; c < p.width; ++c)
        visit((run.first + r) * p.width + c,
              (run.whole_first + r) * p.whole_width + p.first_column + c);
}

void write_rotary(KernelSet& kernels, const TensorRef& table) {
  constexpr double kBase = 10000;  // RoFormer, arXiv 2104.09864, section 3.2.2
  std::vector<double> values;
  for (std::int64_t position = 0; position < table.rows; ++position)
    for (std::int64_t i = 0; i < table.width / 2; ++i) {
      const double angle =
          static_cast<double>(position) *
          std::pow(kBase, -2 * static_cast<double>(i) / static_cast<double>(table.width));
      values.push_back(std::cos(angle));
      values.push_back(std::sin(angle));
    }
  kernels.write(table, values);
}

void write_tokens(KernelSet& kernels, const BindInput& in, const Execution& e) {
  const std::int64_t s = in.work.seq_length;
  std::vector<double> ids, targets;
  for (std::int64_t mb = 0; mb < in.layout.micro_batches(in.work.global_batch); ++mb)
    for (std::int64_t b = 0; b < in.layout.micro_batch; ++b)
      for (std::int64_t i = 0; i < s; ++i) {
        const std::int64_t sequence = e.first_sequence + mb * e.sequence_stride + b;
        ids.push_back(static_cast<double>(token_at(in.model, sequence, i)));
        targets.push_back(static_cast<double>(token_at(in.model, sequence, i + 1)));
      }
  if (e.ids) kernels.write(e.ids, ids);
  if (e.targets) kernels.write(e.targets, targets);
}

}  // namespace

std::uint64_t initial_seed(const ParameterTensor& p) {
  return hash(p.name);
}

std::vector<double> initial_values(const ParameterTensor& p) {
  std::vector<double> out(static_cast<std::size_t>(p.elements()));
  const std::uint64_t seed = initial_seed(p);
  each_element(p, [&](std::int64_t mine, std::int64_t whole) {
    // Uniform in ±√3, whose deviation is one.
    const double unit =
        static_cast<double>(mix(seed + static_cast<std::uint64_t>(whole)) >> 11) * 0x1p-53;
    const double value = p.mean + p.deviation * 1.7320508075688772 * (2 * unit - 1);
    out[static_cast<std::size_t>(mine)] = to_float(to_bf16(static_cast<float>(value)));
  });
  return out;
}

std::int64_t token_at(const ModelSpec& m, std::int64_t sequence, std::int64_t position) {
  const auto key =
      static_cast<std::uint64_t>(sequence) << 32 | static_cast<std::uint64_t>(position);
  return static_cast<std::int64_t>(mix(key) % static_cast<std::uint64_t>(m.vocab));
}

std::vector<ParameterTensor> parameters_of(const BindInput& in, const Execution& e) {
  ShardIndex at;
  for (const CommunicatorSpec& c : e.communicators) {
    if (c.group == CommGroup::tp) at.tp = c.index;
    if (c.group == CommGroup::etp) at.etp = c.index;
    if (c.group == CommGroup::ep) at.ep = c.index;
  }
  const int stage = in.program.devices[static_cast<std::size_t>(e.rank)].stage;
  return parameter_list(in.model, in.layout, rank_spans(in.model, in.layout, stage), at);
}

void set_up(KernelSet& kernels, const BindInput& in, const Execution& e) {
  for (const MemorySpec& m : e.memories) kernels.allocate(m.bytes);
  kernels.prepare(e);
  const std::vector<ParameterTensor> list = parameters_of(in, e);
  for (std::size_t i = 0; i < list.size(); ++i) {
    kernels.write_initial(e.parameters[i].value, list[i]);
    kernels.fill(e.parameters[i].gradient, 0);
  }
  for (const Adam::Piece& p : updates_of(e)) {
    kernels.copy(p.master, p.parameters);
    kernels.fill(p.first, 0);
    kernels.fill(p.second, 0);
  }
  if (e.rotary) write_rotary(kernels, e.rotary);
  if (e.ids || e.targets) write_tokens(kernels, in, e);
}

std::vector<Adam::Piece> updates_of(const Execution& e) {
  for (const Call& call : e.calls)
    if (const auto* adam = std::get_if<Adam>(&call.kernel)) return adam->pieces;
  return {};
}

void into_whole(const Execution& e, const ParameterTensor& p, const BoundParameter& bound,
                std::span<const double> shard, std::vector<double>& whole) {
  std::vector<bool> mine(shard.size(), false);
  const Bytes first = bound.value.offset / bytes_of(bound.value.type);
  for (const Adam::Piece& piece : updates_of(e)) {
    const Bytes from = piece.parameters.offset / bytes_of(piece.parameters.type) - first;
    for (Bytes i = std::max<Bytes>(from, 0);
         i < std::min<Bytes>(from + piece.parameters.elements(), p.elements()); ++i)
      mine[static_cast<std::size_t>(i)] = true;
  }
  each_element(p, [&](std::int64_t here, std::int64_t at) {
    const auto i = static_cast<std::size_t>(at);
    if (i >= whole.size()) whole.resize(i + 1, std::numeric_limits<double>::quiet_NaN());
    if (mine[static_cast<std::size_t>(here)]) whole[i] = shard[static_cast<std::size_t>(here)];
  });
}

void save_routing(KernelSet& kernels, const Execution& e, RoutingTape& tape) {
  for (const RoutingEntry& r : e.routing) {
    const std::vector<double> words = kernels.read(r.tape);
    for (std::int64_t t = 0; t < r.tape.rows; ++t)
      tape[{r.layer, r.first_token + t}].assign(words.begin() + t * r.tape.width,
                                                words.begin() + (t + 1) * r.tape.width);
  }
}

void load_routing(KernelSet& kernels, const Execution& e, const RoutingTape& tape) {
  for (const RoutingEntry& r : e.routing) {
    std::vector<double> words;
    for (std::int64_t t = 0; t < r.tape.rows; ++t) {
      const auto found = tape.find({r.layer, r.first_token + t});
      if (found == tape.end() || static_cast<std::int64_t>(found->second.size()) != r.tape.width)
        throw Error({"routing tape", "layer " + std::to_string(r.layer),
                     std::to_string(r.tape.width) + " choices of token " +
                         std::to_string(r.first_token + t),
                     "none", ""});
      words.insert(words.end(), found->second.begin(), found->second.end());
    }
    kernels.write(r.tape, words);
  }
}

}  // namespace steploom
