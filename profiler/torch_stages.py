#!/usr/bin/env python3
"""What torch.distributed.pipelining costs: the host, a pass of a stage, whole and split, and messages.

    torchrun --nproc-per-node 2 profiler/torch_stages.py [--only host,kernels,messages] -o torch-stages.jsonl

    python3 profiler/torch_stages.py --rank 0 --only host,kernels -o torch-stages-0.jsonl

With --rank one process is that rank of two, on one GPU, and its messages go nowhere (the fake process
group): for what a rank does by itself.

A host line is the host time of one call inside training steps of a small model (384 wide, 64 tokens,
8 micro-batches) on two ranks, which wait for nothing but their hosts, with 2 and with 6 blocks a
stage: passes (F, B, I, W), what is around them, messages' calls; the median over 20 steps. A kernels
line is one kernel of a backward pass of a middle stage of two blocks 4096 wide, by the profiler:
whole (B) or split (I, W), how often it is launched and what its launches take together. A message
line is the time of one of 20 messages in a row between two ranks, by CUDA events, and how long a
sender takes whose receiver comes 50 ms later. Units: microseconds.
"""
import argparse
import collections
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

import torch
import torch.distributed as dist
from torch.distributed import pipelining
from torch.distributed.pipelining import _backward, schedules
from torch.profiler import ProfilerActivity, profile

import torch_model
import torch_pipeline
from torch_eager import header
from torch_parts import Loop
from torch_stats import Nvml, stats_of

KINDS = ["host", "kernels", "messages"]
SMALL = {"llama": True, "hidden": 384, "heads": 6, "kv_heads": 6, "head_dim": 64, "ffn": 1024,
         "vocab": 512, "positions": 64, "tied": False}
COUNT, STEPS, WARM = 8, 20, 8


class Clock:
    """Host times of calls, by a key."""

    def __init__(self):
        self.samples = collections.defaultdict(list)
        self.on = False

    def around(self, owner, name, key):
        """Replaces a function by one that is timed; `key` of its arguments, or None."""
        inner = getattr(owner, name, None)
        if inner is None:  # of another version of PyTorch
            return

        def timed(*args, **kwargs):
            start = time.perf_counter_ns()
            result = inner(*args, **kwargs)
            spent = (time.perf_counter_ns() - start) / 1e3
            if self.on and (what := key(*args, **kwargs)):
                self.samples[what].append(spent)
            return result
        setattr(owner, name, timed)


def kind_of(ops, *_, **__):
    if not ops:
        return None
    return "send" if ops[0].op is dist.isend else "receive"


def install(clock):
    stage = pipelining.stage._PipelineStageBase
    clock.around(stage, "forward_one_chunk", lambda s, *a, **k: f"F {s.stage_index}")
    clock.around(stage, "backward_one_chunk", lambda s, *a, **k: (
        "B" if k.get("full_backward", True) else "I") + f" {s.stage_index}")
    clock.around(stage, "backward_weight_one_chunk", lambda s, *a, **k: f"W {s.stage_index}")
    clock.around(stage, "perform_reduce_grad", lambda s, *a, **k: f"reduce_grad {s.stage_index}")
    clock.around(schedules._PipelineSchedule, "_maybe_compute_loss",
                 lambda s, stage, *a, **k: "loss" if stage.is_last else None)
    clock.around(schedules, "_batch_p2p", kind_of)
    clock.around(schedules, "_wait_batch_p2p", lambda work: "wait" if work else None)


def host_lines(clock, folder, told):
    """Rows of 1F1B and of ZB-H1, as steploom writes them, for two ranks."""
    count = COUNT
    one = ["0F0 0F1 " + " ".join(f"0B{i} 0F{i + 2}" for i in range(count - 2)) + f" 0B{count - 2} 0B{count - 1}",
           " ".join(f"1F{i} 1B{i}" for i in range(count))]
    zero = ["0F0 0F1 " + " ".join(f"0I{i} 0W{i} 0F{i + 2}" for i in range(count - 2)) +
            f" 0I{count - 2} 0W{count - 2} 0I{count - 1} 0W{count - 1}",
            "1F0 1I0 " + " ".join(f"1F{i} 1I{i} 1W{i - 1}" for i in range(1, count)) + f" 1W{count - 1}"]
    loop = ["0F0 0F1 2F0 2F1 " + " ".join(f"2I{i} 0I{i} 2W{i} 0W{i}" for i in range(2)),
            "1F0 1F1 3F0 3I0 3F1 3I1 3W0 1I0 3W1 1I1 1W0 1W1"]
    for name, rows, chunks, blocks in (("1f1b", one, 1, 2), ("1f1b", one, 1, 6), ("zb-h1", zero, 1, 2),
                                       ("zb-h1", zero, 1, 6), ("loop", loop, 2, 2), ("loop", loop, 2, 6)):
        file = pathlib.Path(folder) / "schedule.csv"
        if told or dist.get_rank() == 0:
            file.write_text("".join(row.replace(" ", ",") + "\n" for row in rows), encoding="utf-8")
        dist.barrier()
        stages = 2 * chunks
        job = {"format": "compute_only", "sequence": 64, "micro_batch": 1,
               "micro_batches": 2 if chunks == 2 else count, "optimizer": "adamw-fused", "recompute": "none",
               "stages": [{"rank": i % 2, "first_layer": i * blocks, "layers": blocks}
                          for i in range(stages)]}
        trainer = torch_pipeline.Trainer(job, {**SMALL, "layers": stages * blocks},
                                         pathlib.Path(folder), "", told)
        for _ in range(WARM):
            trainer.step()
        torch_pipeline.together()
        clock.samples.clear()
        clock.on = True
        whole, loops = [], []
        for _ in range(STEPS):
            start = time.perf_counter_ns()
            trainer.step()
            whole.append((time.perf_counter_ns() - start) / 1e3)
            torch_pipeline.together()
        clock.on = False
        loop_probe = Loop(True, 6)
        loop_probe.microseconds(5)
        loops.append(loop_probe.microseconds(10))
        mine = [{"what": f"torch_pipeline_{key.split()[0]}", "schedule": name, "rank": dist.get_rank(),
                 "stage": int(key.split()[1]) if " " in key else -1, "blocks": blocks, "bytes": 0,
                 "calls": len(samples) // STEPS, **stats_of(samples)}
                for key, samples in sorted(clock.samples.items())]
        mine.append({"what": "torch_pipeline_step", "schedule": name, "rank": dist.get_rank(), "stage": -1,
                     "blocks": blocks, "bytes": 0, **stats_of(whole), "loop_6_us": loops})
        gathered = [mine]
        if not told:
            gathered = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, mine)
        yield from (line for lines in gathered for line in lines)
        del trainer


def kernel_lines():
    config = {**SMALL, "hidden": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128, "ffn": 14336,
              "positions": 4096, "layers": 2}
    with torch.device("cuda"):
        model = torch_model.Model(config, False, 2, False, False).to(torch.bfloat16)
    x = torch.randn(1, 4096, 4096, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    up = torch.randn_like(x)

    def backward(split, trace):
        for p in model.parameters():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        x.grad = None
        y = model(x)
        torch.cuda.synchronize()
        if not split:
            with trace("B"):
                _backward.stage_backward((y,), (up,), (x,))
                torch.cuda.synchronize()
            return
        with trace("I"):
            _, groups = _backward.stage_backward_input([y], [up], [x], iter(model.parameters()))
            torch.cuda.synchronize()
        with trace("W"):
            _backward.stage_backward_weight(iter(model.parameters()), groups)
            torch.cuda.synchronize()

    class Quiet:
        def __init__(self, _):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False
    for _ in range(3):
        backward(False, Quiet)
        backward(True, Quiet)
    found = collections.defaultdict(lambda: collections.defaultdict(list))

    class Traced(Quiet):
        def __init__(self, phase):
            self.phase = phase
            self.inner = profile(activities=[ProfilerActivity.CUDA])

        def __enter__(self):
            self.inner.__enter__()

        def __exit__(self, *why):
            self.inner.__exit__(*why)
            for event in self.inner.key_averages():
                if event.device_time_total > 0:
                    found[self.phase][event.key].append((event.count, event.device_time_total))
            return False
    for _ in range(5):
        backward(False, Traced)
        backward(True, Traced)
    for phase, kernels in found.items():
        for name, runs in sorted(kernels.items()):
            yield {"what": "torch_backward_kernel", "pass": phase, "kernel": name[:100],
                   "launches": runs[0][0], "median_us": statistics.median(t for _, t in runs),
                   "samples": len(runs)}


def message_lines():
    rank = dist.get_rank()
    for mib in (2, 8, 16, 32, 64):
        x = torch.zeros(mib << 19, device="cuda", dtype=torch.bfloat16)
        op = dist.P2POp(dist.isend, x, 1) if rank == 0 else dist.P2POp(dist.irecv, x, 0)

        def once():
            schedules._wait_batch_p2p(schedules._batch_p2p([op]))
        for _ in range(5):
            once()
        samples = []
        for _ in range(10):
            torch_pipeline.together()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(2_000_000)
            start.record()
            for _ in range(20):
                once()
            end.record()
            torch.cuda.synchronize()
            samples.append(start.elapsed_time(end) * 1e3 / 20)
        late = []
        for _ in range(5):
            torch_pipeline.together()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            if rank == 1:
                torch.cuda._sleep(90_000_000)
            once()
            end.record()
            torch.cuda.synchronize()
            late.append(start.elapsed_time(end) * 1e3)
        grid = 0
        torch_pipeline.together()
        with profile(activities=[ProfilerActivity.CUDA]) as trace:
            once()
            torch.cuda.synchronize()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "trace.json")
            trace.export_chrome_trace(path)
            with open(path, encoding="utf-8") as file:
                for e in json.load(file)["traceEvents"]:
                    if e.get("cat") == "kernel" and "nccl" in e["name"].lower():
                        grid = e["args"]["grid"][0]
        if rank == 0:
            yield {"what": "torch_pipeline_message", "bytes": mib << 20, **stats_of(samples), "ctas": grid,
                   "late_receiver_us": statistics.median(late)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("-o", "--out", default="torch-stages.jsonl", help="JSON-lines file to write")
    parser.add_argument("--only", default=",".join(KINDS), metavar="KIND,...")
    parser.add_argument("--rank", type=int, choices=(0, 1), help="the only one, of two")
    options = parser.parse_args()
    alone = options.rank is not None
    torch.cuda.set_device(0 if alone else int(os.environ["LOCAL_RANK"]))
    if alone:
        from torch.testing._internal.distributed.fake_pg import FakeStore
        dist.init_process_group("fake", rank=options.rank, world_size=2, store=FakeStore())
    else:
        dist.init_process_group("nccl", device_id=torch.device("cuda", torch.cuda.current_device()))
    rank = 0 if alone else dist.get_rank()
    first = header(Nvml(str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)))
    first["command"] = " ".join(["torch_stages.py"] + sys.argv[1:])
    first["method"] = f"PyTorch {torch.__version__}. " + " ".join(" ".join(__doc__.split("\n\n")[3:]).split())
    with open(options.out if rank == 0 else os.devnull, "w", encoding="utf-8") as file:
        def write(line):
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
            file.flush()
        write(first)
        if "messages" in options.only and not alone:
            for line in message_lines():
                write(line)
        if "kernels" in options.only:
            for line in kernel_lines() if rank == 0 else ():
                write(line)
            dist.barrier()
        if "host" in options.only:
            clock = Clock()
            install(clock)
            with tempfile.TemporaryDirectory() as folder:
                shared = [folder]
                if not alone:
                    dist.broadcast_object_list(shared, 0)
                for line in host_lines(clock, shared[0], alone):
                    write(line)
                dist.barrier()
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
