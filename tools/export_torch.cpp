// A schedule for torch.distributed.pipelining, and what runs it: a driver, its model, its job.
#include <fmt/format.h>

#include <charconv>
#include <stdexcept>
#include <string>
#include <vector>

#include "models/embedded.h"
#include "models/error.h"
#include "models/parameters.h"
#include "planner/lower.h"
#include "planner/schedule_seats.h"
#include "planner/torch_rules.h"
#include "tools/exporter.h"

namespace steploom {
namespace {

// REDUCE_GRAD came with 2.10 (PyTorch PR #161072); what later versions add is unknown.
constexpr int kFirstMinor = 10, kLastMinor = 11;

int minor_of(const std::string& version) {
  int minor = 0;
  const char *begin = version.data() + 2, *end = version.data() + version.size();
  if (version.rfind("2.", 0) == 0)
    if (const auto [at, fault] = std::from_chars(begin, end, minor);
        fault == std::errc{} && (at == end || *at == '.') && minor >= kFirstMinor)
      return minor;
  throw Error({"command line", "--torch-version", "2.10, 2.11 or later, as X.Y",
               fmt::format("'{}'", version),
               "earlier versions scale gradients elsewhere: leave it out for compute_only"});
}

[[noreturn]] void refuse(const std::string& what, const std::string& expected,
                         const std::string& found) {
  throw Error({"--to torch", what, expected, found, ""});
}

void refuse_what_it_cannot_run(const Setting& s, const Layout& l) {
  const ModelSpec& m = s.model;
  const AttentionSpec& a = m.attention;
  if (l.devices() != l.pp)
    refuse("layout", "pipeline ranks alone: the driver has one GPU a stage, no replicas",
           short_name(l));
  if (l.recompute != Recompute::none &&
      (l.recompute != Recompute::full || l.recompute_detail != RecomputeDetail{}))
    refuse("layout", "recompute=none or recompute=full", to_text(l.recompute, l.recompute_detail));
  const bool llama = a.rotary && m.dense.gated && !m.norm_bias && !a.qkv_bias && !a.out_bias &&
                     !m.dense.bias && !m.learned_positions;
  const bool gpt = !a.rotary && !m.dense.gated && m.norm_bias && a.qkv_bias && a.out_bias &&
                   m.dense.bias && m.learned_positions;
  if (m.has_moe() || a.qk_norm || m.embedding_width > 0 || m.mtp_modules > 0 || a.window > 0 ||
      a.kind == AttentionKind::latent || !(llama || gpt))
    refuse("model", "one that profiler/torch_model.py builds, llama-like or GPT-2-like", m.name);
  if (s.work.precision != Precision::bf16)
    refuse("precision", "bf16", std::string(name_of(s.work.precision)));
}

Placement placement_of(const Layout& l) {
  return in_a_v(l.schedule) ? Placement::v : Placement::loop;
}

ScheduleShape shape_of(const Setting& s, const Layout& l) {
  return {l.pp, l.vpp, l.vpp_group, l.micro_batches(s.work.global_batch)};
}

std::string job_text(const Setting& s, const Layout& l, bool messages) {
  const ModelSpec& m = s.model;
  const AttentionSpec& a = m.attention;
  std::string stages;
  std::vector<int> rank_of(static_cast<std::size_t>(l.virtual_stages()));
  for (const Seat& seat : seats_of(placement_of(l), shape_of(s, l)))
    rank_of[static_cast<std::size_t>(seat.stage)] = seat.rank;
  for (int i = 0; i < l.virtual_stages(); ++i) {
    const StageSpan span = stage_span(m, l, i);
    stages += fmt::format("{}    {{\"rank\": {}, \"first_layer\": {}, \"layers\": {}}}",
                          i == 0 ? "" : ",\n", rank_of[static_cast<std::size_t>(i)],
                          span.first_layer, span.layers);
  }
  const std::string optimizer(s.work.optimizer == Optimizer::adam ? "adamw-fused"
                                                                  : name_of(s.work.optimizer));
  return fmt::format(
      "{{\n  \"steploom_job\": 1,\n  \"layout\": \"{}\",\n  \"ranks\": {},\n"
      "  \"format\": \"{}\",\n  \"sequence\": {},\n  \"micro_batch\": {},\n"
      "  \"micro_batches\": {},\n  \"optimizer\": \"{}\",\n  \"recompute\": \"{}\",\n"
      "  \"model\": {{\"llama\": {}, \"layers\": {}, \"hidden\": {}, \"heads\": {}, "
      "\"kv_heads\": {}, \"head_dim\": {}, \"ffn\": {}, \"vocab\": {}, \"positions\": {}, "
      "\"tied\": {}}},\n  \"stages\": [\n{}\n  ]\n}}\n",
      to_text(l), l.pp, messages ? "compute_comms" : "compute_only", s.work.seq_length,
      l.micro_batch, l.micro_batches(s.work.global_batch), optimizer,
      l.recompute == Recompute::full ? "full" : "none", a.rotary, m.layers, m.hidden, a.heads,
      a.kv_heads, a.head_dim, m.dense.width, m.vocab,
      m.learned_positions ? m.max_positions : s.work.seq_length, m.tied_embeddings, stages);
}

std::vector<std::string> not_expressed(const Setting& s, const Layout& l, int minor) {
  std::vector<std::string> items;
  if (s.runtime.name != "torch-eager")
    items.push_back(fmt::format(
        "runtime {}: the driver is plain eager PyTorch, slower than planned; plan with --runtime "
        "torch-eager",
        s.runtime.name));
  if (s.model.tied_embeddings && l.pp > 1)
    items.push_back(
        "tied embeddings: first and last stage each train a table of their own; the plan keeps "
        "them equal");
  if (s.work.optimizer == Optimizer::adam)
    items.push_back(
        "optimizer adam with fp32 masters: the driver runs AdamW(fused=True) on bf16 parameters");
  for (const int ctas : l.ctas)
    if (ctas > 0) {
      items.push_back("ctas: NCCL's own choice is taken; NCCL_MAX_CTAS bounds all groups alike");
      break;
    }
  if (minor > kLastMinor)
    items.push_back(
        fmt::format("PyTorch 2.{}: the file is written as 2.{} reads it", minor, kLastMinor));
  return items;
}

ExportedFile driver(std::string_view name, const std::string& what) {
  for (const EmbeddedFile& f : embedded_drivers())
    if (f.name == name) return text_file(std::string(name) + ".py", std::string(f.text), what);
  throw std::logic_error("no driver is embedded");
}

}  // namespace

Exported export_torch(const Asked& asked, const ExportOptions& options) {
  const Setting& s = asked.question->setting();
  const Layout& l = asked.layout;
  const bool messages = !options.torch_version.empty();
  const int minor = messages ? minor_of(options.torch_version) : kLastMinor;
  refuse_what_it_cannot_run(s, l);
  const auto m = static_cast<std::int32_t>(l.micro_batches(s.work.global_batch));
  CostCache costs(s.costs);
  const Lowered lowered = lower(s, l, costs);
  TorchRows rows = torch_actions(lowered.slots, placement_of(l), shape_of(s, l));
  if (messages) rows = with_messages(rows, l.virtual_stages(), m);
  const std::string fault = torch_fault({rows, l.pp, l.virtual_stages(), m, messages});
  if (!fault.empty()) refuse("schedule", "one that PyTorch takes", fault);

  Exported out;
  out.files.push_back(text_file(
      "schedule.csv", to_csv(rows),
      messages ? "a row a rank, with messages (compute_comms)" : "a row a rank (compute_only)"));
  out.files.push_back(text_file("job.json", job_text(s, l, messages), "model, stages and batch"));
  out.files.push_back(driver("torch_pipeline", "the driver, for torchrun"));
  out.files.push_back(driver("torch_model", "its model"));
  out.not_expressed = not_expressed(s, l, minor);
  add_node_order(s.cluster, out.not_expressed);
  out.files.push_back(not_expressed_file(out.not_expressed));
  out.notes.push_back(fmt::format("torchrun --nproc-per-node {} torch_pipeline.py", l.pp));
  return out;
}

}  // namespace steploom
