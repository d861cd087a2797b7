# SPDX-License-Identifier: BSD-3-Clause
"""How live.py takes its samples, and prints them."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import clients
from live_servers import NbdkitServer, tool

HERE = Path(__file__).resolve().parent


class Tables:
    def __init__(self, args):
        self.args = args
        self.dir = Path(tempfile.mkdtemp(prefix="bench-live",
                                         dir=args.workdir))
        self.program = args.nbdload.absolute() if args.nbdload \
            else clients.build_nbdload(HERE / "nbdload.c", self.dir)
        self.load = clients.Load(self.program)
        self.results = {}

    # ---- Tables

    def rounds(self, row, names, sample):
        """sample(name) -> figures; in turn."""
        found = {name: [] for name in names}
        for n in range(self.args.rounds):
            shift = n % len(names)
            for name in names[shift:] + names[:shift]:
                found[name].append(sample(name))
        self.results[row] = found
        return found

    @staticmethod
    def median(samples, key):
        return statistics.median(s[key] for s in samples)

    def table(self, row, about, found, columns):
        print(f"\n### {row}: {about}\n")
        print("| who | " + " | ".join(columns) + " |")
        print("|---|" + "---:|" * len(columns))
        for name, samples in found.items():
            cells = []
            for key in columns:
                values = [s[key] for s in samples if key in s]
                if not values:
                    cells.append("")
                    continue
                text = f"{statistics.median(values):.4g}"
                if len(values) > 1:
                    text += f" [{min(values):.4g}..{max(values):.4g}]"
                cells.append(text)
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)

    @staticmethod
    def goal(what, reached, value):
        print(f"* {'reached' if reached else 'MISSED'}: {what}: {value}",
              flush=True)

    def server(self, image, *params, **more):
        return NbdkitServer(self.args.filter, image, *params, **more)

    def image(self, name, size, *options):
        path = self.dir / name
        path.unlink(missing_ok=True)
        tool("qemu-img", "create", "-q", "-f", "qcow2", *options, str(path),
             str(size))
        return path
