#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""An NBD client that writes at random and verifies its reads.

write_model.py RAW URI... [--seed S] [--operations N] [--connections C]
               [--depth D] [--cluster SIZE] [--longest SIZE]
               [--full [--or-not]] [--errors] [--remove FILE]
               [--trims-may-not] [--torn]

Writes, zeroes, trims, flushes and reads, several at once on each of several
connections, over ranges that often overlap.  RAW is the disk at first, and is
replaced by the disk in the end.

Each write has a number, which is in each of its sectors.  For each sector
there is a list of its possible contents: while requests run, those of any of
them; afterwards, those of the requests that did not end before another one
began.  A read must return one of these; if there was no write, the next read
must return the same one.

Owns      class Model, which knows nothing of NBD; class Stream, which makes
          up the requests.
Does not  know what a flush guarantees: see write_kill.py.
"""

import argparse
import errno
import os
import random
import select
import struct
import sys
from typing import Dict, List, Optional, Tuple

import nbd

SECTOR = 512


class Wrong(Exception):
    """The disk is not what it should be."""


class Request:
    """One that writes, while it matters to some sector."""

    __slots__ = ("start", "end", "maybe", "what")

    def __init__(self, start: int, what: str, maybe: bool = False):
        self.start = start
        self.end: Optional[int] = None
        self.maybe = maybe      # the sectors may keep what they had
        self.what = what


SETTLED = Request(-1, "what was there before")
SETTLED.end = -1
Candidates = List[Tuple[Request, bytes]]


class Model:
    """What may be on the disk."""

    def __init__(self, content: bytearray, torn: bool = False):
        self.content = content
        self.torn = torn
        self.size = len(content)
        self.open: Dict[int, Candidates] = {}
        self.past: Dict[int, List[Tuple[bytes, int]]] = {}
        self.exclusive: set = set()
        self.reading: Dict[int, int] = {}       # start -> how many
        self.now = 0

    def tick(self) -> int:
        self.now += 1
        return self.now

    def sectors(self, offset: int, length: int) -> range:
        return range(offset // SECTOR, (offset + length - 1) // SECTOR + 1)

    def at(self, sector: int) -> bytes:
        return bytes(self.content[sector * SECTOR:(sector + 1) * SECTOR])

    def partial(self, offset: int, length: int) -> List[int]:
        """The sectors of which only a part is in the range."""
        found = []
        if offset % SECTOR:
            found.append(offset // SECTOR)
        if (offset + length) % SECTOR and offset + length < self.size:
            found.append((offset + length) // SECTOR)
        return found

    def may_begin(self, offset: int, length: int) -> bool:
        """Partly written sectors have to be known and left alone."""
        return (self.exclusive.isdisjoint(self.sectors(offset, length)) and
                self.open.keys().isdisjoint(self.partial(offset, length)))

    def begin(self, offset: int, data: bytes, what: str,
              maybe: range = range(0)) -> List[Request]:
        """Data is about to be written; the sectors in 'maybe' may also keep
        what they have."""
        self.exclusive.update(self.partial(offset, len(data)))
        start = self.tick()
        surely, perhaps = Request(start, what), Request(start, what, True)
        for sector in self.sectors(offset, len(data)):
            request = perhaps if sector in maybe else surely
            at = sector * SECTOR - offset
            piece = data[max(at, 0):at + SECTOR]
            if len(piece) < SECTOR:
                piece = self.merged(sector, max(-at, 0), piece)
            if sector not in self.open:
                self.open[sector] = [(SETTLED, self.at(sector))]
            self.open[sector].append((request, piece))
        return [surely, perhaps]

    def merged(self, sector: int, start: int, piece: bytes) -> bytes:
        whole = bytearray(self.at(sector))
        whole[start:start + len(piece)] = piece
        return bytes(whole)

    def end(self, requests: List[Request], offset: int, length: int,
            failed: Optional[int] = None) -> None:
        self.exclusive.difference_update(self.partial(offset, length))
        now = self.tick()
        for request in requests:
            request.end = now
            request.maybe |= failed is not None
        for sector in self.sectors(offset, length):
            found = self.open[sector]
            if failed == errno.ENOTSUP:
                found = [c for c in found if c[0] not in requests]
            mine = [c[0] for c in found if c[0] in requests]
            if mine and not mine[0].maybe:
                self.forget(sector, [c for c in found if gone(c[0], mine[0])])
                found = [c for c in found if not gone(c[0], mine[0])]
            self.open[sector] = found
            if (all(c[0].end is not None for c in found) and
                    all(c[1] == found[0][1] for c in found)):
                self.settle(sector, found[0][1])

    def forget(self, sector: int, candidates: Candidates) -> None:
        """Requests to read that are running may still find it."""
        if self.reading and candidates:
            self.past.setdefault(sector, []).extend(
                (data, self.now) for _, data in candidates)

    def settle(self, sector: int, data: bytes) -> None:
        self.content[sector * SECTOR:(sector + 1) * SECTOR] = data
        del self.open[sector]

    def begin_read(self) -> int:
        start = self.tick()
        self.reading[start] = 1
        return start

    def end_read(self, start: int, offset: int, data: bytes) -> None:
        self.tick()
        del self.reading[start]
        if not data:
            return
        sectors = self.sectors(offset, len(data))
        if (self.open.keys().isdisjoint(sectors) and
                data == self.content[offset:offset + len(data)]):
            return
        for sector in sectors:
            at = sector * SECTOR - offset
            self.check_sector(start, sector, max(-at, 0),
                              data[max(at, 0):at + SECTOR])
        if len(self.past) > 1000:
            oldest = min(self.reading, default=self.now)
            self.past = {s: p for s, p in self.past.items()
                         if p[-1][1] >= oldest}

    def check_sector(self, start: int, sector: int, skip: int,
                     piece: bytes) -> None:
        candidates = self.open.get(sector) or [(SETTLED, self.at(sector))]
        allowed = [data for _, data in candidates]
        allowed += [data for data, until in self.past.get(sector, ())
                    if until >= start]
        allowed = [data[skip:skip + len(piece)] for data in allowed]
        still = (all(c[0].end is not None and c[0].end < start
                     for c in candidates) and len(allowed) == len(candidates))
        if piece not in allowed and (
                still or not self.torn and
                not all(byte in [a[i] for a in allowed]
                        for i, byte in enumerate(piece))):
            raise Wrong(
                f"sector {sector} (byte {sector * SECTOR + skip}) is "
                f"{describe(piece)}, must be " +
                " or ".join(f"{describe(d[skip:skip + len(piece)])} "
                            f"({r.what})" for r, d in candidates))
        if (sector in self.open and len(piece) == SECTOR and
                all(c[0].end is not None and c[0].end < start
                    for c in candidates)):
            # A read that began earlier may have found another one.
            self.forget(sector, [c for c in candidates if c[1] != piece])
            self.settle(sector, piece)


def gone(candidate: Request, newer: Request) -> bool:
    return candidate.end is not None and candidate.end < newer.start


def describe(piece: bytes) -> str:
    if not any(piece):
        return "zero"
    if len(piece) == SECTOR and piece == piece[:16] * (SECTOR // 16):
        number, sector = struct.unpack("<QQ", piece[:16])
        return f"write {number} to sector {sector}"
    for at in range(16, len(piece)):
        if piece[at] != piece[at - 16]:
            at -= at % 16
            return (f"{piece[:16].hex()}... and {piece[at:at + 16].hex()}... "
                    f"from byte {at}")
    return piece[:24].hex() + "..."


def tagged(number: int, offset: int, length: int) -> bytes:
    first = offset // SECTOR
    last = (offset + length - 1) // SECTOR
    data = b"".join(struct.pack("<QQ", number, sector) * (SECTOR // 16)
                    for sector in range(first, last + 1))
    return data[offset - first * SECTOR:][:length]


class Stream:
    """Requests at random over some connections."""

    def __init__(self, model: Model, uris: List[str], args):
        self.model = model
        self.args = args
        self.rng = random.Random(args.seed)
        self.handles = []
        for index in range(args.connections):
            handle = nbd.NBD()
            handle.set_strict_mode(0)
            handle.add_meta_context("base:allocation")
            handle.connect_uri(uris[index % len(uris)])
            if handle.get_size() != model.size:
                raise Wrong(f"size {handle.get_size()}, not {model.size}")
            self.handles.append(handle)
        self.running = [0] * len(self.handles)
        self.number = args.seed << 32
        self.failures: Dict[int, int] = {}
        self.error: Optional[BaseException] = None
        self.spots = [self.rng.randrange(model.size) for _ in range(5)]

    def run(self) -> None:
        todo = self.args.operations
        while todo > 0 or any(self.running):
            for index, running in enumerate(self.running):
                while todo > 0 and self.running[index] < self.args.depth:
                    todo -= self.start(index)
            self.wait()
            if self.error:
                raise self.error

    def wait(self) -> None:
        poll = select.poll()
        by_fd = {}
        for handle, running in zip(self.handles, self.running):
            if running:
                direction = handle.aio_get_direction()
                events = 0
                if direction & nbd.AIO_DIRECTION_READ:
                    events |= select.POLLIN
                if direction & nbd.AIO_DIRECTION_WRITE:
                    events |= select.POLLOUT
                by_fd[handle.aio_get_fd()] = handle
                poll.register(handle.aio_get_fd(), events)
        ready = poll.poll(60000) if by_fd else ()
        if by_fd and not ready:
            raise Wrong("no answer for a minute")
        for fd, events in ready:
            handle = by_fd[fd]
            direction = handle.aio_get_direction()
            if (events & (select.POLLIN | select.POLLHUP) and
                    direction & nbd.AIO_DIRECTION_READ):
                handle.aio_notify_read()
            elif (events & select.POLLOUT and
                    direction & nbd.AIO_DIRECTION_WRITE):
                handle.aio_notify_write()

    def place(self) -> Tuple[int, int]:
        rng, model = self.rng, self.model
        cluster = self.args.cluster
        if rng.random() < 0.7:
            reach = 4 * cluster + 16384
            offset = rng.choice(self.spots) + rng.randint(-reach, reach)
        else:
            offset = rng.randrange(model.size)
        length = int(2 ** rng.uniform(
            9, self.args.longest.bit_length() - 0.01))
        grain = rng.choice((1, SECTOR, SECTOR, SECTOR, 4096, cluster, cluster))
        if rng.random() < 0.03:
            self.spots[rng.randrange(len(self.spots))] = \
                rng.randrange(model.size)
        offset = max(0, min(offset, model.size - 1)) // grain * grain
        length = min(max(length // grain, 1) * grain, self.args.longest)
        return offset, min(length, model.size - offset)

    def start(self, index: int) -> int:
        """Starts a request; returns 0 if it must not run now."""
        rng, handle = self.rng, self.handles[index]
        kind = rng.choices(
            ("write", "zero", "trim", "read", "flush", "cache"),
            (45, 15 * handle.can_zero(), 12 * handle.can_trim(), 24,
             3 * handle.can_flush(), handle.can_cache()))[0]
        offset, length = self.place()
        if kind in ("write", "zero", "trim"):
            if not self.model.may_begin(offset, length):
                return 0
            self.start_change(handle, index, kind, offset, length)
        elif kind == "read":
            self.start_read(handle, index, offset, length)
        elif kind == "flush":
            handle.aio_flush(completion=self.done(index, lambda _: None))
        else:
            handle.aio_cache(length, offset,
                             completion=self.done(index, lambda _: None))
        self.running[index] += 1
        return 1

    def start_change(self, handle, index, kind, offset, length) -> None:
        rng, model = self.rng, self.model
        flags = nbd.CMD_FLAG_FUA if rng.random() < 0.05 else 0
        self.number += 1
        maybe = range(0)
        if kind == "write":
            data = tagged(self.number, offset, length)
        else:
            data = bytes(length)
        if kind == "zero":
            flags |= rng.choice((0, nbd.CMD_FLAG_NO_HOLE))
            if handle.can_fast_zero():
                flags |= rng.choice((0, 0, nbd.CMD_FLAG_FAST_ZERO))
        if kind == "trim":
            # Only whole clusters must have been trimmed.
            cluster = self.args.cluster
            first = -(-offset // cluster) * cluster // SECTOR
            last = (offset + length) // cluster * cluster // SECTOR
            maybe = set(model.sectors(offset, length))
            if not self.args.trims_may_not:
                maybe -= set(range(first, last))
        requests = model.begin(
            offset, data, f"{kind} {self.number & 0xFFFFFFFF} of {length} "
            f"at {offset}", maybe)
        done = self.done(index, lambda failed: model.end(
            requests, offset, length, failed), kind)
        if kind == "write":
            handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)),
                              offset, completion=done, flags=flags)
        elif kind == "zero":
            handle.aio_zero(length, offset, completion=done, flags=flags)
        else:
            handle.aio_trim(length, offset, completion=done, flags=flags)

    def start_read(self, handle, index, offset, length) -> None:
        buffer = nbd.Buffer(length)
        start = self.model.begin_read()
        handle.aio_pread(buffer, offset, completion=self.done(
            index, lambda failed: self.model.end_read(
                start, offset,
                b"" if failed else bytes(buffer.to_bytearray()))))

    def allowed(self, kind: str) -> List[int]:
        """The errors that a request may fail with."""
        return ([errno.EIO] * self.args.errors +
                [errno.ENOSPC] * (self.args.full and kind != "") +
                [errno.ENOTSUP] * (kind == "zero"))

    def done(self, index: int, then, kind: str = ""):
        def completed(error) -> int:
            self.running[index] -= 1
            failed = error.value or None
            try:
                if failed:
                    self.failures[failed] = self.failures.get(failed, 0) + 1
                    if failed not in self.allowed(kind):
                        raise Wrong(f"{kind or 'read, flush or cache'}: "
                                    f"{errno.errorcode.get(failed, failed)}")
                then(failed)
            except Exception as exception:      # libnbd would swallow it
                self.error = self.error or exception
            return 1
        return completed

    def finish(self) -> None:
        """All of it, and the map, when nothing runs any more."""
        model, step = self.model, 1 << 20
        for offset in range(0, model.size, step):
            start = model.begin_read()
            handle = self.handles[offset // step % len(self.handles)]
            data = handle.pread(min(step, model.size - offset), offset)
            model.end_read(start, offset, data)
        if model.open or model.exclusive:
            raise AssertionError("something is still running")
        self.check_map()

    def check_map(self) -> None:
        handle, offset = self.handles[-1], 0
        while offset < self.model.size:
            entries: List[int] = []
            handle.block_status(self.model.size - offset, offset,
                                lambda c, o, e, _: entries.extend(e) or 0)
            for length, flags in zip(entries[0::2], entries[1::2]):
                if flags & nbd.STATE_ZERO and any(
                        self.model.content[offset:offset + length]):
                    raise Wrong(f"mapped as zero: {length} at {offset}")
                offset += length


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("raw")
    parser.add_argument("uris", nargs="+")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--cluster", type=int, default=65536)
    parser.add_argument("--longest", type=int, default=256 << 10)
    parser.add_argument("--full", action="store_true",
                        help="there is no room: ENOSPC")
    parser.add_argument("--or-not", action="store_true",
                        help="... and perhaps there is enough room")
    parser.add_argument("--errors", action="store_true",
                        help="there are errors: EIO")
    parser.add_argument("--trims-may-not", action="store_true",
                        help="nothing may come of a trim")
    parser.add_argument("--torn", action="store_true",
                        help="a sector that is read while it is written may "
                        "be anything: where blocks are chained half of the "
                        "old one and half of the new one is noise")
    parser.add_argument("--remove", action="append", default=[],
                        help="a file, before everything is read")
    args = parser.parse_args()
    with open(args.raw, "rb") as file:
        model = Model(bytearray(file.read()), args.torn)
    try:
        stream = Stream(model, args.uris, args)
        stream.run()
        for path in args.remove:
            os.unlink(path)
        stream.finish()
    except Wrong as error:
        print(f"write_model: seed {args.seed}: {error}", file=sys.stderr)
        return 1
    for handle in stream.handles:
        handle.shutdown()
    with open(args.raw, "wb") as file:
        file.write(model.content)
    for wanted, number in ((args.full and not args.or_not, errno.ENOSPC),
                           (args.errors, errno.EIO)):
        if wanted and number not in stream.failures:
            print(f"write_model: never {errno.errorcode[number]}",
                  file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
