#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A page with tables and plots of results.

    page.py OUTPUT-FOLDER RESULTS.json...

RESULTS are what bench, live.py and cost.py have written, in any number, such
as of two releases side by side.  The folder gets index.md, overview.svg, and
plots in SVG of each row, whose names begin with that of their file; what is
there already is replaced.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from html import escape
from pathlib import Path

from overview import overview

BAR, GAP, LEFT, WIDTH = 18, 6, 210, 720
PLOTS = 3                       # of a row, at most
COLORS = {"ours": "#2563a8", "raw": "#8a8a8a", "nofilter": "#b5b5b5"}
OTHER = "#d08a3c"


class Column:
    """One figure of several servers, or values."""

    def __init__(self, label, unit, bars):
        self.label, self.unit = label, unit
        self.bars = bars            # name -> samples


def number(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def svg(title, column):
    """Bars of the medians, with a line from the least to the most."""
    most = max(max(s) for s in column.bars.values()) or 1
    height = 40 + (BAR + GAP) * len(column.bars)
    scale = (WIDTH - LEFT - 90) / most
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
           f'height="{height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
           f'<text x="8" y="18" font-weight="bold">{escape(title)}: '
           f'{escape(column.label)}</text>']
    y = 32
    for name, samples in column.bars.items():
        middle = statistics.median(samples)
        color = COLORS.get(name.split(",")[0], OTHER)
        at = y + BAR / 2
        out += [
            f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end">'
            f'{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{middle * scale:.1f}" '
            f'height="{BAR}" fill="{color}"/>',
            f'<line x1="{LEFT + min(samples) * scale:.1f}" y1="{at}" '
            f'x2="{LEFT + max(samples) * scale:.1f}" y2="{at}" '
            'stroke="black"/>',
            f'<text x="{LEFT + max(max(samples), middle) * scale + 6:.1f}" '
            f'y="{at + 4}">{number(middle)}</text>']
        y += BAR + GAP
    return "\n".join([*out, "</svg>", ""])


def of_bench(results):
    """(row, about, columns, targets) of what bench has written."""
    for row in results["workloads"]:
        keys = {key: None for columns in row["recipes"].values()
                for key in columns}
        columns = [Column(key, "", {
            recipe: columns[key]["samples"]
            for recipe, columns in row["recipes"].items() if key in columns})
            for key in keys]
        yield row["name"], row["about"], columns, [
            f"{t['metric']} of {t['who']} {t['op']} {t['limit']}"
            + (f" {t['how']} to {t['base']}" if t["base"] else "")
            + f": {t['verdict']}" for t in row["targets"]]


def of_rows(results):
    """The same of live.py and cost.py."""
    for name, found in results["rows"].items():
        keys = {key: None for samples in found.values()
                for sample in samples for key in sample}
        yield name, results["about"].get(name, ""), [
            Column(key, "", {who: [s[key] for s in samples if key in s]
                             for who, samples in found.items()
                             if any(key in s for s in samples)})
            for key in keys], results["goals"].get(name, [])


def table(columns):
    names = {name: None for column in columns for name in column.bars}
    yield "| | " + " | ".join(c.label for c in columns) + " |"
    yield "|---|" + "---:|" * len(columns)
    for name in names:
        cells = []
        for column in columns:
            samples = column.bars.get(name)
            cells.append("" if not samples else
                         number(statistics.median(samples)) + (
                             f" [{number(min(samples))}.."
                             f"{number(max(samples))}]"
                             if len(samples) > 1 else ""))
        yield f"| {name} | " + " | ".join(cells) + " |"


def page(folder, stem, results):
    info = {k: v for k, v in results.items()
            if isinstance(v, (str, int, float, list)) and k != "workloads"}
    yield "\n" + "; ".join(
        f"{k}: {', '.join(map(number, v)) if k == 'load' else v}"
        for k, v in info.items()) + "\n"
    rows = of_bench(results) if "workloads" in results else of_rows(results)
    for name, about, columns, goals in rows:
        yield f"\n## {name}\n\n{about}\n"
        yield from table(columns)
        yield ""
        for column in columns[:PLOTS]:
            file = re.sub(r"[^\w.]+", "-",
                          f"{stem}-{name}-{column.label}") + ".svg"
            (folder / file).write_text(svg(name, column))
            yield f"![{name}: {column.label}]({file})"
        yield ""
        yield from (f"* {goal}" for goal in goals)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# Measured", "", "Medians, with the least and the most. "
             "tests/bench/README.md says what the rows are."]
    files = {Path(path).stem: json.loads(Path(path).read_text())
             for path in sys.argv[2:]}
    plot = overview(list(files.values()))
    if plot:
        (folder / "overview.svg").write_text(plot)
        lines += ["", "![Ours against QEMU's servers](overview.svg)"]
    for stem, results in files.items():
        lines += page(folder, stem, results)
    (folder / "index.md").write_text("\n".join(lines) + "\n")
    print(f"{folder}/index.md")


if __name__ == "__main__":
    main()
