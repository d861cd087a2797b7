# SPDX-License-Identifier: BSD-3-Clause
"""One plot of all rows in which a server of QEMU did the same work.

A bar is how many times as fast ours was: the median, over the rounds, of our
rate by that of the fastest of QEMU's servers in that row.  The axis is
logarithmic, so that twice as fast and half as fast look alike.  Several files
of results, such as of two releases, have a bar each in every row.
"""

from __future__ import annotations

import math
import statistics
from html import escape

import stats

# What tells the speed of a row, and whether more is better.
SPEEDS = {"iops": True, "mib_s": True, "seconds": False, "cold": False}
RIVALS = ("qemu", "qemu-uring", "qemu-unmap")

BAR, GAP, TOP, LEFT, WIDTH = 9, 7, 44, 450, 1000
RIGHT = 60
LETTERS = 76                    # of what a row is about
COLORS = ("#2563a8", "#7fb2e5", "#8a8a8a", "#d08a3c")


def _fastest(columns, key, more):
    """The samples of the fastest of QEMU's servers, or None."""
    found = [columns[name][key]["samples"] for name in RIVALS
             if key in columns.get(name, {})]
    return (max if more else min)(found, key=statistics.median) \
        if found else None


def _speed_up(row):
    """How many times as fast ours is, as a stats.Summary, or None."""
    columns = row["recipes"]
    for key, more in SPEEDS.items():
        if key not in columns.get("ours", {}):
            continue
        rival = _fastest(columns, key, more)
        if rival is None:
            return None
        ours = columns["ours"][key]["samples"]
        return stats.ratio(ours, rival) if more else stats.ratio(rival, ours)
    return None


def _compared(files):
    """{row: (what it is about, [a summary or None for each file])}"""
    rows = {}
    for at, results in enumerate(files):
        for row in results["workloads"]:
            speed_up = None if row["failed"] else _speed_up(row)
            if speed_up and speed_up.low > 0:
                rows.setdefault(row["name"], (row["about"],
                                              [None] * len(files)))
                rows[row["name"]][1][at] = speed_up
    return rows


class _Axis:
    def __init__(self, summaries):
        self.least = min(0, *(math.floor(math.log2(s.low))
                              for s in summaries))
        self.most = max(1, *(math.ceil(math.log2(s.high))
                             for s in summaries))

    def x(self, ratio):
        scale = (WIDTH - LEFT - RIGHT) / (self.most - self.least)
        return LEFT + (math.log2(ratio) - self.least) * scale

    def lines(self, height):
        step = max(1, (self.most - self.least) // 10)
        for power in range(self.least, self.most + 1, step):
            at = f"{self.x(2 ** power):.1f}"
            color = "black" if power == 0 else "#dddddd"
            yield (f'<line x1="{at}" y1="{TOP - 6}" x2="{at}" '
                   f'y2="{height - 6}" stroke="{color}"/>')
            yield (f'<text x="{at}" y="{TOP - 10}" text-anchor="middle">'
                   f'{2.0 ** power:g}</text>')


def _bar(axis, summary, y, color):
    one, end = axis.x(1), axis.x(summary.median)
    middle = y + BAR / 2
    yield (f'<rect x="{min(one, end):.1f}" y="{y}" '
           f'width="{abs(end - one):.1f}" height="{BAR}" fill="{color}"/>')
    yield (f'<line x1="{axis.x(summary.low):.1f}" y1="{middle}" '
           f'x2="{axis.x(summary.high):.1f}" y2="{middle}" stroke="black"/>')
    yield (f'<text x="{max(one, end, axis.x(summary.high)) + 5:.1f}" '
           f'y="{y + BAR - 1}" font-size="10">{summary.median:.2g}</text>')


def overview(files):
    """The SVG of what bench has written, or None if no row compares."""
    files = [f for f in files if "workloads" in f]
    rows = _compared(files)
    if not rows:
        return None
    axis = _Axis([s for _, found in rows.values() for s in found if s])
    step = (BAR + 1) * len(files) + GAP
    top = TOP + step * len(rows)
    height = top + 14 * len(files) + 10
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
           f'height="{height}" font-family="sans-serif" font-size="11">',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
           '<text x="8" y="16" font-size="13" font-weight="bold">Times as '
           "fast as the fastest of QEMU's servers (1: no difference)</text>",
           *axis.lines(top)]
    for at, (about, found) in enumerate(rows.values()):
        y = TOP + step * at
        if len(about) > LETTERS:
            about = about[:LETTERS - 3].rstrip(" ,") + "..."
        out.append(f'<text x="{LEFT - 8}" text-anchor="end" '
                   f'y="{y + (step - GAP) / 2 + 4:.0f}">'
                   f'{escape(about)}</text>')
        for n, summary in enumerate(found):
            if summary:
                out += _bar(axis, summary, y + (BAR + 1) * n,
                            COLORS[n % len(COLORS)])
    for n, results in enumerate(files):
        y = top + 14 * n
        out += [f'<rect x="8" y="{y}" width="{BAR}" height="{BAR}" '
                f'fill="{COLORS[n % len(COLORS)]}"/>',
                f'<text x="{12 + BAR}" y="{y + BAR}">'
                + escape(f"{results['nbdkit']}, {results['qemu']}, "
                         f"{results['cpus']} CPUs, "
                         f"Linux {results['kernel']}") + "</text>"]
    return "\n".join([*out, "</svg>", ""])
