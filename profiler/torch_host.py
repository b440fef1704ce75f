"""What eager PyTorch costs the host: calls, recording, backward, optimizers, collectives.

A line is the host time of one call, in microseconds; the device never has to be waited for.
"""
import datetime
import json
import os
import tempfile
import time

import torch

from torch_cases import random
from torch_stats import stats_of


def host_line(what, note, work, per=1, before=lambda: None):
    """Host time of work(), over `per`: 200 calls after 50 that do not count."""
    samples = []
    for _ in range(250):
        before()
        torch.cuda.synchronize()
        start = time.perf_counter_ns()
        work()
        samples.append((time.perf_counter_ns() - start) / 1e3 / per)
    torch.cuda.synchronize()
    return {"what": what, "bytes": 0, **stats_of(samples[50:]), "note": "host time; " + note}


def repeat(count, call):
    def work():
        for _ in range(count):
            call()
    return work


def adam_host_line(name):
    some = [torch.nn.Parameter(random(1024, dtype=torch.float32)) for _ in range(100)]
    for p in some:
        p.grad = torch.zeros_like(p)
    optimizer = torch.optim.Adam(some, lr=1e-4, **{name: True})
    return host_line(f"torch_adam_step_{name}", "optimizer.step of 100 tensors of 1024",
                     optimizer.step)


def host_lines():
    x, y = random(1024), random(1024)
    leaf = random(1024, grad=True)
    up = torch.ones_like(leaf)
    linear = torch.nn.Linear(256, 256, bias=False, dtype=torch.bfloat16, device="cuda")
    rows = random(64, 256, grad=True)
    chains = {}

    def chain(length):
        result = leaf
        for _ in range(length):
            result = result * 1.5
        chains[length] = result

    yield host_line("torch_launch", "x + y of 1024, no gradient, 100 in a row",
                    repeat(100, lambda: x + y), 100)
    yield host_line("torch_launch_in_place", "x.add_(y) of 1024, no gradient, 100 in a row",
                    repeat(100, lambda: x.add_(y)), 100)
    yield host_line("torch_launch_recording", "x + y of 1024, recorded for autograd, 100 in a row",
                    repeat(100, lambda: leaf + y), 100)
    yield host_line("torch_linear_forward", "nn.Linear 256 to 256, 64 rows, recorded, 100 in a row",
                    repeat(100, lambda: linear(rows)), 100)
    yield host_line("torch_linear_forward_no_grad", "the same under no_grad, 100 in a row",
                    torch.no_grad()(repeat(100, lambda: linear(rows))), 100)
    yield host_line("torch_backward_call", "autograd.grad over one node",
                    lambda: torch.autograd.grad(chains[1], leaf, up), before=lambda: chain(1))
    yield host_line("torch_backward_node", "autograd.grad over a chain of 200 nodes, each",
                    lambda: torch.autograd.grad(chains[200], leaf, up), 200,
                    before=lambda: chain(200))
    yield host_line("torch_event_record_and_wait", "100 in a row",
                    repeat(100, record_and_wait), 100)
    yield adam_host_line("foreach")
    yield adam_host_line("fused")
    if torch.cuda.device_count() > 1:
        yield c10d_line()


def record_and_wait():
    torch.cuda.current_stream().wait_event(torch.cuda.current_stream().record_event())


def c10d_line():
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(c10d_rank, (folder,), nprocs=2)
        with open(os.path.join(folder, "line"), encoding="utf-8") as file:
            return json.load(file)


def c10d_rank(rank, folder):
    import torch.distributed as dist
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=f"file://{folder}/meet", rank=rank, world_size=2,
                            timeout=datetime.timedelta(seconds=60))
    x = random(1024)
    line = host_line("c10d_all_reduce", "dist.all_reduce of 2 KiB, two ranks, 50 in a row",
                     repeat(50, lambda: dist.all_reduce(x)), 50)
    dist.destroy_process_group()
    if rank == 0:
        with open(os.path.join(folder, "line"), "w", encoding="utf-8") as file:
            json.dump(line, file)
