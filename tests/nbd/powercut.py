#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Power cuts of the file that a server writes to.

powercut.py write JOURNAL URI [--seed S] [--operations N] [--connections C]
                  [--flushes RATE] [--cluster BYTES] [--errors]
    A client that writes, zeroes and trims at random, with flushes and FUA, and
    notes the start and the acknowledgement of each request in the journal.
    With --errors requests may fail with EIO.
powercut.py ended JOURNAL
    All clients have left, and the image was closed without an error.
powercut.py replay JOURNAL LOG INITIAL FOLDER [--seed S] [--cuts N]
                  [--by-descriptor]
    LOG is the log of powercut_preload.c, INITIAL the file before.  Makes in
    FOLDER the files that N power cuts could leave: all flushed operations, and
    some of the others, whole or in part.  QEMU must find no error in them, and
    each block must have its last flushed contents, or newer ones.

    With --by-descriptor a flush covers only writes through the same
    descriptor: plugins may work like that, and each context has its own.

Clocks: all of them are CLOCK_MONOTONIC.
Prints counts of events, so that the caller can tell if anything was tested:
"cuts=N flushes=N grown=N cut=N descriptors=N failed=N".
"""

import argparse
import ctypes
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from typing import Dict, List, Tuple

import nbd
from write_kill import BLOCK, TORN, Blocks, Writer, describe, which
from write_model import Wrong

# ---- The journal ---------------------------------------------------------


class Question(dict):
    """What a flush is about."""

    number = 0


class Journal(Blocks):
    """Blocks that note what happens to them.  A line is a time and a list."""

    def __init__(self, path: str, size: int):
        super().__init__(path + ".state", size)
        self.replaying = True
        self.questions: Dict[int, Question] = {}
        self.events = read_journal(path)
        for _, event in self.events:
            self.replay(event)
        self.replaying = False
        self.failing = False
        self.file = open(path, "a")

    def note(self, *event) -> None:
        if not self.replaying:
            self.file.write(json.dumps([time.monotonic_ns(), event]) + "\n")
            self.file.flush()

    def replay(self, event: list) -> None:
        kind, *args = event
        if kind == "begin":
            self.number = max(self.number, abs(args[2]))
            self.begin(range(args[0], args[1]), args[2])
        elif kind == "end":
            self.end(range(args[0], args[1]), *args[2:])
        elif kind == "ask":
            self.acknowledged()
        elif kind == "flushed":
            self.flushed(self.questions[args[0]])
        elif kind == "ended":
            # Requests without an answer have none to come.
            self.running.clear()
            super().flushed(super().acknowledged())

    def begin(self, blocks: range, number: int) -> None:
        self.note("begin", blocks.start, blocks.stop, number)
        super().begin(blocks, number)

    def end(self, blocks: range, number: int, durable: bool,
            sure: bool = True) -> None:
        sure = sure and not (self.replaying is False and self.failing)
        self.note("end", blocks.start, blocks.stop, number, durable, sure)
        super().end(blocks, number, durable, sure)

    def acknowledged(self) -> Question:
        question = Question(super().acknowledged())
        question.number = len(self.questions)
        self.questions[question.number] = question
        self.note("ask", question.number)
        return question

    def flushed(self, what: Question) -> None:
        if not self.replaying and self.failing:
            return
        self.note("flushed", what.number)
        super().flushed(what)


def read_journal(path: str) -> List[Tuple[int, list]]:
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return [tuple(json.loads(line)) for line in file]


class Client(Writer):
    """One that goes on when requests fail."""

    def done(self, index: int, then, kind: str = ""):
        usual = super().done(index, then, kind)

        def completed(error) -> int:
            if not error.value or not self.args.errors:
                return usual(error)
            self.running[index] -= 1
            self.blocks.failing = True
            then(None)
            self.blocks.failing = False
            return 1
        return completed


def write(args) -> None:
    handle = nbd.NBD()
    handle.connect_uri(args.uri)
    journal = Journal(args.journal, handle.get_size())
    args.seed += journal.number
    client = Client(journal, args)
    handle.shutdown()
    client.write()
    if client.gone:
        raise Wrong("the server is gone")
    for each in client.handles:
        each.shutdown()


# ---- The log -------------------------------------------------------------

WRITE, ZERO, SIZE, FLUSH, FAILED_FLUSH = range(5)
ENTRY = struct.Struct("<IIQQQQ")
PUNCH = 3               # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64,
                           ctypes.c_int64)


class Operation:
    """What was done to the file, and until when it may be undone."""

    __slots__ = ("kind", "descriptor", "begin", "end", "offset", "length",
                 "data", "durable")

    def __init__(self, fields: tuple, data: bytes):
        (self.kind, self.descriptor, self.begin, self.end, self.offset,
         self.length) = fields
        self.data = data
        self.durable = 1 << 64

    def apply(self, fd: int) -> None:
        if self.kind == WRITE:
            os.pwrite(fd, self.data, self.offset)
        elif self.kind == SIZE:
            os.ftruncate(fd, self.offset)
        elif libc.fallocate(fd, PUNCH, self.offset, self.length) != 0:
            size = os.fstat(fd).st_size
            length = min(self.length, size - self.offset)
            if length > 0:
                os.pwrite(fd, bytes(length), self.offset)

    def tear(self, fd: int, rng: random.Random) -> None:
        """Some of its sectors have made it."""
        if self.kind != WRITE:
            return
        chance = rng.random()
        at = 0
        while at < len(self.data):
            step = min(512 - (self.offset + at) % 512, len(self.data) - at)
            if rng.random() < chance:
                os.pwrite(fd, self.data[at:at + step], self.offset + at)
            at += step


def read_log(path: str) -> List[Operation]:
    found = []
    with open(path, "rb") as file:
        while True:
            head = file.read(ENTRY.size)
            if len(head) < ENTRY.size:
                break
            fields = ENTRY.unpack(head)
            data = file.read(fields[5]) if fields[0] == WRITE else b""
            found.append(Operation(fields, data))
    return sorted(found, key=lambda operation: operation.begin)


def find_durable(log: List[Operation], by_descriptor: bool) -> None:
    """Set when each became durable.  What a failed flush was about is not
    made so by any later one, though it may be."""
    for flush in sorted((each for each in log if each.kind >= FLUSH),
                        key=lambda each: each.end):
        covered = [each for each in log if each.kind < FLUSH and
                   each.end <= flush.begin and each.durable == 1 << 64 and
                   (not by_descriptor or each.kind == SIZE or
                    flush.kind == FAILED_FLUSH or
                    each.descriptor == flush.descriptor)]
        for each in covered:
            each.durable = flush.end if flush.kind == FLUSH else 1 << 63


# ---- Power cuts ----------------------------------------------------------


class Cut:
    """One power cut, and one of the files that it may leave behind."""

    def __init__(self, args, rng: random.Random, when: int, mode: str):
        self.args, self.rng, self.when, self.mode = args, rng, when, mode
        self.path = os.path.join(args.folder, "cut.qcow2")
        self.raw = os.path.join(args.folder, "cut.raw")

    def make(self, log: List[Operation]) -> None:
        shutil.copyfile(self.args.initial, self.path)
        chance = {"nothing": 0.0, "all": 1.0}.get(self.mode,
                                                  self.rng.random())
        last = self.rng.randrange(len(log) + 1)
        fd = os.open(self.path, os.O_RDWR)
        try:
            for index, each in enumerate(log):
                if each.kind >= FLUSH or each.begin > self.when:
                    continue
                if each.durable <= self.when:
                    each.apply(fd)
                elif self.mode == "prefix":
                    if index < last:
                        each.apply(fd)
                elif self.rng.random() < chance:
                    if self.mode == "torn" and self.rng.random() < 0.5:
                        each.tear(fd, self.rng)
                    else:
                        each.apply(fd)
        finally:
            os.close(fd)

    def check(self, blocks: Blocks) -> None:
        done = subprocess.run(["qemu-img", "check", "-q", self.path],
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        if done.returncode not in (0, 3):
            raise Wrong(f"qemu-img check: {done.returncode}: "
                        f"{done.stdout.decode()[:500]}")
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw",
                        self.path, self.raw], check=True)
        with open(self.raw, "rb") as file:
            for block in blocks.may:
                file.seek(block * BLOCK)
                data = file.read(BLOCK)
                found = which(blocks, block, data, False)
                if found is None or found is TORN and \
                        len(blocks.may[block]) == 1:
                    raise Wrong(f"block {block} is {describe(data)}, must be "
                                f"one of {blocks.may[block]}")

    def __str__(self) -> str:
        return f"cut at {self.when}, of what was not flushed: {self.mode}"


def choose(log: List[Operation], journal: list, rng: random.Random,
           number: int) -> List[Tuple[int, str]]:
    """Right after the client was told that something is durable, around
    changes of the size, and at any other moment."""
    told = [when for when, event in journal
            if event[0] in ("flushed", "ended") or
            event[0] == "end" and event[4]]
    sizes = [each.begin + rng.randrange(-1, 2) *
             rng.randrange(1, 3 * 10 ** 8) for each in log
             if each.kind == SIZE]
    any_time = [rng.choice((each.begin, each.end)) for each in log]
    modes = ("nothing", "nothing", "all", "prefix", "some", "torn")
    cuts = [(journal[-1][0], "nothing")]
    while len(cuts) < number:
        which_one = rng.choice((told, told, sizes, any_time)) or any_time
        cuts.append((rng.choice(which_one), rng.choice(modes)))
    return sorted(cuts)


def check_failures(log: List[Operation], journal: list) -> None:
    """After a flush has failed none that was asked for later succeeds, as
    long as the image is not opened anew."""
    failed = [each.end for each in log if each.kind == FAILED_FLUSH]
    asked = {event[1]: when for when, event in journal if event[0] == "ask"}
    for when, event in journal:
        if event[0] == "flushed" and failed and \
                asked[event[1]] > min(failed):
            raise Wrong(f"a flush has succeeded at {when}, after one that "
                        f"failed at {min(failed)}")


def replay(args) -> None:
    log = read_log(args.log)
    journal = read_journal(args.journal)
    rng = random.Random(args.seed)
    find_durable(log, args.by_descriptor)
    open(args.journal + ".empty", "w").close()
    blocks = Journal(args.journal + ".empty", 0)
    blocks.replaying = True
    at = 0
    cuts = choose(log, journal, rng, args.cuts)
    for when, mode in cuts:
        while at < len(journal) and journal[at][0] <= when:
            blocks.replay(journal[at][1])
            at += 1
        cut = Cut(args, rng, when, mode)
        cut.make(log)
        try:
            cut.check(blocks)
        except Wrong as error:
            raise Wrong(f"{cut}: {error}") from None
    check_failures(log, journal)
    print(summary(args, log, len(cuts)))


def summary(args, log: List[Operation], cuts: int) -> str:
    size = os.path.getsize(args.initial)
    grown = shrunk = 0
    for each in log:
        if each.kind == SIZE:
            grown += each.offset > size
            shrunk += each.offset < size
            size = each.offset
    kinds = [each.kind for each in log]
    writers = {each.descriptor for each in log if each.kind == WRITE}
    return (f"cuts={cuts} flushes={kinds.count(FLUSH)} grown={grown} "
            f"cut={shrunk} descriptors={len(writers)} "
            f"failed={kinds.count(FAILED_FLUSH)}")


# ---- The command line ----------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("write")
    one.add_argument("journal")
    one.add_argument("uri")
    one.add_argument("--operations", type=int, default=300)
    one.add_argument("--connections", type=int, default=3)
    one.add_argument("--depth", type=int, default=4)
    one.add_argument("--cluster", type=int, default=65536)
    one.add_argument("--flushes", type=float, default=0.05)
    one.add_argument("--errors", action="store_true")
    one.set_defaults(no_flush=False, trims_may_not=False, end="leave",
                     ready=None)
    two = commands.add_parser("ended")
    two.add_argument("journal")
    three = commands.add_parser("replay")
    three.add_argument("journal")
    three.add_argument("log")
    three.add_argument("initial")
    three.add_argument("folder")
    three.add_argument("--cuts", type=int, default=20)
    three.add_argument("--by-descriptor", action="store_true")
    for each in (one, two, three):
        each.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    try:
        if args.command == "write":
            write(args)
        elif args.command == "ended":
            Journal(args.journal, 0).note("ended")
        else:
            replay(args)
    except Wrong as error:
        print(f"powercut: seed {args.seed}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
