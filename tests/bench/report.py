# SPDX-License-Identifier: BSD-3-Clause
"""Makes verdicts of samples, a table for the user and a JSON file."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import stats
from servers import Tools
from workloads import Metric, Target, Workload

BASES = ("raw", "nofilter")
# More than this fetched from the disk: the page cache was not warm.
COLD_MIB = 1.0

OPS = {">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b,
       ">": lambda a, b: a > b, "<": lambda a, b: a < b,
       "=": lambda a, b: a == b}


class Result:
    """All samples of one workload: recipe -> metric -> value per round."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.samples: dict[str, dict[str, list[float]]] = {}
        self.failed: dict[str, str] = {}

    def add(self, recipe: str, sample: dict[str, float]) -> None:
        columns = self.samples.setdefault(recipe, {})
        for key, value in sample.items():
            columns.setdefault(key, []).append(value)

    def fail(self, recipe: str, why: str) -> None:
        """What it did before is of no use: rounds would not line up."""
        self.samples.pop(recipe, None)
        self.failed[recipe] = why

    def column(self, recipe: str, metric: str) -> list[float] | None:
        return self.samples.get(recipe, {}).get(metric)

    def cold(self, recipe: str) -> int:
        return sum(is_cold({"disk_mib": mib})
                   for mib in self.column(recipe, "disk_mib") or [])

    def against(self, metric: str, recipe: str, base: str) \
            -> stats.Summary | None:
        ours, theirs = self.column(recipe, metric), self.column(base, metric)
        return stats.ratio(ours, theirs) if ours and theirs else None

    def reached(self, target: Target) -> stats.Summary | None:
        ours = self.column(target.who, target.metric)
        base = self.column(target.base, target.metric)
        if not ours:
            return None
        if target.how == "value":
            return stats.summarise(ours)
        if not base:
            return None
        how = stats.ratio if target.how == "ratio" else stats.difference
        return how(ours, base)

    def verdict(self, target: Target) -> str:
        reached = self.reached(target)
        if reached is None:
            return "not measured"
        return "met" if OPS[target.op](reached.median, target.limit) \
            else "NOT MET"

    def shown_targets(self) -> list[Target]:
        """Leaves out the rivals we only compare with where they exist."""
        return [t for t in self.workload.targets
                if t.origin == "issue"
                or {t.base, t.who} <= self.samples.keys()]

    def as_json(self) -> dict[str, Any]:
        def summary(s: stats.Summary | None) -> dict[str, float] | None:
            return asdict(s) if s else None

        return {
            "name": self.workload.name, "about": self.workload.about,
            "failed": self.failed,
            "recipes": {
                recipe: {
                    metric.key: {
                        "samples": columns[metric.key],
                        **asdict(stats.summarise(columns[metric.key])),
                        **{f"ratio_to_{base}": summary(
                            self.against(metric.key, recipe, base))
                           for base in self.samples if base != recipe},
                    } for metric in self.workload.metrics}
                for recipe, columns in self.samples.items()},
            "cold_samples": {r: self.cold(r) for r in self.samples},
            "targets": [
                {**asdict(t), "reached": summary(self.reached(t)),
                 "verdict": self.verdict(t)}
                for t in self.workload.targets],
        }


def is_cold(sample: dict[str, float]) -> bool:
    return sample.get("disk_mib", 0.0) > COLD_MIB


def _spread(s: stats.Summary, digits: int) -> str:
    if s.low == s.high:
        return f"{s.median:.{digits}f}"
    return (f"{s.median:.{digits}f} "
            f"[{s.low:.{digits}f}..{s.high:.{digits}f}]")


def _metric_lines(result: Result, metric: Metric) -> list[str]:
    lines = []
    for recipe in result.samples:
        column = result.column(recipe, metric.key)
        assert column
        median = _spread(stats.summarise(column), metric.digits)
        line = f"    {recipe:<11}{median:<34}"
        for base in BASES:
            ratio = result.against(metric.key, recipe, base)
            if ratio and base != recipe:
                line += f" {'x' + _spread(ratio, 2):<20} {base:<9}"
        lines.append(line.rstrip())
    for target in result.shown_targets():
        if target.metric == metric.key:
            reached = result.reached(target)
            lines.append(
                f"      target {target.text()}: "
                + (_spread(reached, 2) + ", " if reached else "")
                + result.verdict(target))
    return lines


def table(result: Result) -> str:
    workload = result.workload
    rounds = max((len(next(iter(c.values())))
                  for c in result.samples.values()), default=0)
    lines = ["", f"== {workload.name}: {workload.about} ({rounds} rounds)"]
    for metric in workload.metrics:
        mark = "" if metric.better == "higher" else ", less is better"
        lines.append(f"  {metric.label}{mark}")
        lines += _metric_lines(result, metric)
    for recipe, why in result.failed.items():
        lines.append(f"  {recipe}: FAILED: {why}")
    for recipe in result.samples:
        if result.cold(recipe):
            lines.append(f"  {recipe}: {result.cold(recipe)} samples read "
                         "from the disk: the page cache was not warm")
    return "\n".join(lines)


def targets(results: Sequence[Result]) -> str:
    lines = ["", "== Targets of --filter=qcow2 (\"ours\")",
             f"{'workload':<19}{'metric':<30}{'target':<30}"
             f"{'reached':<26}verdict"]
    for result in results:
        labels = {m.key: m.label for m in result.workload.metrics}
        for target in result.shown_targets():
            reached = result.reached(target)
            lines.append(
                f"{result.workload.name:<19}{labels[target.metric]:<30}"
                f"{target.text():<30}"
                f"{_spread(reached, 2) if reached else '-':<26}"
                f"{result.verdict(target)}")
    return "\n".join(lines)


def _first_line(*argv: str) -> str:
    run = subprocess.run(argv, stdin=subprocess.DEVNULL, check=False,
                         stdout=subprocess.PIPE, text=True)
    return run.stdout.partition("\n")[0]


def machine(tools: Tools) -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(), "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "nbdkit": _first_line(*tools.command([tools.nbdkit, "--version"])),
        "qemu": _first_line(*tools.command([tools.qemu_nbd, "--version"])),
        "nbdcopy": _first_line("nbdcopy", "--version"),
    }


def save(path: Path, info: dict[str, Any], results: Sequence[Result]) \
        -> None:
    """Replace the file in one step, so that it can be read at any time."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(
        {**info, "workloads": [r.as_json() for r in results]}, indent=1)
        + "\n")
    part.rename(path)
