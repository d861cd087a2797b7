# SPDX-License-Identifier: BSD-3-Clause
"""Measurements on a slow host: make bench-remote.

nbdkit's delay filter makes every read of the file take 20 ms (2 ms for the
map), its log filter counts them.  The raw disk is served behind the same
delay, so ratios say what the format costs over a network.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from clients import check_copy, copy_to_null, map_extents, WrongData
from servers import Below, Meter
from workloads import GIB, Metric, Target, Workload

RECIPES = ("raw", "ours", "qemu", "qcow2dec")


@dataclass(kw_only=True)
class Remote(Workload):
    """Something behind a delay, with the reads of the file counted."""

    delay_ms: int = 20
    filters: tuple[str, ...] = ()       # more of them, above the log
    params: tuple[str, ...] = ()
    recipes: tuple[str, ...] = RECIPES

    def run(self, server) -> dict[str, float]:
        raise NotImplementedError

    def sample(self, ctx, recipe, round_nr):
        disk = ctx.images.get(self.disk)
        with tempfile.TemporaryDirectory(prefix="bench") as folder:
            log = Path(folder) / "log"
            below = Below(self.filters + ("log", "delay"),
                          (f"logfile={log}", f"delay-read={self.delay_ms}ms",
                           *self.params))
            if round_nr == 0:
                self.check(ctx, recipe, disk)
            with self.server(ctx, recipe, disk, below) as server:
                meter = Meter(server)
                found = self.run(server)
                found.update(meter.common())
            sizes = [int(n, 16) for n in re.findall(
                r"(?m) Read id=\d+ offset=\S+ count=(\S+) ",
                log.read_text())]
            return {**found, "reads": len(sizes),
                    "read_mib": sum(sizes) / 2**20}

    def check(self, ctx, recipe, disk) -> None:
        """Not timed, and without the delay."""


@dataclass(kw_only=True)
class RemoteCopy(Remote):
    connections: int = 1
    request_size: int | None = None
    metrics: tuple[Metric, ...] = (
        Metric("seconds", "seconds", "lower", 2),
        Metric("reads", "reads of the file", "lower"),
        Metric("read_mib", "MiB read", "lower", 1),
        Metric("peak", "server peak MiB", "lower", 1))

    def run(self, server):
        return {"seconds": copy_to_null(server.uri, self.connections,
                                        self.request_size)}

    def check(self, ctx, recipe, disk):
        with self.server(ctx, recipe, disk) as server:
            check_copy(server.uri, disk.raw)


@dataclass(kw_only=True)
class RemoteMap(Remote):
    extents: int
    delay_ms: int = 2
    metrics: tuple[Metric, ...] = (
        Metric("seconds", "seconds", "lower", 2),
        Metric("reads", "reads of the file", "lower"),
        Metric("peak", "server peak MiB", "lower", 1))
    recipes: tuple[str, ...] = ("ours",)    # rivals take up to 94 s

    def run(self, server):
        seconds, extents = map_extents(server.uri)
        if extents != self.extents:
            raise WrongData(f"{extents} extents instead of {self.extents}")
        return {"seconds": seconds}


def _copies(disk: str, about: str, *targets: Target, filters=(),
            name="", recipes=RECIPES) -> list[Workload]:
    return [
        RemoteCopy(
            name=f"{disk}-{name}{key}", disk=disk, connections=connections,
            request_size=size, filters=filters, recipes=recipes,
            about=f"nbdcopy of 256 MiB, {about}, {text}",
            targets=targets)
        for key, connections, size, text in (
            ("c1", 1, None, "1 connection"),
            ("c4", 4, None, "4 connections"),
            ("2m", 1, 2 << 20, "1 connection, 2 MiB requests"))]


def _times_raw(limit: float) -> Target:
    return Target("seconds", "<=", limit)


REMOTE_WORKLOADS: list[Workload] = [
    *_copies("plain256", "plain", _times_raw(1.05)),
    *_copies("scattered256", "clusters in random order", _times_raw(1.5)),
    *_copies("zlib256", "zlib", _times_raw(1)),
    # Half of what the best rival took when the issue was written.
    *_copies("zscattered256", "zlib, clusters in random order",
             Target("seconds", "<=", 1.3, "value")),
    # To be compared with the rows without the filter: within 2 times.
    *_copies("zlib256", "zlib, below nbdkit-retry-filter",
             filters=("retry",), name="retry-",
             recipes=("ours", "qcow2dec")),
    # "ours" reads the file, where requests may run in parallel.
    *_copies("zlib256", "zlib, from a file or a web server",
             *(Target("seconds", "<=", 2, base="ours", who=who)
               for who in ("curl", "curl-retry")),
             name="web-", recipes=("ours", "curl", "curl-retry")),
    *_copies("plain256", "plain, nbdkit-readahead-filter below",
             _times_raw(1.05), filters=("readahead",), name="readahead-",
             recipes=("raw", "ours")),
    RemoteMap(name="map-1t-remote", disk="sparse", extents=16384,
              about="nbdinfo --map of a sparse 1 TiB disk with 2048 L2 "
                    "tables, 2 ms per read",
              targets=(Target("seconds", "<", 0.8, "value"),
                       Target("reads", "<=", 2100, "value"))),
]
