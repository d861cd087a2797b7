#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What snapshots, bitmaps and backups of disks that are in use cost.

    live.py --filter FILE [--only REGEX] [--rounds N] [--workdir DIR] [--json]

Each row is a table: what was done, by whom, the median of the rounds with the
least and the most, and whether the goal is reached.  All that is compared is
sampled in turn, round after round.  README.md says more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent / "nbd")]

from live_servers import QemuNbd, StorageDaemon, tool     # noqa: E402
from live_tables import Tables          # noqa: E402

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
ADD = "block-dirty-bitmap-add"
TAKE = "blockdev-snapshot-internal-sync"


class Checker(threading.Thread):
    """One check after the other."""

    def __init__(self, qmp):
        super().__init__()
        self.qmp, self.done, self.ended = qmp, 0, False
        self.start()

    def run(self):
        while not self.ended:
            job = self.qmp.ok("x-q2-check", node="")["id"]
            while True:
                event = self.qmp.read_event()
                if event["event"] == "JOB_STATUS_CHANGE" and \
                        event["data"] == {"id": job, "status": "concluded"}:
                    break
            self.qmp.ok("job-dismiss", id=job)
            self.done += 1

    def stop(self):
        self.ended = True
        self.join()
        return self.done


class Bench(Tables):
    # ---- 4 KiB overwrites with bitmaps

    def overwrite(self):
        base = self.image("base", 256 * MIB, "-o", "preallocation=full")
        names = [f"{who}, {n} bitmaps" for n in (0, 1, 4)
                 for who in ("ours", "qemu-nbd")] + ["storage daemon, 0 "
                                                     "bitmaps",
                                                     "storage daemon, 1 "
                                                     "bitmaps"]

        def sample(name):
            nr = int(name.split(", ")[1].split()[0])
            path = self.dir / "copy"
            shutil.copyfile(base, path)
            for i in range(nr):
                tool("qemu-img", "bitmap", "--add", str(path), f"b{i}")
            kind = {"o": self.server, "q": QemuNbd, "s": StorageDaemon}
            with kind[name[0]](path) as server:
                def run(seconds, seed):
                    return self.load(
                        server.uri, "--mode", "write", "--pattern", "rand",
                        "--depth", 16, "--seconds", seconds, "--seed", seed)
                # Each zone is active afterwards: 64 of them, 64 K blocks.
                run(0.5, 1)
                flushes = server.flushes()
                cpu = server.cpu()
                said = run(self.args.seconds, 2)
                return {"IOPS": said["iops"],
                        "CPU us": (server.cpu() - cpu) / said["ops"] * 1e6,
                        "p99 us": said["p99_us"],
                        **({"flushes": server.flushes() - flushes}
                           if flushes is not None else {})}

        found = self.rounds("overwrite", names, sample)
        self.table("overwrite", "random 4 KiB writes into 256 MiB of allocated"
                   " clusters, depth 16, in memory", found,
                   ["IOPS", "CPU us", "p99 us", "flushes"])
        rate = {n: self.median(s, "IOPS") for n, s in found.items()}
        for nr in (1, 4):
            ratio = rate[f"ours, {nr} bitmaps"] / \
                rate[f"qemu-nbd, {nr} bitmaps"]
            self.goal(f"2 x the rate of qemu-nbd with {nr}", ratio >= 2,
                      f"{ratio:.2f}")
        ratio = rate["ours, 1 bitmaps"] / rate["storage daemon, 1 bitmaps"]
        self.goal("2 x the rate of the storage daemon with 1", ratio >= 2,
                  f"{ratio:.2f}")

    def tracking(self):
        """One server, with bitmaps and without, in turn: those of different
        ones differ by more than bitmaps cost."""
        path = self.image("disk", 256 * MIB, "-o", "preallocation=full")
        with self.server(path) as server:
            qmp, still = server.qmp(), server.connect()

            def cost(seconds):
                cpu = server.cpu()
                said = self.load(
                    server.uri, "--mode", "write", "--pattern", "rand",
                    "--depth", 16, "--seconds", seconds)
                return (server.cpu() - cpu) / said["ops"] * 1e6

            def sample(name):
                names = [f"b{i}" for i in range(int(name.split()[0]))]
                cost(0.2)
                before = cost(self.args.seconds)
                for bitmap in names:
                    qmp.ok(ADD, node="", name=bitmap, persistent=True,
                           granularity=65536)
                cost(0.5)       # each zone is active afterwards
                between = cost(self.args.seconds)
                for bitmap in names:
                    qmp.ok("block-dirty-bitmap-remove", node="", name=bitmap)
                cost(0.2)
                without = (before + cost(self.args.seconds)) / 2
                return {"CPU us": between, "without": without,
                        "ratio": between / without}

            rounds, self.args.rounds = self.args.rounds, 3 * self.args.rounds
            found = self.rounds("tracking", ["1 bitmap", "4 bitmaps"], sample)
            self.args.rounds = rounds
            still.shutdown()
        self.table("tracking", "the same by one server, with bitmaps, and "
                   "without before and after that", found,
                   ["CPU us", "without", "ratio"])
        for name, samples in found.items():
            ratio = self.median(samples, "ratio")
            self.goal(f"CPU with {name} at most 1.01 x without",
                      ratio <= 1.01, f"{ratio:.3f}")

    def activation(self):
        """Flushes for zones, which are the only ones while nobody asks."""
        found = {}
        for nr in (0, 1, 4):
            path = self.image("disk", 256 * MIB, "-o", "preallocation=full")
            with self.server(path) as server:
                qmp, handle = server.qmp(), server.connect()
                for i in range(nr):
                    qmp.ok(ADD, node="", name=f"b{i}", persistent=True,
                           granularity=65536)
                # The first write prepares the image.
                handle.pwrite(bytes(4096), 0)
                handle.flush()
                before = server.flushes()
                for zone in range(64):
                    for at in (5, 9, 40):
                        handle.pwrite(bytes(4096), zone * 4 * MIB + at * 65536)
                found[f"ours, {nr} bitmaps"] = [
                    {"zones": 64, "flushes": server.flushes() - before}]
                handle.shutdown()
        self.results["activation"] = found
        self.table("activation", "192 writes, three in each of 64 zones of "
                   "4 MiB, one after the other", found, ["zones", "flushes"])
        extra = found["ours, 4 bitmaps"][0]["flushes"] - \
            found["ours, 0 bitmaps"][0]["flushes"]
        self.goal("extra flushes at most one for each zone", extra <= 64 + 1,
                  extra)

    # ---- Taking a snapshot

    def snapshot(self):
        for size, label in ((256 * MIB, "256 MiB"), (16 * GIB, "16 GiB"),
                            (TIB, "1 TiB")):
            self.snapshot_of(size, label)

    def snapshot_of(self, size, label):
        base = self.image("base", size, "-o", "preallocation=metadata")

        def sample(name):
            path = self.dir / "copy"
            tool("cp", "--sparse=always", str(base), str(path))
            kind = self.server if name == "ours" else StorageDaemon
            with kind(path) as server:
                qmp = server.qmp()
                return {**self.quiet(server, qmp, size),
                        **self.stalled(server, size, lambda: qmp.ok(
                            TAKE, device=server.node, name="busy"))}

        found = self.rounds(f"snapshot {label}", ["ours", "storage daemon"],
                            sample)
        self.table(f"snapshot {label}", "taken of a disk with as much mapped, "
                   "while a client writes 4 KiB at depth 16", found,
                   ["idle ms", "verb ms", "requests", "held us", "waited",
                    "tables met", "p99.9 without", "p99.9 with", "max us",
                    "slow"])
        ours = found["ours"]
        ratio = self.median(ours, "p99.9 with") / \
            self.median(ours, "p99.9 without")
        self.goal("p99.9 of writes under 2 x that without", ratio < 2,
                  f"{ratio:.2f}")
        # That nothing is read or written meanwhile is for a unit test.
        self.goal("writes are held back for less than 1 ms",
                  self.median(ours, "held us") < 1000,
                  f"{self.median(ours, 'held us'):.0f} us")

    def writes(self, server, size, seconds):
        return subprocess.Popen(
            [str(self.program), "--uri", server.uri, "--mode", "write",
             "--pattern", "rand", "--depth", "16", "--length",
             str(min(size, 256 * MIB)), "--seconds", str(seconds)],
            stdout=subprocess.PIPE, text=True)

    def quiet(self, server, qmp, size):
        """Nobody writes: what does it do, and how long?"""
        handle = server.connect()
        handle.pwrite(bytes(4096), 0)
        handle.flush()
        before, begin = server.host_requests(), time.monotonic()
        qmp.ok(TAKE, device=server.node, name="idle")
        took = time.monotonic() - begin
        result = {"idle ms": took * 1e3,
                  "requests": server.host_requests() - before}
        handle.shutdown()
        return result

    def stalled(self, server, size, take):
        # So long that what the first writes copy is not most of it.
        seconds = 2 * self.args.seconds
        self.writes(server, size, seconds).communicate()
        without = json.loads(self.writes(server, size,
                                         seconds).communicate()[0])
        # As long as somebody has it open it counts.
        still = server.connect()
        client = self.writes(server, size, seconds)
        time.sleep(seconds / 3)
        before, begin = server.held(), time.monotonic()
        take()
        took = time.monotonic() - begin
        said = json.loads(client.communicate()[0])
        held = server.held(before)
        still.shutdown()
        return {"verb ms": took * 1e3, "p99.9 without": without["p999_us"],
                "p99.9 with": said["p999_us"], "max us": said["max_us"],
                "slow": said["slow"], **held}

    # ---- A checkpoint

    def checkpoint(self):
        """As many bitmaps are disabled as there are, and as many added."""
        base = self.image("base", 16 * GIB, "-o", "preallocation=metadata")

        def sample(name):
            who, nr = name.split(", ")[0], int(name.split(", ")[1].split()[0])
            path = self.dir / "copy"
            tool("cp", "--sparse=always", str(base), str(path))
            kind = self.server if who == "ours" else StorageDaemon
            with kind(path) as server:
                qmp = server.qmp()

                def add(i):
                    return {"node": server.node, "name": f"b{i}",
                            "persistent": True, "granularity": 65536}

                for i in range(nr):
                    qmp.ok(ADD, **add(i))
                actions = [{"type": TAKE, "data": {"device": server.node,
                                                   "name": "busy"}}]
                for i in range(nr):
                    actions += [
                        {"type": "block-dirty-bitmap-disable",
                         "data": {"node": server.node, "name": f"b{i}"}},
                        {"type": ADD, "data": add(nr + i)}]
                return self.stalled(
                    server, 16 * GIB,
                    lambda: qmp.ok("transaction", actions=actions))

        found = self.rounds("checkpoint", [
            f"{who}, {nr} bitmaps" for nr in (0, 1, 4)
            for who in ("ours", "storage daemon")], sample)
        self.table("checkpoint", "one transaction: a snapshot of 16 GiB that "
                   "is mapped, and bitmaps, while a client writes 4 KiB at "
                   "depth 16", found,
                   ["verb ms", "held us", "waited", "tables met",
                    "p99.9 without", "p99.9 with", "max us", "slow"])
        for nr in (1, 4):
            held = self.median(found[f"ours, {nr} bitmaps"], "held us")
            self.goal(f"writes are held back for less than 1 ms with {nr}",
                      held < 1000, f"{held:.0f} us")

    # ---- Checks

    def checked(self):
        """Writes while the image is checked over and over, and without."""
        base = self.image("base", TIB, "-o", "preallocation=metadata")

        def sample(name):
            path = self.dir / "copy"
            tool("cp", "--sparse=always", str(base), str(path))
            with self.server(path) as server:
                def run(seconds, seed):
                    return self.load(
                        server.uri, "--mode", "write", "--pattern", "rand",
                        "--depth", 16, "--length", 256 * MIB, "--seconds",
                        seconds, "--seed", seed)
                still = server.connect()
                run(0.5, 1)
                checker = Checker(server.qmp()) if name != "without" else None
                said = run(2 * self.args.seconds, 2)
                checks = checker.stop() if checker else 0
                still.shutdown()
            return {"IOPS": said["iops"], "p99.9 us": said["p999_us"],
                    "checks": checks}

        found = self.rounds("checked", ["without", "with"], sample)
        self.table("checked", "random 4 KiB writes, depth 16, without and with"
                   " one check of 1 TiB, all of it mapped, after the other",
                   found, ["IOPS", "p99.9 us", "checks"])
        lost = 1 - self.median(found["with"], "IOPS") / \
            self.median(found["without"], "IOPS")
        self.goal("at most 5 % of writes lost", lost <= 0.05,
                  f"{lost * 100:.1f} %")

    # ---- An incremental backup

    def incremental(self):
        import random
        size, clusters = 16 * GIB, 16 * GIB // 65536 // 100
        path = self.image("disk", size, "-o", "preallocation=metadata")
        chosen = sorted(random.Random(1).sample(range(size // 65536),
                                                clusters))
        flat = self.image("flat", clusters * 65536)
        with self.server(flat) as server:
            self.load(server.uri, "--mode", "write", "--pattern", "seq",
                      "--block", 65536, "--ops", clusters)
        with self.server(path) as server:
            # As long as somebody has it open it counts its requests.
            qmp, handle = server.qmp(), server.connect()
            qmp.ok(ADD, node="", name="b0", persistent=True, granularity=65536)
            for cluster in chosen:
                handle.pwrite(os.urandom(512) * 128, cluster * 65536)
            handle.flush()
            server.settle()
            qmp.ok("x-q2-checkpoint", nodes=[""], snapshot="s1",
                   disable="b0", add="b1")
            copy = self.dir / "copy.raw"

            def sample(name):
                copy.unlink(missing_ok=True)
                copy.touch()
                os.truncate(copy, size if name == "changed" else
                            clusters * 65536)
                if name == "changed":
                    before = server.data_bytes()
                    took = self.apply(server.export("bitmap/b0@s1"), copy)
                    return {"seconds": took,
                            "MiB read": (server.data_bytes() - before) / MIB,
                            "MiB changed": clusters / 16}
                with self.server(flat) as other:
                    still = other.connect()
                    before = other.data_bytes()
                    took = self.apply(other.uri, copy)
                    read = other.data_bytes() - before
                    still.shutdown()
                    return {"seconds": took, "MiB read": read / MIB,
                            "MiB changed": clusters / 16}

            found = self.rounds("incremental", ["changed", "sequential"],
                                sample)
            handle.shutdown()
        self.table("incremental", "1 % of 16 GiB in single clusters, and a "
                   "disk of as much from front to back, both by "
                   "nbd-apply-extents", found,
                   ["seconds", "MiB read", "MiB changed"])
        one = found["changed"][0]
        self.goal("bytes read are those changed",
                  one["MiB read"] <= one["MiB changed"] * 1.001,
                  f"{one['MiB read']:.2f} of {one['MiB changed']:.2f} MiB")
        ratio = self.median(found["changed"], "seconds") / \
            self.median(found["sequential"], "seconds")
        self.goal("within 1.2 x of reading as much sequentially",
                  ratio <= 1.2, f"{ratio:.2f}")

    def apply(self, uri, copy):
        begin = time.monotonic()
        tool(str(HERE.parent.parent / "tools/nbd-apply-extents"), "--quiet",
             uri, str(copy))
        return time.monotonic() - begin

    # ---- Memory

    def memory(self):
        path = self.image("disk", TIB)

        def sample(name):
            shutil.copyfile(path, self.dir / "copy")
            with self.server(self.dir / "copy") as server:
                qmp = server.qmp()
                handle = server.connect()
                before = server.anonymous()
                if name != "without":
                    qmp.ok(ADD, node="", name="b0", persistent=True,
                           granularity=65536)
                for at in range(0, TIB, TIB // 512):
                    handle.pwrite(bytes(512), at)
                handle.flush()
                used = server.anonymous() - before
                handle.shutdown()
            return {"MiB": used / MIB}

        found = self.rounds("memory", ["without", "with"], sample)
        self.table("memory", "after 512 writes all over 1 TiB, with and "
                   "without a bitmap of 64 KiB granules", found, ["MiB"])
        more = self.median(found["with"], "MiB") - \
            self.median(found["without"], "MiB")
        self.goal("at most 4.5 MiB", more <= 4.5, f"{more:.2f}")

    # ---- Compressed writing

    def compressed(self):
        raw = self.dir / "corpus.raw"
        subprocess.run(
            f"tar -C / -cf - usr/lib usr/share 2>/dev/null | head -c "
            f"{self.args.corpus * MIB} >{raw}", shell=True, check=True)
        size = raw.stat().st_size // 65536 * 65536
        os.truncate(raw, size)

        def sample(name):
            path = self.dir / "out"
            path.unlink(missing_ok=True)
            begin, before = time.monotonic(), os.times()
            if name == "qemu-img":
                tool("qemu-img", "convert", "-c", "-m", "8", "-W", "-f", "raw",
                     "-O", "qcow2", str(raw), str(path))
            else:
                tool("qemu-img", "create", "-q", "-f", "qcow2", str(path),
                     str(size))
                with self.server(path, "qcow2-compress=on") as server:
                    tool("nbdcopy", str(raw), server.uri)
            now = os.times()
            took = time.monotonic() - begin
            tool("qemu-img", "check", "-q", str(path))
            if tool("qemu-img", "compare", "-f", "qcow2", "-F", "raw",
                    str(path), str(raw)).returncode:
                raise RuntimeError("the image has other bytes")
            return {"seconds": took, "CPU s":
                    now.children_user + now.children_system -
                    before.children_user - before.children_system,
                    "file MiB": path.stat().st_blocks * 512 / MIB}

        found = self.rounds("compressed", ["ours", "qemu-img"], sample)
        self.table("compressed", f"{size // MIB} MiB of files of /usr: nbdcopy"
                   " into qcow2-compress=on, and qemu-img convert -c -m 8 -W; "
                   "client and server", found,
                   ["seconds", "CPU s", "file MiB"])
        for key, most, what in (("seconds", 1, "no slower"),
                                ("CPU s", 0.8, "0.8 x its CPU"),
                                ("file MiB", 1.02, "102 % of its file")):
            ratio = self.median(found["ours"], key) / \
                self.median(found["qemu-img"], key)
            self.goal(what, ratio <= most, f"{ratio:.3f}")


ROWS = ("overwrite", "tracking", "activation", "snapshot", "checkpoint",
        "checked", "incremental", "memory", "compressed")


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--filter", required=True, type=os.path.abspath)
    p.add_argument("--only", default="", metavar="REGEX",
                   help=f"of {', '.join(ROWS)}")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1.0)
    p.add_argument("--corpus", type=int, default=256, metavar="MIB",
                   help="how much is compressed (%(default)s)")
    p.add_argument("--workdir", type=Path, default=Path("/dev/shm"),
                   help="2 GiB; a tmpfs, unless the disk is to be measured "
                        "(%(default)s)")
    p.add_argument("--nbdload", type=Path)
    p.add_argument("--json", type=Path, metavar="FILE")
    args = p.parse_args()
    return Bench(args).measure(ROWS)


if __name__ == "__main__":
    sys.exit(main())
