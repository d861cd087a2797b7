# SPDX-License-Identifier: BSD-3-Clause
"""An image writer: guest clusters in, a laid out image file out.

The caller (qgen.py) decides what each guest cluster is; here everything is
placed in the host file, in random order with gaps, and encoded: tables,
refcounts that match, header, an end of file that may come early.

Everything that takes host space is an Item.  Space is counted in units: a
cluster, or 512 bytes in version 1 images, which need no more alignment.
"""

import random
import struct
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

import qfmt
from qfmt import align_up, ceil_div


@dataclass(eq=False)         # two items are never the same place
class Item:
    """Host space: what to write there, and how often it is referenced."""
    length: int                         # bytes, rounded up to units
    kind: str
    content: bytes = b""
    host: int = -1                      # decided by the layout
    guests: List[int] = field(default_factory=list)     # data clusters
    users: Dict[int, int] = field(default_factory=dict)  # unit -> count


@dataclass
class Guest:
    """One guest cluster."""
    kind: str = "hole"      # hole, zero, zero-alloc, data, packed, sub
    item: Optional[Item] = None
    start: int = 0          # packed: byte offset inside the item
    sectors: int = 0        # packed: declared length, in the format's unit
    zero: int = 0           # sub: 32 bits each
    alloc: int = 0


@dataclass
class Header:
    """Everything about an image that is not a guest cluster."""
    version: int
    cluster_bits: int
    size: int
    l1_size: int
    l2_bits: int
    extended: bool = False
    compression: int = qfmt.ZLIB
    refcount_order: int = 4
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    length: int = qfmt.V3_HEADER_LENGTH
    unknown_fields: bytes = field(default=b"", repr=False)
    extensions: bytes = field(default=b"", repr=False)
    l1_after_header: bool = False       # version 1 only
    snapshot: bool = False              # one that shares everything
    reftable_spare: int = 0             # clusters


class Writer:
    """Lays out and encodes one image."""

    def __init__(self, rng: random.Random, head: Header):
        self.rng, self.head = rng, head
        self.cluster_size = 1 << head.cluster_bits
        self.unit = 512 if head.version == 1 else self.cluster_size
        self.guests: Dict[int, Guest] = {}      # by guest cluster index
        self.items: List[Item] = []
        self.refs = 2 if head.snapshot else 1
        self.max_users = (1 << 30 if head.version == 1 else
                          ((1 << (1 << head.refcount_order)) - 1)
                          // self.refs)
        self.area: Optional[Item] = None
        self.area_end = 0
        self.writes: List[Tuple[int, bytes]] = []
        self.file_size = 0

    # -- what the caller adds ----------------------------------------------

    def add_item(self, length: int, kind: str, content: bytes = b"") -> Item:
        item = Item(align_up(max(length, 1), self.unit), kind, content)
        self.items.append(item)
        return item

    def add_data(self, index: int, content: bytes) -> Item:
        """A host cluster for one guest cluster."""
        item = self.add_item(self.cluster_size, "data", content)
        item.guests.append(index)
        item.users[0] = 1
        return item

    def share(self, item: Item, index: int) -> bool:
        """Let another guest cluster use the same host cluster."""
        if item.users[0] + 1 > self.max_users:
            return False
        item.users[0] += 1
        item.guests.append(index)
        return True

    def declared(self, start: int, length: int) -> int:
        """Smallest value of the length field for LENGTH bytes at START:
        bytes in version 1, additional sectors later."""
        if self.head.version == 1:
            return length
        return (start % 512 + length - 1) // 512

    def declared_bytes(self, start: int, value: int) -> int:
        if self.head.version == 1:
            return value
        return (value + 1) * 512 - start % 512

    @property
    def max_declared(self) -> int:
        if self.head.version == 1:
            return self.cluster_size - 1
        return (1 << (self.head.cluster_bits - 8)) - 1

    def add_packed(self, blob: bytes, gap: int, extra: int
                   ) -> Optional[Guest]:
        """Place a compressed cluster after the last one; EXTRA is how much
        more than its length to declare.  None if it cannot be declared."""
        if self.area is None or self.rng.random() < 0.1:
            self.area = self.add_item(1, "packed")
            self.area_end = self.rng.randrange(min(self.unit, 700))
        area, start = self.area, self.area_end + gap
        for start in (start, align_up(start, self.unit)):
            value = self.declared(start, len(blob))
            if value > self.max_declared:
                continue
            value = min(value + extra, self.max_declared)
            end = start + self.declared_bytes(start, value)
            touched = range(start // self.unit, (end - 1) // self.unit + 1)
            if all(area.users.get(unit, 0) < self.max_users
                   for unit in touched):
                break
        else:
            self.area = None
            return None
        for unit in touched:
            area.users[unit] = area.users.get(unit, 0) + 1
        area.content = area.content.ljust(start, b"\xdb") + blob
        area.length = max(area.length, align_up(end, self.unit))
        self.area_end = start + len(blob)
        if self.max_users == 1:
            self.area_end = align_up(end, self.unit)
        return Guest("packed", area, start, value)

    def share_packed(self, guest: Guest) -> bool:
        start = guest.start // self.unit
        end = guest.start + self.declared_bytes(guest.start, guest.sectors)
        units = range(start, (end - 1) // self.unit + 1)
        if any(guest.item.users[unit] >= self.max_users for unit in units):
            return False
        for unit in units:
            guest.item.users[unit] += 1
        return True

    # -- layout ------------------------------------------------------------

    def layout(self, shuffled: bool, last: str) -> None:
        """Give every item its place.  LAST is the kind that should end the
        file, if there is one of it."""
        head = self.head
        self.header_item = Item(self.unit, "header")
        l1_bytes = max(head.l1_size * 8, 1)
        if head.l1_after_header:
            self.header_item.length = align_up(48 + l1_bytes, self.unit)
            self.l1_item = None
        else:
            # A table without entries takes no space; the header may still
            # say where it is.
            self.l1_item = self.add_item(l1_bytes,
                                         "l1" if head.l1_size else "gap")
        self._add_l2_tables()
        if head.snapshot:
            self.snapshot_l1 = self.add_item(
                l1_bytes, "snapshot-l1" if head.l1_size else "gap")
            self.snapshot_table = self.add_item(200, "snapshots")
        for _ in range(self.rng.choice((0, 0, 1, 5))):
            gap = self.unit * self.rng.randint(1, 4)
            self.add_item(gap, "gap", b"\xfe" * min(gap, 9000))
        if head.version > 1:
            self.per_block = self.cluster_size * 8 >> head.refcount_order
            if (self.per_block * self.unit <= 4 << 20
                    and self.rng.random() < 0.2):
                # Room for refcount blocks that count nothing.
                self.add_item(3 * self.per_block * self.unit, "gap")
            self._add_refcounts()
        order = self.items[:]
        if shuffled:
            self.rng.shuffle(order)
        tail = [item for item in order if item.kind == last]
        if tail:
            order.remove(tail[-1])
            order.append(tail[-1])
        at = 0
        for item in [self.header_item, *order]:
            item.host = at
            at += item.length
        self.file_size = at
        self.last = ([self.header_item] + order)[-1]

    def _add_l2_tables(self) -> None:
        per_table = 1 << self.head.l2_bits
        kinds: Dict[int, set] = {}
        for index, guest in self.guests.items():
            kinds.setdefault(index // per_table, set()).add(guest.kind)
        length = (8 * per_table if self.head.version == 1
                  else self.cluster_size)
        self.l2_items = {
            index: self.add_item(length, "zero-l2" if kind == {"hole"}
                                 else "l2")
            for index, kind in sorted(kinds.items())}

    def _add_refcounts(self) -> None:
        units = 1 + sum(item.length // self.unit for item in self.items)
        blocks = tables = 1
        while True:
            total = units + blocks + tables
            need = ceil_div(total, self.per_block)
            need_tables = (ceil_div(need * 8, self.cluster_size)
                           + self.head.reftable_spare)
            if (need, need_tables) == (blocks, tables):
                break
            blocks, tables = need, need_tables
        self.reftable = self.add_item(tables * self.unit, "reftable")
        self.refblocks = [self.add_item(self.unit, "refblock")
                          for _ in range(blocks)]

    # -- encoding ----------------------------------------------------------

    def _entry(self, guest: Guest) -> Tuple[int, int]:
        """The words of an L2 entry (the second one: subcluster bits)."""
        if guest.kind == "hole":
            return 0, 0
        if guest.kind == "zero":
            return (0, 0xFFFFFFFF << 32) if self.head.extended else (1, 0)
        if guest.kind == "packed":
            host = guest.item.host + guest.start
            if self.head.version == 1:
                return (qfmt.V1_COMPRESSED | guest.sectors
                        << (63 - self.head.cluster_bits) | host), 0
            bits = qfmt.compressed_offset_bits(self.head.cluster_bits)
            return qfmt.COMPRESSED | guest.sectors << bits | host, 0
        word = 0
        if guest.item is not None:
            word = guest.item.host
            if (self.head.version > 1
                    and guest.item.users[0] * self.refs == 1):
                word |= qfmt.COPIED
        if guest.kind == "sub":
            return word, guest.zero << 32 | guest.alloc
        if self.head.extended:
            return word, (0xFFFFFFFF << 32 if guest.kind == "zero-alloc"
                          else 0xFFFFFFFF)
        return word | (1 if guest.kind == "zero-alloc" else 0), 0

    def _encode_tables(self) -> None:
        per_table = 1 << self.head.l2_bits
        width = 2 if self.head.extended else 1
        tables = {index: [0] * (per_table * width)
                  for index in self.l2_items}
        for index, guest in self.guests.items():
            words = self._entry(guest)[:width]
            at = index % per_table * width
            tables[index // per_table][at:at + width] = words
        l1 = [0] * self.head.l1_size
        copied = qfmt.COPIED if self.refs == 1 else 0
        if self.head.version == 1:
            copied = 0
        for index, item in self.l2_items.items():
            item.content = struct.pack(f">{per_table * width}Q",
                                       *tables[index])
            l1[index] = item.host | copied
        self.l1_bytes = struct.pack(f">{len(l1)}Q", *l1)
        if self.l1_item is not None:
            self.l1_item.content = self.l1_bytes
        if self.head.snapshot:
            self.snapshot_l1.content = self.l1_bytes
            self.snapshot_table.content = struct.pack(
                ">QIHHIIQIIQQ", self.snapshot_l1.host, self.head.l1_size, 1,
                4, 1, 2, 3, 0, 16, 0, self.head.size) + b"1snap"

    def _refcounts(self) -> Dict[int, int]:
        counts: Dict[int, int] = {}
        for item in [self.header_item, *self.items]:
            first = item.host // self.unit
            for unit in range(item.length // self.unit):
                if item.kind in ("data", "packed"):
                    count = item.users.get(unit, 0) * self.refs
                elif item.kind in ("l2", "zero-l2"):
                    count = self.refs
                else:
                    count = 0 if item.kind == "gap" else 1
                if count:
                    counts[first + unit] = count
        return counts

    def _encode_refcounts(self) -> None:
        counts = self._refcounts()
        bits = 1 << self.head.refcount_order
        used = {index // self.per_block for index in counts}
        for number, block in enumerate(self.refblocks):
            if number not in used:      # all zero, need not exist
                del counts[block.host // self.unit]
                self.refblocks[number] = None
        for number, block in enumerate(self.refblocks):
            # A little-endian number holds narrow entries in the right
            # order; wide ones are big-endian each.
            if block is None:
                continue
            base = number * self.per_block
            inside = [(index - base, count) for index, count in
                      counts.items() if 0 <= index - base < self.per_block]
            if bits < 8:
                value = sum(count << index * bits for index, count in inside)
                block.content = value.to_bytes(self.cluster_size, "little")
            else:
                content = bytearray(self.cluster_size)
                size = bits // 8
                for index, count in inside:
                    content[index * size:(index + 1) * size] = \
                        count.to_bytes(size, "big")
                block.content = bytes(content)
        self.reftable.content = struct.pack(
            f">{len(self.refblocks)}Q",
            *[block.host if block else 0 for block in self.refblocks])

    def _encode_header(self) -> bytes:
        head = self.head
        if head.version == 1:
            l1_offset = 48 if self.l1_item is None else self.l1_item.host
            return struct.pack(
                ">IIQIIQBBHIQ", qfmt.MAGIC, 1, 0, 0, 12345, head.size,
                head.cluster_bits, head.l2_bits, 0, 0, l1_offset) + (
                    self.l1_bytes if self.l1_item is None else b"")
        base = struct.pack(
            ">IIQIIQIIQQIIQ", qfmt.MAGIC, head.version, 0, 0,
            head.cluster_bits, head.size, 0, head.l1_size,
            self.l1_item.host, self.reftable.host,
            self.reftable.length // self.unit, int(head.snapshot),
            self.snapshot_table.host if head.snapshot else 0)
        if head.version == 3:
            base += struct.pack(">QQQII", head.incompatible, head.compatible,
                                head.autoclear, head.refcount_order,
                                head.length)
            base += (struct.pack(">B7x", head.compression)
                     + head.unknown_fields)[:head.length - 104]
        return base + head.extensions

    def encode(self) -> None:
        self._encode_tables()
        if self.head.version > 1:
            self._encode_refcounts()
        self.header_item.content = self._encode_header()
        for item in [self.header_item, *self.items]:
            if item.content:
                self.writes.append((item.host, item.content))

    def cut_end(self) -> int:
        """Let the file end early, in the last item, without changing what
        it holds but for data: returns how many bytes of it are left, or -1
        if the end stays where it is."""
        item = self.last
        if item.kind == "zero-l2" and self.rng.random() < 0.5:
            keep = 0
        elif item.kind == "data":
            keep = self.rng.randrange(1, item.length)
        else:
            # At least one byte of each cluster stays: QEMU's check wants
            # no reference to a cluster wholly past the end.  (A zero L2 table
            # may be: it reads the same, but check complains.)
            keep = max(len(item.content.rstrip(b"\0")),
                       item.length - self.unit + 1)
            if keep >= item.length:
                return -1
        self.file_size = item.host + keep
        return keep
