#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""An NBD client that knows the disk's possible contents after an unclean end.

write_kill.py write STATE URI [--seed S] [--operations N] [--connections C]
              [--trims-may-not] [--no-flush] [--flushes RATE] [--ready FILE]
              [--end leave|wait|die]
    Writes, zeroes and trims 4 KiB blocks at random, with flushes and FUA,
    until N are done, or until the server ends, which is allowed. STATE has the
    possible contents of the disk; a new one is made for a disk full of zeros.
    In the end the client leaves, or waits until the server ends, or is killed,
    with requests in flight.  FILE is made when half of them, or 1000, are
    done.
write_kill.py check STATE URI [--all]
    The disk must have the flushed writes, or newer ones; with --all, all
    acknowledged writes.  STATE is updated.

There is never more than one request in flight for one block, so each block has
a last write that was flushed, and a list of those after it.
"""

import argparse
import errno
import json
import os
import random
import signal
import struct
import sys
import time
from typing import Dict, List, Optional

import nbd
from write_model import Stream, Wrong

BLOCK = 4096


def tagged(number: int, block: int) -> bytes:
    return struct.pack("<QQ", number, block) * (BLOCK // 16)


class Blocks:
    """For each block the numbers of writes that may have made it what it is,
    oldest first; 0 for zeros."""

    def __init__(self, path: str, size: int):
        self.path = path
        self.size = size
        self.number = 0
        self.may: Dict[int, List[int]] = {}     # [0] if it is not there
        self.done: Dict[int, int] = {}          # the last one acknowledged
        self.running: Dict[int, int] = {}
        if os.path.exists(path):
            with open(path) as file:
                state = json.load(file)
            self.number = state["number"]
            for name in ("may", "done"):
                setattr(self, name, {int(block): value for block, value
                                     in state[name].items()})

    def save(self) -> None:
        with open(self.path, "w") as file:
            json.dump({"number": self.number, "may": self.may,
                       "done": self.done}, file)

    def begin(self, blocks: range, number: int) -> None:
        for block in blocks:
            self.running[block] = number
            self.may.setdefault(block, [0]).append(number)

    def end(self, blocks: range, number: int, durable: bool,
            sure: bool = True) -> None:
        for block in blocks:
            del self.running[block]
            if not sure:        # what was there before may stay
                continue
            self.done[block] = number
            if durable:
                self.may[block] = [number]

    def acknowledged(self) -> Dict[int, int]:
        """What a flush that begins now is about."""
        return {block: self.done[block] for block, numbers
                in self.may.items() if len(numbers) > 1 and
                block in self.done}

    def flushed(self, what: Dict[int, int]) -> None:
        for block, number in what.items():
            numbers = self.may[block]
            if number in numbers:
                self.may[block] = numbers[numbers.index(number):]


class Writer(Stream):
    """Blocks at random.  Zeros have a number, too, of a zeroed block: 0 may
    be in a list more than once."""

    def __init__(self, blocks: Blocks, args):
        self.blocks = blocks
        super().__init__(blocks, [args.uri], args)
        self.gone = False
        self.todo = args.operations

    def start(self, index: int) -> int:
        rng, handle, blocks = self.rng, self.handles[index], self.blocks
        nr_blocks = blocks.size // BLOCK
        if not self.args.no_flush and rng.random() < self.args.flushes:
            what = blocks.acknowledged()
            handle.aio_flush(completion=self.done(
                index, lambda _: blocks.flushed(what)))
            self.running[index] += 1
            return 1
        count = rng.choice((1, 1, 1, 2, 7, 16, 16, 40))
        first = min(rng.randrange(nr_blocks), nr_blocks - count)
        if count == 16:
            first = first // 16 * 16
        chosen = range(first, first + count)
        if not blocks.running.keys().isdisjoint(chosen):
            return 0
        self.send(handle, index, chosen)
        self.running[index] += 1
        return 1

    def send(self, handle, index: int, chosen: range) -> None:
        rng, blocks = self.rng, self.blocks
        fua = not self.args.no_flush and rng.random() < self.args.flushes
        flags = nbd.CMD_FLAG_FUA if fua else 0
        kind = rng.choices(("write", "zero", "trim"), (75, 12, 13))[0]
        if kind == "trim" and (chosen[0] * BLOCK % self.args.cluster or
                               len(chosen) * BLOCK % self.args.cluster):
            kind = "write"
        blocks.number += 1
        # Zeros have numbers below zero.
        number = blocks.number if kind == "write" else -blocks.number
        blocks.begin(chosen, number)
        sure = kind != "trim" or not self.args.trims_may_not
        done = self.done(index,
                         lambda _: blocks.end(chosen, number, fua, sure))
        offset, length = chosen[0] * BLOCK, len(chosen) * BLOCK
        if kind == "write":
            data = b"".join(tagged(number, block) for block in chosen)
            handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)),
                              offset, completion=done, flags=flags)
        elif kind == "zero":
            handle.aio_zero(length, offset, completion=done, flags=flags)
        else:
            handle.aio_trim(length, offset, completion=done, flags=flags)

    def done(self, index: int, then, kind: str = ""):
        def completed(error) -> int:
            self.running[index] -= 1
            if error.value in (errno.EIO, errno.ENOSPC):
                self.error = Wrong(f"a request fails: "
                                   f"{errno.errorcode[error.value]}")
            elif error.value:
                self.gone = True
            else:
                then(None)
            return 1
        return completed

    def write(self) -> None:
        ready = self.todo - min(self.todo // 2, 1000)
        try:
            while not self.gone and (self.todo > 0 or any(self.running)):
                for index in range(len(self.handles)):
                    while (self.todo > 0 and
                           self.running[index] < self.args.depth):
                        self.todo -= self.start(index)
                if self.todo < ready and self.args.ready:
                    open(self.args.ready, "w").close()
                    self.args.ready = None
                if self.todo <= 0 and self.args.end == "die":
                    self.blocks.save()
                    os.kill(os.getpid(), signal.SIGKILL)
                self.wait()
                if self.error:
                    raise self.error
        except nbd.Error:
            self.gone = True


def write(args) -> None:
    handle = nbd.NBD()
    handle.connect_uri(args.uri)
    blocks = Blocks(args.state, handle.get_size())
    args.seed += blocks.number
    writer = Writer(blocks, args)
    handle.shutdown()
    writer.write()
    blocks.save()
    if writer.gone:
        print(f"server gone, {writer.todo} requests before the end")
        return
    if args.end == "wait":
        while True:
            time.sleep(0.1)
            try:
                if not writer.handles[0].aio_is_ready():
                    return
                writer.handles[0].poll(0)
            except nbd.Error:
                return
    try:
        for each in writer.handles:
            each.shutdown()
    except nbd.Error:
        print("server gone at the end")


def check(args) -> None:
    handle = nbd.NBD()
    handle.connect_uri(args.uri)
    blocks = Blocks(args.state, handle.get_size())
    step = 256
    for first in range(0, blocks.size // BLOCK, step):
        length = min(step * BLOCK, blocks.size - first * BLOCK)
        data = handle.pread(length, first * BLOCK)
        for block in range(first, first + length // BLOCK):
            at = (block - first) * BLOCK
            found = which(blocks, block, data[at:at + BLOCK], args.all)
            if found is None:
                raise Wrong(
                    f"block {block} (byte {block * BLOCK}) is "
                    f"{describe(data[at:at + BLOCK])}, must be one of "
                    f"{blocks.may.get(block, [0])}, acknowledged "
                    f"{blocks.done.get(block, 0)}")
            if found is TORN:   # and stays so, whatever is flushed now
                blocks.done.pop(block, None)
            elif block in blocks.may:
                blocks.may[block] = [found]
                blocks.done[block] = found
    blocks.save()
    handle.shutdown()


# Pieces of several of the writes that may be, but of nothing else.
TORN = -1000


def which(blocks: Blocks, block: int, data: bytes,
          everything: bool) -> Optional[int]:
    """The write that the data comes from, of those that may be."""
    numbers = blocks.may.get(block, [0])
    if everything and block in blocks.done:
        numbers = numbers[numbers.index(blocks.done[block]):]
    zero = not any(data)
    for number in reversed(numbers):
        if zero if number <= 0 else data == tagged(number, block):
            return number
    # What was not flushed may be torn: a block can be several clusters, of
    # which some entries were committed and others not.
    if len(numbers) > 1 and all(
            any(not any(piece) if number <= 0 else
                piece == tagged(number, block)[:512] for number in numbers)
            for piece in (data[at:at + 512] for at in range(0, BLOCK, 512))):
        return TORN
    return None


def describe(data: bytes) -> str:
    if not any(data):
        return "zero"
    number, block = struct.unpack("<QQ", data[:16])
    if data == tagged(number, block):
        return f"write {number} to block {block}"
    return data[:24].hex() + "..."


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("write", "check"))
    parser.add_argument("state")
    parser.add_argument("uri")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=3)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--cluster", type=int, default=65536)
    parser.add_argument("--trims-may-not", action="store_true",
                        help="nothing may come of a trim")
    parser.add_argument("--no-flush", action="store_true")
    parser.add_argument("--flushes", type=float, default=0.03)
    parser.add_argument("--ready")
    parser.add_argument("--end", choices=("leave", "wait", "die"),
                        default="leave")
    parser.add_argument("--all", action="store_true")
    args = parser.parse_args()
    try:
        if args.command == "write":
            write(args)
        else:
            check(args)
    except Wrong as error:
        print(f"write_kill: seed {args.seed}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
