#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What changes and checks of images cost: qcow2ctl beside qemu-img.

    tests/bench/edit.py --qcow2ctl tools/qcow2ctl/qcow2ctl [--pairs 5]

Files are on --workdir, which should be no tmpfs; both programs take turns, and
a table with medians is printed.  Requests are counted by nbdkit's log filter,
in front of the same file, on an NBD server.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOOL, QEMU = "qcow2ctl", "qemu-img"


class Sample:
    """A run of a program."""

    def __init__(self, argv):
        start = time.monotonic()
        with subprocess.Popen([str(a) for a in argv],
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE) as process:
            text = process.stderr.read().decode()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        self.seconds = time.monotonic() - start
        self.kib = usage.ru_maxrss
        if process.returncode != 0:
            sys.exit(f"{argv}: exit status {process.returncode}: {text}")


class Server:
    """nbdkit with the bytes of a file, each request delayed and logged."""

    def __init__(self, path, workdir, ms):
        self.sock, self.log = workdir / "sock", workdir / "log"
        for file in (self.sock, self.log):
            file.unlink(missing_ok=True)
        delay = [] if ms == 0 else ["--filter=delay"]
        values = [] if ms == 0 else [f"rdelay={ms}ms", f"wdelay={ms}ms",
                                     f"delay-extents={ms}ms"]
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            ["nbdkit", "-f", "-U", self.sock, "--filter=log", *delay, "file",
             path, f"logfile={self.log}", *values])
        while not self.sock.exists():
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.process.terminate()
        self.process.wait()

    def requests(self):
        """How many of each kind."""
        nr = {}
        for line in self.log.read_text().splitlines():
            match = re.search(r" (Read|Write|Zero|Flush|Extents) id=.*offset"
                              r"| (Flush) id=", line)
            if match and not line.rstrip().endswith("return=0"):
                kind = match[1] or match[2]
                nr[kind] = nr.get(kind, 0) + 1
        return nr


class Bench:
    """All rows."""

    def __init__(self, args):
        self.args = args
        self.dir = Path(tempfile.mkdtemp(dir=args.workdir))
        self.rows = []

    def remote(self, who, command, operands=()):
        """The command line for an image on the server."""
        sock = self.dir / "sock"
        if who == TOOL:
            change = ["--no-lock"] if command[0] == "snapshot" else []
            return [self.args.qcow2ctl, *command, *change,
                    f"nbd+unix:///?socket={sock}", *operands]
        options = f"driver=qcow2,file.driver=nbd,file.path={sock}"
        flags = {"create": "-c", "delete": "-d"}
        if command[0] == "snapshot":
            return [self.args.qemu_img, "snapshot", "--image-opts",
                    flags[command[1]], *operands, options]
        return [self.args.qemu_img, *command, "--image-opts", options]

    def local(self, who, command, path, *operands):
        """The command line for a file."""
        program = self.args.qcow2ctl if who == TOOL else self.args.qemu_img
        return [program, *command, path, *operands]

    def create(self, path, size, options):
        """With both in turn, to see which is faster."""
        samples = {TOOL: [], QEMU: []}
        for _ in range(self.args.pairs):
            for who in samples:
                path.unlink(missing_ok=True)
                argv = self.local(who, ["create", "-q", "-f", "qcow2", "-o",
                                        options], path, size)
                if who == TOOL:
                    argv = [self.args.qcow2ctl, "-q", "create", "-o", options,
                            path, size]
                samples[who].append(Sample(argv))
        self.add(f"create {size}, {options}", samples, "seconds", "s")

    def add(self, name, samples, what, unit, base=None):
        """A row with medians."""
        medians = {}
        for who, runs in samples.items():
            medians[who] = statistics.median(getattr(r, what) for r in runs)
            if base:
                medians[who] -= statistics.median(
                    getattr(r, what) for r in base[who])
        self.row(name, medians[TOOL], medians[QEMU], unit)

    def row(self, name, ours, theirs, unit):
        """A row with two numbers."""
        ratio = f"{ours / theirs:.2f}" if theirs else "-"
        self.rows.append(f"| {name} | {ours:.5g} {unit} | {theirs:.5g} {unit}"
                         f" | {ratio} |")
        print(self.rows[-1], flush=True)

    def check(self, path, name):
        """Time, and memory beyond that for an image of a cluster."""
        small = self.dir / "small.qcow2"
        Sample([self.args.qemu_img, "create", "-q", "-f", "qcow2", small, "1M"])
        samples, base = {TOOL: [], QEMU: []}, {TOOL: [], QEMU: []}
        for _ in range(self.args.pairs):
            for who in samples:
                samples[who].append(Sample(self.local(who, ["check"], path)))
                base[who].append(Sample(self.local(who, ["check"], small)))
        self.add(f"check {name}", samples, "seconds", "s")
        self.add("its memory, more than for an empty image", samples, "kib",
                 "KiB", base)

    def count(self, path, name, ms, command, operands=(), kinds=("Read",)):
        """Requests, and with a delay also time, of one run each."""
        seconds, requests = {}, {}
        copy = self.dir / "copy.qcow2"
        for who in (TOOL, QEMU):
            if kinds != ("Read",):      # each finds the same
                Sample(["cp", "--sparse=always", path, copy])
            with Server(path if kinds == ("Read",) else copy, self.dir,
                        ms) as server:
                seconds[who] = Sample(
                    self.remote(who, command, operands)).seconds
                nr = server.requests()
                requests[who] = sum(nr.get(k, 0) for k in kinds)
        what = "reads" if kinds == ("Read",) else "writes"
        self.row(name, requests[TOOL], requests[QEMU], what)
        if ms:
            self.row(f"{name}, {ms} ms for each", seconds[TOOL],
                     seconds[QEMU], "s")

    def run(self):
        """All of it."""
        large = self.dir / "large.qcow2"
        print("| | qcow2ctl | qemu-img | ratio |\n|---|---|---|---|")
        self.create(large, "1T", "preallocation=metadata")
        self.check(large, "of it, 16,777,216 clusters")
        self.count(large, "the same over NBD", 2, ["check"])
        self.count(large, "info over NBD", 0, ["info"])
        large.unlink()
        disk = self.dir / "disk.qcow2"
        Sample([self.args.qemu_img, "create", "-q", "-f", "qcow2", disk, "64G"])
        writes = "\n".join(f"write -q {i * 4}M 4k" for i in range(4096))
        subprocess.run(["qemu-io", disk], input=writes.encode(), check=True,
                       stdout=subprocess.DEVNULL)
        # A server's file cannot grow.
        os.truncate(disk, os.stat(disk).st_size + (64 << 20))
        kinds = ("Write", "Zero")
        self.count(disk, "snapshot create, 4096 clusters of 64 GiB", 0,
                   ["snapshot", "create"], ["s"], kinds)
        Sample([self.args.qemu_img, "snapshot", "-c", "s", disk])
        self.count(disk, "snapshot delete", 0, ["snapshot", "delete"], ["s"],
                   kinds)


def main():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--qcow2ctl", required=True)
    parser.add_argument("--qemu-img", default="qemu-img")
    parser.add_argument("--workdir", default="/var/tmp")
    parser.add_argument("--pairs", type=int, default=5)
    bench = Bench(parser.parse_args())
    try:
        bench.run()
    finally:
        for file in bench.dir.iterdir():
            file.unlink()
        bench.dir.rmdir()


if __name__ == "__main__":
    main()
