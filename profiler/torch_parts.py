#!/usr/bin/env python3
"""What eager PyTorch launches for each part of a decoder, how long its kernels take and the host.

    python3 profiler/torch_parts.py [--only host,loop,device,c10d,kernels] -o torch-parts.jsonl

A kernel line is one kernel of a step of a model of two blocks (profiler/torch_model.py), two
micro-batches: its shape case, its place in the order of launches, its name, the aten operator that
launched it and the median of its device times over five steps by the profiler (CUPTI); launches of
one kernel that follow each other are one line, of the median of theirs. A host line is the host time of one
call at a width of 128, where the device never has to be waited for: forward as it is recorded, and
backward from a gradient of ones. A loop line is a training step of a small model, whose host is
what it waits for. A device line is an optimizer's step, or a product, in a row. With two GPUs c10d's calls are timed too. Units: microseconds.
"""
import argparse
import datetime
import gc
import itertools
import json
import os
import statistics
import sys
import tempfile
import time

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

import torch_model
from torch_eager import header
from torch_host import host_line, host_lines, repeat
from torch_stats import Nvml, stats_of

# name, llama, tokens of a sequence, sequences, hidden, heads, key-value heads, feed-forward width
SHAPES = [("llama a", True, 1024, 4, 3072, 24, 8, 8192), ("llama b", True, 4096, 1, 1536, 12, 12, 4096),
          ("llama c", True, 512, 2, 1024, 16, 4, 2816), ("llama d", True, 2048, 4, 4096, 32, 8, 11008),
          ("llama e", True, 1536, 8, 2560, 20, 20, 6912), ("gpt a", False, 1024, 4, 1280, 20, 20, 5120),
          ("gpt b", False, 512, 16, 1024, 16, 16, 4096)]
VOCAB = 40064
PASSES = 5
KINDS = ["host", "loop", "device", "c10d", "kernels"]


def config_of(llama, s, h, heads, kv_heads, f, layers=2, vocab=VOCAB):
    return {"llama": llama, "layers": layers, "hidden": h, "heads": heads, "kv_heads": kv_heads,
            "head_dim": h // heads, "ffn": f, "vocab": vocab, "positions": s, "tied": not llama}


def kernel_lines(name, llama, s, b, h, heads, kv_heads, f):
    model = torch_model.build(config_of(llama, s, h, heads, kv_heads, f))
    tokens = torch.randint(VOCAB, (b, s), device="cuda")
    some = [p for p in model.parameters()]
    optimizer = torch.optim.AdamW(some, lr=1e-5)

    def step(micro_batches):
        for _ in range(micro_batches):
            torch_model.loss_of(model(tokens), tokens).backward()
        torch.nn.utils.clip_grad_norm_(some, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(3):
        step(2)
    torch.cuda.synchronize()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(PASSES):
            with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as trace:
                step(2)
                torch.cuda.synchronize()
            path = os.path.join(folder, "trace.json")
            trace.export_chrome_trace(path)
            with open(path, encoding="utf-8") as file:
                events = json.load(file)["traceEvents"]
            ops = {e["args"]["External id"]: e["name"] for e in events
                   if e.get("cat") == "cpu_op" and "External id" in e.get("args", {})}
            kernels = sorted((e for e in events
                              if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")),
                             key=lambda e: e["ts"])
            runs.append([(e["name"], ops.get(e.get("args", {}).get("External id"), ""), e["dur"])
                         for e in kernels])
    medians = [statistics.median(run[i][2] for run in runs if i < len(run) and run[i][0] == kernel)
               for i, (kernel, _, _) in enumerate(runs[0])]
    index = 0
    for (kernel, op), group in itertools.groupby(runs[0], lambda launch: launch[:2]):
        count = len(list(group))
        yield {"what": "torch_kernel", "case": name, "tokens": s * b, "index": index,
               "launches": count, "kernel": kernel[:100], "op": op,
               "median_us": round(statistics.median(medians[index:index + count]), 3),
               "samples": PASSES}
        index += count


def chained(what, note, x, make, count=12):
    """Host lines of `count` in a chain, each of its own, so that a backward call's time is shared."""
    runs = [make() for _ in range(count)]
    parameters = [p for run in runs if isinstance(run, torch.nn.Module) for p in run.parameters()]

    def chain():
        y = x
        for run in runs:
            y = run(y)
        return y
    kept = []
    yield host_line(what + "_forward", f"{note}, recorded, {count} in a chain", chain, count)
    up = torch.ones_like(x)

    def record():
        for p in parameters:
            p.grad = None
        kept.clear()
        kept.append(chain())
    yield host_line(what + "_backward", f"{note}, backward of a chain of {count}",
                    lambda: kept[0].backward(up), count, before=record)


class Turned(torch.nn.Module):
    """A module that is called with the rotary tables."""

    def __init__(self, inner, model):
        super().__init__()
        self.inner, self.tables = inner, (model.cos, model.sin)

    def forward(self, y):
        return self.inner(y, *self.tables)


def part_lines():
    s, h = 32, 128
    bf16 = {"dtype": torch.bfloat16, "device": "cuda"}
    configs = [config_of(True, s, h, 4, 4, 256, layers=1, vocab=512),
               config_of(True, s, h, 4, 2, 256, layers=1, vocab=512),
               config_of(False, s, h, 4, 4, 512, layers=1, vocab=512)]
    llama, grouped, gpt = (torch_model.build(c) for c in configs)
    x = torch.randn(2, s, h, requires_grad=True, **bf16)
    cos, sin = llama.cos, llama.sin

    def built(kind, config):
        return lambda: kind(config).to(**bf16)

    def turned(kind, config, model):
        return lambda: Turned(kind(config).to(**bf16), model)

    def heads(t):
        return t.view(2, s, 4, h // 4).transpose(1, 2)

    def attend(t):
        q = heads(t)
        y = F.scaled_dot_product_attention(q, q, q, is_causal=True)
        return y.transpose(1, 2).reshape(2, s, h)
    for what, note, make in (
            ("identity", "y.view_as(y), which launches nothing", lambda: lambda y: y.view_as(y)),
            ("scale", "y * 1.5", lambda: lambda y: y * 1.5),
            ("add", "y + y", lambda: lambda y: y + y),
            ("linear", "nn.Linear without bias", lambda: torch.nn.Linear(h, h, bias=False, **bf16)),
            ("linear_bias", "nn.Linear", lambda: torch.nn.Linear(h, h, **bf16)),
            ("rms_norm", "nn.RMSNorm", lambda: torch_model.norm_of(configs[0]).to(**bf16)),
            ("layer_norm", "nn.LayerNorm", lambda: torch_model.norm_of(configs[2]).to(**bf16)),
            ("silu", "F.silu(y) * y", lambda: lambda y: F.silu(y) * y),
            ("gelu", "F.gelu, tanh", lambda: lambda y: F.gelu(y, approximate="tanh")),
            ("rotary", "turn() of one tensor, with its views", lambda: lambda y: torch_model.turn(
                heads(y), cos, sin).transpose(1, 2).reshape(2, s, h)),
            ("attention", "scaled_dot_product_attention with views, q = k = v", lambda: attend),
            ("llama_attention", "Attention of a Llama",
             turned(torch_model.Attention, configs[0], llama)),
            ("grouped_attention", "Attention of a Llama, two queries a key",
             turned(torch_model.Attention, configs[1], grouped)),
            ("llama_ffn", "FeedForward of a Llama", built(torch_model.FeedForward, configs[0])),
            ("llama_block", "Block of a Llama", turned(torch_model.Block, configs[0], llama)),
            ("gpt_block", "Block of a GPT", turned(torch_model.Block, configs[2], gpt))):
        yield from chained("torch_part_" + what, note, x, make)
    yield from end_lines(llama, gpt, s)


def end_lines(llama, gpt, s):
    """Embedding, head and loss; gradients added to what is there; optimizers by tensors."""
    tokens = torch.randint(512, (2, s), device="cuda")
    logits = torch.randn(2, s, 512, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    kept = []

    def keep(make):
        kept.clear()
        kept.append(make())

    yield host_line("torch_part_loss_forward", "cross_entropy of logits in fp32",
                    repeat(20, lambda: torch_model.loss_of(logits, tokens)), 20)
    yield host_line("torch_part_loss_backward", "loss.backward() to the logits",
                    lambda: kept[0].backward(), before=lambda: keep(
                        lambda: torch_model.loss_of(logits, tokens)))
    yield host_line("torch_part_embedding_forward", "nn.Embedding",
                    repeat(20, lambda: llama.embedding(tokens)), 20)
    up = torch.ones(2, s, 128, device="cuda", dtype=torch.bfloat16)

    def clear(model):
        for p in model.parameters():
            p.grad = None
    yield host_line("torch_part_embedding_backward", "backward of nn.Embedding, a call",
                    lambda: kept[0].backward(up),
                    before=lambda: (clear(llama), keep(lambda: llama.embedding(tokens))))
    for name, model in (("llama", llama), ("gpt", gpt)):
        yield host_line(f"torch_part_{name}_model_forward", "a model of one block and its loss",
                        lambda: torch_model.loss_of(model(tokens), tokens))
        yield host_line(f"torch_part_{name}_model_backward", "its loss.backward()",
                        lambda: kept[0].backward(), before=lambda: (
                            clear(model), keep(lambda: torch_model.loss_of(model(tokens), tokens))))
        yield host_line(f"torch_part_{name}_model_backward_again",
                        "its loss.backward() onto gradients that are there",
                        lambda: kept[0].backward(),
                        before=lambda: keep(lambda: torch_model.loss_of(model(tokens), tokens)))
    for count in (50, 200):
        some = [torch.nn.Parameter(torch.randn(1024, device="cuda", dtype=torch.bfloat16))
                for _ in range(count)]
        for p in some:
            p.grad = torch.ones_like(p)
        yield host_line("torch_part_clip", f"clip_grad_norm_ of {count} tensors",
                        lambda: torch.nn.utils.clip_grad_norm_(some, 1.0))
        for how in ({}, {"fused": True}):
            optimizer = torch.optim.AdamW(some, lr=1e-5, **how)
            yield host_line("torch_part_adamw" + ("_fused" if how else ""),
                            f"AdamW.step of {count} tensors", optimizer.step)
        sgd = torch.optim.SGD(some, lr=1e-5, momentum=0.9)
        yield host_line("torch_part_sgd", f"SGD.step of {count} tensors", sgd.step)
        yield host_line("torch_part_zero_grad", f"zero_grad of {count} tensors, to none",
                        optimizer.zero_grad, before=lambda: [
                            setattr(p, "grad", p.detach()) for p in some])


class Loop:
    """Training steps of a small model, whose host is what they wait for."""

    def __init__(self, llama, layers):
        self.model = torch_model.build(config_of(llama, 64, 384, 6, 6, 1024, layers, 512))
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-5)
        self.tokens = torch.randint(512, (1, 64), device="cuda")

    def microseconds(self, steps=10):
        torch.cuda.synchronize()
        start = time.perf_counter_ns()
        for _ in range(steps):
            torch_model.loss_of(self.model(self.tokens), self.tokens).backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        torch.cuda.synchronize()
        return (time.perf_counter_ns() - start) / 1e3 / steps


def loop_lines():
    """Steps of small models of several depths: differences are the host time of blocks."""
    for name, llama in (("llama", True), ("gpt", False)):
        for layers in (2, 6, 12, 24):
            loop = Loop(llama, layers)
            samples = [loop.microseconds(5) for _ in range(12)]
            yield {"what": f"torch_loop_{name}_{layers}", "bytes": 0, **stats_of(samples[2:]),
                   "note": f"a step of {layers} blocks 384 wide, 64 tokens, 5 in a row"}
    gc.collect()
    gc.disable()
    samples = [loop.microseconds(5) for _ in range(12)]
    gc.enable()
    yield {"what": f"torch_loop_{name}_{layers}_no_gc", "bytes": 0, **stats_of(samples[2:]),
           "note": "the same without Python's collector of cycles"}


def per_call(call, calls=10):
    """Device time of a call, in a row, by CUDA events."""
    samples = []
    for _ in range(12):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        samples.append(start.elapsed_time(end) * 1e3 / calls)
    return stats_of(samples[2:])


def device_lines():
    """Optimizers on bf16 parameters, and products of one sequence's rows."""
    for h, f, layers in ((2560, 7168, 8), (3584, 9728, 6)):
        shapes = [(h, h)] * 4 + [(h, f)] * 3 + [(h,)] * 2
        some = [torch.nn.Parameter(torch.randn(shape, device="cuda", dtype=torch.bfloat16) * 0.02)
                for _ in range(layers) for shape in shapes]
        count = sum(p.numel() for p in some)
        for p in some:
            p.grad = torch.randn_like(p)
        for how in ({}, {"fused": True}):
            optimizer = torch.optim.AdamW(some, lr=1e-5, **how)
            yield {"what": "torch_device_adamw" + ("_fused" if how else ""), "bytes": 0,
                   **per_call(optimizer.step, 3),
                   "note": f"{count} bf16 parameters in {len(some)} tensors of a Llama's shapes"}
            del optimizer
        yield {"what": "torch_device_clip", "bytes": 0,
               **per_call(lambda: torch.nn.utils.clip_grad_norm_(some, 1.0), 3),
               "note": f"{count} bf16 gradients in {len(some)} tensors"}
        for rows in (2048, 4096):
            for k, n in ((h, h), (h, f), (f, h)):
                x, w, dy = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) * 0.1
                            for shape in ((rows, k), (n, k), (rows, n)))
                for what, call in (("forward", lambda: x @ w.t()), ("data_grad", lambda: dy @ w),
                                   ("weight_grad", lambda: dy.t() @ x)):
                    yield {"what": f"torch_device_product_{what}", "m": rows, "n": n, "k": k,
                           "bytes": 0, **per_call(call, 40), "note": "bf16, 40 in a row"}


def c10d_lines():
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(c10d_rank, (folder,), nprocs=2)
        with open(os.path.join(folder, "lines"), encoding="utf-8") as file:
            yield from json.load(file)


def c10d_rank(rank, folder):
    import torch.distributed as dist
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=f"file://{folder}/meet", rank=rank, world_size=2,
                            timeout=datetime.timedelta(seconds=60),
                            device_id=torch.device("cuda", rank))
    x = torch.ones(2048, device="cuda")
    whole, y = torch.ones(4096, device="cuda"), torch.ones_like(x)
    other = 1 - rank

    def pair():
        for work in dist.batch_isend_irecv([dist.P2POp(dist.isend, x, other),
                                            dist.P2POp(dist.irecv, y, other)]):
            work.wait()

    def one_way():
        op = dist.P2POp(dist.isend, x, 1) if rank == 0 else dist.P2POp(dist.irecv, y, 0)
        for work in dist.batch_isend_irecv([op]):
            work.wait()
    lines = [host_line(f"c10d_{name}", f"two ranks, {note}, 50 in a row", repeat(50, call), 50)
             for name, note, call in (
                 ("all_reduce", "8 KiB", lambda: dist.all_reduce(x)),
                 ("all_reduce_async", "8 KiB, async_op and wait",
                  lambda: dist.all_reduce(x, async_op=True).wait()),
                 ("all_gather", "into 16 KiB", lambda: dist.all_gather_into_tensor(whole, x)),
                 ("reduce_scatter", "of 16 KiB", lambda: dist.reduce_scatter_tensor(x, whole)),
                 ("send_and_receive", "batch_isend_irecv of both, waited for", pair),
                 ("one_way", "batch_isend_irecv of one message, waited for; rank 0 sends", one_way))]
    dist.barrier()
    dist.destroy_process_group()
    if rank == 0:
        with open(os.path.join(folder, "lines"), "w", encoding="utf-8") as file:
            json.dump(lines, file)


def main():
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("-o", "--out", default="torch-parts.jsonl", help="JSON-lines file to write")
    parser.add_argument("--only", default=",".join(KINDS), metavar="KIND,...")
    options = parser.parse_args()
    kinds = options.only.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"--only: '{sorted(unknown)[0]}' is none of {', '.join(KINDS)}")
    if not torch.cuda.is_available():
        print("torch_parts.py: needs a CUDA device and its driver", file=sys.stderr)
        return 2
    nvml = Nvml(str(torch.cuda.get_device_properties(0).uuid))
    torch.manual_seed(1)
    first = header(nvml)
    first["command"] = " ".join(["torch_parts.py"] + sys.argv[1:])
    first["method"] = f"PyTorch {torch.__version__}. " + " ".join(__doc__.split("\n\n")[2].split())
    with open(options.out, "w", encoding="utf-8") as file:
        def write(line):
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
            file.flush()
        write(first)
        if "host" in kinds:
            for line in itertools.islice(host_lines(), 7):
                write(line)
            for line in part_lines():
                write(line)
        if "loop" in kinds:
            for line in loop_lines():
                write(line)
        if "device" in kinds:
            for line in device_lines():
                write(line)
        if "c10d" in kinds and torch.cuda.device_count() > 1:
            for line in c10d_lines():
                write(line)
        if "kernels" in kinds:
            for shape in SHAPES:
                for line in kernel_lines(*shape):
                    write(line)
                torch.cuda.empty_cache()
    print(f"torch_parts.py: {time.monotonic() - start:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
