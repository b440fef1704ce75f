// Flags of Megatron-Core, as a script and as the YAML of its test and benchmark suites.
#include "models/to_megatron.h"
#include "tools/exporter.h"

namespace steploom {

Exported export_megatron(const Asked& asked, const ExportOptions&) {
  const Setting& s = asked.question->setting();
  MegatronExport m = to_megatron(s.model, s.work, asked.layout, s.runtime);
  add_node_order(s.cluster, m.not_expressed);
  const MegatronJob job = job_of(asked);
  Exported out;
  out.files.push_back(
      text_file(job.name + ".sh", shell_script(m.args, job), "the run, as a script"));
  out.files.push_back(
      text_file(job.name + ".yaml", to_yaml(m.args), "its flags as ENV_VARS and MODEL_ARGS"));
  out.files.push_back(not_expressed_file(m.not_expressed));
  out.not_expressed = std::move(m.not_expressed);
  out.notes.push_back(
      "a benchmark of 50 steps on made-up data: replace --mock-data, --tokenizer-type, "
      "--train-iters and --lr to train");
  return out;
}

}  // namespace steploom
