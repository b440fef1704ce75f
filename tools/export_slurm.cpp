// A Slurm batch script around Megatron-Core's flags.
#include "models/to_megatron.h"
#include "tools/exporter.h"

namespace steploom {

Exported export_slurm(const Asked& asked, const ExportOptions&) {
  const Setting& s = asked.question->setting();
  MegatronExport m = to_megatron(s.model, s.work, asked.layout, s.runtime);
  add_node_order(s.cluster, m.not_expressed);
  const MegatronJob job = job_of(asked);
  Exported out;
  out.files.push_back(
      text_file(job.name + ".sbatch", slurm_script(m.args, job), "the job; submit with sbatch"));
  out.files.push_back(not_expressed_file(m.not_expressed));
  out.not_expressed = std::move(m.not_expressed);
  out.notes.push_back("DRY_RUN=1 prints the command; partition and account are yours to add");
  return out;
}

}  // namespace steploom
