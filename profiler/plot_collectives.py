#!/usr/bin/env python3
"""Draws the figures of docs/interference.md from the raw lines of `steploom profile collectives`.

usage: profiler/plot_collectives.py FIGURE FOLDER > docs/FIGURE.svg

    interference         CTAs against the bandwidth of collectives, one panel a fabric
    interference-share   g: kernels on part of the SMs
    interference-beside  kernels and collectives beside each other, against CTAs
    interference-wait    what collectives wait behind kernels, at both priorities
    interference-copies  kernels and copies beside each other
"""
import json
import math
import sys
from pathlib import Path
from statistics import median

FABRICS = ("nvlink", "host", "sockets")
# Bytes that cross a rank's link, over size; two ranks.
BUS = {"all_reduce": 1, "all_gather": .5, "reduce_scatter": .5, "all_to_all": .5, "send_recv": 1}
COLOUR = dict(zip(BUS, ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd")))
KERNELS = dict(zip(("matmul", "matmul_small", "memory", "spin", "attention", "attention_backward"),
                   ("#1f77b4", "#ff7f0e", "#2ca02c", "#888888", "#d62728", "#9467bd")))
COPIES = dict(zip(("copy_on_device", "copy_to_device", "copy_to_host"), ("#d62728", "#1f77b4", "#2ca02c")))
SHORT = {"nothing": "none", "matmul_small": "small", "attention": "attn", "attention_backward": "bwd"}
DASH = {"all_reduce": "", "all_to_all": "7 3", "send_recv": "2 3"}
GRIDS = (1, 2, 4, 8, 16, 32)
WIDTH, HEIGHT, LEFT, TOP, STEP, DOWN = 250, 220, 50, 30, 310, 300


def lines(folder, file, table):
    for line in (Path(folder) / f"{file}.jsonl").read_text().splitlines():
        point = json.loads(line)
        if point.get("table") == table:
            yield point


def file_of(fabric, kernel):
    """The file with a kernel's lines: attention was measured in a run of its own."""
    return f"{fabric}-attention" if kernel.startswith("attention") else fabric


class Panel:
    """A frame with two axes; `along` maps what is on the x axis to 0 .. 1."""

    def __init__(self, column, row, title, below, ticks, along, most):
        self.left, self.top = LEFT + column * STEP, TOP + row * DOWN
        self.bottom, self.along, self.most = self.top + HEIGHT, along, most
        middle = self.left + WIDTH / 2
        self.out = [f'<rect x="{self.left}" y="{self.top}" width="{WIDTH}" height="{HEIGHT}" class="frame"/>',
                    f'<text x="{middle}" y="{self.top - 10}" class="mid">{title}</text>',
                    f'<text x="{middle}" y="{self.bottom + 34}" class="mid">{below}</text>']
        for tick in ticks:
            self.out.append(f'<text x="{self.x(tick):.1f}" y="{self.bottom + 16}" class="mid">{tick}</text>')
        for i in range(5):
            value = most * i / 4
            self.out.append(f'<path d="M{self.left} {self.y(value):.1f}h{WIDTH}" class="grid"/>'
                            f'<text x="{self.left - 6}" y="{self.y(value) + 4:.1f}" class="end">{value:g}</text>')

    def x(self, value):
        return self.left + WIDTH * self.along(value)

    def y(self, value):
        return self.bottom - HEIGHT * value / self.most

    def series(self, points, colour, dash=""):
        at = [(self.x(x), self.y(y)) for x, y in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>')
        self.out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at]

    def range(self, x, shift, values, colour):
        at, top, bottom = self.x(x) + shift, self.y(max(values)), self.y(min(values))
        self.out.append(f'<path d="M{at:.1f} {top:.1f}V{bottom:.1f}" stroke="{colour}" stroke-width="2"/>'
                        f'<circle cx="{at:.1f}" cy="{self.y(median(values)):.1f}" r="4" fill="{colour}"/>')


def by_grid(grid):
    return math.log2(grid) / 5


def key(items, top):
    out = []
    for i, (name, colour, dash) in enumerate(items):
        left = LEFT + i * 150
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        out.append(f'<path d="M{left} {top - 4}h20" stroke="{colour}" stroke-width="3"{dashed}/>'
                   f'<text x="{left + 26}" y="{top}">{name}</text>')
    return out


def bandwidth(folder):
    panels = []
    for number, (fabric, mib, most) in enumerate((("nvlink", 256, 400), ("host", 256, 40), ("sockets", 16, 4))):
        panel = Panel(number, 0, f"{fabric}, {mib} MiB", "CTAs (grid observed)", GRIDS, by_grid, most)
        found = [p for p in lines(folder, fabric, "collective") if p["bytes"] == mib << 20 and "us" in p]
        for name, colour in COLOUR.items():
            panel.series([(p["grid"], BUS[name] * p["bytes"] / p["us"][1] / 1000)
                          for p in found if p["collective"] == name], colour)
        panels.append(panel)
    return "GB/s", panels, [(name, colour, "") for name, colour in COLOUR.items()]


def share(folder):
    panel = Panel(0, 0, "g", "SMs held, of 132", (8, 33, 66, 99, 132), lambda sms: sms / 132, 1.2)
    for kernel, colour in KERNELS.items():
        us = {p["held"]: p["us"][1] for p in lines(folder, file_of("nvlink", kernel), "share")
              if p["kernel"] == kernel}
        panel.series([(held, us[max(us)] / time) for held, time in us.items()], colour)
    return "rate", [panel], [(name, colour, "") for name, colour in KERNELS.items()]


def beside(folder):
    panels = []
    for number, fabric in enumerate(FABRICS):
        mine = Panel(number, 0, f"kernels, {fabric}", "CTAs of the collective", GRIDS, by_grid, 1.2)
        theirs = Panel(number, 1, f"collectives, {fabric}", "CTAs of the collective", GRIDS, by_grid, 1.2)
        for kernel, colour in KERNELS.items():
            loops = list(lines(folder, file_of(fabric, kernel), "beside"))
            single = list(lines(folder, file_of(fabric, kernel), "admission"))
            largest = max(p["bytes"] for p in single)
            for name, dash in DASH.items():
                mine.series([(p["grid"], p["kernel_alone_us"][1] / p["kernel_us"][1]) for p in loops
                             if p["kernel"] == kernel and p["collective"] == name], colour, dash)
                runs = [p for p in single if p["collective"] == name and p["bytes"] == largest]
                alone = {p["grid"]: p["run_us"][1] for p in runs if p["behind"] == "nothing"}
                theirs.series([(p["grid"], alone[p["grid"]] / p["run_us"][1]) for p in runs
                               if p["behind"] == kernel and p["priority"] == "default"], colour, dash)
        panels += [mine, theirs]
    return "rate", panels, ([(name, colour, "") for name, colour in KERNELS.items()] +
                            [(name, "#000", dash) for name, dash in DASH.items()])


def wait(folder):
    panels = []
    behind = ("nothing", *KERNELS)
    colours = {"default": "#1f77b4", "high": "#d62728"}
    for number, fabric in enumerate(FABRICS):
        short = [SHORT.get(name, name) for name in behind]
        panel = Panel(number, 0, fabric, "behind", short,
                      lambda name, s=short: (s.index(name) + .5) / len(s), 1200)
        for name, label in zip(behind, short):
            for shift, (priority, colour) in zip((-6, 6), colours.items()):
                waits = [p["wait_us"][1] for p in lines(folder, file_of(fabric, name), "admission")
                         if p["behind"] == name and p["priority"] == priority]
                if waits:
                    panel.range(label, shift, waits, colour)
        panels.append(panel)
    return "µs", panels, [(f"{name} priority", colour, "") for name, colour in colours.items()]


def copies(folder):
    kernels = [name for name in KERNELS if name != "spin"] + ["spin"]
    short = [SHORT.get(name, name) for name in kernels]
    panels = []
    for number, side in enumerate(("kernel", "copy")):
        panel = Panel(number, 0, {"kernel": "kernels beside copies", "copy": "copies beside kernels"}[side],
                      "kernel", short, lambda name: (short.index(name) + .5) / len(short), 1.2)
        for shift, (name, colour) in zip((-8, 0, 8), COPIES.items()):
            for p in lines(folder, "copies", "copy_beside"):
                if p["copy"] == name:
                    rates = [p[f"{side}_alone_us"][1] / us for us in p[f"{side}_us"]]
                    panel.range(SHORT.get(p["kernel"], p["kernel"]), shift, rates, colour)
        panels.append(panel)
    return "rate", panels, [(name, colour, "") for name, colour in COPIES.items()]


FIGURES = {"interference": bandwidth, "interference-share": share, "interference-beside": beside,
           "interference-wait": wait, "interference-copies": copies}


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in FIGURES:
        sys.exit(__doc__)
    unit, panels, items = FIGURES[sys.argv[1]](sys.argv[2])
    width = max(max(p.left for p in panels) + WIDTH, LEFT + 150 * len(items)) + 10
    height = max(p.bottom for p in panels) + 75
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
           f'width="{width}" height="{height}">',
           "<style>text{font:12px sans-serif}.mid{text-anchor:middle}.end{text-anchor:end}"
           ".frame{fill:none;stroke:#888}.grid{stroke:#ddd}</style>",
           f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<text x="12" y="{TOP - 10}">{unit}</text>']
    for panel in panels:
        out += panel.out
    print("\n".join(out + key(items, height - 17) + ["</svg>"]))


main()
