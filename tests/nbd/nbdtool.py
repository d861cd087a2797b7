#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""An NBD client that checks what it reads.

As a program:
  nbdtool.py compare URI RAW [--reads N] [--connections C] [--seed S]
      the whole disk, and N random ranges over C connections at once
  nbdtool.py map URI           lines "offset length flags", merged
  nbdtool.py size URI
  nbdtool.py read URI OFFSET LENGTH        to stdout
  nbdtool.py fails URI [OFFSET LENGTH]     connecting (reading) must fail;
                                           prints the error
As a module: connect, disk_map, read_many, compare.
"""

import argparse
import errno
import mmap
import os
import random
import sys
from typing import Callable, Iterable, List, Optional, Sequence, Tuple

import nbd

Extents = List[Tuple[int, int]]
CHUNK = 4 << 20
CONTEXT = "base:allocation"


class Mismatch(Exception):
    """The disk is not what it should be."""


def connect(uri: str, name: Optional[str] = None) -> nbd.NBD:
    handle = nbd.NBD()
    handle.set_strict_mode(0)
    handle.add_meta_context(CONTEXT)
    if name is not None:
        handle.set_export_name(name)
        handle.connect_unix(uri)
    else:
        handle.connect_uri(uri)
    return handle


def merge(extents: Iterable[Tuple[int, int]]) -> Extents:
    merged: Extents = []
    for length, flags in extents:
        if merged and merged[-1][1] == flags:
            merged[-1] = merged[-1][0] + length, flags
        else:
            merged.append((length, flags))
    return merged


def block_status(handle: nbd.NBD, count: int, offset: int,
                 flags: int = 0) -> Extents:
    """One request, as answered."""
    found: Extents = []

    def extent(context, _offset, entries, _error):
        if context == CONTEXT:
            found.extend(zip(entries[0::2], entries[1::2]))
        return 0

    handle.block_status(count, offset, extent, flags)
    return found


def disk_map(handle: nbd.NBD, start: int = 0, end: int = -1) -> Extents:
    """The map of a range, merged."""
    if end < 0:
        end = handle.get_size()
    found: Extents = []
    while start < end:
        for length, flags in block_status(
                handle, min(end - start, 0xFFFFFFFF // 4096 * 4096), start):
            length = min(length, end - start)
            found.append((length, flags))
            start += length
    return merge(found)


def read_many(handles: Sequence[nbd.NBD], ranges: Iterable[Tuple[int, int]],
              check: Callable[[int, bytes], None], depth: int = 4) -> None:
    """Read (offset, length) ranges, several at once on each connection."""
    todo = list(ranges)
    batch = depth * len(handles)
    for first in range(0, len(todo), batch):
        issued = []
        for index, (offset, length) in enumerate(todo[first:first + batch]):
            handle = handles[index % len(handles)]
            buffer = nbd.Buffer(length)
            issued.append((handle, handle.aio_pread(buffer, offset), buffer,
                           offset))
        for handle, cookie, buffer, offset in issued:
            while not handle.aio_command_completed(cookie):
                handle.poll(-1)
            check(offset, bytes(buffer.to_bytearray()))


def random_ranges(size: int, number: int, rng: random.Random,
                  edge: int = 4096, longest: int = 300000
                  ) -> List[Tuple[int, int]]:
    """Ranges of all lengths, many of which start or end near an edge."""
    found = []
    for _ in range(number if size else 0):
        offset = rng.randrange(size)
        if rng.random() < 0.4:
            offset = offset // edge * edge + rng.randint(-3, 3)
            offset = max(0, min(offset, size - 1))
        length = int(2 ** rng.uniform(0, longest.bit_length() - 1))
        if rng.random() < 0.2:
            length = edge * rng.randint(1, 3) + rng.randint(-2, 2)
        found.append((offset, max(1, min(length, size - offset))))
    return found


class Raw:
    """The bytes a disk must have."""

    def __init__(self, path: str):
        self.size = os.path.getsize(path)
        self._map = None
        if self.size:
            with open(path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

    def check(self, offset: int, data: bytes) -> None:
        wanted = self._map[offset:offset + len(data)] if data else b""
        if data != wanted:
            where = next(i for i, (a, b) in enumerate(zip(data, wanted))
                         if a != b)
            raise Mismatch(
                f"byte {offset + where} is {data[where]:#04x}, must be "
                f"{wanted[where]:#04x} (read of {len(data)} at {offset})")


def compare(uri: str, path: str, reads: int = 200, connections: int = 4,
            seed: int = 1, name: Optional[str] = None, edge: int = 4096,
            whole: bool = True) -> None:
    """All of a disk against a file; raises Mismatch."""
    raw = Raw(path)
    handles = [connect(uri, name) for _ in range(connections)]
    try:
        for handle in handles:
            if handle.get_size() != raw.size:
                raise Mismatch(f"size {handle.get_size()}, not {raw.size}")
        rng = random.Random(seed)
        ranges = [(at, min(CHUNK, raw.size - at))
                  for at in range(0, raw.size, CHUNK)] if whole else []
        read_many(handles, ranges, raw.check, depth=2)
        read_many(handles, random_ranges(raw.size, reads, rng, edge),
                  raw.check)
    finally:
        for handle in handles:
            handle.shutdown()


def fails(uri: str, where: Sequence[int]) -> str:
    """The error of connecting, or of reading a range."""
    try:
        handle = connect(uri)
    except nbd.Error as error:
        if where:
            raise
        return f"{errno.errorcode.get(error.errnum, '?')}: {error}"
    try:
        if not where:
            raise Mismatch("the connection was accepted")
        try:
            handle.pread(where[1], where[0])
        except nbd.Error as error:
            return f"{errno.errorcode.get(error.errnum, '?')}: {error}"
        raise Mismatch(f"could read {where[1]} bytes at {where[0]}")
    finally:
        handle.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("compare")
    sub.add_argument("uri")
    sub.add_argument("raw")
    sub.add_argument("--reads", type=int, default=200)
    sub.add_argument("--connections", type=int, default=4)
    sub.add_argument("--seed", type=int, default=1)
    sub.add_argument("--only-random", action="store_true")
    for name in ("map", "size"):
        commands.add_parser(name).add_argument("uri")
    for name, number in (("read", 2), ("fails", "*")):
        sub = commands.add_parser(name)
        sub.add_argument("uri")
        sub.add_argument("where", type=int, nargs=number)
    args = parser.parse_args()

    try:
        if args.command == "compare":
            compare(args.uri, args.raw, args.reads, args.connections,
                    args.seed, whole=not args.only_random)
            return 0
        if args.command == "fails":
            print(fails(args.uri, args.where))
            return 0
        handle = connect(args.uri)
        if args.command == "size":
            print(handle.get_size())
        elif args.command == "map":
            offset = 0
            for length, flags in disk_map(handle):
                print(offset, length, flags)
                offset += length
        elif args.command == "read":
            sys.stdout.buffer.write(handle.pread(args.where[1],
                                                 args.where[0]))
        handle.shutdown()
    except (Mismatch, nbd.Error) as error:
        print(f"nbdtool: {args.command}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
