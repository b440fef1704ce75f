#!/usr/bin/env python3
"""What a product's time depends on beside its shape: its data, and what runs between its shots.

    python3 profiler/torch_clock.py > clock.jsonl

One JSON line a case: a grouped product (8 experts, 2048 tokens each, 2048 to 14336) or a dense one
(8192 × 4096 × 14336), bf16, repeated for half a second; median of the last half, with the SM clock
and the card's power over that half. Kernels beside it are copies of 256 MiB, or a sleeping one.
"""
import json
import sys
import threading
import time

import torch

from torch_stats import Nvml

SECONDS = 0.45
ESTIMATE = 650e12  # FLOP/s, to choose how often
COPY_SECONDS = 128e-6  # of 256 MiB read and written
SHAPES = {"grouped": ((8, 2048, 2048), (8, 2048, 14336)), "dense": ((8192, 4096), (4096, 14336))}
BESIDE = {"none": 0, "memory-bound, a third": 0.5, "memory-bound as long": 1, "idle as long": 1}


def normal(shape, scale=1.0):
    return (torch.randn(shape, device="cuda") * scale).to(torch.bfloat16)


def uniform(shape):
    return (torch.rand(shape, device="cuda") * 2 - 1).to(torch.bfloat16)


def kept(shape, like, share):
    return normal(like) * (torch.rand(shape, device="cuda") >= share)


# Both operands, or the left one before a weight of deviation 0.02.
DATA = {
    "uniform": lambda a, b: (uniform(a), uniform(b)),
    "normal": lambda a, b: (normal(a), normal(b)),
    "normal 1e-4": lambda a, b: (normal(a, 1e-4), normal(b, 1e-4)),
    "a third of rows zero": lambda a, b: (kept((*a[:-1], 1), a, 1 / 3), normal(b, 0.02)),
    "half of elements zero": lambda a, b: (kept(a, a, 0.5), normal(b, 0.02)),
    "all zero": lambda a, b: (0 * uniform(a).abs(), 0 * uniform(b).abs()),
    "lognormal": lambda a, b: ((torch.randn(a, device="cuda") * 1e-4 *
                                torch.exp(2 * torch.randn(a, device="cuda"))).to(torch.bfloat16),
                               normal(b, 0.02)),
}


def middle(values):
    return sorted(values)[len(values) // 2] if values else 0


def watch(nvml, seen, stop):
    while not stop.is_set():
        seen.append((time.monotonic(), nvml.sm_mhz(), nvml.watts()))
        time.sleep(0.01)


def measure(nvml, copy, product, data, beside):
    a, b = DATA[data](*SHAPES[product])
    out = torch.matmul(a, b)
    flops = 2 * out.numel() * a.shape[-1]
    estimate = flops / ESTIMATE
    idle = beside.startswith("idle")
    copies = 0 if idle else round(BESIDE[beside] * estimate / COPY_SECONDS)
    count = int(SECONDS / (estimate * (1 + BESIDE[beside])))
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)]
    seen, stop = [], threading.Event()
    watcher = threading.Thread(target=watch, args=(nvml, seen, stop))
    torch.cuda.synchronize()
    watcher.start()
    start = time.monotonic()
    for i, (begin, end) in enumerate(marks):
        begin.record()
        torch.matmul(a, b, out=out)
        end.record()
        for _ in range(copies):
            copy()
        if idle:
            torch.cuda._sleep(int(estimate * 0.8 * 1.98e9))
        if i % 200 == 199:  # the host is never far ahead
            marks[i - 100][0].synchronize()
    torch.cuda.synchronize()
    end = time.monotonic()
    stop.set()
    watcher.join()
    us = [begin.elapsed_time(end) * 1e3 for begin, end in marks]
    half = [s for s in seen if s[0] >= (start + end) / 2]
    median = middle(us[count // 2:])
    return {"product": product, "data": data, "beside": beside, "median_us": round(median, 1),
            "first_us": round(us[5], 1), "tflops": round(flops / median * 1e-6, 1),
            "sm_mhz": middle([s[1] for s in half]), "watts": middle([s[2] for s in half]),
            "n": count - count // 2}


def main():
    if not torch.cuda.is_available():
        print("torch_clock.py: needs a CUDA device and its driver", file=sys.stderr)
        return 2
    torch.manual_seed(1)
    card = torch.cuda.get_device_properties(0)
    nvml = Nvml(str(card.uuid))
    print(json.dumps({"steploom_clock": 1, "date": time.strftime("%Y-%m-%d", time.gmtime()),
                      "command": " ".join(["torch_clock.py"] + sys.argv[1:]), "gpu": card.name,
                      "driver": nvml.driver()}))
    source = torch.zeros(1 << 27, device="cuda", dtype=torch.bfloat16)
    target = torch.empty_like(source)
    for product in SHAPES:
        cases = [(data, "none") for data in DATA] + [("uniform", b) for b in BESIDE if b != "none"]
        for data, beside in cases + [("normal", "memory-bound, a third"), ("uniform", "none")]:
            line = measure(nvml, lambda: target.copy_(source), product, data, beside)
            print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
