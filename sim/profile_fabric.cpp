#include "sim/profile_fabric.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>

#include "models/nearest.h"
#include "sim/cluster.h"
#include "sim/portable_math.h"

namespace steploom {
namespace {

constexpr int kVersion = 1;
constexpr int kMostCtas = 1024;

void allow_only(const Json& json, std::initializer_list<std::string_view> known) {
  json.allow_only(std::span<const std::string_view>(known.begin(), known.size()));
}

template <class Each>
void for_each(const Json& array, Each&& each) {
  for (std::size_t i = 0; i < array.size(); ++i) each(array.at(i));
}

// Whoever comes in order, each once.
template <class Item, class Key>
void append_sorted(std::vector<Item>& items, Item item, const Json& at, const char* order,
                   const Key& key) {
  if (!items.empty() && key(item) <= key(items.back()))
    at.refuse(std::string(order) + ", each once");
  items.push_back(std::move(item));
}

KernelClass read_class(const Json& json) {
  const std::string text = json.text();
  if (const auto found = kernel_class_named(text)) return *found;
  std::vector<std::string_view> names;
  for (int c = 0; c < kKernelClasses; ++c) names.push_back(name_of(static_cast<KernelClass>(c)));
  json.refuse("a class of kernels", nearest_hint(text, names));
}

OpKind read_collective(const Json& json) {
  const std::string text = json.text();
  std::vector<std::string_view> names;
  for (int k = 0; k < kOpKinds; ++k) {
    const auto kind = static_cast<OpKind>(k);
    if (!is_communication(kind)) continue;
    if (name_of(kind) == text) return kind;
    names.push_back(name_of(kind));
  }
  json.refuse("a collective", nearest_hint(text, names));
}

std::uint32_t read_rate(const Json& json) {
  return static_cast<std::uint32_t>(json.integer(1, kFullRate));
}

CtaCurve read_curve(const Json& json) {
  allow_only(json, {"collective", "ranks", "ctas", "bytes", "grids", "ns"});
  CtaCurve curve;
  curve.collective = read_collective(json.at("collective"));
  curve.ranks = json.at("ranks").small_integer(2, 1024);
  curve.ctas = json.at("ctas").small_integer(1, kMostCtas);
  for_each(json.at("bytes"), [&](const Json& at) {
    curve.bytes.push_back(at.integer(1, Bytes{1} << 50));
    if (curve.bytes.size() > 1 && curve.bytes.back() <= curve.bytes[curve.bytes.size() - 2])
      at.refuse("a size above the one before");
  });
  for_each(json.at("ns"),
           [&](const Json& at) { curve.ns.push_back(at.integer(1, std::int64_t{1} << 50)); });
  for_each(json.at("grids"), [&](const Json& at) {
    curve.grids.push_back(static_cast<std::uint16_t>(at.integer(1, curve.ctas)));
  });
  if (curve.bytes.empty()) json.at("bytes").refuse("at least one size");
  const std::string one_a_size = std::to_string(curve.bytes.size()) + " numbers, one a size";
  if (curve.ns.size() != curve.bytes.size()) json.at("ns").refuse(one_a_size);
  if (curve.grids.size() != curve.bytes.size()) json.at("grids").refuse(one_a_size);
  return curve;
}

std::vector<std::uint16_t> read_axis(const Json& json) {
  std::vector<std::uint16_t> axis;
  for_each(json, [&](const Json& at) {
    axis.push_back(static_cast<std::uint16_t>(at.integer(1, kMostCtas)));
    if (axis.size() > 1 && axis.back() <= axis[axis.size() - 2])
      at.refuse("a CTA count above the one before");
  });
  return axis;
}

ProfiledFabric::Beside read_beside(const Json& json) {
  allow_only(json, {"class", "beside", "own_ctas", "other_ctas", "rates"});
  ProfiledFabric::Beside b;
  b.own = read_class(json.at("class"));
  b.other = read_class(json.at("beside"));
  b.rates.own = read_axis(json.at("own_ctas"));
  b.rates.other = read_axis(json.at("other_ctas"));
  for_each(json.at("rates"), [&](const Json& at) { b.rates.rates.push_back(read_rate(at)); });
  const std::size_t crossings =
      std::max<std::size_t>(b.rates.own.size(), 1) * std::max<std::size_t>(b.rates.other.size(), 1);
  if (b.rates.rates.size() != crossings)
    json.at("rates").refuse(std::to_string(crossings) + " rates, one a crossing of CTA counts");
  return b;
}

ProfiledFabric::Share read_share(const Json& json) {
  allow_only(json, {"class", "rates", "priority_wave_ns"});
  ProfiledFabric::Share share;
  share.of = read_class(json.at("class"));
  if (is_collective(share.of) || is_copy(share.of))
    json.at("class").refuse("a kernel that is no collective and no copy");
  const Json rates = json.at("rates");
  if (rates.size() != share.rates.size()) rates.refuse("17 rates, at 0/16 to 16/16 of the SMs");
  for (std::size_t i = 0; i < share.rates.size(); ++i) share.rates[i] = read_rate(rates.at(i));
  share.priority_wave_ns = json.at("priority_wave_ns").integer(0, 1'000'000'000);
  return share;
}

// Profiles made before backward attention had a row: it takes the row of forward attention.
void complete(ProfiledFabric& f) {
  constexpr KernelClass kNew = KernelClass::attention_backward;
  if (f.row_of(kNew) != kNew) return;
  if (std::any_of(f.shares.begin(), f.shares.end(), [](const auto& s) { return s.of == kNew; }))
    return;
  const auto after =
      std::find_if(f.assumed.begin(), f.assumed.end(), [](const auto& a) { return a.of > kNew; });
  f.assumed.insert(after, {kNew, f.row_of(KernelClass::attention)});
}

// A copy is assumed as a measured kernel (it runs on SMs), has rows beside every measured kernel,
// both ways (an engine does it), or was not measured and has none.
template <class HasPair>
void check_copies(const ProfiledFabric& f, const Json& json, const HasPair& has_pair) {
  const auto is_measured = [&](KernelClass c) {
    return std::any_of(f.shares.begin(), f.shares.end(), [c](const auto& s) { return s.of == c; });
  };
  for (int i = 0; i < kKernelClasses; ++i) {
    const auto copy = static_cast<KernelClass>(i);
    if (!is_copy(copy) || !f.measures_copy(copy)) continue;
    if (f.needs_sms(copy)) {
      if (!is_measured(f.row_of(copy)))
        json.at("assumed").refuse("a measured kernel for " + std::string(name_of(copy)));
      continue;
    }
    for (const ProfiledFabric::Share& s : f.shares)
      for (const auto& [own, other] : {std::pair(copy, s.of), std::pair(s.of, copy)})
        if (!has_pair(own, other))
          json.at("beside").refuse(std::string(name_of(own)) + " beside " +
                                   std::string(name_of(other)));
  }
}

// Every class was measured or is assumed as one of its sort that was, and every measured kernel
// was measured beside every measured collective, both ways.
void check_complete(const ProfiledFabric& f, const Json& json) {
  const auto has_pair = [&](KernelClass own, KernelClass other) {
    return std::any_of(f.besides.begin(), f.besides.end(),
                       [&](const auto& b) { return b.own == own && b.other == other; });
  };
  std::array<bool, kKernelClasses> measured{};
  for (const auto& s : f.shares) measured[static_cast<std::size_t>(s.of)] = true;
  for (const auto& b : f.besides)
    if (is_collective(b.own)) measured[static_cast<std::size_t>(b.own)] = true;
  check_copies(f, json, has_pair);
  for (std::size_t i = 0; i < measured.size(); ++i) {
    const auto c = static_cast<KernelClass>(i);
    if (is_copy(c)) continue;
    const bool assumed = f.row_of(c) != c;
    if (measured[i] == assumed)
      json.at("assumed").refuse("the class " + std::string(name_of(c)) +
                                (assumed ? " left out: it was measured" : ", which has no rows"));
    if (assumed && (!measured[static_cast<std::size_t>(f.row_of(c))] ||
                    is_collective(c) != is_collective(f.row_of(c))))
      json.at("assumed").refuse("a measured class of the same sort for " + std::string(name_of(c)));
    for (std::size_t j = 0; j < measured.size(); ++j) {
      const auto other = static_cast<KernelClass>(j);
      if (measured[i] && measured[j] && !is_copy(other) &&
          (is_collective(c) || is_collective(other)) && !has_pair(c, other))
        json.at("beside").refuse(std::string(name_of(c)) + " beside " +
                                 std::string(name_of(other)));
    }
  }
}

CommunicatorMemory read_memory(const Json& json) {
  constexpr Bytes kMost = Bytes{1} << 40;
  allow_only(json, {"made", "rings", "messages", "idle", "source"});
  const auto part = [&](std::string_view name) {
    const Json at = json.at(name);
    allow_only(at, {"once", "each", "per_cta"});
    return CommunicatorMemory::Part{at.at("once").integer(0, kMost),
                                    at.at("each").integer(0, kMost),
                                    at.at("per_cta").integer(0, kMost)};
  };
  return {part("made"), part("rings"), part("messages"), json.at("idle").integer(0, kMost),
          json.at("source").text()};
}

ProfiledFabric read_fabric(const Json& json) {
  const Json version = json.at("version");
  if (version.integer() != kVersion) version.refuse("version " + std::to_string(kVersion));
  allow_only(json, {"version", "name", "date", "measured", "made", "attribution", "software",
                    "curves", "link_weights", "shares", "beside", "assumed", "memory"});
  ProfiledFabric f;
  f.name = json.at("name").text();
  const auto known = fabric_names();
  if (std::find(known.begin(), known.end(), f.name) == known.end())
    json.at("name").refuse("a fabric", nearest_hint(f.name, known));
  f.date = json.at("date").text();
  f.measured = json.at("measured").text();
  f.made = json.at("made").text();
  f.attribution = json.at("attribution").text();
  for_each(json.at("software"), [&](const Json& at) { f.software.push_back(at.text()); });
  for_each(json.at("curves"), [&](const Json& at) {
    append_sorted(f.curves, read_curve(at), at, "curves sorted by collective, ranks and CTAs",
                  [](const CtaCurve& c) { return std::tuple(c.collective, c.ranks, c.ctas); });
  });
  if (f.curves.empty()) json.at("curves").refuse("at least one curve");
  for_each(json.at("link_weights"), [&](const Json& at) {
    allow_only(at, {"collective", "weight"});
    append_sorted(f.link_weights,
                  {read_collective(at.at("collective")), at.at("weight").number(0.01, 1)}, at,
                  "weights sorted by collective", [](const auto& w) { return w.collective; });
  });
  for (const CtaCurve& c : f.curves)
    if (f.link_weight(c.collective) == 0)
      json.at("link_weights").refuse("a weight of " + std::string(name_of(c.collective)));
  for_each(json.at("shares"), [&](const Json& at) {
    append_sorted(f.shares, read_share(at), at, "shares sorted by class",
                  [](const auto& s) { return s.of; });
  });
  for_each(json.at("beside"), [&](const Json& at) {
    append_sorted(f.besides, read_beside(at), at, "pairs sorted by class",
                  [](const auto& b) { return std::tuple(b.own, b.other); });
  });
  for_each(json.at("assumed"), [&](const Json& at) {
    allow_only(at, {"class", "as"});
    append_sorted(f.assumed, {read_class(at.at("class")), read_class(at.at("as"))}, at,
                  "classes in order", [](const auto& a) { return a.of; });
  });
  if (const auto memory = json.find("memory")) f.memory = read_memory(*memory);
  complete(f);
  check_complete(f, json);
  return f;
}

}  // namespace

double CtaCurve::seconds(double at_bytes) const {
  const auto after = std::lower_bound(bytes.begin(), bytes.end(), at_bytes,
                                      [](Bytes b, double x) { return static_cast<double>(b) < x; });
  const auto i = static_cast<std::size_t>(after - bytes.begin());
  const auto time = [this](std::size_t k) { return 1e-9 * static_cast<double>(ns[k]); };
  if (i == bytes.size()) return time(i - 1) * (at_bytes / static_cast<double>(bytes[i - 1]));
  if (i == 0 || static_cast<double>(bytes[i]) == at_bytes) return time(i);
  const double low = portable_log2(static_cast<double>(bytes[i - 1]));
  const double part =
      (portable_log2(at_bytes) - low) / (portable_log2(static_cast<double>(bytes[i])) - low);
  return time(i - 1) * portable_exp2(part * portable_log2(time(i) / time(i - 1)));
}

std::uint16_t CtaCurve::grid(double at_bytes) const {
  std::size_t i = 0;
  while (i + 1 < bytes.size() && static_cast<double>(bytes[i + 1]) <= at_bytes) ++i;
  return grids[i];
}

bool ProfiledFabric::measures(int ranks) const {
  return std::any_of(curves.begin(), curves.end(),
                     [ranks](const CtaCurve& c) { return c.ranks == ranks; });
}

KernelClass ProfiledFabric::row_of(KernelClass c) const {
  for (const Assumed& a : assumed)
    if (a.of == c) return a.as;
  return c;
}

bool ProfiledFabric::measures_copy(KernelClass copy) const {
  return needs_sms(copy) || std::any_of(besides.begin(), besides.end(),
                                        [copy](const Beside& b) { return b.own == copy; });
}

bool ProfiledFabric::needs_sms(KernelClass copy) const {
  return row_of(copy) != copy;
}

double ProfiledFabric::link_weight(OpKind collective) const {
  for (const LinkWeight& w : link_weights)
    if (w.collective == collective) return w.weight;
  return 0;
}

std::vector<ProfiledFabric> read_fabrics(const Json& json) {
  std::vector<ProfiledFabric> fabrics;
  for_each(json, [&](const Json& at) {
    append_sorted(fabrics, read_fabric(at), at, "fabrics sorted by name",
                  [](const ProfiledFabric& f) { return f.name; });
  });
  return fabrics;
}

}  // namespace steploom
