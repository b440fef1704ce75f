#include "models/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "models/error.h"
#include "models/nearest.h"
#include "models/stages.h"

namespace steploom {
namespace {

constexpr std::int64_t kMostDegree = 1'000'000;
constexpr std::size_t kLeastGuessed = 3;  // letters; every two-letter key is near every other

constexpr std::array<std::string_view, 27> kKeys{
    "tp",        "pp",         "ep",         "etp",       "mbs",      "sp",     "zero",
    "recompute", "chunks",     "vpp",        "vpp_group", "stages",   "cp",     "cp_comm",
    "reshard",   "replicate",  "schedule",   "partition", "dw",       "bucket", "grad_micro",
    "a2a_first", "tp_overlap", "dispatcher", "weave",     "pairwise", "offload"};
constexpr std::array<std::string_view, 3> kContextComms{"p2p", "allgather", "a2a"};
constexpr std::array<std::string_view, 2> kDispatchers{"alltoall", "deepep"};
constexpr std::array<std::string_view, 2> kOffloads{"none", "experts"};
constexpr std::array<std::string_view, kPipelineOrders> kOrders{
    "1f1b",     "gpipe", "looped-bfs", "zb-h1", "zb-h2",      "interleaved-zb",
    "searched", "zb-v",  "v-half",     "v-min", "dualpipe-v", "searched-v"};
constexpr std::array<std::string_view, 3> kWeightPlacements{"none", "lancet", "solved"};
constexpr std::int64_t kMostElements = 1'000'000'000'000;
// Groups that a CTA count can be given to; "ctas.tp".
struct CtaKey {
  std::string_view key;
  std::array<CommGroup, 4> groups;  // alike
};
constexpr auto one_group(CommGroup g) {
  return std::array{g, g, g, g};
}
constexpr std::array<CtaKey, 10> kCtaKeys{
    {{"ctas.tp", one_group(CommGroup::tp)},
     {"ctas.cp", one_group(CommGroup::cp)},
     {"ctas.ep", one_group(CommGroup::ep)},
     {"ctas.etp", one_group(CommGroup::etp)},
     {"ctas.dp", one_group(CommGroup::dp)},
     {"ctas.expert_dp", one_group(CommGroup::expert_dp)},
     {"ctas.pp",
      {CommGroup::pp_forward_in, CommGroup::pp_forward_out, CommGroup::pp_backward_in,
       CommGroup::pp_backward_out}},
     {"ctas.dp_outer",
      {CommGroup::dp_outer, CommGroup::expert_dp_outer, CommGroup::dp_outer,
       CommGroup::expert_dp_outer}},
     {"ctas.embedding", one_group(CommGroup::embedding)},
     {"ctas.world", one_group(CommGroup::world)}}};
constexpr std::string_view kAllCtas = "ctas";
constexpr std::int64_t kMostCtas = 1024;

[[noreturn]] void refuse(std::string_view key, std::string expected, std::string_view found,
                         std::string hint = "") {
  throw Error({"layout", std::string(key), std::move(expected), fmt::format("'{}'", found),
               std::move(hint)});
}

// Every key of the text form; those of single groups only where one of them may be meant.
std::vector<std::string_view> known_keys(std::string_view meant) {
  std::vector<std::string_view> keys(kKeys.begin(), kKeys.end());
  keys.push_back(kAllCtas);
  if (meant.starts_with(kAllCtas))
    for (const CtaKey& k : kCtaKeys) keys.push_back(k.key);
  return keys;
}

void set_ctas(Layout& l, const CtaKey& key, int ctas) {
  for (const CommGroup g : key.groups) l.ctas[static_cast<std::size_t>(g)] = ctas;
}

// "" where all are 0, ",ctas=8" where all are equal, else ",ctas.tp=8" and so on.
std::string ctas_text(const Layout& l) {
  const auto of = [&l](const CtaKey& k) { return l.ctas_of(k.groups[0]); };
  const int first = of(kCtaKeys[0]);
  if (std::all_of(kCtaKeys.begin(), kCtaKeys.end(),
                  [&](const CtaKey& k) { return of(k) == first; }))
    return first == 0 ? "" : fmt::format(",{}={}", kAllCtas, first);
  std::string text;
  for (const CtaKey& k : kCtaKeys)
    if (of(k) != 0) text += fmt::format(",{}={}", k.key, of(k));
  return text;
}

// "" for even stages with one chunk a rank in 1F1B, else ",vpp=2,stages=Ett|ttt|tL".
std::string pipeline_text(const Layout& l) {
  std::string text;
  if (l.vpp != 1) text += fmt::format(",vpp={}", l.vpp);
  if (l.vpp_group != 0) text += fmt::format(",vpp_group={}", l.vpp_group);
  if (!l.stages.empty()) text += ",stages=" + stages_text(l.stages);
  if (l.schedule != PipelineOrder::one_forward_one_backward)
    text += fmt::format(",schedule={}", name_of(l.schedule));
  return text;
}

// "" with whole sequences, else ",cp=4,cp_comm=a2a"; a ring is not named.
std::string context_text(const Layout& l) {
  std::string text;
  if (l.cp != 1) text += fmt::format(",cp={}", l.cp);
  if (l.cp_comm != ContextComm::p2p) text += fmt::format(",cp_comm={}", name_of(l.cp_comm));
  return text;
}

// "" where sharded parameters are gathered for each pass, and shards lie on all ranks.
std::string sharding_text(const Layout& l) {
  std::string text = l.reshard ? "" : ",reshard=0";
  if (l.replicate != 1) text += fmt::format(",replicate={}", l.replicate);
  return text;
}

// "" where every operator runs whole.
std::string partition_text(const Layout& l) {
  return l.partition.cuts() ? ",partition=" + to_text(l.partition) : "";
}

// "" where gradients are computed and reduced as the runtime does.
std::string gradients_text(const Layout& l) {
  std::string text;
  if (l.dw != WeightPlacement::none) text += fmt::format(",dw={}", name_of(l.dw));
  if (l.bucket != 0) text += fmt::format(",bucket={}", l.bucket);
  if (l.grad_micro != 0) text += fmt::format(",grad_micro={}", l.grad_micro);
  if (l.a2a_first) text += ",a2a_first=1";
  return text;
}

// "" through NCCL, else ",dispatcher=deepep".
std::string dispatcher_text(const Layout& l) {
  if (l.dispatcher == Dispatcher::alltoall) return "";
  return fmt::format(",dispatcher={}", name_of(l.dispatcher));
}

// One of an enumeration's names.
template <class Enum>
Enum named(std::string_view key, std::string_view value, std::span<const std::string_view> names) {
  const auto at = std::find(names.begin(), names.end(), value);
  if (at == names.end())
    refuse(key, fmt::format("{}", fmt::join(names, ", ")), value, nearest_hint(value, names));
  return static_cast<Enum>(at - names.begin());
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\n") - first + 1);
}

std::int64_t whole_number(std::string_view key, std::string_view value, std::int64_t least,
                          std::int64_t most) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc{} || end != value.data() + value.size() || number < least ||
      number > most) {
    refuse(key, fmt::format("an integer from {} to {}", least, most), value);
  }
  return number;
}

void set(Layout& l, std::optional<int>& etp, std::string_view key, std::string_view value) {
  const auto degree = [&] { return static_cast<int>(whole_number(key, value, 1, kMostDegree)); };
  if (key == "tp") {
    l.tp = degree();
  } else if (key == "pp") {
    l.pp = degree();
  } else if (key == "ep") {
    l.ep = degree();
  } else if (key == "etp") {
    etp = degree();
  } else if (key == "mbs") {
    l.micro_batch = degree();
  } else if (key == "chunks") {
    l.chunks = degree();
  } else if (key == "sp") {
    l.sp = whole_number(key, value, 0, 1) == 1;
  } else if (key == "zero") {
    l.zero = static_cast<int>(whole_number(key, value, 0, 3));
  } else if (key == "vpp") {
    l.vpp = degree();
  } else if (key == "vpp_group") {
    l.vpp_group = degree();
  } else if (key == "reshard") {
    l.reshard = whole_number(key, value, 0, 1) == 1;
  } else if (key == "replicate") {
    l.replicate = degree();
  } else if (key == "tp_overlap") {
    l.tp_overlap = whole_number(key, value, 0, 1) == 1;
  } else if (key == "dispatcher") {
    l.dispatcher = named<Dispatcher>(key, value, kDispatchers);
  } else if (key == "weave") {
    l.weave = whole_number(key, value, 0, 1) == 1;
  } else if (key == "pairwise") {
    l.pairwise = degree();
  } else if (key == "offload") {
    l.offload = named<Offload>(key, value, kOffloads);
  } else if (key == "cp") {
    l.cp = degree();
  } else if (key == "cp_comm") {
    l.cp_comm = named<ContextComm>(key, value, kContextComms);
  } else if (key == "schedule") {
    l.schedule = named<PipelineOrder>(key, value, kOrders);
  } else if (key == "partition") {
    l.partition = parse_partition(value);
  } else if (key == "dw") {
    l.dw = named<WeightPlacement>(key, value, kWeightPlacements);
  } else if (key == "bucket") {
    l.bucket = whole_number(key, value, 0, kMostElements);
  } else if (key == "grad_micro") {
    l.grad_micro = whole_number(key, value, 0, kMostElements);
  } else if (key == "a2a_first") {
    l.a2a_first = whole_number(key, value, 0, 1) == 1;
  } else if (key == "stages") {
    l.stages = parse_stages(value);
  } else if (key.starts_with(kAllCtas)) {
    const auto ctas = static_cast<int>(whole_number(key, value, 1, kMostCtas));
    for (const CtaKey& k : kCtaKeys)
      if (key == k.key || (key == kAllCtas && l.ctas_of(k.groups[0]) == 0)) set_ctas(l, k, ctas);
  } else {
    const RecomputeChoice choice = parse_recompute(value);
    l.recompute = choice.what;
    l.recompute_detail = choice.detail;
  }
}

}  // namespace

std::string_view name_of(ContextComm c) {
  return kContextComms.at(static_cast<std::size_t>(c));
}

std::string_view name_of(Dispatcher d) {
  return kDispatchers.at(static_cast<std::size_t>(d));
}

std::string_view name_of(Offload o) {
  return kOffloads.at(static_cast<std::size_t>(o));
}

std::string_view name_of(WeightPlacement w) {
  return kWeightPlacements.at(static_cast<std::size_t>(w));
}

std::string_view name_of(PipelineOrder o) {
  return kOrders.at(static_cast<std::size_t>(o));
}

int Layout::gradient_parts(std::int64_t elements, int ranks, Bytes each) const {
  if (grad_micro == 0 || elements * each <= grad_micro) return 1;
  const std::int64_t shares = elements % ranks == 0 ? ranks : 1;
  const std::int64_t least = (elements * each + grad_micro - 1) / grad_micro;
  for (std::int64_t n = least; n <= 2 * least + 16 && n <= elements; ++n)
    if (elements % (n * shares) == 0) return static_cast<int>(n);
  return 1;
}

Layout parse_layout(std::string_view text, int devices, bool has_moe) {
  Layout l;
  std::optional<int> etp;
  std::vector<std::string_view> seen;
  std::string_view rest = trimmed(text);
  while (!rest.empty()) {
    const std::size_t comma = rest.find(',');
    const std::string_view item = trimmed(rest.substr(0, comma));
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos) refuse("", "key=value", item);
    const std::string_view key = trimmed(item.substr(0, equals));
    const std::vector<std::string_view> keys = known_keys(key);
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      const std::string_view guessed = key.size() < kLeastGuessed ? "" : key;
      refuse(
          "", "a known key", key,
          key == "dp" ? "dp follows from the devices, tp, cp and pp" : nearest_hint(guessed, keys));
    }
    if (std::find(seen.begin(), seen.end(), key) != seen.end()) {
      refuse(key, "each key once", item);
    }
    seen.push_back(key);
    set(l, etp, key, trimmed(item.substr(equals + 1)));
    if (comma == std::string_view::npos) break;
    rest = trimmed(rest.substr(comma + 1));
    if (rest.empty()) refuse("", "key=value after the last comma", "");
  }
  l.etp = etp.value_or(has_moe ? l.tp : 1);

  const std::int64_t replica = std::int64_t{l.tp} * l.cp * l.pp;
  if (devices < 1 || devices % replica != 0) {
    throw Error({"layout", "tp·cp·pp", fmt::format("a divisor of the {} devices", devices),
                 fmt::format("{}", replica), ""});
  }
  l.dp = static_cast<int>(devices / replica);
  return l;
}

std::string to_text(const Layout& l) {
  return fmt::format("tp={},pp={},ep={},etp={},mbs={},sp={},zero={},recompute={}", l.tp, l.pp, l.ep,
                     l.etp, l.micro_batch, l.sp ? 1 : 0, l.zero,
                     to_text(l.recompute, l.recompute_detail)) +
         (l.chunks == 1 ? "" : fmt::format(",chunks={}", l.chunks)) + ctas_text(l) +
         pipeline_text(l) + context_text(l) + sharding_text(l) + partition_text(l) +
         gradients_text(l) + (l.tp_overlap ? ",tp_overlap=1" : "") + dispatcher_text(l) +
         (l.weave ? ",weave=1" : "") +
         (l.pairwise == 1 ? "" : fmt::format(",pairwise={}", l.pairwise)) +
         (l.offload == Offload::none ? "" : fmt::format(",offload={}", name_of(l.offload)));
}

std::string short_name(const Layout& l) {
  std::string name = fmt::format("tp{} pp{}", l.tp, l.pp);
  if (l.vpp != 1) name += fmt::format("x{}", l.vpp);
  const auto add = [&name](std::string_view key, std::int64_t degree) {
    if (degree != 1) name += fmt::format(" {}{}", key, degree);
  };
  add("cp", l.cp);
  if (l.cp_comm != ContextComm::p2p) name += fmt::format(" {}", name_of(l.cp_comm));
  add("ep", l.ep);
  add("etp", l.etp);
  add("dp", l.dp);
  name += fmt::format(" zero{}", l.zero);
  if (!l.reshard) name += " kept";
  add("x", l.replicate);
  if (l.sp) name += " sp";
  add("chunks", l.chunks);
  if (l.tp_overlap) name += " tp-overlap";
  if (l.dispatcher != Dispatcher::alltoall) name += fmt::format(" {}", name_of(l.dispatcher));
  if (l.weave) name += " woven";
  add("pairwise", l.pairwise);
  if (l.offload != Offload::none) name += fmt::format(" offloaded {}", name_of(l.offload));
  if (l.schedule != PipelineOrder::one_forward_one_backward)
    name += fmt::format(" {}", name_of(l.schedule));
  if (l.partition.cuts()) name += " parts " + to_text(l.partition);
  std::string ctas = ctas_text(l) + gradients_text(l);
  std::replace(ctas.begin(), ctas.end(), ',', ' ');
  if (!l.stages.empty()) ctas += " " + stages_text(l.stages);
  return name + ctas;
}

}  // namespace steploom
