#!/usr/bin/env python3
"""What kernels draw, and which clock the card leaves them, by how much else there is to do.

    python3 profiler/torch_power.py > power.jsonl                           # kernels, one GPU
    torchrun --nproc-per-node 2 profiler/torch_power.py >> power.jsonl      # collectives

One JSON line a case: some 2 ms of a kernel, then nothing, or another kernel, for a share of that
time, over and over for SECONDS; the second half counts. `watts` is the card's energy counter over
time. `mhz` are SM cycles over time while the kernel runs, from stamps of a kernel of one thread
before and after (clock64, globaltimer), `mhz_beside` the same between; `us` is one kernel's time,
`duty` the share of time that it runs.
"""
import ctypes
import json
import os
import sys
import threading
import time

import torch

from torch_stats import Nvml

SECONDS = 0.8
SEGMENT = 2e-3
PLACES = 1 << 16
STAMP = r"""
extern "C" __global__ void stamp(unsigned long long* out, unsigned long long* count, int places) {
  unsigned long long ns;
  unsigned sm;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(ns));
  asm volatile("mov.u32 %0, %smid;" : "=r"(sm));
  unsigned long long at = atomicAdd(count, 1ULL) % places;
  out[3 * at] = clock64();
  out[3 * at + 1] = ns;
  out[3 * at + 2] = sm;
}
"""


class Card:
    """Stamps on the device, clock and energy from NVML."""

    def __init__(self):
        self.nvml = Nvml(str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid))
        self.kernel = torch.cuda._compile_kernel(STAMP, "stamp")
        self.out = torch.zeros(3 * PLACES, dtype=torch.int64, device="cuda")
        self.count = torch.zeros(1, dtype=torch.int64, device="cuda")

    def stamp(self):
        self.kernel(grid=(1, 1, 1), block=(1, 1, 1), args=[self.out, self.count, PLACES])

    def millijoules(self):
        value = ctypes.c_ulonglong()
        self.nvml.library.nvmlDeviceGetTotalEnergyConsumption(self.nvml.device,
                                                              ctypes.byref(value))
        return value.value

    def stamps(self):
        n = int(self.count.item())
        rows = self.out.view(PLACES, 3)[:min(n, PLACES)].tolist()
        return rows if n <= PLACES else []

    def watch(self, energy, clocks, stop):
        last = self.millijoules()
        while not stop.is_set():  # the counter moves some ten times a second
            now = self.millijoules()
            if now != last:
                energy.append((time.monotonic(), now))
                clocks.append(self.nvml.sm_mhz())
                last = now
            time.sleep(0.001)


def seconds_of(work, count=20):
    for _ in range(3):
        work()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(count):
        work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e-3 / count


def rate_of(energy):
    return (energy[-1][1] - energy[0][1]) * 1e-3 / (energy[-1][0] - energy[0][0])


def run(card, work, beside, ratio, graph):
    """`beside`: a kernel, None (a sleeping one); ratio: its time over the kernel's."""
    each = seconds_of(work)
    shots = max(1, round(SEGMENT / each))
    others = 0
    if ratio > 0 and beside is not None:
        others = max(1, round(ratio * shots * each / seconds_of(beside)))

    def cycle():
        card.stamp()
        for _ in range(shots):
            work()
        card.stamp()
        for _ in range(others):
            beside()
        if ratio > 0 and beside is None:
            torch.cuda._sleep(int(ratio * shots * each * 1.9e9))
        card.stamp()

    cycle()
    torch.cuda.synchronize()
    again = cycle
    if graph:
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            cycle()
        again = captured.replay
    cycles = int(SECONDS / (shots * each * (1 + ratio))) + 2
    energy, clocks, stop = [], [], threading.Event()
    watcher = threading.Thread(target=card.watch, args=(energy, clocks, stop))
    for half in range(2):
        card.count.zero_()
        marks = []
        if half == 1:
            watcher.start()
        for i in range(cycles // 2):
            again()
            marks.append(torch.cuda.Event())
            marks[-1].record()
            if i >= 8:  # the host is never far ahead
                marks[i - 8].synchronize()
        torch.cuda.synchronize()
    stop.set()
    watcher.join()
    busy = [0, 0, 0]  # cycles, ns, ns in all
    rest = [0, 0]
    rows = card.stamps()
    for i in range(0, len(rows) - 3, 3):
        a, b, c, d = rows[i:i + 4]
        if len({a[2], b[2], c[2], d[2]}) > 1:
            continue
        busy = [busy[0] + b[0] - a[0], busy[1] + b[1] - a[1], busy[2] + d[1] - a[1]]
        rest = [rest[0] + c[0] - b[0], rest[1] + c[1] - b[1]]
    line = {"us": round(busy[1] * 1e-3 / shots / max(1, (len(rows) - 1) // 3), 2), "shots": shots}
    if busy[1] > 0:
        line |= {"duty": round(busy[1] / busy[2], 4), "mhz": round(busy[0] / busy[1] * 1e3, 1)}
    if ratio > 0 and rest[1] > 0:
        line["mhz_beside"] = round(rest[0] / rest[1] * 1e3, 1)
    line["watts"] = round(rate_of(energy), 1) if len(energy) > 2 else 0
    line["energy_readings"] = len(energy)
    line["nvml_mhz"] = sorted(clocks)[len(clocks) // 2] if clocks else 0
    return line


def turned(calls):
    """The calls in turn, one a call."""
    at = [0]

    def call():
        calls[at[0] % len(calls)]()
        at[0] += 1
    return call


def bf16(*shape):
    return (torch.rand(*shape, device="cuda") * 2 - 1).to(torch.bfloat16)


def product(m, n, k, groups=1):
    each = 2 * groups * (m * k + k * n + m * n)
    sets = max(1, min(40, 160_000_000 // each + 1))
    calls = []
    for _ in range(sets):
        a = bf16(groups, m, k) if groups > 1 else bf16(m, k)
        b = bf16(groups, k, n) if groups > 1 else bf16(k, n)
        out = torch.matmul(a, b)
        calls.append(lambda a=a, b=b, out=out: torch.matmul(a, b, out=out))
    return turned(calls), {"flops": 2 * groups * m * n * k, "bytes": each}


def attention(sequences, heads, tokens, width, backward):
    shape = (sequences, heads, tokens, width)
    q, k, v = (bf16(*shape).requires_grad_(backward) for _ in range(3))

    def forward():
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.CUDNN_ATTENTION):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    flops = 2 * sequences * heads * tokens * tokens * width
    data = 2 * 4 * sequences * heads * tokens * width
    if not backward:
        return forward, {"flops": flops, "bytes": data}
    o, grad = forward(), bf16(*shape)
    return (lambda: torch.autograd.grad(o, (q, k, v), grad, retain_graph=True)), {
        "flops": 2.5 * flops, "bytes": 2 * data, "graph": False}


def moving(name, elements=1 << 27):
    x, y = bf16(elements), bf16(elements)
    if name == "copy":
        return (lambda: y.copy_(x)), {"flops": 0, "bytes": 4 * elements}
    if name == "add":
        return (lambda: torch.add(x, y, out=y)), {"flops": 0, "bytes": 6 * elements}
    if name == "gelu":
        return (lambda: torch.ops.aten.gelu.out(x, out=y)), {"flops": 0, "bytes": 4 * elements}
    rows, weight = x.view(-1, 4096), bf16(4096)
    return (lambda: torch.nn.functional.rms_norm(rows, (4096,), weight)), {
        "flops": 0, "bytes": 4 * elements}


def kernels(card):
    copy, _ = moving("copy")
    gaps = [0, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 2]
    few = [0, 0.3, 0.75, 1.5]
    cases = [("sleep", lambda: ((lambda: torch.cuda._sleep(380_000)), {}), [0])]
    cases += [(name, lambda name=name: moving(name), [0, 1]) for name in
              ("copy", "add", "gelu", "rms_norm")]
    cases += [
        ("dense 8192 14336 4096", lambda: product(8192, 14336, 4096), gaps + [0]),
        ("dense 8192 4096 14336", lambda: product(8192, 4096, 14336), few),
        ("dense 8192 4096 1024", lambda: product(8192, 4096, 1024), few),
        ("dense 2048 2048 2048", lambda: product(2048, 2048, 2048), few),
        ("dense 8192 2048 256", lambda: product(8192, 2048, 256), [0, 1]),
        ("grouped 2048 14336 2048 x 8", lambda: product(2048, 14336, 2048, 8), gaps),
        ("grouped 512 2816 2048 x 32", lambda: product(512, 2816, 2048, 32), few),
        ("attention forward 4 32 2048 128", lambda: attention(4, 32, 2048, 128, False), few),
        ("attention forward 2 32 8192 128", lambda: attention(2, 32, 8192, 128, False), gaps),
        ("attention forward 8 12 1024 64", lambda: attention(8, 12, 1024, 64, False), [0, 1]),
        ("attention backward 4 32 2048 128", lambda: attention(4, 32, 2048, 128, True), few),
        ("attention backward 2 32 8192 128", lambda: attention(2, 32, 8192, 128, True), gaps)]
    for name, make, ratios in cases:
        try:
            work, size = make()
        except Exception as fault:  # the other kernels still count
            print(json.dumps({"kernel": name, "failed": str(fault)[:300]}), flush=True)
            continue
        asked = [(None, "nothing", r) for r in ratios]
        if name in ("dense 8192 14336 4096", "grouped 2048 14336 2048 x 8"):
            asked += [(copy, "copy", r) for r in (0.3, 1)]
        for other, said, ratio in asked:
            line = {"kernel": name, "beside": said, "ratio": ratio, **size}
            try:
                line |= run(card, work, other, ratio, line.pop("graph", True))
            except Exception as fault:
                line["failed"] = str(fault)[:300]
            print(json.dumps(line), flush=True)
    energy, stop = [], threading.Event()
    watcher = threading.Thread(target=card.watch, args=(energy, [], stop))
    time.sleep(0.3)
    watcher.start()
    time.sleep(1)
    stop.set()
    watcher.join()
    print(json.dumps({"kernel": "none", "watts": round(rate_of(energy), 1)}), flush=True)


def collectives(card, fabric):
    from torch import distributed
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    for megabytes in (8, 64):
        n = megabytes << 19
        x, y = bf16(n), bf16(n)
        half = bf16(n // ranks)
        calls = {"all_to_all": lambda: distributed.all_to_all_single(y, x),
                 "all_reduce": lambda: distributed.all_reduce(x),
                 "all_gather": lambda: distributed.all_gather_into_tensor(y, half),
                 "reduce_scatter": lambda: distributed.reduce_scatter_tensor(half, x)}
        for name, work in calls.items():
            for _ in range(5):
                work()
            torch.cuda.synchronize()
            begin = time.monotonic()
            for _ in range(20):
                work()
            torch.cuda.synchronize()
            each = torch.tensor([(time.monotonic() - begin) / 20], device="cuda")
            distributed.all_reduce(each, op=distributed.ReduceOp.MAX)
            count = int(SECONDS / float(each))
            energy, clocks, stop = [], [], threading.Event()
            watcher = threading.Thread(target=card.watch, args=(energy, clocks, stop))
            torch.cuda.synchronize()
            watcher.start()
            begin = time.monotonic()
            for i in range(count):
                work()
                if i % 50 == 49:
                    torch.cuda.synchronize()
            torch.cuda.synchronize()
            each = (time.monotonic() - begin) / count
            stop.set()
            watcher.join()
            if rank == 0:
                half_of = energy[len(energy) // 3:]
                print(json.dumps({"kernel": name, "fabric": fabric, "bytes": 2 * n, "ranks": ranks,
                                  "us": round(each * 1e6, 1), "watts": round(rate_of(half_of), 1),
                                  "energy_readings": len(half_of),
                                  "nvml_mhz": sorted(clocks)[len(clocks) // 2]}), flush=True)
            distributed.barrier()


def limit_watts(nvml):
    milliwatts = ctypes.c_uint()
    if nvml.library.nvmlDeviceGetPowerManagementLimit(nvml.device, ctypes.byref(milliwatts)) != 0:
        return 0
    return milliwatts.value / 1000


def least_mhz(nvml):  # of the SMs (clock 1), in the fastest state (0)
    least, most = ctypes.c_uint(), ctypes.c_uint()
    call = getattr(nvml.library, "nvmlDeviceGetMinMaxClockOfPState", None)
    if call is None or call(nvml.device, 1, 0, ctypes.byref(least), ctypes.byref(most)) != 0:
        return 0
    return least.value


def header(nvml, card):
    return {"steploom_power": 1, "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "command": " ".join(["torch_power.py"] + sys.argv[1:]), "gpu": card.name,
            "driver": nvml.driver(), "torch": torch.__version__,
            "limit_watts": limit_watts(nvml), "least_sm_mhz": least_mhz(nvml),
            "most_sm_mhz": nvml.mhz("nvmlDeviceGetMaxClockInfo", 1)}


def main():
    if not torch.cuda.is_available():
        print("torch_power.py: needs a CUDA device and its driver", file=sys.stderr)
        return 2
    rank = int(os.environ.get("LOCAL_RANK", -1))
    torch.cuda.set_device(max(rank, 0))
    torch.manual_seed(1)
    card = Card()
    if rank <= 0:
        print(json.dumps(header(card.nvml, torch.cuda.get_device_properties(max(rank, 0)))),
              flush=True)
    if rank < 0:
        kernels(card)
        return 0
    torch.distributed.init_process_group("nccl")
    fabric = ("sockets" if os.environ.get("NCCL_SHM_DISABLE") == "1" else
              "host" if os.environ.get("NCCL_P2P_DISABLE") == "1" else "nvlink")
    collectives(card, fabric)
    torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
