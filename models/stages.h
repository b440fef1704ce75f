// How many layers each pipeline stage holds, where not all hold the same: Megatron's layout string
// and its balanced splits.
//
// A split is a list of numbers of layers, one a virtual stage (pp·vpp of them, in model order;
// virtual stage s lies on pipeline rank s mod pp). The embedding is with the first, the head and
// loss with the last. Text form is that of --pipeline-model-parallel-layout (Megatron-Core 0.20,
// pipeline_parallel_layer_layout.py): stages parted by '|', letters E, t and L, "t*3" for "ttt",
// "(tt|)*2" for "tt|tt|"; commas and spaces are left out. A stage may be empty.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace steploom {

// "Et*3|(tt|)*2L" -> "Ettt|tt|tt|L": repetitions written out. Throws Error on what is no such text.
std::string stage_letters_of(std::string_view text);

// "Et*3|(tt|)*2t|L" -> {3, 2, 2, 1, 0}. Throws Error: E and L exactly once, first and last; no
// other letters (m, multi-token prediction, is refused by name).
std::vector<int> parse_stages(std::string_view text);

// The shortest of the forms that parse_stages reads back: runs of equal stages are folded.
std::string stages_text(const std::vector<int>& layers);

// Megatron's split by rule: the layers, with the embedding and the loss counted as a layer each
// where `count_embedding` (--account-for-embedding-in-pipeline-split) and `count_loss` say so,
// shared out evenly. Empty where they cannot be.
std::vector<int> even_stages(int layers, int stages, bool count_embedding, bool count_loss);

// Megatron's split with given first and last stages (--decoder-first-pipeline-num-layers, -last-;
// 0: as the others). Empty where the rest cannot be shared out evenly.
std::vector<int> stages_between(int layers, int stages, int first, int last);

// The split whose largest stage costs least. `cost` of each layer in any unit, those of the
// embedding and of the head on top of the first and of the last stage. No stage is left without a
// layer. Among such splits, stages from the first on take no more than an even share of what is
// left: early stages hold the most micro-batches. `speed`: of each stage, by which what it holds is
// divided; empty: all alike. Needs stages <= layers.
std::vector<int> balanced_stages(const std::vector<double>& cost, double embedding, double head,
                                 int stages, const std::vector<double>& speed = {});

// Cost of the largest stage of a split.
double largest_stage(const std::vector<int>& split, const std::vector<double>& cost,
                     double embedding, double head);

}  // namespace steploom
