#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Small images that ask for much: memory, or work.

costly_images.py KIND FILE

  l1-tables     was not closed; 2048 snapshots with an L1 table of 32 MiB each,
                all of which are holes
  l1-small      the same, with 16 snapshots and clusters of 512 bytes
  bitmaps       was not closed; 2048 bitmaps with tables of 8 MiB in holes
  refcounts     was not closed; a refcount table of 8 MiB that is full of
                blocks of 2 MiB, which are holes
  scattered     was not closed; 2 MiB of L2 tables whose entries lie as far
                from each other as they can
  views         128 snapshots with disks of 128 GiB and L1 tables of 32 MiB in
                one hole
  views-real    the same, and the L1 table is full
  names         450 snapshots with names and ids of 64 KiB
  largest       was not closed; a disk of 64 TiB whose last cluster is full of
                'z', 1 TiB into the file
  snapshots     65536 snapshots, as many as there can be, of a disk of 64 KiB
                full of 'z'
"""

import os
import struct
import sys
from typing import BinaryIO

K, M, G, T = 1 << 10, 1 << 20, 1 << 30, 1 << 40
DIRTY = 1


def be(size: int, value: int) -> bytes:
    return value.to_bytes(size, "big")


class Image:
    """Version 3, with an empty disk; what a test is about is put in."""

    def __init__(self, path: str, bits: int, disk: int, dirty: bool,
                 l1_entries: int = 1, refcount_order: int = 4) -> None:
        self.f: BinaryIO = open(path, "w+b")
        self.size = 1 << bits
        # Header, refcount table, one refcount block, L1 table.
        self.end = 3 * self.size
        self.l1 = self.room(l1_entries * 8)
        self.header = bytearray(112)
        struct.pack_into(">IIQIIQIIQQIIQQQQII", self.header, 0,
                         0x514649FB, 3, 0, 0, bits, disk, 0, l1_entries,
                         self.l1, self.size, 1, 0, 0, DIRTY if dirty else 0,
                         0, 0, refcount_order, 112)
        self.extensions = b""
        self.put(self.size, be(8, 2 * self.size))

    def room(self, length: int) -> int:
        at = self.end
        self.end += -(-length // self.size) * self.size
        return at

    def put(self, at: int, data: bytes) -> None:
        self.f.seek(at)
        self.f.write(data)

    def snapshots(self, entries: bytes, count: int) -> None:
        at = self.room(len(entries))
        self.put(at, entries)
        struct.pack_into(">IQ", self.header, 60, count, at)

    def close(self) -> None:
        self.put(0, bytes(self.header) + self.extensions + be(8, 0))
        self.f.truncate(self.end)
        self.f.close()


def snapshot(l1: int, entries: int, disk: int, ident: bytes,
             name: bytes) -> bytes:
    entry = struct.pack(">QIHHIIQII", l1, entries, len(ident), len(name),
                        0, 0, 0, 0, 16) + struct.pack(">QQ", 0, disk)
    entry += ident + name
    return entry + bytes(-len(entry) % 8)


def l1_tables(path: str, count: int = 2048, bits: int = 16) -> None:
    image = Image(path, bits, 1 << bits, True)
    table = b""
    for i in range(count):
        name = b"%d" % i
        table += snapshot(image.room(32 * M), 4 * M, 1 << bits, name, name)
    image.snapshots(table, count)
    image.close()


def l1_small(path: str) -> None:
    l1_tables(path, 16, 9)


def bitmaps(path: str) -> None:
    image = Image(path, 9, 64 * K, True, 2)
    entries, count = 1 << 20, 2048
    directory = b""
    for i in range(count):
        name = b"b%d" % i
        entry = struct.pack(">QIIBBHI", image.room(8 * entries), entries, 0,
                            1, 16, len(name), 0) + name
        directory += entry + bytes(-len(entry) % 8)
    at = image.room(len(directory))
    image.put(at, directory)
    image.extensions = struct.pack(">IIIIQQ", 0x23852875, 24, count, 0,
                                   len(directory), at)
    struct.pack_into(">Q", image.header, 88, 1)
    image.close()


def refcounts(path: str) -> None:
    image = Image(path, 21, 2 * M, True, refcount_order=0)
    at = image.room(8 * M)
    image.put(at, b"".join(be(8, image.room(2 * M)) for _ in range(1 << 20)))
    struct.pack_into(">QI", image.header, 48, at, 4)
    image.close()


def scattered(path: str) -> None:
    bits, tables = 9, 4096
    image = Image(path, bits, tables * 32 * K, True, tables)
    image.put(image.l1, b"".join(
        be(8, image.room(512) | 1 << 63) for _ in range(tables)))
    step, at = 4 * M, -(-image.end // (4 * M)) * 4 * M
    image.put(image.end - tables * 512, b"".join(
        be(8, at + i * step | 1 << 63) for i in range(tables * 64)))
    image.end = at + tables * 64 * step
    image.close()


def views(path: str, real: bool = False) -> None:
    image = Image(path, 9, 512, False)
    l1 = image.room(32 * M)
    if real:
        image.put(l1, be(8, 1 << 62) * (4 * M))
    count, table = 128, b""
    for i in range(count):
        name = b"s%d" % i
        table += snapshot(l1, 4 * M, 128 * G, b"%d" % i, name)
    image.snapshots(table, count)
    image.close()


def views_real(path: str) -> None:
    views(path, True)


def full_cluster(image: Image, l1_index: int, l2_index: int, at: int) -> None:
    """Put a cluster of 'z' at offset 'at', and what leads there."""
    table = image.room(image.size)
    image.put(image.l1 + 8 * l1_index, be(8, table | 1 << 63))
    image.put(table + 8 * l2_index, be(8, at | 1 << 63))
    image.put(at, b"z" * image.size)
    image.end = max(image.end, at + image.size)


def largest(path: str) -> None:
    entries = 64 * T // (512 * M)
    image = Image(path, 16, 64 * T, True, entries)
    full_cluster(image, entries - 1, 8191, T)
    image.close()


def snapshots(path: str) -> None:
    image = Image(path, 16, 64 * K, False)
    count = 1 << 16
    image.snapshots(b"".join(
        snapshot(image.l1, 1, 64 * K, b"%d" % (i + 1), b"s%d" % i)
        for i in range(count)), count)
    full_cluster(image, 0, 0, image.room(64 * K))
    image.close()


def names(path: str) -> None:
    image = Image(path, 16, 64 * K, False)
    l1, count, table = image.room(64 * K), 450, b""
    for i in range(count):
        text = (b"%05d" % i) * (65535 // 5)
        table += snapshot(l1, 1, 64 * K, text, text)
    image.snapshots(table, count)
    image.close()


KINDS = {
    "l1-tables": l1_tables, "l1-small": l1_small, "bitmaps": bitmaps,
    "refcounts": refcounts, "scattered": scattered, "views": views,
    "views-real": views_real, "names": names, "largest": largest,
    "snapshots": snapshots,
}


def main() -> None:
    kind, path = sys.argv[1:]
    if os.path.exists(path):
        os.unlink(path)
    KINDS[kind](path)


if __name__ == "__main__":
    main()
