# SPDX-License-Identifier: BSD-3-Clause
"""The measurements: one object per row of the table.

A workload names the disk it reads, the recipes that make sense for it, its
metrics and the targets they have to meet, and takes one sample of one
recipe.  Every sample starts a fresh server: nothing a server learned in one
round helps it in the next, and a lucky process is only lucky once.

To add a row, append an object to WORKLOADS; to add a kind of work, subclass
Workload.  "below" puts nbdkit filters under the image (delay, log...).
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from clients import (Load, WrongData, check_copy, copy_to_null,
                     map_extents)
from images import SNAPSHOTS, Disk, Images
from servers import RECIPES, Below, Meter, Recipe, Server, Tools

GIB = 1 << 30
READERS = ("raw", "nofilter", "ours", "qemu", "qemu-uring", "qcow2dec")
FORMAT_READERS = ("ours", "qemu", "qemu-uring", "qcow2dec")
COMPRESSED_READERS = ("raw", "ours", "ours-zlib", "qemu", "qcow2dec")


@dataclass(frozen=True)
class Metric:
    key: str
    label: str
    better: str = "higher"              # or lower
    digits: int = 0


@dataclass(frozen=True)
class Target:
    """What "ours" has to reach, against a base recipe or as a plain value.

    how: ratio (ours / base), difference (ours - base) or value.
    who: another recipe that has to, instead of ours."""

    metric: str
    op: str                             # one of >= <= > < =
    limit: float
    how: str = "ratio"
    base: str = "raw"
    origin: str = "issue"               # or "design": only where base exists
    who: str = "ours"

    def text(self) -> str:
        who = "" if self.who == "ours" else self.who + " "
        return who + self._condition()

    def _condition(self) -> str:
        if self.how == "ratio":
            return f"{self.op} {self.limit:g} x {self.base}"
        if self.how == "difference":
            return f"{self.op} {self.base} + {self.limit:g}"
        return f"{self.op} {self.limit:g}"


@dataclass
class Context:
    tools: Tools
    images: Images
    load: Load
    seconds: float                      # how long a timed nbdload runs
    places: dict[str, Path]             # where to write: tmpfs, disk


@dataclass(kw_only=True)
class Workload:
    name: str
    about: str
    disk: str
    metrics: tuple[Metric, ...] = ()
    targets: tuple[Target, ...] = ()
    recipes: tuple[str, ...] = READERS
    exact: bool = False                 # a count: once is enough
    below: Below = field(default_factory=Below)

    def sample(self, ctx: Context, recipe: Recipe, round_nr: int) \
            -> dict[str, float]:
        raise NotImplementedError

    def disks(self) -> tuple[str, ...]:
        return (self.disk,)

    def available(self, ctx: Context) -> bool:
        """False: this machine does not have what it needs."""
        return True

    def server(self, ctx: Context, recipe: Recipe, disk: Disk,
               below: Below | None = None) -> Server:
        image = disk.form(recipe.form)
        assert image is not None, (self.name, recipe.name)
        return Server(ctx.tools, recipe, image, below=below or self.below,
                      needs=disk.needed(recipe.form))


@dataclass(kw_only=True)
class Copy(Workload):
    """nbdcopy of the whole disk to nowhere.  In the first round another
    copy, not timed, is compared with the raw disk."""

    connections: int = 1
    metrics: tuple[Metric, ...] = (
        Metric("mib_s", "MiB/s"),
        Metric("cpu_gib", "server CPU s/GiB", "lower", 3),
        Metric("peak", "server peak MiB", "lower", 1))

    def sample(self, ctx, recipe, round_nr):
        disk = ctx.images.get(self.disk)
        assert disk.raw
        gib = disk.raw.stat().st_size / GIB
        if round_nr == 0:
            with self.server(ctx, recipe, disk) as server:
                check_copy(server.uri, disk.raw)
        with self.server(ctx, recipe, disk) as server:
            meter = Meter(server)
            seconds = copy_to_null(server.uri, self.connections)
            return {"mib_s": gib * 1024 / seconds,
                    "cpu_gib": meter.cpu() / gib, **meter.common()}


@dataclass(kw_only=True)
class Reads(Workload):
    """nbdload: reads of one size at one depth, after a short warm-up whose
    answers are compared with the raw disk."""

    block: int = 4096
    depth: int = 1
    connections: int = 1
    pattern: str = "rand"
    only_data: bool = False             # read where the disk has data
    warm_ops: int = 2000
    metrics: tuple[Metric, ...] = (
        Metric("iops", "IOPS"),
        Metric("cpu_op", "server CPU us/read", "lower", 2),
        Metric("p50", "median latency us", "lower", 1),
        Metric("p99", "99 % latency us", "lower", 1),
        Metric("peak", "server peak MiB", "lower", 1))

    def sample(self, ctx, recipe, round_nr):
        disk = ctx.images.get(self.disk)
        args = ["--block", self.block, "--depth", self.depth,
                "--connections", self.connections, "--pattern", self.pattern]
        if self.only_data:
            args += ["--offsets", disk.offsets, "--span", disk.span]
        elif self.pattern == "seq":
            # Another part of the disk in each round, one GiB long so that
            # it is not read twice.
            args += ["--start", round_nr % 16 * (64 << 20),
                     "--length", GIB]
        with self.server(ctx, recipe, disk) as server:
            ctx.load(server.uri, *args, "--seed", 1000 + round_nr,
                     "--ops", self.warm_ops, "--verify-against", disk.raw)
            meter = Meter(server)
            run = ctx.load(server.uri, *args, "--seed", 1 + round_nr,
                           "--seconds", ctx.seconds)
            return {"iops": run["iops"],
                    "cpu_op": meter.cpu() / run["ops"] * 1e6,
                    "p50": run["p50_us"], "p99": run["p99_us"],
                    **meter.common()}


@dataclass(kw_only=True)
class Map(Workload):
    """nbdinfo --map from a fresh server, and once more from the same.  Who
    reads the format must list exactly these extents; a filesystem may
    round those of the raw file."""

    extents: int
    metrics: tuple[Metric, ...] = (
        Metric("cold", "first map ms", "lower", 1),
        Metric("again", "second map ms", "lower", 1),
        Metric("cpu", "server CPU ms, both", "lower", 1),
        Metric("extents", "extents"),
        Metric("peak", "server peak MiB", "lower", 1))

    def sample(self, ctx, recipe, round_nr):
        disk = ctx.images.get(self.disk)
        with self.server(ctx, recipe, disk) as server:
            meter = Meter(server)
            cold, extents = map_extents(server.uri)
            again, extents_again = map_extents(server.uri)
            if recipe.form == "qcow2" \
               and {extents, extents_again} != {self.extents}:
                raise WrongData(f"{extents}, then {extents_again} extents "
                                f"instead of {self.extents}")
            return {"cold": cold * 1e3, "again": again * 1e3,
                    "cpu": meter.cpu() * 1e3, "extents": extents,
                    **meter.common()}


@dataclass(kw_only=True)
class Requests(Workload):
    """How many reads reach the file for one 2 MiB read.  A log filter just
    above the file counts; opening the image and loading its tables is
    taken out by comparing a run of one read with a run of three."""

    exact: bool = True
    metrics: tuple[Metric, ...] = (
        Metric("requests", "underlying reads", "lower", 1),)

    def sample(self, ctx, recipe, round_nr):
        one = self._count(ctx, recipe, 1)
        return {"requests": (self._count(ctx, recipe, 3) - one) / 2}

    def _count(self, ctx: Context, recipe: Recipe, ops: int) -> int:
        disk = ctx.images.get(self.disk)
        with tempfile.TemporaryDirectory(prefix="bench") as folder:
            log = Path(folder) / "log"
            below = Below(("log",), (f"logfile={log}",))
            with self.server(ctx, recipe, disk, below) as server:
                ctx.load(server.uri, "--block", "2M", "--ops", ops,
                         "--pattern", "seq", "--start", "256M",
                         "--length", "8M", "--verify-against", disk.raw)
            return _reads(log)


@dataclass(kw_only=True)
class Open(Workload):
    """From exec of the server to the first bytes of the disk, and the
    memory it then has, for a small and a huge empty image."""

    small: str = "empty1g"
    small_size: int = GIB
    size: int = 64 << 40
    metrics: tuple[Metric, ...] = (
        Metric("small_ms", "1 GiB: start to first read ms", "lower", 2),
        Metric("huge_ms", "64 TiB: start to first read ms", "lower", 2),
        Metric("extra_ms", "64 TiB takes longer by ms", "lower", 2),
        Metric("small_mib", "1 GiB: peak MiB", "lower", 1),
        Metric("huge_mib", "64 TiB: peak MiB", "lower", 1),
        Metric("extra_mib", "64 TiB takes more by MiB", "lower", 1))

    def disks(self):
        return (self.small, self.disk)

    def sample(self, ctx, recipe, round_nr):
        small_ms, small_mib = self._open(ctx, recipe, self.small,
                                         self.small_size)
        huge_ms, huge_mib = self._open(ctx, recipe, self.disk, self.size)
        return {"small_ms": small_ms, "huge_ms": huge_ms,
                "extra_ms": huge_ms - small_ms,
                "small_mib": small_mib, "huge_mib": huge_mib,
                "extra_mib": huge_mib - small_mib}

    def _open(self, ctx: Context, recipe: Recipe, name: str, size: int) \
            -> tuple[float, float]:
        with self.server(ctx, recipe, ctx.images.get(name)) as server:
            run = ctx.load(server.uri, "--ops", 1)
            if run["size"] != size:
                raise WrongData(f"{name} has {run['size']} bytes")
            ms = server.start_seconds * 1e3 \
                + (run["connect_us"] + run["first_us"]) / 1e3
            return ms, server.peak_mib()


@dataclass(kw_only=True)
class Snapshots(Workload):
    """From exec of the server to the list of its exports, with all that had
    to be read of the file for that; then each export is opened and its first
    block read, over a connection of its own."""

    exact: bool = True
    count: int = SNAPSHOTS
    recipes: tuple[str, ...] = ("ours",)
    metrics: tuple[Metric, ...] = (
        Metric("list_reads", "reads of the file for the list", "lower"),
        Metric("list_s", "start to list, seconds", "lower", 3),
        Metric("open_s", "open all, seconds", "lower", 1),
        Metric("open_reads", "reads of the file for that", "lower"),
        Metric("peak", "server peak MiB", "lower", 1))

    def sample(self, ctx, recipe, round_nr):
        disk = ctx.images.get(self.disk)
        with tempfile.TemporaryDirectory(prefix="bench") as folder:
            log = Path(folder) / "log"
            below = Below(("log", "delay"),
                          (f"logfile={log}", "delay-read=20ms"))
            with self.server(ctx, recipe, disk, below) as server:
                listed = self._run(ctx, server, "--list")
                list_reads = _reads(log)
                opened = self._run(ctx, server, "--list", "--open")
                return {"list_s": server.start_seconds + listed["list_s"],
                        "list_reads": list_reads,
                        "open_s": opened["open_s"],
                        "open_reads": _reads(log) - list_reads,
                        "peak": server.peak_mib()}

    def _run(self, ctx: Context, server: Server, *args: str) \
            -> dict[str, float]:
        run = ctx.load(server.uri, *args)
        if run["exports"] != self.count + 1:
            raise WrongData(f"{run['exports']} exports")
        return run


def _reads(log: Path) -> int:
    return len(re.findall(r"(?m) Read id=\d+ offset=", log.read_text()))


def _sequential(connections: int) -> Workload:
    return Copy(
        name=f"seq-2g-c{connections}", disk="full", connections=connections,
        about="nbdcopy of 2 GiB, all allocated, "
              f"--connections={connections}",
        targets=(Target("mib_s", ">=", 0.95, base="nofilter"),
                 Target("mib_s", ">=", 1.6), Target("cpu_gib", "<=", 0.7),
                 *(_rival("mib_s", ">=", 1, rival)
                   for rival in ("qemu", "qemu-uring"))))


def _sparse_reads(connections: int) -> Workload:
    return Reads(
        name=f"rand4k-1t-c{connections}", disk="sparse", depth=16,
        connections=connections, only_data=True, warm_ops=16384,
        about="random 4 KiB reads of the 16384 clusters of a 1 TiB disk, "
              f"depth 16 x {connections}",
        targets=(Target("iops", ">=", 0.85),
                 Target("peak", "<=", 44, "difference")))


def _rival(metric: str, op: str, limit: float, base: str,
           who: str = "ours") -> Target:
    return Target(metric, op, limit, base=base, origin="design", who=who)


# Server CPU of a copy.
_CPU_TARGETS = {
    "zlib": (_rival("cpu_gib", "<=", 0.5, "qcow2dec"),
             _rival("cpu_gib", "<=", 0.95, "qcow2dec", "ours-zlib")),
    "zstd": (_rival("cpu_gib", "<=", 0.85, "qcow2dec"),),
}


def _compressed(kind: str) -> list[Workload]:
    readers = tuple(r for r in COMPRESSED_READERS
                    if kind == "zlib" or r != "ours-zlib")

    def ahead(metric: str, op: str) -> tuple[Target, ...]:
        return tuple(_rival(metric, op, 1, rival)
                     for rival in ("qemu", "qcow2dec"))

    rows: list[Workload] = [
        Copy(name=f"{kind}-copy-c{n}", disk=kind, connections=n,
             recipes=readers,
             about=f"nbdcopy of 2 GiB of files, {kind}, --connections={n}",
             targets=(_rival("mib_s", ">=", 2 if kind == "zlib" else 1,
                             "qemu"),
                      _rival("mib_s", ">", 1, "qcow2dec"),
                      *_CPU_TARGETS[kind], _rival("cpu_gib", "<", 1, "qemu")))
        for n in (1, 4)]
    rows += [
        Reads(name=f"{kind}-rand64k-qd{depth}", disk=kind, block=65536,
              depth=depth, warm_ops=200, recipes=readers,
              about=f"random 64 KiB reads, {kind}, depth {depth}",
              targets=(_rival("iops", ">=", least, "qemu"),
                       _rival("iops", ">", 1, "qcow2dec"),
                       *ahead("cpu_op", "<")))
        for depth, least in ((1, 1), (16, 2 if kind == "zlib" else 1))]
    rows.append(
        Reads(name=f"{kind}-seq4k", disk=kind, pattern="seq", warm_ops=200,
              recipes=readers,
              about=f"sequential 4 KiB reads, {kind}, depth 1",
              targets=(Target("iops", ">=", 0.7), *ahead("iops", ">"),
                       *ahead("cpu_op", "<"))))
    return rows


def _encrypted_copy(connections: int) -> Workload:
    return Copy(
        name=f"luks-seq-c{connections}", disk="luks",
        connections=connections, recipes=("raw", "ours", "qemu"),
        about="nbdcopy of 2 GiB, LUKS with AES-256-XTS, "
              f"--connections={connections}",
        targets=(Target("mib_s", ">=", 3, base="qemu"),
                 Target("cpu_gib", "<=", 0.333, base="qemu")))


LAYERED: list[Workload] = [
    _encrypted_copy(1),
    _encrypted_copy(4),
    Reads(name="luks-rand4k", disk="luks", depth=16,
          recipes=("raw", "ours", "qemu"),
          about="random 4 KiB reads of 2 GiB, LUKS, depth 16",
          targets=(Target("iops", ">=", 0.75),)),
    Reads(name="chain8-rand4k", disk="chain", depth=16, warm_ops=40000,
          recipes=("raw", "ours-flat", "ours", "qemu", "qemu-uring"),
          about="random 4 KiB reads of 2 GiB through eight layers, all data "
                "at the bottom, depth 16",
          targets=(Target("iops", ">=", 2, base="qemu"),
                   Target("iops", ">=", 0.8, base="ours-flat"),
                   Target("cpu_op", "<=", 1.2, base="ours-flat"))),
    Snapshots(name="snapshots-1000", disk="snapshots",
              about="1000 snapshots listed, then opened one after the other; "
                    "20 ms per read",
              targets=(Target("list_reads", "<=", 4, "value"),)),
]

WORKLOADS: list[Workload] = [
    _sequential(1),
    _sequential(4),
    Reads(name="rand4k-2g", disk="full", depth=16, connections=4,
          about="random 4 KiB reads of 2 GiB, depth 16 x 4",
          targets=(Target("iops", ">=", 0.9, base="nofilter"),
                   Target("cpu_op", "<=", 1.2))),
    Reads(name="rand4k-2g-qd1", disk="full",
          about="random 4 KiB reads of 2 GiB, depth 1"),
    _sparse_reads(1),
    _sparse_reads(4),
    Reads(name="rand4k-1t-uniform", disk="sparse", depth=16,
          about="random 4 KiB reads of a 1 TiB disk, nearly all of holes, "
                "depth 16"),
    Requests(name="requests-2m", disk="full",
             about="one contiguous 2 MiB read of 64 KiB clusters",
             recipes=("raw", "nofilter", "ours", "qemu", "qcow2dec"),
             targets=(Target("requests", "=", 1, "value"),)),
    Map(name="map-1t", disk="sparse", extents=16384,
        about="nbdinfo --map of a sparse 1 TiB disk, 16384 extents",
        targets=(Target("cold", "<", 3), Target("again", "<", 3))),
    Map(name="map-frag", disk="frag", extents=262144,
        recipes=FORMAT_READERS,
        about="nbdinfo --map of a fragmented 16 GiB disk, 262144 extents",
        targets=(Target("cold", "<", 1, base="qemu"),
                 Target("again", "<", 1, base="qemu"))),
    Open(name="open-64t", disk="empty64t", recipes=FORMAT_READERS,
         about="an empty image of 64 TiB against one of 1 GiB",
         targets=(Target("extra_ms", "<=", 5, "value"),
                  Target("extra_mib", "<=", 4, "value"))),
    *_compressed("zlib"),
    *_compressed("zstd"),
    *LAYERED,
]

assert all(r in RECIPES for w in WORKLOADS for r in w.recipes)
