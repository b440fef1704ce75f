// Memory, communication and what is done once a step.
#include "profiler/reference_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "models/error.h"
#include "profiler/execution.h"
#include "profiler/step_data.h"

namespace steploom {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

using Member = ReferenceMeeting::Member;

// What member `m` sends, piece by piece: read before anything is written.
std::vector<double> sent(const Member& m, std::size_t piece) {
  return m.kernels->read(m.call->pieces[piece].from);
}

std::vector<double> reduced(const std::vector<std::vector<double>>& from, bool maximum) {
  std::vector<double> sum = from[0];
  for (std::size_t r = 1; r < from.size(); ++r)
    for (std::size_t i = 0; i < sum.size(); ++i) {
      // A maximum with NaN is NaN: poison must show.
      if (!maximum)
        sum[i] += from[r][i];
      else if (!(sum[i] > from[r][i]) && !std::isnan(sum[i]))
        sum[i] = from[r][i];
    }
  return sum;
}

std::span<const double> part(const std::vector<double>& whole, std::size_t index,
                             std::size_t parts) {
  const std::size_t each = whole.size() / parts;
  return std::span(whole).subspan(index * each, each);
}

// What an all-to-all takes to member `to`.
std::span<const double> sent_to(const Collective::Piece& p, const std::vector<double>& from,
                                std::size_t to, std::size_t members) {
  if (p.send_rows.empty()) return part(from, to, members);
  std::int64_t first = 0;
  for (std::size_t i = 0; i < to; ++i) first += p.send_rows[i];
  return std::span(from).subspan(static_cast<std::size_t>(first * p.from.width),
                                 static_cast<std::size_t>(p.send_rows[to] * p.from.width));
}

void exchange(const std::vector<Member>& members, std::size_t piece) {
  std::vector<std::vector<double>> from;
  for (const Member& m : members) from.push_back(sent(m, piece));
  for (const Member& m : members) {
    const auto me = static_cast<std::size_t>(m.index);
    std::vector<double> to;
    switch (m.call->kind) {
      case CollectiveKind::all_reduce_sum:
      case CollectiveKind::all_reduce_max:
        to = reduced(from, m.call->kind == CollectiveKind::all_reduce_max);
        break;
      case CollectiveKind::all_gather:
        for (const auto& f : from) to.insert(to.end(), f.begin(), f.end());
        break;
      case CollectiveKind::reduce_scatter: {
        const std::vector<double> sum = reduced(from, false);
        const auto mine = part(sum, me, members.size());
        to.assign(mine.begin(), mine.end());
        break;
      }
      case CollectiveKind::all_to_all:
        for (std::size_t r = 0; r < members.size(); ++r) {
          const auto mine = sent_to(members[r].call->pieces[piece], from[r], me, members.size());
          to.insert(to.end(), mine.begin(), mine.end());
        }
        break;
      default:
        break;
    }
    m.kernels->write(m.call->pieces[piece].to, to);
  }
}

void meet(std::vector<Member>& members) {
  std::sort(members.begin(), members.end(),
            [](const Member& a, const Member& b) { return a.index < b.index; });
  const bool message = members[0].call->kind == CollectiveKind::send ||
                       members[0].call->kind == CollectiveKind::receive;
  for (std::size_t p = 0; p < members[0].call->pieces.size(); ++p) {
    if (!message) {
      exchange(members, p);
      continue;
    }
    const bool first_sends = members[0].call->kind == CollectiveKind::send;
    const Member& from = members[first_sends ? 0 : 1];
    const Member& to = members[first_sends ? 1 : 0];
    to.kernels->write(to.call->pieces[p].to, sent(from, p));
  }
}

}  // namespace

bool ReferenceMeeting::arrive(std::uint32_t communicator, std::size_t ranks, const Member& member) {
  std::vector<Member>& here = waiting_[communicator];
  here.push_back(member);
  if (here.size() < ranks) return false;
  std::vector<Member> all = std::move(here);
  here.clear();
  meet(all);
  return true;
}

std::uint32_t ReferenceKernels::allocate(Bytes bytes) {
  memories_.emplace_back(static_cast<std::size_t>((bytes + 1) / 2), kNaN);
  return static_cast<std::uint32_t>(memories_.size() - 1);
}

ReferenceKernels::View ReferenceKernels::view(const TensorRef& t) {
  std::vector<double>& memory = memories_.at(t.memory);
  const std::int64_t stride = bytes_of(t.type) / 2;
  if (t.offset < 0 || t.offset + t.bytes() > 2 * static_cast<Bytes>(memory.size()))
    throw Error({"execution", "a tensor's place", "inside its memory",
                 std::to_string(t.offset) + " + " + std::to_string(t.bytes()), ""});
  return {memory.data() + t.offset / 2, stride, t.width};
}

std::int64_t ReferenceKernels::View::index(std::int64_t i) const {
  const double x = (*this)[i];
  if (std::isnan(x)) throw PoisonRead("an index was read that nothing had written");
  return static_cast<std::int64_t>(x);
}

void ReferenceKernels::write(const TensorRef& to, std::span<const double> values) {
  if (static_cast<std::int64_t>(values.size()) != to.elements())
    throw Error({"execution", "a copy", std::to_string(to.elements()) + " elements",
                 std::to_string(values.size()), ""});
  const View v = view(to);
  for (std::size_t i = 0; i < values.size(); ++i) v[static_cast<std::int64_t>(i)] = values[i];
}

void ReferenceKernels::write_initial(const TensorRef& to, const ParameterTensor& p) {
  write(to, initial_values(p));
}

void ReferenceKernels::fill(const TensorRef& to, double value) {
  write(to, std::vector<double>(static_cast<std::size_t>(to.elements()), value));
}

std::vector<double> ReferenceKernels::read(const TensorRef& from) {
  std::vector<double> out(static_cast<std::size_t>(from.elements()));
  const View v = view(from);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = v[static_cast<std::int64_t>(i)];
  return out;
}

void ReferenceKernels::poison(const TensorRef& t, int) {
  const View v = view(t);
  const TensorRef halves = t.shaped(t.bytes() / 2, 1);
  for (std::int64_t i = 0; i < halves.rows; ++i) (&v[0])[i] = kNaN;
}

void ReferenceKernels::launch(const Collective& c, int) {
  const CommunicatorSpec& spec = execution_->communicators.at(c.communicator);
  met_ = meeting_.arrive(spec.id, spec.ranks.size(), {this, &c, spec.index});
}

void ReferenceKernels::launch(const SumOfSquares& c, int) {
  double sum = 0;
  for (const SumOfSquares::Piece& p : c.pieces) {
    const View x = view(p.x);
    double piece = 0;
    for (std::int64_t i = 0; i < p.x.elements(); ++i) piece += x[i] * x[i];
    sum += p.factor * piece;
  }
  view(c.sum)[0] = sum;
}

void ReferenceKernels::launch(const Adam& c, int) {
  const double norm = std::sqrt(view(c.squares)[0]);
  // Not std::min: a norm of NaN must show.
  const double factor = c.clip <= 0            ? 1
                        : norm + 1e-6 > c.clip ? c.clip / (norm + 1e-6)
                                               : 1 + 0 * norm;
  const double correction1 = 1 - std::pow(c.beta1, static_cast<double>(step_));
  const double correction2 = 1 - std::pow(c.beta2, static_cast<double>(step_));
  for (const Adam::Piece& p : c.pieces) {
    const View value = view(p.parameters), master = view(p.master), first = view(p.first),
               second = view(p.second), gradient = view(p.gradient);
    for (std::int64_t i = 0; i < p.gradient.elements(); ++i) {
      const double g = gradient[i] * factor;
      first[i] = c.beta1 * first[i] + (1 - c.beta1) * g;
      second[i] = c.beta2 * second[i] + (1 - c.beta2) * g * g;
      const double change =
          first[i] / correction1 / (std::sqrt(second[i] / correction2) + c.epsilon);
      master[i] -= c.rate * (change + c.decay * master[i]);
      value[i] = master[i];
    }
  }
}

void ReferenceKernels::launch(const ZeroFill& c, int) {
  for (const TensorRef& t : c.pieces) {
    const View v = view(t);
    for (std::int64_t i = 0; i < t.elements(); ++i) v[i] = 0;
  }
}

}  // namespace steploom
