#!/usr/bin/env python3
"""The actions of PyTorch's own pipeline schedules, for comparison with ours. Needs no GPU.

    python3 profiler/torch_schedules.py -o torch-schedules.jsonl

One JSON line a schedule and shape: rows of compute_only, a string a rank, idle cells left out, and
what _PipelineScheduleRuntime makes of them (compute_comms) without UNSHARD and RESHARD, which do
nothing without FSDP. GPipe and 1F1B have code of their own beside the listing that is meant to show
it: they are run, on CPUs, by gloo, with a small model, and what passes ran is listed.
"""
import argparse
import copy
import json
import sys
import tempfile

import torch
from torch.distributed.pipelining import schedules

# name, ranks, stages a rank, micro-batches
SHAPES = [("GPipe", 4, 1, 6), ("GPipe", 2, 1, 3), ("1F1B", 2, 1, 8), ("1F1B", 4, 1, 4), ("1F1B", 4, 1, 10),
          ("1F1B", 8, 1, 12), ("Interleaved1F1B", 2, 2, 8), ("Interleaved1F1B", 4, 2, 8),
          ("Interleaved1F1B", 4, 3, 4), ("Interleaved1F1B", 4, 2, 10), ("Interleaved1F1B", 8, 2, 16),
          ("LoopedBFS", 2, 2, 4), ("LoopedBFS", 4, 3, 5), ("InterleavedZeroBubble", 2, 1, 8),
          ("InterleavedZeroBubble", 4, 1, 8), ("InterleavedZeroBubble", 2, 2, 8),
          ("InterleavedZeroBubble", 4, 2, 8), ("InterleavedZeroBubble", 4, 3, 12),
          ("InterleavedZeroBubble", 8, 2, 8), ("ZBVZeroBubble", 2, 2, 4), ("ZBVZeroBubble", 4, 2, 8),
          ("ZBVZeroBubble", 4, 2, 5), ("ZBVZeroBubble", 8, 2, 16), ("DualPipeV", 2, 2, 4),
          ("DualPipeV", 4, 2, 8), ("DualPipeV", 4, 2, 11), ("DualPipeV", 8, 2, 20)]


class Stage:
    """As much of a PipelineStage as schedules ask for when they are made."""

    def __init__(self, ranks, stages, index):
        self.group_size, self.num_stages, self.group_rank = ranks, stages, 0
        self.stage_index, self.is_last, self.is_first = index, index == stages - 1, index == 0
        self.submod, self.has_backward = torch.nn.Identity(), True
        self.stage_index_to_group_rank = {}


def rows_of(order, ranks):
    return [" ".join(str(a) for a in order[rank] if a is not None) for rank in range(ranks)]


def line_of(name, ranks, chunks, count):
    stages = [Stage(ranks, ranks * chunks, i) for i in range(chunks)]
    kind = schedules.get_schedule_class(name)
    single = issubclass(kind, schedules.PipelineScheduleSingle)
    made = kind(stages[0] if single else stages, count)
    order = {rank: [a for a in row if a is not None and a.computation_type != schedules.REDUCE_GRAD]
             for rank, row in made.pipeline_order.items()}
    line = {"schedule": name, "ranks": ranks, "chunks": chunks, "micro_batches": count,
            "compute_only": rows_of(order, ranks)}
    runtime = schedules._PipelineScheduleRuntime(stages, count)
    try:
        runtime._prepare_schedule_with_comms(copy.deepcopy(order))
    except AssertionError as refusal:  # of its own listing
        return {**line, "refused": str(refusal).split("\n", maxsplit=1)[0]}
    whole = {rank: [a for a in row if a.computation_type not in (schedules.UNSHARD, schedules.RESHARD)]
             for rank, row in runtime.pipeline_order_with_comms.items()}
    return {**line, "compute_comms": rows_of(whole, ranks)}


def run_rank(rank, folder, name, ranks, count):
    """Runs a schedule of one stage a rank and writes which passes ran."""
    import torch.distributed as dist
    from torch.distributed import pipelining
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
    stage = pipelining.PipelineStage(torch.nn.Linear(8, 8), rank, ranks, torch.device("cpu"))
    ran = []

    def logged(what, inner):
        def call(index, *args, **kwargs):
            ran.append(f"{rank}{what}{index}")
            return inner(index, *args, **kwargs)
        return call
    stage.forward_one_chunk = logged("F", stage.forward_one_chunk)
    stage.backward_one_chunk = logged("B", stage.backward_one_chunk)
    made = schedules.get_schedule_class(name)(stage, count, loss_fn=torch.nn.functional.mse_loss)
    rows = torch.ones(count, 8)
    if rank == 0:
        made.step(rows)
    else:
        made.step(**({"target": rows} if rank == ranks - 1 else {}))
    with open(f"{folder}/{rank}", "w", encoding="utf-8") as file:
        file.write(" ".join(ran))
    dist.barrier()
    dist.destroy_process_group()


def executed(name, ranks, count):
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(run_rank, (folder, name, ranks, count), nprocs=ranks)
        rows = []
        for rank in range(ranks):
            with open(f"{folder}/{rank}", encoding="utf-8") as file:
                rows.append(file.read())
    return {"schedule": name, "ranks": ranks, "chunks": 1, "micro_batches": count, "executed": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("-o", "--out", default="torch-schedules.jsonl", help="JSON-lines file to write")
    options = parser.parse_args()
    with open(options.out, "w", encoding="utf-8") as file:
        file.write(json.dumps({"torch_schedules": 1, "torch": torch.__version__}) + "\n")
        for shape in SHAPES:
            try:
                line = line_of(*shape)
            except Exception as refusal:  # whatever PyTorch raises
                line = {"schedule": shape[0], "ranks": shape[1], "chunks": shape[2],
                        "micro_batches": shape[3], "refused": str(refusal).split("\n")[0]}
            file.write(json.dumps(line) + "\n")
        for name, ranks, count in (("GPipe", 2, 3), ("GPipe", 4, 6), ("1F1B", 2, 8), ("1F1B", 4, 4),
                                   ("1F1B", 4, 10)):
            file.write(json.dumps(executed(name, ranks, count)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
