# SPDX-License-Identifier: BSD-3-Clause
"""How live.py and cost.py take their samples, and print them."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import tempfile
from pathlib import Path

import clients
import report
from live_servers import NbdkitServer, tool
from servers import Tools

HERE = Path(__file__).resolve().parent


class Tables:
    def __init__(self, args):
        self.args = args
        self.dir = Path(tempfile.mkdtemp(prefix="bench-live",
                                         dir=args.workdir))
        self.program = args.nbdload.absolute() if args.nbdload \
            else clients.build_nbdload(HERE / "nbdload.c", self.dir)
        self.load = clients.Load(self.program)
        self.results, self.about, self.goals = {}, {}, {}
        self.row, self.info = "", self.machine()
        print("\n".join(f"{k}: {v}" for k, v in self.info.items()),
              flush=True)

    def measure(self, rows):
        """Those of the rows, each a method, that --only names; 1 if one has
        failed."""
        failed = 0
        try:
            for row in rows:
                if re.search(self.args.only, row):
                    try:
                        getattr(self, row)()
                    except Exception as e:  # pylint: disable=broad-except
                        print(f"{row}: FAILED: {e}", flush=True)
                        failed = 1
        finally:
            shutil.rmtree(self.dir)
        if self.args.json:
            self.save(self.args.json)
        return failed

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
        self.row, self.about[row] = row, about
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

    def goal(self, what, reached, value):
        text = f"{'reached' if reached else 'MISSED'}: {what}: {value}"
        self.goals.setdefault(self.row, []).append(text)
        print(f"* {text}", flush=True)

    def machine(self):
        info = report.machine(Tools())
        return {**info, "filter": self.filter_version()}

    def filter_version(self):
        said = tool("nbdkit", f"--filter={self.args.filter}", "--help",
                    "null").stdout
        found = re.search(r"nbdkit-qcow2-filter \d\S*", said)
        return found.group() if found else ""

    def save(self, path):
        """For page.py."""
        path.write_text(json.dumps(
            {**self.info, "rows": self.results, "about": self.about,
             "goals": self.goals}, indent=1) + "\n")

    def server(self, image, *params, **more):
        return NbdkitServer(self.args.filter, image, *params, **more)

    def image(self, name, size, *options):
        path = self.dir / name
        path.unlink(missing_ok=True)
        tool("qemu-img", "create", "-q", "-f", "qcow2", *options, str(path),
             str(size))
        return path
