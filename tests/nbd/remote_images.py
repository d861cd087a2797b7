#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Images with special layouts, and the places of their parts.

  remote_images.py tables IMAGE NUMBER scattered|adjacent
      an empty disk with this many L2 tables of 64 KiB, each of which maps
      one cluster; prints the map that the disk must have
  remote_images.py shuffle IMAGE
      put the clusters of an image, plain or compressed, into random order
  remote_images.py ranges IMAGE
      lines "guest-offset kind host-offset length" of all clusters that have
      data (kind: data, compressed) and of all L2 tables (kind: table)

Version 2 and 3 with standard L2 entries.
"""

import random
import struct
import subprocess
import sys
from typing import Iterator, List, NamedTuple, Tuple

OFFSET = 0x00FFFFFFFFFFFE00
COPIED = 1 << 63
COMPRESSED = 1 << 62


class Range(NamedTuple):
    guest_off: int
    kind: str
    host_off: int
    length: int
    entry_off: int              # where the entry that says so is


class Image:
    def __init__(self, path: str):
        self.path = path
        with open(path, "rb") as file:
            self.data = bytearray(file.read())
        self.cluster_bits, = struct.unpack_from(">I", self.data, 20)
        self.cluster = 1 << self.cluster_bits
        self.size, = struct.unpack_from(">Q", self.data, 24)
        self.l1_size, self.l1 = struct.unpack_from(">IQ", self.data, 36)

    def get(self, offset: int) -> int:
        return struct.unpack_from(">Q", self.data, offset)[0]

    def compressed(self, entry: int) -> Tuple[int, int]:
        """Host offset and the longest that the stream may be."""
        bits = 62 - (self.cluster_bits - 8)
        start = entry & ((1 << bits) - 1)
        sectors = (entry & (COMPRESSED - 1)) >> bits
        return start, (sectors + 1) * 512 - start % 512

    def ranges(self) -> Iterator[Range]:
        entries = self.cluster // 8
        for i in range(self.l1_size):
            table = self.get(self.l1 + 8 * i) & OFFSET
            if not table:
                continue
            guest = i * entries * self.cluster
            yield Range(guest, "table", table, self.cluster,
                        self.l1 + 8 * i)
            for j, entry in enumerate(struct.unpack_from(
                    f">{entries}Q", self.data, table)):
                where = guest + j * self.cluster, table + 8 * j
                if entry & COMPRESSED:
                    start, length = self.compressed(entry)
                    yield Range(where[0], "compressed", start, length,
                                where[1])
                elif entry & OFFSET and not entry & 1:
                    yield Range(where[0], "data", entry & OFFSET,
                                self.cluster, where[1])

    def save(self) -> None:
        with open(self.path, "wb") as file:
            file.write(self.data)


def make_tables(path: str, number: int, scattered: bool) -> None:
    spacing = 512 << 20
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path,
                    str(number * spacing)], check=True)
    image = Image(path)
    cluster = image.cluster
    start = -(-len(image.data) // cluster) + 1
    order = list(range(number))
    if scattered:
        random.Random(5).shuffle(order)
    stride = 2 if scattered else 1
    end = start + stride * number
    with open(path, "r+b") as file:
        for i, place in enumerate(order):
            table = (start + stride * place) * cluster
            file.seek(image.l1 + 8 * i)
            file.write(struct.pack(">Q", table | COPIED))
            file.seek(table)
            file.write(struct.pack(">Q", (end + i) * cluster | COPIED))
        file.truncate((end + number) * cluster)
    for i in range(number):
        print(i * spacing, cluster, 0)
        print(i * spacing + cluster, spacing - cluster, 3)


def shuffle(path: str) -> None:
    image = Image(path)
    data = [r for r in image.ranges() if r.kind == "data"]
    places = [r.host_off for r in data]
    random.Random(6).shuffle(places)
    old = bytes(image.data)
    for item, place in zip(data, places):
        image.data[place:place + item.length] = (
            old[item.host_off:item.host_off + item.length].ljust(
                item.length, b"\0"))
        struct.pack_into(">Q", image.data, item.entry_off, place | COPIED)
    packed = [r for r in image.ranges() if r.kind == "compressed"]
    random.Random(7).shuffle(packed)
    bits = 62 - (image.cluster_bits - 8)
    for item in packed:             # new copies, behind all else
        image.data += bytes(-len(image.data) % 512)
        place = len(image.data)
        image.data += old[item.host_off:item.host_off + item.length]
        struct.pack_into(">Q", image.data, item.entry_off,
                         COMPRESSED | (item.length + 511) // 512 - 1 << bits
                         | place)
    image.save()


def main(arguments: List[str]) -> int:
    command, path = arguments[:2]
    if command == "tables":
        make_tables(path, int(arguments[2]), arguments[3] == "scattered")
    elif command == "shuffle":
        shuffle(path)
    elif command == "ranges":
        for item in Image(path).ranges():
            print(item.guest_off, item.kind, item.host_off, item.length)
    else:
        print(__doc__)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
