#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Bitmaps of a disk that is written to by clients whose server is killed.

bitmaps_kill.py write STATE URI [--seed S] [--connections C] [--kill PID]
              [--control SOCKET]
    Writes, zeroes and trims at random, on several connections, with flushes
    and FUA, and takes and deletes snapshots meanwhile; until PID is killed
    somewhere in the middle, or all is done.
bitmaps_kill.py note STATE OFFSET LENGTH
    Somebody else has written there.
bitmaps_kill.py judge STATE RAW [--exact] [--names NAME...] -- PROGRAM...
    PROGRAM, which serves the disk and its bitmaps, is started.  Each bitmap
    must have all granules in which the disk differs from RAW, the disk when
    they were added; all that was acknowledged; and what they had before.  With
    --exact nothing else than that.  STATE is updated.
"""

import argparse
import json
import os
import random
import signal
import sys
import threading
from typing import Dict, List, Tuple

import nbd
from qmp_client import QMP

SECTOR = 512
Ranges = List[Tuple[int, int]]


class State:
    """What is in the file STATE."""

    def __init__(self, path: str):
        self.path = path
        self.done: Ranges = []          # acknowledged, since it was judged
        self.bits: Dict[str, Ranges] = {}       # those of each bitmap, then
        if os.path.exists(path):
            with open(path) as file:
                self.__dict__.update(json.load(file))

    def save(self) -> None:
        with open(self.path, "w") as file:
            json.dump(self.__dict__, file)


# ---- Writing ---------------------------------------------------------------

class Client:
    """One connection, in a thread."""

    def __init__(self, writing: "Writing", number: int):
        self.writing = writing
        self.rng = random.Random(f"{writing.args.seed}-{number}")
        self.done: Ranges = []
        self.error = ""
        self.handle = nbd.NBD()
        self.handle.connect_uri(writing.args.uri)
        self.size = self.handle.get_size()
        self.at = 0
        self.thread = threading.Thread(target=self.run)

    def place(self) -> Tuple[int, int]:
        rng = self.rng
        length = SECTOR * rng.choice((1, 1, 8, 8, 100, 128, 128, 700, 9000))
        if rng.random() < 0.6:
            self.at = rng.randrange(self.size // SECTOR) * SECTOR
        if self.at >= self.size:
            self.at = 0
        offset = self.at
        length = min(length, self.size - offset)
        self.at += length
        return offset, length

    def request(self, offset: int, length: int) -> None:
        rng, handle = self.rng, self.handle
        flags = nbd.CMD_FLAG_FUA if rng.random() < 0.1 else 0
        kind = rng.randrange(10)
        if kind < 7:
            handle.pwrite(rng.randbytes(16) * (length // 16), offset, flags)
        elif kind < 9:
            handle.zero(length, offset, flags)
        else:
            handle.trim(length, offset, flags)

    def run(self) -> None:
        try:
            for _ in range(60):
                self.writing.step()
                offset, length = self.place()
                self.request(offset, length)
                self.done.append((offset, length))
                if self.rng.random() < 0.05:
                    self.handle.flush()
            self.handle.shutdown()
        except nbd.Error as error:
            if self.writing.kill is None or self.handle.aio_is_ready():
                self.error = str(error)


class Writing:
    """All connections, and the end."""

    def __init__(self, args):
        self.args = args
        self.lock = threading.Lock()
        self.steps = 0
        self.kill = None
        rng = random.Random(args.seed)
        self.clients = [Client(self, i) for i in range(args.connections)]
        if args.kill:
            self.kill = rng.choice((rng.randrange(1, 6), rng.randrange(
                1, 60 * args.connections)))

    def step(self) -> None:
        with self.lock:
            self.steps += 1
            if self.steps == self.kill:
                threading.Timer(random.random() * 0.02, os.kill,
                                (self.args.kill, signal.SIGKILL)).start()

    def take_snapshots(self) -> None:
        """Until the server is gone or nobody writes any more."""
        try:
            control = QMP(self.args.control)
            names = ["a", "b"]
            while any(c.thread.is_alive() for c in self.clients):
                if "error" in control.command(
                        "blockdev-snapshot-internal-sync", device="",
                        name=names[0]):
                    break       # there is none of such an image
                names.reverse()
                control.command("blockdev-snapshot-delete-internal-sync",
                                device="", name=names[0])
        except (EOFError, OSError):
            pass

    def run(self, state: State) -> None:
        for client in self.clients:
            client.thread.start()
        if self.args.control:
            self.take_snapshots()
        for client in self.clients:
            client.thread.join()
            state.done += client.done
            if client.error:
                raise SystemExit(f"seed {self.args.seed}: {client.error}")


# ---- Judging ---------------------------------------------------------------

class Bits:
    """A bitmap: as one integer, a granule a bit."""

    def __init__(self, granularity: int, size: int):
        self.granularity = granularity
        self.size = size
        self.value = 0

    def add(self, offset: int, length: int) -> None:
        first = offset // self.granularity
        end = (offset + length + self.granularity - 1) // self.granularity
        self.value |= ((1 << (end - first)) - 1) << first

    def ranges(self) -> Ranges:
        found, text, at = [], bin(self.value)[:1:-1], 0
        while (start := text.find("1", at)) >= 0:
            at = text.find("0", start)
            at = len(text) if at < 0 else at
            found.append((start * self.granularity,
                          (at - start) * self.granularity))
        return found


def granularity_of(name: str) -> int:
    """Names say it: g512."""
    return int(name[1:])


def read_bits(handle, name: str, size: int) -> Bits:
    bits = Bits(granularity_of(name), size)
    context = f"qemu:dirty-bitmap:{name}"
    at = 0

    def extent(metacontext, offset, entries, _error):
        nonlocal at
        if metacontext != context:
            return 0
        at = offset
        for length, flag in zip(entries[::2], entries[1::2]):
            if flag:
                bits.add(at, min(length, size - at))
            at += length
        return 0

    while at < size:
        handle.block_status(min(size - at, 1 << 30), at, extent)
    return bits


def differences(handle, raw: str, size: int) -> Ranges:
    found, step = [], 1 << 20
    with open(raw, "rb") as file:
        for at in range(0, size, step):
            length = min(step, size - at)
            now, old = handle.pread(length, at), file.read(length)
            if now == old:
                continue
            for i in range(0, length, SECTOR):
                if now[i:i + SECTOR] != old[i:i + SECTOR]:
                    found.append((at + i, SECTOR))
    return found


def judge(args) -> None:
    state = State(args.state)
    handle = nbd.NBD()
    for name in args.names:
        handle.add_meta_context(f"qemu:dirty-bitmap:{name}")
    handle.connect_systemd_socket_activation(args.program)
    size = handle.get_size()
    changed = differences(handle, args.raw, size)
    for name in args.names:
        if not handle.can_meta_context(f"qemu:dirty-bitmap:{name}"):
            raise SystemExit(f"{name} is not there")
        bits = read_bits(handle, name, size)
        had = Bits(bits.granularity, size)
        for each in state.bits.get(name, []) + state.done:
            had.add(*each)
        must = Bits(bits.granularity, size)
        must.value = had.value
        for each in changed:
            must.add(*each)
        missing = Bits(bits.granularity, size)
        missing.value = must.value & ~bits.value
        if missing.value:
            raise SystemExit(f"{name} lacks {missing.ranges()[:5]}")
        missing.value = bits.value & ~had.value
        if args.exact and missing.value:
            raise SystemExit(f"{name} has too much: {missing.ranges()[:5]}")
        state.bits[name] = bits.ranges()
    handle.shutdown()
    state.done = []
    state.save()


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("write")
    one.add_argument("state")
    one.add_argument("uri")
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--connections", type=int, default=2)
    one.add_argument("--kill", type=int)
    one.add_argument("--control")
    one = commands.add_parser("note")
    one.add_argument("state")
    one.add_argument("offset", type=int)
    one.add_argument("length", type=int)
    one = commands.add_parser("judge")
    one.add_argument("state")
    one.add_argument("raw")
    one.add_argument("--exact", action="store_true")
    one.add_argument("--names", nargs="+")
    one.add_argument("program", nargs="+")
    args = parser.parse_args()
    if args.command == "judge":
        judge(args)
        return
    state = State(args.state)
    if args.command == "note":
        state.done.append((args.offset, args.length))
    else:
        Writing(args).run(state)
    state.save()


if __name__ == "__main__":
    main()
