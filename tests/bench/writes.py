# SPDX-License-Identifier: BSD-3-Clause
"""Measurements of writing.

Every sample has a fresh file of its own, empty or copied from one of the
disks that are kept, on tmpfs or on a disk filesystem; it is deleted
afterwards.  The time of a run includes a flush at its end.  When the server
has ended, qemu-img must find nothing wrong with an image, not even a leak,
and the first blocks that were written are read back from the file by a
server that had no part in it: QEMU's, or nbdkit for a raw file.  So nobody
wins by not writing.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients import WrongData
from images import CLUSTER, SECRET, luks_options, make_luks
from servers import NOTHING, RECIPES, Below, Meter, Needs, Recipe, Server
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


def _check_image(path: Path, needs: Needs) -> None:
    run = subprocess.run(
        ["qemu-img", "check", *needs.qemu_image(path)], check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    if run.returncode != 0:
        raise WrongData(f"qemu-img check: {run.stdout.strip()}")


@dataclass(kw_only=True)
class Fresh(Workload):
    """Something done to a new file.  disk: what it is a copy of; none if it
    starts empty, with size bytes.  base: a disk whose raw file it stands on;
    the raw recipe then gets a copy of that."""

    disk: str = ""
    size: int = 0
    base: str = ""
    encrypted: bool = False
    place: str = "tmpfs"                # or disk
    recipes: tuple[str, ...] = WRITERS
    params: tuple[str, ...] = ()        # of the filter

    def disks(self):
        return tuple(name for name in (self.disk, self.base) if name)

    def available(self, ctx):
        return self.place in ctx.places

    def needs(self, ctx: Context, recipe: Recipe) -> Needs:
        if recipe.form == "raw":
            return NOTHING
        raw = ctx.images.get(self.base).raw if self.base else None
        return Needs(passphrase=SECRET.passphrase if self.encrypted else "",
                     backing=(raw,) if raw else ())

    @contextmanager
    def file(self, ctx: Context, recipe: Recipe) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(
                prefix="bench-write", dir=ctx.places[self.place]) as folder:
            path = Path(folder) / f"disk.{recipe.form}"
            copied = self.disk or (recipe.form == "raw" and self.base)
            if copied:
                source = ctx.images.get(copied).form(recipe.form)
                assert source
                shutil.copyfile(source, path)
            elif recipe.form == "raw":
                path.touch()
                os.truncate(path, self.size)
            else:
                self.create(ctx, path)
            _warm_memory(Path(folder), self.memory(ctx))
            if self.place == "disk":
                _sync_all(path)
            yield path

    def create(self, ctx: Context, path: Path) -> None:
        argv = ["qemu-img", "create", "-q", "-f", "qcow2"]
        if self.encrypted:
            make_luks([*argv, *luks_options(SECRET), str(path),
                       str(self.size)])
        elif self.base:
            subprocess.run(
                [*argv, "-b", str(ctx.images.get(self.base).raw), "-F", "raw",
                 str(path)], check=True)
        else:
            subprocess.run([*argv, str(path), str(self.size)], check=True)

    def memory(self, ctx: Context) -> int:
        """How many bytes a sample is going to add to the page cache."""
        return 0

    def writer(self, ctx: Context, recipe: Recipe, path: Path,
               below: Below = Below()) -> Server:
        if recipe.name == "ours" and self.params:
            below = Below(below.filters, below.params + self.params)
        return Server(ctx.tools, recipe, path, readonly=False, below=below,
                      needs=self.needs(ctx, recipe))

    def verify(self, ctx: Context, recipe: Recipe, path: Path,
               *args: object) -> None:
        """The file is good, and nbdload reads what it should."""
        needs = self.needs(ctx, recipe)
        if recipe.form == "qcow2":
            _check_image(path, needs)
        reader = RECIPES["raw" if recipe.form == "raw" else "qemu"]
        with Server(ctx.tools, reader, path, needs=needs) as server:
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


@dataclass(kw_only=True)
class CopyOnWrite(Fresh):
    """Random 4 KiB writes into an overlay, each into a cluster that nobody
    has written to: the order is random, and every cluster comes once."""

    ops: int
    depth: int = 16
    flush: bool = True                  # at the end
    recipes: tuple[str, ...] = ("raw", "ours", "qemu", "qemu-uring")
    metrics: tuple[Metric, ...] = WRITE_METRICS

    def memory(self, ctx):
        return self.count(ctx) * CLUSTER

    def count(self, ctx: Context) -> int:
        base = ctx.images.get(self.base).raw
        assert base
        return min(max(64, int(self.ops * ctx.seconds)),
                   base.stat().st_size // CLUSTER)

    def write(self, ctx: Context, server: Server, folder: Path, seed: int,
              ops: int) -> dict[str, float]:
        return ctx.load(server.uri, "--mode", "write", "--salt", 1,
                        *self.places(ctx, folder, seed), "--depth",
                        self.depth, "--ops", ops,
                        *(["--flush"] if self.flush else []))

    def places(self, ctx: Context, folder: Path, seed: int,
               inside: int = 2) -> list[object]:
        """One block of each cluster, the same of all."""
        base = ctx.images.get(self.base).raw
        assert base
        offsets = [n + inside * 4096
                   for n in range(0, base.stat().st_size, CLUSTER)]
        random.Random(seed).shuffle(offsets)
        path = folder / f"offsets{inside}"
        path.write_text("".join(f"{n}\n" for n in offsets))
        return ["--pattern", "seq", "--offsets", path, "--span", 4096,
                "--block", 4096]

    def sample(self, ctx, recipe, round_nr):
        ops = self.count(ctx)
        with self.file(ctx, recipe) as path:
            with self.writer(ctx, recipe, path) as server:
                meter = Meter(server)
                run = self.write(ctx, server, path.parent, round_nr, ops)
                found = {"iops": run["iops"],
                         "cpu_op": meter.cpu() / run["ops"] * 1e6,
                         "p50": run["p50_us"], "p99": run["p99_us"],
                         **meter.common()}
            self.verify_around(ctx, recipe, path, round_nr, ops)
            return found

    def verify_around(self, ctx: Context, recipe: Recipe, path: Path,
                      seed: int, ops: int) -> None:
        """What was written, and what is before and behind it."""
        read = ("--verify", "--depth", 16, "--ops", min(ops, READ_BACK))
        self.verify(ctx, recipe, path, *read, "--salt", 1,
                    *self.places(ctx, path.parent, seed))
        for inside in (1, 3, 15):
            self.verify(ctx, recipe, path, *read,
                        *self.places(ctx, path.parent, seed, inside))


@dataclass(kw_only=True)
class CopyRequests(CopyOnWrite):
    """What a copy-on-write costs in requests: strace counts reads of the
    base, and writes of the image to where qemu-img finds its data
    afterwards.  How often tables are written is a matter of time."""

    ops: int = 0
    exact: bool = True
    recipes: tuple[str, ...] = ("ours",)
    metrics: tuple[Metric, ...] = (
        Metric("reads", "reads of the base / write", "lower", 2),
        Metric("writes", "writes of the image / write", "lower", 2))

    def available(self, ctx):
        return super().available(ctx) and bool(shutil.which("strace"))

    def memory(self, ctx):
        return 0

    def sample(self, ctx, recipe, round_nr):
        ops = 2000
        base = ctx.images.get(self.base).raw
        with self.file(ctx, recipe) as path:
            log = path.parent / "strace"
            with self.writer(ctx, recipe, path) as server:
                with _strace(server, log, path, base):
                    self.write(ctx, server, path.parent, 1, ops)
            self.verify_around(ctx, recipe, path, 1, ops)
            text = log.read_text()
            data = _data_clusters(path)
            reads = re.findall(
                rf"(?m)^\d+ +pread\w*\(\d+<{re.escape(str(base))}>", text)
            writes = [at for at, length in _writes(text, path)
                      if not data.isdisjoint(range(
                          at // CLUSTER, (at + length - 1) // CLUSTER + 1))]
            return {"reads": len(reads) / ops, "writes": len(writes) / ops}


@contextmanager
def _strace(server: Server, log: Path, *paths: Path) -> Iterator[None]:
    """Reads and writes of these files that the server does meanwhile."""
    only = [word for path in paths for word in ("-P", str(path))]
    with subprocess.Popen(
            ["strace", "-qq", "-f", "-y", "-s", "0", "-o", str(log), *only,
             "-e", "trace=pread64,pwrite64,preadv,pwritev,preadv2,pwritev2",
             "-p", str(server.pid)], stdin=subprocess.DEVNULL) as strace:
        try:
            while _tracer(server.pid) != strace.pid:
                if strace.poll() is not None:
                    raise RuntimeError("strace cannot trace the server")
                time.sleep(0.01)
            yield
        finally:
            strace.send_signal(signal.SIGINT)


def _tracer(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("TracerPid:")[1].split()[0])


def _writes(strace: str, path: Path) -> Iterator[tuple[int, int]]:
    """Offset and length of each."""
    name = re.escape(str(path))
    for found in re.finditer(
            rf'(?m)^\d+ +pwrite64\(\d+<{name}>, ""\.*, (\d+), (\d+)', strace):
        yield int(found[2]), int(found[1])


def _data_clusters(path: Path) -> set[int]:
    """Of the file, by number."""
    run = subprocess.run(
        ["qemu-img", "map", "-f", "qcow2", "--output=json", str(path)],
        check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    return {at // CLUSTER for extent in json.loads(run.stdout)
            if extent["depth"] == 0 and extent["data"]
            for at in range(extent["offset"],
                            extent["offset"] + extent["length"], CLUSTER)}


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
        about="random 4 KiB writes with a flush after every 8, depth "
              f"{depth}, on {place}",
        targets=(Target("iops", ">=", 1.5, base="qemu"),))


def _flushing_with(key: str, param: str, place: str) -> Workload:
    """New clusters with one flush of the file for one of the client's.  In
    tmpfs, where that costs nothing, what is left is the row of alloc4k."""
    targets = [Target("iops", ">=", 1.5, base="qemu")]
    if key == "lazy" and place == "disk":
        targets.append(Target("iops", ">=", 0.9, base="nofilter"))
    return Writes(
        name=f"flush8-{key}-qd16-{place}", size=16 * GIB, depth=16,
        place=place, ops=16384 if place == "tmpfs" else 4096, flush_every=8,
        params=(param,),
        about=f"{param}: a flush after every 8 writes, depth 16, on {place}",
        targets=tuple(targets))


def _flushing_in_place(depth: int, place: str) -> Workload:
    return Writes(
        name=f"flush8-full-qd{depth}-{place}", disk="full", depth=depth,
        place=place, ops=16384 if place == "tmpfs" else 4096, flush_every=8,
        about="random 4 KiB writes into allocated clusters, a flush after "
              f"every 8, depth {depth}, on {place}",
        targets=(Target("iops", ">=", 0.9, base="nofilter"),))


def _discards(mode: str, key: str, block: int, limit: float) -> Workload:
    return Discard(
        name=f"{mode}-2g-{key}", disk="full", mode=mode, block=block,
        about=f"{mode} of 2 GiB allocated, in pieces of {key.upper()}iB",
        targets=(Target("seconds", "<=", limit, base="qemu-unmap"),))


def _encrypted(key: str, about: str, **kwargs: Any) -> Workload:
    return Writes(
        name=f"luks-seq1m-{key}", block=1 << 20, depth=4, pattern="seq",
        ops=1024, encrypted=True, recipes=("raw", "ours", "qemu"),
        about=f"sequential 1 MiB writes into {about}, LUKS, depth 4",
        metrics=(Metric("mib_s", "MiB/s"), *WRITE_METRICS[1:]),
        targets=(Target("mib_s", ">=", 3, base="qemu"),
                 Target("cpu_op", "<=", 0.333, base="qemu")), **kwargs)


def _copying(place: str) -> Workload:
    return CopyOnWrite(
        name=f"cow4k-{place}", base="full", ops=16384, place=place,
        flush=place == "tmpfs",     # not to measure what the disk does then
        about="random 4 KiB writes into an empty overlay, each of which "
              f"copies a cluster of a raw disk, depth 16, on {place}",
        targets=(Target("iops", ">=", 1.8, base="qemu"),
                 Target("cpu_op", "<=", 0.6, base="qemu")))


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
    *(_flushing_with(key, param, place) for place in ("tmpfs", "disk")
      for key, param in (("lazy", "qcow2-lazy-refcounts=on"),
                         ("ahead", "qcow2-refcounts=ahead"))),
    *(_flushing_in_place(16, place) for place in ("tmpfs", "disk")),
    _encrypted("new", "an empty image", size=4 * GIB),
    _encrypted("old", "allocated clusters", disk="luks"),
    *(_copying(place) for place in ("tmpfs", "disk")),
    CopyRequests(
        name="cow4k-requests", base="full",
        about="the same: requests for one write",
        targets=(Target("reads", "=", 1, "value"),
                 Target("writes", "=", 1, "value"))),
    Flushes(name="flushes", size=16 * GIB,
            about="random 4 KiB writes into an empty image, a flush after "
                  "every 8",
            # A third one when the file grows or a refcount block is linked.
            targets=(Target("flushes", "<=", 2.02, "value"),)),
    *(Flushes(name=f"flushes-{key}", size=16 * GIB, params=(param,),
              about=f"the same, {param}",
              targets=(Target("flushes", "<=", 1.05, "value"),))
      for key, param in (("lazy", "qcow2-lazy-refcounts=on"),
                         ("ahead", "qcow2-refcounts=ahead"))),
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
