#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Random legal images, each with the disk it must read as.

A seed decides everything: version, geometry, what every guest cluster is,
where it lies, how the file ends.  What comes out is legal for the format
and, where `clean` is set, for `qemu-img check` too.  qwrite.py places and
encodes; qpack.py compresses.  This file only makes the choices and keeps
the model: the bytes and the extents of the disk.

usage: qgen.py --seed N --out DIR      image.qcow2, image.raw, image.map
       qgen.py selftest [FIRST [COUNT]]   oracle and QEMU against the model
"""

import os
import random
import struct
import sys
from typing import List, NamedTuple, Tuple

import qfmt
import qpack
from build import text_block
from qfmt import ceil_div
from qwrite import Guest, Header, Writer

CLUSTER_BITS = (9, 9, 10, 11, 12, 12, 13, 14, 14, 15, 16, 16, 17, 18, 19, 20,
                21)
KINDS_V1 = ("hole", "data", "data", "packed")
KINDS_V2 = ("hole", "data", "data", "packed")
KINDS_V3 = ("hole", "data", "data", "packed", "packed", "zero", "zero-alloc")
KINDS_EXTENDED = ("hole", "data", "packed", "zero", "sub", "sub", "sub")


class Generated(NamedTuple):
    seed: int
    head: Header
    writes: List[Tuple[int, bytes]]
    file_size: int
    model: bytes
    extents: List[Tuple[int, int]]
    clean: bool             # qemu-img check finds nothing
    kinds: dict             # how many clusters of each kind

    @property
    def format(self) -> str:
        return "qcow" if self.head.version == 1 else "qcow2"

    def save(self, path: str) -> None:
        with open(path, "wb") as file:
            for offset, data in self.writes:
                file.seek(offset)
                file.write(data)
            file.truncate(self.file_size)

    def image(self) -> bytes:
        data = bytearray(max([self.file_size]
                             + [at + len(b) for at, b in self.writes]))
        for offset, part in self.writes:
            data[offset:offset + len(part)] = part
        return bytes(data[:self.file_size])


class Generator:
    """One image in the making."""

    def __init__(self, seed: int, max_size: int):
        self.seed, self.max_size = seed, max_size
        self.rng = random.Random(f"qgen {seed}")

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    # -- header ------------------------------------------------------------

    def choose_header(self) -> Header:
        rng = self.rng
        version = rng.choice((1, 2, 3, 3, 3, 3))
        bits = rng.choice(CLUSTER_BITS)
        if version == 1:
            bits = min(bits, 16)
        extended = version == 3 and bits >= 14 and self.chance(0.5)
        l2_bits = (rng.randint(6, 9) if version == 1
                   else qfmt.l2_bits(bits, extended))
        size = self.choose_size(1 << bits, 2 if version == 1 else 0)
        needed = ceil_div(size, 1 << (bits + l2_bits))
        head = Header(version, bits, size, needed, l2_bits, extended)
        if version == 1:
            head.l1_after_header = self.chance(0.5)
            return head
        head.l1_size += rng.choice((0, 0, 0, 1, 5, 200))
        head.reftable_spare = rng.choice((0, 0, 0, 1))
        if version == 3:
            self.choose_features(head)
        # A cluster counted twice needs a count of two.
        head.snapshot = head.refcount_order > 0 and self.chance(0.15)
        head.extensions = self.choose_extensions(head)
        return head

    def choose_size(self, cluster_size: int, least: int) -> int:
        rng = self.rng
        clusters = rng.randint(1, max(3, min(600, self.max_size
                                             // cluster_size)))
        cut = rng.choice((0, 0, 512 * rng.randrange(cluster_size // 512),
                          rng.randrange(cluster_size)))
        if self.chance(0.02):
            return least
        return max(least, clusters * cluster_size - cut)

    def choose_features(self, head: Header) -> None:
        rng = self.rng
        head.refcount_order = rng.randint(0, 6)
        head.length = rng.choice((104, 112, 112, 120, 144, 256))
        head.unknown_fields = rng.randbytes(200)
        if head.length > 104 and self.chance(0.5):
            head.compression = qfmt.ZSTD
            head.incompatible |= qfmt.INCOMPAT_COMPRESSION
        if head.extended:
            head.incompatible |= qfmt.INCOMPAT_EXTL2
        if self.chance(0.05):
            head.incompatible |= qfmt.INCOMPAT_DIRTY
        if self.chance(0.05):
            head.incompatible |= qfmt.INCOMPAT_CORRUPT
        if self.chance(0.3):
            head.compatible = rng.getrandbits(64)
        if self.chance(0.3):
            head.autoclear = rng.getrandbits(64) & ~3

    def choose_extensions(self, head: Header) -> bytes:
        """Unknown extensions.  The area ends with a marker, or where the
        cluster ends."""
        start = head.length if head.version == 3 else qfmt.V2_HEADER_LENGTH
        room = (1 << head.cluster_bits) - start
        area = b""
        for _ in range(self.rng.choice((0, 0, 1, 3))):
            data = self.rng.randbytes(self.rng.randrange(60))
            one = struct.pack(">II", 0x51000000 | self.rng.getrandbits(24),
                              len(data)) + data
            one += bytes(-len(one) % 8)
            if len(area) + len(one) + 8 <= room:
                area += one
        left = room - len(area)
        if left >= 8 and self.chance(0.2):
            area += struct.pack(">II", 0x52000000, left - 8)
            return area + b"\x77" * (left - 8)
        return area + bytes(min(8, left))

    # -- guest clusters ----------------------------------------------------

    def content(self, at: int, length: int) -> bytes:
        """Bytes of one cluster, of which none is a whole zero block."""
        rng = self.rng
        kind = rng.randrange(6)
        if kind == 0:
            return rng.randbytes(length)
        if kind == 1:
            return bytes([rng.randrange(1, 256)]) * length
        if kind == 2:           # matches at a distance a small window lacks
            period = rng.randint(min(600, length), min(length, 30000))
            return (rng.randbytes(period) * ceil_div(length, period)
                    )[:length]
        if kind == 3:
            half = length // 2
            return rng.randbytes(half) + text_block(at + half, length - half)
        return text_block(at, length)

    def sub_content(self, guest: Guest, data: bytes) -> bytes:
        """What the disk shows of a cluster with these subclusters."""
        size = len(data) // 32
        return b"".join(
            data[i * size:(i + 1) * size] if guest.alloc >> i & 1
            else bytes(size) for i in range(32))

    def choose_bits(self, guest: Guest, allocated: bool) -> None:
        """Any legal pair of bitmaps, often with runs."""
        rng, mode = self.rng, self.rng.randrange(4)
        states = []
        while len(states) < 32:
            states += [rng.choice("azh" if allocated else "zh")] * (
                1 if mode == 0 else rng.randint(1, 12))
        for i, state in enumerate(states[:32]):
            guest.zero |= (state == "z") << i
            guest.alloc |= (state == "a") << i

    def add_packed(self, data: bytes) -> Guest:
        """A compressed cluster, or None if it does not fit the format."""
        rng, head = self.rng, self.head
        pack = qpack.zstd if head.compression else qpack.deflate
        extra = 0
        if self.chance(0.2):
            extra = rng.randrange(1, 9)
        if self.chance(0.03):
            extra = self.writer.max_declared
        gap = rng.choice((0, 0, 0, 1, 5, rng.randrange(600)))
        return self.writer.add_packed(pack(rng, data), gap, extra)

    def add_cluster(self, index: int, kind: str) -> None:
        """One guest cluster; what it reads as goes to self.model."""
        rng, writer, unit = self.rng, self.writer, self.writer.cluster_size
        guest, data = Guest(kind), bytes(unit)
        if kind in ("data", "packed"):
            data = self.content(index * unit, unit)
        donor = self.donors.get(kind)
        if donor is not None and self.chance(0.04):
            if self.share(index, *donor):
                return
        if kind == "packed":
            packed = self.add_packed(data)
            if packed is None:
                kind = "data"
            guest = packed or Guest("data")
        if kind == "data":
            guest.item = writer.add_data(index, data)
        elif kind == "zero-alloc":
            guest.item = writer.add_data(index, b"\xe1" * unit)
        elif kind == "sub":
            allocated = self.chance(0.7)
            self.choose_bits(guest, allocated)
            if allocated:
                stored = self.content(index * unit, unit)
                guest.item = writer.add_data(index, stored)
                data = self.sub_content(guest, stored)
        if kind in ("data", "packed"):
            self.donors[kind] = guest, data
        self.put(index, guest, data)

    def share(self, index: int, guest: Guest, data: bytes) -> bool:
        """One more reference to the bytes of another cluster."""
        if not (self.writer.share_packed(guest) if guest.kind == "packed"
                else self.writer.share(guest.item, index)):
            return False
        self.put(index, guest, data)
        return True

    def put(self, index: int, guest: Guest, data: bytes) -> None:
        self.writer.guests[index] = guest
        at = index * len(data)
        self.model[at:at + len(data)] = data[:max(0, len(self.model) - at)]
        self.kinds[guest.kind] = self.kinds.get(guest.kind, 0) + 1

    def add_clusters(self) -> None:
        rng, head = self.rng, self.head
        kinds = {1: KINDS_V1, 2: KINDS_V2, 3: KINDS_V3}[head.version]
        if head.extended:
            kinds = KINDS_EXTENDED
        self.donors: dict = {}
        count = ceil_div(head.size, 1 << head.cluster_bits)
        longest = rng.choice((1, 3, 12, 80))
        index = 0
        while index < count:
            kind = rng.choice(kinds)
            for index in range(index, min(count, index
                                          + rng.randint(1, longest))):
                # An explicit hole gives its L2 table a reason to exist.
                if kind != "hole" or self.chance(0.05):
                    self.add_cluster(index, kind)
            index += 1
        if head.l1_size and self.chance(0.3):
            self.writer.guests.setdefault(
                rng.randrange(head.l1_size << head.l2_bits), Guest())
        # Beyond the disk's end tables may hold anything, VM state for one.
        if self.chance(0.2):
            end = head.l1_size << head.l2_bits
            for index in {count, end - 1}:
                if count <= index < end:
                    self.add_cluster(index, "data")

    # -- the expected map --------------------------------------------------

    def extents(self) -> List[Tuple[int, int]]:
        merged: List[List[int]] = []

        def add(length: int, is_data: bool) -> None:
            flags = qfmt.DATA if is_data else qfmt.HOLE_ZERO
            if merged and merged[-1][1] == flags:
                merged[-1][0] += length
            else:
                merged.append([length, flags])
        unit, size = 1 << self.head.cluster_bits, self.head.size
        for index in range(ceil_div(size, unit)):
            guest = self.writer.guests.get(index, Guest())
            left = min(unit, size - index * unit)
            if guest.kind != "sub":
                add(left, guest.kind in ("data", "packed"))
                continue
            for i in range(32):
                length = min(unit // 32, left - i * (unit // 32))
                if length > 0:
                    add(length, bool(guest.alloc >> i & 1))
        return [(length, flags) for length, flags in merged]

    def cut_file(self) -> bool:
        """End the file early; data that is cut off reads as zeros.  False
        if a table is wholly gone, to which check objects."""
        writer = self.writer
        keep = writer.cut_end()
        if keep >= 0 and writer.last.kind == "data":
            for index in writer.last.guests:
                at = (index << self.head.cluster_bits) + keep
                end = min(len(self.model), (index + 1)
                          << self.head.cluster_bits)
                if at < end:
                    self.model[at:end] = bytes(end - at)
        return keep != 0

    def generate(self) -> Generated:
        self.head = head = self.choose_header()
        self.model = bytearray(head.size)
        self.kinds: dict = {}
        self.writer = writer = Writer(self.rng, head)
        self.add_clusters()
        last = self.rng.choice(("data", "data", "packed", "packed", "l2",
                                "zero-l2", "zero-l2", "refblock", "reftable",
                                "l1", "any"))
        writer.layout(self.chance(0.7), last)
        writer.encode()
        extents = self.extents()
        clean = head.version > 1 and not head.incompatible & (
            qfmt.INCOMPAT_DIRTY | qfmt.INCOMPAT_CORRUPT)
        if self.chance(0.5):
            clean = self.cut_file() and clean
        elif self.chance(0.1):
            writer.writes.append((writer.file_size, b"trailing garbage"))
            writer.file_size += 16
        return Generated(self.seed, head, writer.writes, writer.file_size,
                         bytes(self.model), extents, clean, self.kinds)


def generate(seed: int, max_size: int = 1 << 20) -> Generated:
    """An image of about MAX_SIZE at most (three clusters at least)."""
    return Generator(seed, max_size).generate()


def save_all(made: Generated, directory: str) -> None:
    os.makedirs(directory, exist_ok=True)
    made.save(os.path.join(directory, "image.qcow2"))
    with open(os.path.join(directory, "image.raw"), "wb") as file:
        file.write(made.model)
    with open(os.path.join(directory, "image.map"), "w",
              encoding="ascii") as file:
        offset = 0
        for length, flags in made.extents:
            file.write(f"{offset} {length} {flags}\n")
            offset += length


def main(argv: List[str]) -> int:
    if len(argv) == 5 and argv[1] == "--seed" and argv[3] == "--out":
        made = generate(int(argv[2]))
        save_all(made, argv[4])
        print(made.head, made.kinds)
        return 0
    if argv[1:2] == ["selftest"]:
        import qgen_selftest
        numbers = [int(word) for word in argv[2:]] + [0, 200][len(argv) - 2:]
        return qgen_selftest.selftest(*numbers)
    print(__doc__[__doc__.index("usage:"):], file=sys.stderr, end="")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
