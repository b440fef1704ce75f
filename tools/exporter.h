// Formats that a plan can be exported to: a file and a row of the table in verb_export.cpp each.
//
// An exporter makes everything up before anything is written and refuses what it must, so that
// nothing is half-written; then the verb writes its files, each whole or not at all.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include "tools/question.h"
#include "traces/megatron_script.h"

namespace steploom {

struct ExportOptions {
  bool unfold = false;              // every rank for itself, not one for all alike
  int stage = 0;                    // pipeline stage that is drawn
  std::vector<std::string> blocks;  // passes that are drawn; empty: all
  std::string torch_version;        // whose compute_comms is written; empty: compute_only
};

struct ExportedFile {
  std::string name;                          // in the folder
  std::function<void(std::ostream&)> write;  // owns what it writes
  std::string what;                          // "Megatron's flags, as a script"
};

struct Exported {
  std::vector<ExportedFile> files;
  std::vector<std::string> not_expressed;  // of the plan, item by item
  std::vector<std::string> notes;          // how to use it
};

using RunExporter = Exported (*)(const Asked& asked, const ExportOptions& options);

struct Exporter {
  std::string_view name;     // "megatron"
  std::string_view summary;  // one line
  RunExporter run;
  std::string_view options;  // of ExportOptions, those that it knows: "unfold", "stage block"
};

Exported export_megatron(const Asked& asked, const ExportOptions& options);
Exported export_slurm(const Asked& asked, const ExportOptions& options);
Exported export_chakra(const Asked& asked, const ExportOptions& options);
Exported export_chrome(const Asked& asked, const ExportOptions& options);
Exported export_perfetto(const Asked& asked, const ExportOptions& options);
Exported export_torch(const Asked& asked, const ExportOptions& options);
Exported export_dot(const Asked& asked, const ExportOptions& options);

// What exporters share.
std::string file_stem(const Asked& asked);  // the model's name, as far as it fits a file's
MegatronJob job_of(const Asked& asked);     // with what it is and how long it should take
ExportedFile text_file(std::string name, std::string text, std::string what);
// Where nodes have several types of GPU: which ranks the plan has on which. A launcher numbers
// nodes as it is given them, and no framework's flags name a GPU.
void add_node_order(const Cluster& cluster, std::vector<std::string>& items);
// What Megatron-Core cannot be told, for people; there even if there is nothing of it.
ExportedFile not_expressed_file(const std::vector<std::string>& items);

}  // namespace steploom
