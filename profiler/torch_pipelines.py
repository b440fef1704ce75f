#!/usr/bin/env python3
"""Whole training steps under torch.distributed.pipelining, many exported jobs in one run.

    torchrun --nproc-per-node 2 profiler/torch_pipelines.py FOLDER... [--builtin NAME] -o torch-pipelines.jsonl

Each FOLDER is what `steploom export --to torch` wrote. Losses and times as torch_pipeline.py has
them; around every block of steps the hosts of both ranks are timed at once by steps of six and of 24
small Llama blocks (torch_parts.py), for hosts of virtual machines are now fast, now slow. One JSON line a job.
With --one-gpu both ranks share a GPU and messages go through the host by gloo: for losses, not for times.
With --alone a process is that rank of two and its messages go nowhere (the fake process group): its steps
take as long as it has work, which is all where the host is what they wait for.
"""
import argparse
import gc
import hashlib
import json
import os
import pathlib
import sys
import traceback

import torch
import torch.distributed as dist

from torch.distributed.pipelining import schedules

import torch_pipeline
from torch_eager import header
from torch_parts import Loop
from torch_stats import Nvml

LOOPS = (6, 24)  # blocks


class Staged:
    """A message through host memory: what a Work is to the schedules. Shapes cannot be sent so, and
    are told."""

    def __init__(self, op):
        self.target = op.tensor if op.op is dist.irecv else None
        self.buffer = torch.empty_like(op.tensor, device="cpu") if self.target is not None else op.tensor.cpu()
        self.work = op.op(self.buffer, op.peer)

    def wait(self):
        self.work.wait()
        if self.target is not None:
            with torch.no_grad():
                self.target.copy_(self.buffer)


def share_a_gpu():
    torch.cuda.set_device(0)
    dist.init_process_group("gloo")
    schedules._batch_p2p = lambda ops, *_, **__: [Staged(op) for op in ops]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--builtin", default="", help="PyTorch's own schedule in place of the file's")
    parser.add_argument("--one-gpu", action="store_true", help="both ranks share the first GPU")
    parser.add_argument("--alone", type=int, choices=(0, 1), help="the only rank, of two")
    parser.add_argument("--check", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--warm", type=int, default=3)
    parser.add_argument("-o", "--out", default="torch-pipelines.jsonl", help="JSON-lines file to write")
    options = parser.parse_args()
    alone = options.alone is not None
    if options.one_gpu:
        share_a_gpu()
    elif alone:
        from torch.testing._internal.distributed.fake_pg import FakeStore
        torch.cuda.set_device(0)
        dist.init_process_group("fake", rank=options.alone, world_size=2, store=FakeStore())
    else:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl", device_id=torch.device("cuda", torch.cuda.current_device()))
    rank = 0 if alone else dist.get_rank()
    loops = [Loop(True, layers) for layers in LOOPS] if options.steps > 0 else []
    for loop in loops:
        loop.microseconds(10)
    nvml = Nvml(str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid))
    first = header(nvml)
    first["command"] = " ".join(["torch_pipelines.py"] + sys.argv[1:])
    first["method"] = f"PyTorch {torch.__version__}. " + " ".join(__doc__.split("\n\n")[2].split())

    def hosts():
        torch_pipeline.together()
        mine = [loop.microseconds(10) for loop in loops]
        if alone:
            return [mine]
        both = [None] * dist.get_world_size()
        dist.all_gather_object(both, mine)
        return both
    with open(options.out if rank == 0 else os.devnull, "a", encoding="utf-8") as file:
        def write(line):
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
            file.flush()
        write(first)
        for folder in options.folders:
            line = {"name": folder.name, "builtin": options.builtin, "alone": options.alone,
                    "schedule_sha256": hashlib.sha256((folder / "schedule.csv").read_bytes()).hexdigest()[:16]}
            try:
                job, config = torch_pipeline.read_job(folder)
                trainer = torch_pipeline.Trainer(job, config, folder, options.builtin, told=options.one_gpu or alone)
                line["losses"] = [trainer.mean_loss() for _ in range(options.check)]
                if options.steps > 0:
                    around = line["host_loops_us"] = []
                    line.update(torch_pipeline.measure(trainer, options.blocks, options.steps, options.warm,
                                                       lambda: around.append(hosts())))
                    line["sm_mhz"], line["watts"] = nvml.sm_mhz(), nvml.watts()
                del trainer
            except Exception as error:  # the next job may run all the same
                traceback.print_exc()
                line["failed"] = str(error)[:300]
            gc.collect()
            torch.cuda.empty_cache()
            write(line)
            if rank == 0:
                print(line["name"], options.builtin, line.get("median_ms", ""), line.get("losses"),
                      line.get("failed", ""), flush=True)
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
