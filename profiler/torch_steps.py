#!/usr/bin/env python3
"""Whole training steps of plain eager PyTorch on one GPU.

    python3 profiler/torch_steps.py cases.tsv -o torch-steps.jsonl [--only NAME,...]

A case is a line of the table: a name, a Hugging Face config.json beside the table (llama or gpt2,
profiler/torch_model.py), tokens of a sequence, sequences of a step, sequences of a micro-batch, the
optimizer (adamw-foreach, -fused or -loop) and what is recomputed (none or full). A step is the forward
and backward pass of every micro-batch, clip_grad_norm_, AdamW and zero_grad, on random tokens.
Three blocks of 20 steps after 5 that do not count; a step lasts from its CUDA event to the next
one's, the host is not held back. Around every block the host is timed: steps of six and of 24
small Llama blocks (torch_parts.py), for hosts of virtual machines are now fast, now slow. One JSON
line a case: the median of each block, the median of all, the most memory allocated, `spread`, half
of what the blocks' medians differ by over their median, and the host's times in microseconds, of
both, before the first block and after each.
"""
import argparse
import json
import pathlib
import statistics
import sys
import time

import torch

import torch_model
from torch_eager import header
from torch_parts import Loop
from torch_stats import Nvml, short

BLOCKS, STEPS, WARM = 3, 20, 5
LOOPS = (6, 24)  # blocks
OPTIMIZERS = {"adamw-foreach": {"foreach": True}, "adamw-fused": {"fused": True},
              "adamw-loop": {"foreach": False, "fused": False}}
COLUMNS = ["name", "model", "sequence", "batch", "micro_batch", "optimizer", "recompute"]


def read_cases(path):
    cases = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) != len(COLUMNS):
            raise ValueError(f"{path}:{number}: {len(COLUMNS)} columns, found {len(fields)}")
        case = dict(zip(COLUMNS, fields))
        if case["optimizer"] not in OPTIMIZERS or case["recompute"] not in ("none", "full"):
            raise ValueError(f"{path}:{number}: an optimizer of {', '.join(OPTIMIZERS)}, none or full")
        for key in ("sequence", "batch", "micro_batch"):
            case[key] = int(case[key])
        cases.append(case)
    return cases


def measure(case, folder, loops):
    model = torch_model.build(torch_model.read_config(folder / f"{case['model']}.json"),
                              case["recompute"] == "full")
    parameters = list(model.parameters())
    # fused=False alone, as fused=None does not, would turn lists (foreach) off.
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, **OPTIMIZERS[case["optimizer"]])
    micro_batches = case["batch"] // case["micro_batch"]
    vocab = model.embedding.weight.shape[0]
    tokens = torch.randint(vocab, (micro_batches, case["micro_batch"], case["sequence"] + 1),
                           device="cuda")

    def step():
        for batch in tokens:
            logits = model(batch[:, :-1])
            (torch_model.loss_of(logits, batch[:, 1:].contiguous()) / micro_batches).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(WARM):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    blocks, host = [], []
    around = [[short(loop.microseconds(5)) for loop in loops]]
    for _ in range(BLOCKS):
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(STEPS + 1)]
        start = time.perf_counter()
        marks[0].record()
        for mark in marks[1:]:
            step()
            mark.record()
        host.append((time.perf_counter() - start) * 1e3 / STEPS)
        torch.cuda.synchronize()
        blocks.append([a.elapsed_time(b) for a, b in zip(marks, marks[1:])])
        around.append([short(loop.microseconds(5)) for loop in loops])
    medians = [statistics.median(block) for block in blocks]
    median = statistics.median([t for block in blocks for t in block])
    return {**case, "parameters": sum(p.numel() for p in parameters),
            "median_ms": short(median), "blocks_ms": [short(m) for m in medians],
            "spread": round((max(medians) - min(medians)) / 2 / median, 5),
            "host_ms": short(statistics.median(host)), "host_loops_us": around,
            "allocated": torch.cuda.max_memory_allocated()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("cases", type=pathlib.Path)
    parser.add_argument("-o", "--out", default="torch-steps.jsonl", help="JSON-lines file to write")
    parser.add_argument("--only", metavar="NAME,...")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("torch_steps.py: needs a CUDA device and its driver", file=sys.stderr)
        return 2
    try:
        cases = read_cases(options.cases)
    except (OSError, ValueError) as refusal:
        print(f"torch_steps.py: {refusal}", file=sys.stderr)
        return 2
    if options.only:
        cases = [case for case in cases if case["name"] in options.only.split(",")]
    torch.manual_seed(1)
    nvml = Nvml(str(torch.cuda.get_device_properties(0).uuid))
    first = header(nvml)
    first["command"] = " ".join(["torch_steps.py"] + sys.argv[1:])
    first["method"] = f"PyTorch {torch.__version__}. " + " ".join(__doc__.split("\n\n")[2].split())
    with open(options.out, "w", encoding="utf-8") as file:
        def write(line):
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
            file.flush()
        write(first)
        loops = [Loop(True, layers) for layers in LOOPS]
        for loop in loops:
            loop.microseconds(10)
        for case in cases:
            line = measure(case, options.cases.parent, loops)
            line["sm_mhz"], line["watts"] = nvml.sm_mhz(), nvml.watts()
            write(line)
            print(f"{case['name']}: {line['median_ms']} ms ± {line['spread']:.2%}", file=sys.stderr)
            torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main())
