// steploom export: a plan for other programs.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>

#include "models/atomic_file.h"
#include "models/error.h"
#include "models/nearest.h"
#include "tools/exporter.h"
#include "tools/report.h"
#include "tools/verb.h"

namespace steploom {
namespace {

namespace fs = std::filesystem;

constexpr std::array kExporters{
    Exporter{"megatron", "Megatron-Core's flags, as a script and as YAML", export_megatron, ""},
    Exporter{"slurm", "a Slurm batch script around Megatron-Core's flags", export_slurm, ""},
    Exporter{"torch", "torch.distributed.pipelining's schedule file, with a driver", export_torch,
             "--torch-version"},
    Exporter{"chakra", "Chakra execution traces, a file a rank, for ASTRA-sim", export_chakra, ""},
    Exporter{"chrome", "Chrome JSON, as the PyTorch profiler writes it", export_chrome, "--unfold"},
    Exporter{"perfetto", "Perfetto's protobuf trace", export_perfetto, "--unfold"},
    Exporter{"dot", "a stage's operator graph for Graphviz", export_dot, "--stage --block"},
};

struct Flags {
  QuestionFlags question;
  std::string layout;
  std::string to;
  std::string folder;
  ExportOptions options;
  std::string format = "table";
};

std::vector<std::string_view> format_names() {
  std::vector<std::string_view> names;
  for (const Exporter& e : kExporters) names.push_back(e.name);
  return names;
}

const Exporter& exporter_named(const std::string& name) {
  for (const Exporter& e : kExporters)
    if (e.name == name) return e;
  const auto names = format_names();
  throw Error({"--to", "", fmt::format("one of {}", fmt::join(names, ", ")), "'" + name + "'",
               nearest_hint(name, names)});
}

void refuse_options_of_others(const Exporter& e, const CLI::App& app) {
  for (const char* option : {"--unfold", "--stage", "--block", "--torch-version"}) {
    if (app.count(option) == 0 || e.options.find(option) != e.options.npos) continue;
    std::string of;
    for (const Exporter& other : kExporters)
      if (other.options.find(option) != other.options.npos)
        of += fmt::format("{}--to {}", of.empty() ? "" : " or ", other.name);
    throw Error({"command line", option, of, fmt::format("--to {}", e.name), ""});
  }
}

// Nothing exists before everything to be written is known; then file after file is whole.
void write_files(const Exported& exported, const fs::path& folder) {
  std::error_code fault;
  const bool is_new = fs::create_directories(folder, fault);
  if (fault)
    throw Error({"--output", folder.string(), "a folder that can be written", fault.message(), ""});
  try {
    for (const ExportedFile& f : exported.files) write_file_atomically(folder / f.name, f.write);
  } catch (...) {
    std::error_code ignored;
    if (is_new) fs::remove_all(folder, ignored);
    throw;
  }
}

ExitStatus run(const Flags& f, const CLI::App& app) {
  const TableFormat format = parse_table_format(f.format, "--format");
  const Exporter& exporter = exporter_named(f.to);
  refuse_options_of_others(exporter, app);
  const Asked asked = ask(f.question, f.layout);
  const Exported exported = exporter.run(asked, f.options);
  const fs::path folder =
      f.folder.empty() ? fmt::format("{}-{}", file_stem(asked), exporter.name) : f.folder;
  write_files(exported, folder);

  Report report(asked.question->headline());
  Table table({{"file"}, {"size", CellKind::bytes}, {"what"}});
  for (const ExportedFile& file : exported.files) {
    const fs::path path = folder / file.name;
    table.add({path.string(), static_cast<std::int64_t>(fs::file_size(path)), file.what});
  }
  report.add("files", "", std::move(table));
  report.value("not_expressed", static_cast<std::int64_t>(exported.not_expressed.size()));
  for (const std::string& item : exported.not_expressed) report.warn("not expressed: " + item);
  for (const std::string& note : exported.notes) report.note(note);
  report.print(format);
  return ExitStatus::done;
}

}  // namespace

RunVerb prepare_export(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  add_model_or_plan(app, f->question, f->layout);
  std::string formats;
  for (const Exporter& e : kExporters)
    formats += fmt::format("{}{} ({})", formats.empty() ? "" : "; ", e.name, e.summary);
  app.add_option("--to", f->to, formats)->required();
  app.add_option(
      "-o,--output", f->folder,
      "Folder for the files, made if need be (default: the model's name and the format)");
  app.add_flag("--unfold", f->options.unfold,
               "chrome, perfetto: every rank for itself, not one for all alike");
  app.add_option("--stage", f->options.stage, "dot: the pipeline stage that is drawn (default 0)");
  app.add_option("--block", f->options.blocks,
                 "dot: a pass that is drawn, such as F or B; again for more (default: all)");
  app.add_option("--torch-version", f->options.torch_version,
                 "torch: write the messages too, as this version of PyTorch reads them, such as "
                 "2.11 (default: passes alone, to which PyTorch adds them)");
  add_format_flag(app, f->format);
  return [f, &app] { return run(*f, app); };
}

}  // namespace steploom
