# SPDX-License-Identifier: BSD-3-Clause
"""Clients that write numbered records while snapshots are taken.

    control_writers.py run NBDSOCKET CONTROL COUNT FOLDER [EXPORT]
    control_writers.py kill NBDSOCKET CONTROL SEED PID FOLDER
    control_writers.py check FOLDER RAW NAME

run: takes COUNT snapshots while writers write, deletes some, and looks at each
through its own export.  What is known of each is left in FOLDER, for 'check',
which looks at a raw copy that another program has made of it.

kill: the same, with all writes durable, until the server is killed in the
middle of a command; 'check' then knows what must be there.

A chain is a series of records, each written when the one before it has been
acknowledged, through another connection.  Record n of a chain is in its block
n % BLOCKS.  So a disk at a point in time has, for some n, the last records up
to n, and no other: BLOCKS of them, or fewer at the beginning.
"""

import json
import os
import random
import signal
import struct
import sys
import threading
import time

import nbd
from qmp_client import QMP

BLOCK = 4096
BLOCKS = 64
CHAINS = 2
# Behind the records there is the rest of the disk, to be shared.
REGION = BLOCK * BLOCKS * CHAINS


def record(chain, number):
    return struct.pack("<QQ", chain + 1, number) * (BLOCK // 16)


def last_record(data, chain):
    """The n of a chain; fails if that was never the disk."""
    at = chain * BLOCK * BLOCKS
    numbers = []
    for block in range(BLOCKS):
        piece = data[at + block * BLOCK:at + (block + 1) * BLOCK]
        number = struct.unpack_from("<Q", piece, 8)[0]
        if piece != (record(chain, number) if number else bytes(BLOCK)):
            raise SystemExit(f"chain {chain}: block {block} is torn")
        numbers.append(number)
    last = max(numbers)
    for block in range(BLOCKS):
        expected = last - (last - block) % BLOCKS
        if numbers[block] != max(0, expected):
            raise SystemExit(f"chain {chain}: record {last} is there, but "
                             f"block {block} has {numbers[block]}, not "
                             f"{expected}")
    return last


def connect(sock, export):
    handle = nbd.NBD()
    handle.set_export_name(export)
    handle.connect_unix(sock)
    return handle


class Chain(threading.Thread):
    """'issued' is raised before a record is written, 'acked' after it."""

    def __init__(self, number, sock, export, durable):
        super().__init__()
        self.number = number
        self.handles = [connect(sock, export) for _ in range(2)]
        self.flags = nbd.CMD_FLAG_FUA if durable else 0
        self.issued = self.acked = 0
        self.worst = 0.0
        self.stop = False
        self.error = None

    def run(self):
        try:
            while not self.stop:
                self.issued += 1
                n = self.issued
                start = time.monotonic()
                self.handles[n % 2].pwrite(
                    record(self.number, n),
                    (self.number * BLOCKS + n % BLOCKS) * BLOCK, self.flags)
                self.acked = n
                self.worst = max(self.worst, time.monotonic() - start)
        except nbd.Error as error:
            self.error = error

    def leave(self):
        self.stop = True
        self.join()
        for handle in self.handles:
            handle.shutdown()
        if self.error:
            raise self.error


def check_bounds(data, bounds):
    for chain in range(CHAINS):
        last = last_record(data, chain)
        low, high = bounds[chain]
        if not low <= last <= high:
            raise SystemExit(f"chain {chain}: record {last} is the last one, "
                             f"but {low} was acknowledged before, and {high} "
                             f"not begun after it")


class Taker:
    """Takes and deletes snapshots, and knows what they must have."""

    def __init__(self, qmp, device, chains):
        self.qmp, self.device, self.chains = qmp, device, chains
        self.known = {}

    def take(self, name):
        before = [chain.acked for chain in self.chains]
        self.qmp.ok("blockdev-snapshot-internal-sync", device=self.device,
                    name=name)
        after = [chain.issued for chain in self.chains]
        self.known[name] = list(zip(before, after))

    def delete(self, name):
        del self.known[name]
        self.qmp.ok("blockdev-snapshot-delete-internal-sync",
                    device=self.device, name=name)

    def save(self, folder):
        with open(f"{folder}/known", "w", encoding="ascii") as file:
            json.dump(self.known, file)


def look(sock, base, name, bounds):
    """Through the export of the snapshot."""
    handle = connect(sock, f"{base}snapshot/{name}")
    data = b"".join(handle.pread(1 << 18, at)
                    for at in range(0, REGION, 1 << 18))
    handle.shutdown()
    check_bounds(data, bounds)


def run(sock, control, count, folder, export=""):
    base = f"{export}/" if export else ""
    chains = [Chain(i, sock, export, False) for i in range(CHAINS)]
    for chain in chains:
        chain.start()
    taker = Taker(QMP(control), export, chains)
    rng = random.Random(int(count))
    for i in range(int(count)):
        wait_for_records(chains, 20)
        taker.take(f"s{i}")
        look(sock, base, f"s{i}", taker.known[f"s{i}"])
        if rng.random() < 0.4:
            taker.delete(rng.choice(sorted(taker.known)))
    for chain in chains:
        chain.leave()
    listed = {s["name"] for s in
              taker.qmp.ok("x-q2-query-snapshots", device=export)}
    if listed != set(taker.known):
        raise SystemExit(f"{listed} are listed, not {set(taker.known)}")
    for name, bounds in taker.known.items():
        look(sock, base, name, bounds)
    taker.save(folder)
    print(f"{sum(chain.acked for chain in chains)} records, "
          f"{len(taker.known)} snapshots left, a write took "
          f"{max(chain.worst for chain in chains) * 1000:.1f} ms at most")


def wait_for_records(chains, count):
    goal = [chain.acked + count for chain in chains]
    while any(c.acked < g and c.error is None for c, g in zip(chains, goal)):
        time.sleep(0.002)


def kill(sock, control, seed, pid, folder):
    rng = random.Random(int(seed))
    chains = [Chain(i, sock, "", True) for i in range(CHAINS)]
    for chain in chains:
        chain.start()
    taker = Taker(QMP(control), "", chains)
    for i in range(rng.randrange(4)):
        wait_for_records(chains, 5)
        taker.take(f"s{i}")
    wait_for_records(chains, 10)
    maybe = dict(taker.known)
    threading.Timer(rng.random() * rng.choice((0.003, 0.02, 0.1)),
                    os.kill, (int(pid), signal.SIGKILL)).start()
    last = [0] * CHAINS
    try:
        for i in range(1000):
            last = [chain.acked for chain in chains]
            if taker.known and rng.random() < 0.5:
                name = rng.choice(sorted(taker.known))
                maybe[name] = taker.known[name]
                taker.delete(name)
                del maybe[name]
            else:
                maybe[f"k{i}"] = None
                taker.take(f"k{i}")
                maybe[f"k{i}"] = taker.known[f"k{i}"]
    except (OSError, EOFError):
        pass
    for chain in chains:
        chain.join()
    for name in maybe:
        if maybe[name] is None:
            maybe[name] = [(a, chain.issued)
                           for a, chain in zip(last, chains)]
    with open(f"{folder}/known", "w", encoding="ascii") as file:
        json.dump({"": [(chain.acked, chain.issued) for chain in chains],
                   **maybe, "must": sorted(taker.known)}, file)


def check(folder, raw, name):
    with open(f"{folder}/known", encoding="ascii") as file:
        known = json.load(file)
    with open(raw, "rb") as file:
        check_bounds(file.read(REGION), known[name])


if __name__ == "__main__":
    {"run": run, "kill": kill, "check": check}[sys.argv[1]](*sys.argv[2:])
