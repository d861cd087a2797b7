#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What grows with what is not used: it should be nothing.

    cost.py --filter FILE [--only REGEX] [--rounds N] [--workdir DIR] [--json]

Each row is about one number: of images that are open in one server, of
connections, of snapshots, of images in a chain, of bytes of the disk, of pieces
that it lies in.  For each of its values: the memory of the server, the CPU time of a random read of
4 KiB, and the time from the start of the server to the first bytes.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import statistics
import struct
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent / "nbd")]

import scatter                          # noqa: E402
from live_servers import tool           # noqa: E402
from live_tables import Tables          # noqa: E402

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
PIB = 1 << 50
USED = 256 * MIB                        # of each disk, where reads go
CLUSTER = 65536


def add_snapshots(path, count):
    """Snapshots of an empty disk, as another program may have made them: the
    table, and an L1 table for all of them, whose refcount says so."""
    tool("qemu-img", "amend", "-f", "qcow2", "-o", "refcount_bits=64",
         str(path))
    with open(path, "r+b") as file:
        header = bytearray(file.read(104))
        l1_size, = struct.unpack_from(">I", header, 36)
        l1_offset, reftable = struct.unpack_from(">QQ", header, 40)
        end = -(-os.fstat(file.fileno()).st_size // CLUSTER) * CLUSTER
        file.seek(l1_offset)
        l1 = file.read(8 * l1_size)
        if any(l1):
            raise RuntimeError("snapshots of empty disks only")
        file.seek(end)
        file.write(l1)
        table = b""
        size, = struct.unpack_from(">Q", header, 24)
        for n in range(count):
            ident, name = str(n + 1).encode(), f"snapshot-{n}".encode()
            entry = struct.pack(">QIHHIIQII", end, l1_size, len(ident),
                                len(name), n, 0, 0, 0, 16)
            entry += struct.pack(">QQ", 0, size) + ident + name
            table += entry + bytes(-len(entry) % 8)
        at = end + -(-len(l1) // CLUSTER) * CLUSTER
        file.seek(at)
        file.write(table)
        file.truncate(at + -(-len(table) // CLUSTER) * CLUSTER)
        struct.pack_into(">IQ", header, 60, count, at)
        file.seek(reftable)
        block, = struct.unpack(">Q", file.read(8))
        file.seek(block + end // CLUSTER * 8)
        clusters = -(-len(l1) // CLUSTER)
        file.write(struct.pack(">Q", count) * clusters)
        file.write(struct.pack(">Q", 1) * -(-len(table) // CLUSTER))
        file.seek(0)
        file.write(header)


class Bench(Tables):
    def image(self, size, *options, name="disk", fill=True):
        path = self.dir / name
        path.unlink(missing_ok=True)
        tool("qemu-img", "create", "-q", "-f", "qcow2", *options, str(path),
             str(size))
        if fill:
            with self.server(path) as server:
                self.load(server.uri, "--mode", "write", "--pattern", "seq",
                          "--block", 65536, "--ops", USED // 65536)
        return path

    # ---- A sample

    def read(self, server, name="", connections=1):
        """CPU microseconds of a read."""
        uri = server.export(name) if name else server.uri
        cpu = server.cpu()
        said = self.load(uri, "--pattern", "rand", "--depth", 16,
                         "--length", USED, "--seconds", self.args.seconds,
                         "--connections", connections)
        return (server.cpu() - cpu) / said["ops"] * 1e6

    def clients(self, server, names):
        """A client of each of these; then the first is read."""
        begin = time.monotonic()
        handles = []
        for name in names:
            handles.append(server.connect(name))
            handles[-1].pread(4096, 0)
        opened = (time.monotonic() - begin) / len(names)
        self.read(server, names[0])
        result = {"CPU us": self.read(server, names[0]),
                  "open ms": opened * 1e3, "MiB": server.memory() / MIB}
        for handle in handles:
            handle.shutdown()
        return result

    def first(self, server, name=""):
        """Seconds to the first bytes."""
        begin = time.monotonic()
        handle = server.connect(name)
        handle.pread(4096, 0)
        return server.start_seconds + time.monotonic() - begin, handle

    def one(self, server):
        opened, handle = self.first(server)
        self.read(server)       # tables are in the cache
        result = {"CPU us": self.read(server), "open ms": opened * 1e3,
                  "MiB": server.memory() / MIB}
        handle.shutdown()
        return result

    def rows_of(self, name, about, values, sample, most=1.5):
        """'most': so many times the CPU of the first, and no more."""
        if not re.search(self.args.only, name):
            return
        found = {value: [] for value in values}
        for n in range(self.args.rounds):
            for value in values[n % len(values):] + values[:n % len(values)]:
                found[value].append(sample(value))
        self.about[name] = about
        self.results[name] = {
            value if isinstance(value, int) else value[1]: samples
            for value, samples in found.items()}
        print(f"\n### {name}: {about}\n\n| {name} | MiB | KiB each | CPU us | "
              "x | open ms | x |\n|---|---:|---:|---:|---:|---:|---:|")
        first = None
        for value, samples in found.items():
            here = {key: statistics.median(s[key] for s in samples)
                    for key in samples[0]}
            first = first or (value, here)
            number = value if isinstance(value, int) else value[0]
            more = number - (first[0] if isinstance(first[0], int)
                             else first[0][0])
            each = (here["MiB"] - first[1]["MiB"]) * 1024 / more \
                if more and isinstance(value, int) else 0
            print(f"| {number if isinstance(value, int) else value[1]} | "
                  f"{here['MiB']:.1f} | {each:.1f} | {here['CPU us']:.2f} | "
                  f"{here['CPU us'] / first[1]['CPU us']:.2f} | "
                  f"{here['open ms']:.1f} | "
                  f"{here['open ms'] / first[1]['open ms']:.2f} |",
                  flush=True)
        self.row = name
        worst = max(statistics.median(s["CPU us"] for s in samples)
                    for samples in found.values()) / first[1]["CPU us"]
        self.goal(f"a read takes at most {most} x the CPU of the first",
                  worst <= most, f"{worst:.2f}")

    # ---- Rows

    def images(self):
        folder = self.dir / "many"
        folder.mkdir()
        first = self.image(GIB)
        shutil.move(first, folder / "d0")
        for n in range(1, 1000):
            # Sparse: a header, and tables that are empty.
            if n == 1:
                self.image(GIB, name="empty", fill=False)
            shutil.copyfile(self.dir / "empty", folder / f"d{n}")

        def sample(count):
            with self.server(folder, plugin=[f"dir={folder}"],
                             threads=2) as server:
                return self.clients(server, [f"d{n}" for n in range(count)])

        self.rows_of("images", "open in one server, a client each (-t 2); reads "
                 "of the first; time to open is that of each", [1, 100, 1000],
                 sample)
        shutil.rmtree(folder)

    def connections(self):
        path = self.image(GIB)

        def sample(count):
            with self.server(path, threads=2) as server:
                return self.clients(server, [""] * count)

        self.rows_of("connections", "to one image (-t 2); reads over one more; "
                 "time to open is that of each", [1, 64, 1000], sample)

    def snapshots(self):
        paths = {}
        for count in (0, 100, 10000):
            path = self.image(GIB, name=f"s{count}", fill=False)
            if count:
                add_snapshots(path, count)
                tool("qemu-img", "check", "-q", str(path))
            with self.server(path) as server:
                self.load(server.uri, "--mode", "write", "--pattern", "seq",
                          "--block", 65536, "--ops", USED // 65536)
            paths[count] = path

        def sample(count):
            with self.server(paths[count]) as server:
                return self.one(server)

        self.rows_of("snapshots", "of the image", list(paths), sample)

    def chain(self):
        base = self.image(GIB)

        def sample(count):
            params, last = [], base
            for n in range(1, count):
                path = self.dir / f"over{n}"
                path.unlink(missing_ok=True)
                tool("qemu-img", "create", "-q", "-f", "qcow2", "-b",
                     str(last), "-F", "qcow2", str(path))
                params = [f"qcow2-backing={last}", *params]
                last = path
            with self.server(last, *params) as server:
                return self.one(server)

        # Less than linear.
        self.rows_of("chain", "images, all data in the lowest",
                 [1, 8, 64], sample, most=8)

    def disk(self):
        values = [(0, "1 GiB", GIB, CLUSTER), (1, "1 TiB", TIB, CLUSTER),
                  (2, "64 TiB", 64 * TIB, CLUSTER),
                  (3, "1 GiB, clusters of 2 MiB", GIB, 2 * MIB),
                  (4, "1 PiB, clusters of 2 MiB", PIB, 2 * MIB)]
        paths = {v: self.image(v[2], "-o", f"cluster_size={v[3]}",
                               name=f"size{v[0]}") for v in values}

        def sample(value):
            with self.server(paths[value]) as server:
                return self.one(server)

        self.rows_of("disk", "its size", values, sample)


    def fragmentation(self):
        raw, path = self.dir / "raw", self.dir / "scattered"
        raw.write_bytes(os.urandom(MIB) * (USED // MIB))
        scatter.write(path, raw, compress=False)
        raw.unlink()
        paths = {(0, "1"): self.image(USED),
                 (1, f"{USED // CLUSTER}, in random order"): path}

        def sample(value):
            with self.server(paths[value]) as server:
                return self.one(server)

        self.rows_of("fragmentation", "pieces that its clusters lie in",
                     list(paths), sample)


ROWS = ("images", "connections", "snapshots", "chain", "disk", "fragmentation")


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--filter", required=True, type=os.path.abspath)
    p.add_argument("--only", default="", metavar="REGEX",
                   help=f"of {', '.join(ROWS)}")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=0.5)
    p.add_argument("--workdir", type=Path, default=Path("/dev/shm"),
                   help="3 GiB (%(default)s)")
    p.add_argument("--nbdload", type=Path)
    p.add_argument("--json", type=Path, metavar="FILE")
    args = p.parse_args()
    # A descriptor each for the image, the connection and its client.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return Bench(args).measure(ROWS)


if __name__ == "__main__":
    sys.exit(main())
