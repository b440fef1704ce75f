#!/usr/bin/env python3
"""Trains a model on made-up tokens with torch.distributed.pipelining and a schedule from a file.

    torchrun --nproc-per-node RANKS torch_pipeline.py [FOLDER] [--builtin NAME] [--steps N] ...

FOLDER (default: where this file lies) holds what `steploom export --to torch` wrote: job.json (model,
stages, batch, optimizer) and schedule.csv, which _PipelineScheduleRuntime loads; torch_model.py builds the model. --builtin runs one of PyTorch's own schedules in its place, such as
1F1B. Every layer's parameters come from a seed of its own, so all schedules train the same model.
Rank 0 prints, and writes with -o, the losses of --check steps, then of --blocks times --steps steps
the time from one to the next by CUDA events (the host is not held back) and of each block by the
clock of rank 0's host, its ends waited for.
"""
import argparse
import hashlib
import inspect
import json
import os
import pathlib
import statistics
import sys
import time

import torch
import torch.distributed as dist
from torch.distributed import pipelining
from torch.distributed.pipelining import schedules

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import torch_model

ADAMW = {"adamw-foreach": {"foreach": True}, "adamw-fused": {"fused": True},
         "adamw-loop": {"foreach": False, "fused": False}}


def optimizer_of(name, parameters):
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)
    return torch.optim.AdamW(parameters, lr=1e-4, **ADAMW[name])


def read_job(folder):
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    return job, job["model"]


def seeded(model, first_layer):
    """Parameters of every layer by its number, whatever stage holds it."""
    parts = [(-1, model.embedding), (-2, model.positions), (-3, model.norm), (-4, model.head)]
    parts += [(first_layer + i, block) for i, block in enumerate(model.blocks)]
    for number, part in parts:
        if part is None:
            continue
        generator = torch.Generator(device="cuda").manual_seed(1000 + number)
        for p in part.parameters():
            if p.dim() > 1:
                torch.nn.init.normal_(p, std=0.02, generator=generator)
    return model


def stages_of(job, config, rank, device, told=False):
    """The stages that lie on a rank, first to last. `told`: shapes are given, not asked around."""
    def rows(*width, dtype=torch.bfloat16):
        return torch.empty(job["micro_batch"], job["sequence"], *width, dtype=dtype, device=device)
    held = []
    for index, stage in enumerate(job["stages"]):
        if stage["rank"] != rank:
            continue
        first, last = index == 0, index == len(job["stages"]) - 1
        with torch.device(device):
            model = torch_model.Model(config, job["recompute"] == "full", stage["layers"], first, last)
        model = seeded(model.to(torch.bfloat16), stage["first_layer"])
        shapes = {}
        if told:
            shapes = {"input_args": rows(dtype=torch.int64) if first else rows(config["hidden"]),
                      "output_args": rows(config["vocab"] if last else config["hidden"])}
        held.append(pipelining.PipelineStage(model, index, len(job["stages"]), device, **shapes))
    return held


def schedule_of(job, held, folder, builtin):
    count = job["micro_batches"]
    if builtin:
        kind = schedules.get_schedule_class(builtin)
        single = issubclass(kind, schedules.PipelineScheduleSingle)
        return kind(held[0] if single else held, count, loss_fn=torch_model.loss_of)
    schedule = schedules._PipelineScheduleRuntime(held, count, loss_fn=torch_model.loss_of)
    schedule._load_csv(str(folder / "schedule.csv"), format=job["format"])
    return schedule


class Trainer:
    def __init__(self, job, config, folder, builtin, told=False):
        self.rank, self.device = dist.get_rank(), torch.device("cuda", torch.cuda.current_device())
        self.job = job
        held = stages_of(job, config, self.rank, self.device, told)
        self.schedule = schedule_of(job, held, folder, builtin)
        self.parameters = [p for stage in held for p in stage.submod.parameters()]
        self.optimizer = optimizer_of(job["optimizer"], self.parameters)
        generator = torch.Generator().manual_seed(7)
        rows = job["micro_batches"] * job["micro_batch"]
        tokens = torch.randint(config["vocab"], (rows, job["sequence"] + 1), generator=generator)
        self.inputs = tokens[:, :-1].contiguous().to(self.device)
        self.targets = tokens[:, 1:].contiguous().to(self.device)
        self.first = any(stage.is_first for stage in held)
        self.last = any(stage.is_last for stage in held)
        self.extra = {}  # logits of the last stage are not gathered where torch can leave them
        if "return_outputs" in inspect.signature(self.schedule.step).parameters:
            self.extra["return_outputs"] = False

    def step(self, losses=None):
        arguments = (self.inputs,) if self.first else ()
        extra = dict(self.extra)
        if self.last:
            extra.update(target=self.targets, losses=losses)
        self.schedule.step(*arguments, **extra)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        squares = norm.float() ** 2
        dist.all_reduce(squares)
        torch.nn.utils.clip_grads_with_norm_(self.parameters, 1.0, squares.sqrt())
        self.optimizer.step()
        self.optimizer.zero_grad()

    def mean_loss(self):
        """Of a step, on every rank, bit for bit as fp64."""
        losses = []
        self.step(losses)
        mean = torch.zeros(1, dtype=torch.float64, device=self.device)
        if self.last:
            mean += torch.stack([loss.detach().double() for loss in losses]).mean()
        dist.all_reduce(mean)
        return mean.item()


def together():
    torch.cuda.synchronize()
    dist.barrier()
    torch.cuda.synchronize()


def measure(trainer, blocks, steps, warm, between=lambda: None):
    """Calls between() before the first block and after each."""
    for _ in range(warm):
        trainer.step()
    together()
    torch.cuda.reset_peak_memory_stats()
    times, walls, host = [], [], []
    between()
    for _ in range(blocks):
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
        together()
        start = time.perf_counter()
        marks[0].record()
        for mark in marks[1:]:
            trainer.step()
            mark.record()
        host.append((time.perf_counter() - start) * 1e3 / steps)
        together()
        walls.append((time.perf_counter() - start) * 1e3 / steps)
        times.append([a.elapsed_time(b) for a, b in zip(marks, marks[1:])])
        between()
    medians = [statistics.median(block) for block in times]
    median = statistics.median([t for block in times for t in block])
    return {"median_ms": median, "blocks_ms": medians, "walls_ms": walls, "host_ms": host,
            "spread": (max(medians) - min(medians)) / 2 / median,
            "allocated": torch.cuda.max_memory_allocated()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", nargs="?", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parent)
    parser.add_argument("--builtin", default="", help="PyTorch's own: GPipe, 1F1B, ...")
    parser.add_argument("--check", type=int, default=3, help="steps whose losses are printed")
    parser.add_argument("--steps", type=int, default=10, help="of a block that is timed; 0: none")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--warm", type=int, default=3, help="steps before that do not count")
    parser.add_argument("-o", "--out", help="JSON-lines file that is added to")
    options = parser.parse_args()
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl", device_id=torch.device("cuda", torch.cuda.current_device()))
    try:
        job, config = read_job(options.folder)
        if job["ranks"] != dist.get_world_size():
            raise ValueError(f"job.json: {job['ranks']} ranks, started with {dist.get_world_size()}")
        trainer = Trainer(job, config, options.folder, options.builtin)
        file = options.folder / "schedule.csv"
        line = {"name": options.folder.name, "builtin": options.builtin, "torch": torch.__version__,
                "schedule_sha256": hashlib.sha256(file.read_bytes()).hexdigest()[:16]}
        line["losses"] = [trainer.mean_loss() for _ in range(options.check)]
        if options.steps > 0:
            line.update(measure(trainer, options.blocks, options.steps, options.warm))
        if dist.get_rank() == 0:
            print(json.dumps(line), flush=True)
            if options.out:
                with open(options.out, "a", encoding="utf-8") as out:
                    out.write(json.dumps(line) + "\n")
    finally:
        dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
