# SPDX-License-Identifier: BSD-3-Clause
"""What is measured of writing.

Every sample has a fresh file of its own, empty or copied from one of the
disks that are kept, on tmpfs or on a disk filesystem; it is deleted
afterwards.  The time of a run includes a flush at its end.  When the server
has ended, qemu-img must find nothing wrong with an image, not even a leak,
and the first blocks that were written are read back from the file by a
server that had no part in it: QEMU's, or nbdkit for a raw file.  So nobody
wins by not writing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clients import WrongData
from servers import RECIPES, Below, Meter, Recipe, Server
from workloads import GIB, Context, Metric, Target, Workload

WRITERS = ("raw", "nofilter", "ours", "qemu")
DISCARDERS = ("raw", "ours", "qemu", "qemu-unmap")
TIB = 1 << 40

# How many blocks of each sample are read back.
READ_BACK = 4096


def _warm_memory(folder: Path, size: int) -> None:
    """Memory that a virtual machine has not used for some seconds may have
    been taken back by its host, and then costs several times as much as the
    write itself: who comes first would pay for all.  So the page cache gets
    the memory now that the sample is going to take."""
    path = folder / "memory"
    with open(path, "wb", buffering=0) as f:
        for _ in range(size >> 20):
            f.write(bytes(1 << 20))
    path.unlink()


def _sync_all(path: Path) -> None:
    """What earlier samples left to be written must not slow down this."""
    subprocess.run(["sync", "-f", str(path)], check=True)


def _check_image(path: Path) -> None:
    run = subprocess.run(
        ["qemu-img", "check", "-f", "qcow2", str(path)], check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    if run.returncode != 0:
        raise WrongData(f"qemu-img check: {run.stdout.strip()}")


@dataclass(kw_only=True)
class Fresh(Workload):
    """Something done to a new file.  disk: what it is a copy of; none if it
    starts empty, with size bytes."""

    disk: str = ""
    size: int = 0
    place: str = "tmpfs"                # or disk
    recipes: tuple[str, ...] = WRITERS
    params: tuple[str, ...] = ()        # of the filter

    def disks(self):
        return (self.disk,) if self.disk else ()

    def available(self, ctx):
        return self.place in ctx.places

    @contextmanager
    def file(self, ctx: Context, recipe: Recipe) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(
                prefix="bench-write", dir=ctx.places[self.place]) as folder:
            path = Path(folder) / f"disk.{recipe.form}"
            if self.disk:
                source = ctx.images.get(self.disk).form(recipe.form)
                assert source
                shutil.copyfile(source, path)
            elif recipe.form == "raw":
                path.touch()
                os.truncate(path, self.size)
            else:
                subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2",
                                str(path), str(self.size)], check=True)
            _warm_memory(Path(folder), self.memory(ctx))
            if self.place == "disk":
                _sync_all(path)
            yield path

    def memory(self, ctx: Context) -> int:
        """How many bytes a sample is going to add to the page cache."""
        return 0

    def writer(self, ctx: Context, recipe: Recipe, path: Path,
               below: Below = Below()) -> Server:
        if recipe.name == "ours" and self.params:
            below = Below(below.filters, below.params + self.params)
        return Server(ctx.tools, recipe, path, readonly=False, below=below)

    def verify(self, ctx: Context, recipe: Recipe, path: Path,
               *args: object) -> None:
        """The file is good, and nbdload reads what it should."""
        if recipe.form == "qcow2":
            _check_image(path)
        reader = RECIPES["raw" if recipe.form == "raw" else "qemu"]
        with Server(ctx.tools, reader, path) as server:
            ctx.load(server.uri, "--mode", "read", *args)


WRITE_METRICS = (
    Metric("iops", "IOPS"),
    Metric("cpu_op", "server CPU us/write", "lower", 2),
    Metric("p50", "median latency us", "lower", 1),
    Metric("p99", "99 % latency us", "lower", 1),
    Metric("peak", "server peak MiB", "lower", 1))


@dataclass(kw_only=True)
class Writes(Fresh):
    """nbdload: so many writes.  The pattern differs from that of the disks
    that are copied."""

    ops: int                            # in a second's sample
    block: int = 4096
    depth: int = 1
    connections: int = 1
    pattern: str = "rand"
    flush_every: int = 0
    metrics: tuple[Metric, ...] = WRITE_METRICS

    def count(self, ctx: Context) -> int:
        return max(64, int(self.ops * ctx.seconds))

    def memory(self, ctx):
        return 0 if self.disk else self.count(ctx) * self.block

    def sample(self, ctx, recipe, round_nr):
        ops = self.count(ctx)
        args = ["--block", self.block, "--connections", self.connections,
                "--pattern", self.pattern, "--seed", 1 + round_nr,
                "--salt", 1]
        with self.file(ctx, recipe) as path:
            with self.writer(ctx, recipe, path) as server:
                meter = Meter(server)
                run = ctx.load(server.uri, "--mode", "write", *args,
                               "--depth", self.depth, "--ops", ops,
                               "--flush", *self._flushes())
                found = {"mib_s": run["mib_s"], "iops": run["iops"],
                         "cpu_op": meter.cpu() / run["ops"] * 1e6,
                         "p50": run["p50_us"], "p99": run["p99_us"],
                         **meter.common()}
            self.verify(ctx, recipe, path, *args, "--verify", "--depth", 16,
                        "--ops", min(ops, READ_BACK))
            return found

    def _flushes(self) -> list[object]:
        return ["--flush-every", self.flush_every] if self.flush_every else []


@dataclass(kw_only=True)
class Flushes(Fresh):
    """Flushes that reach the file for one of the client's.  A log filter
    counts; opening, activation and the end are taken out by comparing two
    runs of different lengths."""

    depth: int = 1
    connections: int = 1
    exact: bool = True
    recipes: tuple[str, ...] = ("nofilter", "ours")
    metrics: tuple[Metric, ...] = (
        Metric("flushes", "flushes of the file / client's", "lower", 2),)

    def sample(self, ctx, recipe, round_nr):
        few, many = self._count(ctx, recipe, 800), \
            self._count(ctx, recipe, 8000)
        return {"flushes": (many[0] - few[0]) / (many[1] - few[1])}

    def _count(self, ctx: Context, recipe: Recipe, ops: int) \
            -> tuple[int, float]:
        with self.file(ctx, recipe) as path:
            log = path.with_suffix(".log")
            below = Below(("log",), (f"logfile={log}",))
            with self.writer(ctx, recipe, path, below) as server:
                run = ctx.load(
                    server.uri, "--mode", "write", "--depth", self.depth,
                    "--connections", self.connections, "--ops", ops,
                    "--flush-every", 8)
            self.verify(ctx, recipe, path, "--connections",
                        self.connections, "--ops", ops, "--verify")
            return len(re.findall(r"(?m) Flush id=", log.read_text())), \
                run["flushes"]


DISCARD_METRICS = (
    Metric("seconds", "seconds", "lower", 4),
    Metric("cpu", "server CPU ms", "lower", 1),
    Metric("peak", "server peak MiB", "lower", 1))


@dataclass(kw_only=True)
class Discard(Fresh):
    """Zero or trim a disk from its start to its end, in pieces."""

    mode: str
    block: int
    depth: int = 16
    recipes: tuple[str, ...] = DISCARDERS
    metrics: tuple[Metric, ...] = DISCARD_METRICS

    def sample(self, ctx, recipe, round_nr):
        with self.file(ctx, recipe) as path:
            with self.writer(ctx, recipe, path) as server:
                meter = Meter(server)
                run = self.all(ctx, server, 2 * GIB)
                found = {"seconds": run["seconds"], "cpu": meter.cpu() * 1e3,
                         **meter.common()}
            # QEMU's default is to ignore what is trimmed.
            if self.mode == "zero" or recipe.name != "qemu":
                self.verify(ctx, recipe, path, "--block", 65536,
                            "--ops", READ_BACK, "--verify-zero")
            return found

    def all(self, ctx: Context, server: Server, size: int) \
            -> dict[str, float]:
        return ctx.load(server.uri, "--mode", self.mode, "--pattern", "seq",
                        "--block", self.block, "--depth", self.depth,
                        "--ops", size // self.block, "--flush")


@dataclass(kw_only=True)
class ZeroAll(Discard):
    """Zero a nearly empty disk, and once more."""

    mode: str = "zero"
    metrics: tuple[Metric, ...] = (
        Metric("seconds", "first time, seconds", "lower", 4),
        Metric("again", "second time, seconds", "lower", 4),
        Metric("cpu", "server CPU ms, both", "lower", 1),
        Metric("peak", "server peak MiB", "lower", 1))

    def sample(self, ctx, recipe, round_nr):
        blocks = ("--seed", 1 + round_nr, "--ops", 16)
        with self.file(ctx, recipe) as path:
            with self.writer(ctx, recipe, path) as server:
                ctx.load(server.uri, "--mode", "write", "--flush", *blocks)
                meter = Meter(server)
                first = self.all(ctx, server, self.size)
                again = self.all(ctx, server, self.size)
                found = {"seconds": first["seconds"],
                         "again": again["seconds"],
                         "cpu": meter.cpu() * 1e3, **meter.common()}
            self.verify(ctx, recipe, path, "--verify-zero", *blocks)
            return found


# ---- Rows

def _in_place(depth: int) -> Workload:
    return Writes(
        name=f"rand4k-write-qd{depth}", disk="full", depth=depth, ops=100000,
        about=f"random 4 KiB writes into allocated clusters, depth {depth}",
        targets=(Target("iops", ">=", 0.9, base="nofilter"),
                 Target("cpu_op", "<=", 1.25)))


def _sequential(key: str, block: int, depth: int, place: str) -> Workload:
    targets = (Target("mib_s", ">=", 1.2, base="qemu"),)
    if place == "tmpfs":
        targets = (Target("mib_s", ">=", 0.9, base="nofilter"), *targets)
    return Writes(
        name=f"seq{key}-write-{place}", size=4 * GIB, place=place,
        block=block, depth=depth, pattern="seq", ops=GIB // block,
        about=f"sequential {key.upper()}iB writes into an empty image on "
              f"{place}, depth {depth}",
        metrics=(Metric("mib_s", "MiB/s"), *WRITE_METRICS[1:]),
        targets=targets)


def _allocating(depth: int) -> Workload:
    return Writes(
        name=f"alloc4k-qd{depth}", size=16 * GIB, depth=depth, ops=65536,
        about="random 4 KiB writes into an empty image of 16 GiB, depth "
              f"{depth}",
        targets=(Target("iops", ">=", 0.75),
                 Target("iops", ">=", 3, base="qemu")))


def _flushing(depth: int, place: str) -> Workload:
    return Writes(
        name=f"flush8-qd{depth}-{place}", size=16 * GIB, depth=depth,
        place=place, ops=16384 if place == "tmpfs" else 4096, flush_every=8,
        about="the same with a flush after every 8 writes, depth "
              f"{depth}, on {place}",
        targets=(Target("iops", ">=", 1.5, base="qemu"),))


def _discards(mode: str, key: str, block: int, limit: float) -> Workload:
    return Discard(
        name=f"{mode}-2g-{key}", disk="full", mode=mode, block=block,
        about=f"{mode} of 2 GiB allocated, in pieces of {key.upper()}iB",
        targets=(Target("seconds", "<=", limit, base="qemu-unmap"),))


WRITE_WORKLOADS: list[Workload] = [
    _in_place(16),
    _in_place(64),
    *(_sequential(key, block, depth, place)
      for place in ("tmpfs", "disk")
      for key, block, depth in (("1m", 1 << 20, 4), ("64k", 65536, 16))),
    Writes(name="seq4k-write", size=4 * GIB, pattern="seq", depth=16,
           ops=131072,
           about="sequential 4 KiB writes into an empty image, depth 16",
           targets=(Target("iops", ">=", 0.8),)),
    _allocating(16),
    _allocating(64),
    *(_flushing(depth, place) for place in ("tmpfs", "disk")
      for depth in (16, 64)),
    Flushes(name="flushes", size=16 * GIB,
            about="random 4 KiB writes into an empty image, a flush after "
                  "every 8",
            # A third one when the file grows or a refcount block is linked.
            targets=(Target("flushes", "<=", 2.02, "value"),)),
    Flushes(name="flushes-c4", size=16 * GIB, connections=4,
            about="the same, 4 connections",
            targets=(Target("flushes", "<", 2, "value"),)),
    ZeroAll(name="zero-1t", size=TIB, block=GIB,
            about="write-zeroes over 1 TiB in requests of 1 GiB",
            targets=(Target("seconds", "<=", 1 / 20, base="qemu"),
                     Target("seconds", "<=", 1 / 20, base="qemu-unmap"),
                     Target("again", "<=", 1 / 20, base="qemu"),
                     Target("again", "<=", 1 / 20, base="qemu-unmap"))),
    *(_discards(mode, key, block, limit)
      for mode in ("trim", "zero")
      for key, block, limit in (("64m", 64 << 20, 1), ("64k", 65536, 0.5))),
    Writes(name="memory-1t", size=TIB, depth=16, ops=65536,
           params=("qcow2-cache-size=16M",),
           about="random 4 KiB writes into an empty image of 1 TiB, "
                 "qcow2-cache-size=16M",
           metrics=(WRITE_METRICS[4], *WRITE_METRICS[:2]),
           # A commit copies at most half of the cache.
           targets=(Target("peak", "<=", 16 * 1.5 + 4, "difference"),)),
]

assert all(r in RECIPES for w in WRITE_WORKLOADS for r in w.recipes)
