#!/usr/bin/env python3
"""Draws docs/interference.svg: CTAs against the bandwidth of collectives, one panel a fabric.

usage: profiler/plot_collectives.py profiler/data/h200-sxm-141gb > docs/interference.svg
"""
import json
import math
import sys
from pathlib import Path

# Bytes that cross a rank's link, over size; two ranks.
BUS = {"all_reduce": 1, "all_gather": .5, "reduce_scatter": .5, "all_to_all": .5, "send_recv": 1}
COLOUR = dict(zip(BUS, ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd")))
PANELS = (("nvlink", 256, 400), ("host", 256, 40), ("sockets", 16, 4))  # MiB, most GB/s
GRIDS = (1, 2, 4, 8, 16, 32)
WIDTH, HEIGHT, LEFT, TOP, STEP = 250, 220, 50, 30, 310


def points(folder, fabric, mib):
    for line in (Path(folder) / f"{fabric}.jsonl").read_text().splitlines():
        point = json.loads(line)
        if point.get("table") == "collective" and point["bytes"] == mib << 20 and "us" in point:
            if point["collective"] in BUS:
                yield point


def panel(folder, number, fabric, mib, most):
    left = LEFT + number * STEP
    bottom = TOP + HEIGHT

    def x(grid):
        return left + WIDTH * math.log2(grid) / 5

    def y(rate):
        return bottom - HEIGHT * rate / most

    out = [f'<rect x="{left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" class="frame"/>',
           f'<text x="{left + WIDTH / 2}" y="{TOP - 10}" class="mid">{fabric}, {mib} MiB</text>',
           f'<text x="{left + WIDTH / 2}" y="{bottom + 34}" class="mid">CTAs (grid observed)</text>']
    for grid in GRIDS:
        out.append(f'<text x="{x(grid):.1f}" y="{bottom + 16}" class="mid">{grid}</text>')
    for i in range(5):
        rate = most * i / 4
        out.append(f'<path d="M{left} {y(rate):.1f}h{WIDTH}" class="grid"/>'
                   f'<text x="{left - 6}" y="{y(rate) + 4:.1f}" class="end">{rate:g}</text>')
    found = list(points(folder, fabric, mib))
    for name, colour in COLOUR.items():
        mine = sorted((p["grid"], BUS[name] * p["bytes"] / p["us"][1] / 1000)
                      for p in found if p["collective"] == name)
        path = " ".join(f"{x(g):.1f},{y(r):.1f}" for g, r in mine)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x(g):.1f}" cy="{y(r):.1f}" r="3" fill="{colour}"/>' for g, r in mine]
    return out


def main():
    folder = sys.argv[1]
    width, height = LEFT + 3 * STEP, TOP + HEIGHT + 75
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
           f'width="{width}" height="{height}">',
           "<style>text{font:12px sans-serif}.mid{text-anchor:middle}.end{text-anchor:end}"
           ".frame{fill:none;stroke:#888}.grid{stroke:#ddd}</style>",
           f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<text x="12" y="{TOP - 10}">GB/s</text>']
    for number, (fabric, mib, most) in enumerate(PANELS):
        out += panel(folder, number, fabric, mib, most)
    for i, (name, colour) in enumerate(COLOUR.items()):
        left, top = LEFT + i * 150, TOP + HEIGHT + 58
        out.append(f'<path d="M{left} {top - 4}h20" stroke="{colour}" stroke-width="3"/>'
                   f'<text x="{left + 26}" y="{top}">{name}</text>')
    print("\n".join(out + ["</svg>"]))


main()
