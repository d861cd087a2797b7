#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Reads as of a machine that boots: a part of the disk, in no order.

usage: boot_reads.py DISK.raw PERCENT URI

Reads that part of the disk from an NBD server, one request after the other, and
compares the bytes with DISK.raw.  First a kernel and an initrd, in one piece
each; then files of 8 KiB to 512 KiB anywhere in what is not a hole, all in
requests of up to 128 KiB, as Linux reads ahead.  The places are the same in
each run.
"""

from __future__ import annotations

import os
import random
import sys

import nbd

REQUEST = 128 << 10
LARGE = (8 << 20, 24 << 20)
SMALL = [size << 10 for size in (8, 16, 16, 32, 32, 64, 128, 256, 512)]


def data_extents(fd: int) -> list[tuple[int, int]]:
    end = os.fstat(fd).st_size
    found, place = [], 0
    while place < end:
        try:
            begin = os.lseek(fd, place, os.SEEK_DATA)
        except OSError:                 # Only a hole is left.
            break
        place = os.lseek(fd, begin, os.SEEK_HOLE)
        found.append((begin, place - begin))
    return found


def files(extents: list[tuple[int, int]], total: int) \
        -> list[tuple[int, int]]:
    """Where they are, and how long, TOTAL bytes together."""
    rng = random.Random(1)
    found = []
    for size in LARGE:
        room = [e for e in extents if e[1] >= size] or [max(
            extents, key=lambda e: e[1])]
        found.append((rng.choice(room)[0], min(size, room[0][1])))
    left = total - sum(size for _, size in found)
    while left > 0:
        begin, length = rng.choices(extents, [e[1] for e in extents])[0]
        size = min(rng.choice(SMALL), length, left)
        place = begin + rng.randrange(0, length - size + 1, 512)
        found.append((place, size))
        left -= size
    return found


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    raw, percent, uri = sys.argv[1:]
    handle = nbd.NBD()
    handle.connect_uri(uri)
    requests = 0
    with open(raw, "rb") as disk:
        total = os.fstat(disk.fileno()).st_size * int(percent) // 100
        for begin, size in files(data_extents(disk.fileno()), total):
            disk.seek(begin)
            for place in range(begin, begin + size, REQUEST):
                length = min(REQUEST, begin + size - place)
                if handle.pread(length, place) != disk.read(length):
                    sys.exit(f"wrong data at {place}")
                requests += 1
    handle.shutdown()
    print(f"{total} bytes in {requests} requests")


if __name__ == "__main__":
    main()
