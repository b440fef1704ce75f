#!/usr/bin/env python3
"""Times what a step of eager PyTorch is made of and writes one file of measured points.

The file has the format of profiler/points.h and is written line by line, so an interrupted run
leaves what it has measured. Needs PyTorch and one CUDA GPU, nothing else; with two GPUs the host
time of a c10d all_reduce is measured too. Kinds, phases and shapes are those of profiler/asks.h.

Exit status 0: all done; 1: something failed (its line says what); 2: nothing to measure with, or
a refused option.
"""
import argparse
import datetime
import gc
import json
import math
import sys
import time

try:
    import torch
    from torch_cases import all_cases
    from torch_host import host_lines
    from torch_stats import Nvml, cublas_version, stats_of
except ImportError as error:
    sys.exit(print(f"torch_eager.py: needs PyTorch 2.6 or later: {error}", file=sys.stderr) or 2)

METHOD = (
    "PyTorch {torch}. Each point: random data in sets of tensors that together "
    "exceed 2.5 times the L2 cache, used in turn; results finite; shots captured in a CUDA graph "
    "of about 2 ms (one by one where the note says so), replayed without pause for at least 200 ms "
    "(attention) or 60 ms (others), the first half of the replays dropped; a sample is the mean "
    "over a replay by CUDA events, the gaps between kernels included. Backward is autograd.grad "
    "alone. bytes counts what every kernel of an operator reads and writes, once each (asks.cpp). "
    "Optimizers: fp32 parameters in tensors of 2^24. sm_mhz and watts from NVML (ctypes) three "
    "quarters through; watts lags by about 0.1 s"
)
REPLAY_US = 2000
MOST_SHOTS = 400
MOST_SETS = 64
MOST_SHOT_MS = 50
KINDS = ["host", "attention", "norm", "rotary", "activation", "residual", "embedding",
         "cross_entropy", "adam", "grad_norm", "zero_fill", "accumulate"]


def finite(results):
    return all(bool(torch.isfinite(r).all()) for r in results if r.is_floating_point())


def results_of(shot):
    results = shot()
    return [results] if isinstance(results, torch.Tensor) else list(results)


def capture(shoot):
    """A graph of what shoot() launches on the current stream; None where it cannot be had."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    try:
        graph.capture_begin()
        try:
            shoot()
        finally:
            graph.capture_end()
    except RuntimeError as error:
        print(f"torch_eager.py: no graph: {error}", file=sys.stderr)
        return None
    return graph


def build_sets(case, rotate):
    """As many sets of tensors as exceed `rotate` bytes together."""
    before = torch.cuda.memory_allocated()
    shots = [case.make()]
    kept = [results_of(shots[0])]
    torch.cuda.synchronize()
    # Of a table only the rows that are looked up count: no more than the operator moves.
    each = max(min(torch.cuda.memory_allocated() - before, case.line["bytes"]), 1)
    for _ in range(min(MOST_SETS, int(rotate // each) + 1) - 1):
        shots.append(case.make())
        kept.append(results_of(shots[-1]))
    return shots, kept


def timed(stream, work):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record(stream)
    work()
    end.record(stream)
    end.synchronize()
    return max(start.elapsed_time(end) * 1e3, 0.1)


def measure(case, stream, nvml, rotate):
    """The line of a case; raises what PyTorch raises."""
    shots, kept = build_sets(case, rotate)
    sets = len(shots)
    if not finite(kept[0]):
        return {**case.line, "samples": 0, "note": "wrong: results that are not finite"}

    def shoot(count):
        for i in range(count):
            kept[i % sets] = results_of(shots[i % sets])
    shot_us = min(timed(stream, lambda: shoot(1)) for _ in range(3))
    if shot_us > MOST_SHOT_MS * 1e3:
        return {**case.line, "samples": 0, "note": f"skipped: {shot_us / 1e3:.0f} ms a shot"}
    count = min(max(round(REPLAY_US / shot_us), sets, 1), MOST_SHOTS)
    note, replay = "launched one by one, not from a graph", lambda: shoot(count)
    graph = capture(lambda: shoot(count)) if case.in_graph else None
    if graph is not None:
        note, replay = "", graph.replay
    replay()
    replay_us = timed(stream, replay)
    replays = min(max(math.ceil(case.hot_ms * 1e3 / replay_us), 10), 1000)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(replays + 1)]
    host = time.perf_counter()
    marks[0].record(stream)
    for mark in marks[1:]:
        replay()
        mark.record(stream)
    host = time.perf_counter() - host
    marks[replays * 3 // 4].synchronize()
    mhz, watts = nvml.sm_mhz(), nvml.watts()
    torch.cuda.synchronize()
    samples = [marks[i - 1].elapsed_time(marks[i]) * 1e3 / count
               for i in range(len(marks) // 2 + 1, len(marks))]
    if graph is None and host * 1e3 > 0.9 * marks[0].elapsed_time(marks[-1]):
        note += "; the host limits"
    line = {**case.line, **stats_of(samples)}
    if mhz:
        line["sm_mhz"] = mhz
    if watts:
        line["watts"] = watts
    if "what" in line:
        note = "device time" + (note and "; " + note)
    if note:
        line["note"] = note
    return line


def header(nvml):
    card = torch.cuda.get_device_properties(0)
    cudnn = torch.backends.cudnn.version()
    return {"steploom_measurements": 1,
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "command": " ".join(["torch_eager.py"] + sys.argv[1:]), "gpu": card.name,
            "driver": nvml.driver(), "cuda_runtime": torch.version.cuda,
            "cublas": cublas_version(),
            "cudnn": f"{cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100}",
            "sms": card.multi_processor_count, "memory": card.total_memory,
            "l2": card.L2_cache_size, "memory_mhz": nvml.mhz("nvmlDeviceGetClockInfo", 2),
            "most_sm_mhz": nvml.mhz("nvmlDeviceGetMaxClockInfo", 1),
            "method": METHOD.format(torch=torch.__version__)}


def attempt(case, stream, nvml, rotate):
    """A line in any case: a backend's refusal and a failure become notes."""
    try:
        return measure(case, stream, nvml, rotate)
    except torch.cuda.OutOfMemoryError:
        return {**case.line, "samples": 0, "note": "skipped: out of device memory"}
    except Exception as error:  # whatever PyTorch raises
        text = str(error).strip().split("\n")[0]
        refused = case.kind == "attention" and "No available kernel" in text
        return {**case.line, "samples": 0,
                "note": ("refused by this backend: " if refused else "failed: ") + text}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--budget", type=float, default=3, metavar="MINUTES",
                        help="minutes after which no point is begun (default 3)")
    parser.add_argument("-o", "--out", default="torch.jsonl", help="JSON-lines file to write")
    parser.add_argument("--only", metavar="KIND,...", help="of " + ", ".join(KINDS))
    options = parser.parse_args()
    options.only = options.only.split(",") if options.only else KINDS
    unknown = [kind for kind in options.only if kind not in KINDS]
    if unknown:
        parser.error(f"--only: '{unknown[0]}' is none of {', '.join(KINDS)}")
    if not 0 < options.budget <= 600:
        parser.error("--budget: minutes above 0, at most 600")
    return options


def run():
    start = time.monotonic()
    options = arguments()
    if not torch.cuda.is_available():
        print("torch_eager.py: needs a CUDA device and its driver", file=sys.stderr)
        return 2
    card = torch.cuda.get_device_properties(0)
    nvml = Nvml(str(card.uuid))
    stream = torch.cuda.Stream()
    torch.cuda.set_stream(stream)
    torch.manual_seed(1)
    done = failed = 0
    with open(options.out, "w", encoding="utf-8") as file:
        def write(line):
            file.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n")
            file.flush()
        write(header(nvml))
        if "host" in options.only:
            for line in host_lines():
                write(line)
        gc.collect()
        gc.disable()  # no pauses between shots; cycles are collected between the points
        for case in all_cases():
            if time.monotonic() - start > 60 * options.budget:
                print("torch_eager.py: the budget was spent", file=sys.stderr)
                break
            if case.kind not in options.only:
                continue
            line = attempt(case, stream, nvml, 2.5 * card.L2_cache_size)
            write(line)
            done += 1
            if line.get("note", "").startswith(("failed", "wrong", "refused", "skipped")):
                failed += line["note"].startswith(("failed", "wrong"))
                print(" ".join(str(v) for v in line.values()), file=sys.stderr)
            gc.collect(0)
            if torch.cuda.memory_reserved() > card.total_memory // 2:
                torch.cuda.empty_cache()
    print(f"{done} points in {options.out}, {failed} wrong or failed, "
          f"{time.monotonic() - start:.0f} s", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(run())
    except OSError as refusal:  # of the file to write
        sys.exit(print(f"torch_eager.py: {refusal}", file=sys.stderr) or 2)
