# SPDX-License-Identifier: BSD-3-Clause
"""An image with any number of snapshots, of any names, made in one go.

    image = Snapshots(size)
    image.write(7, b"...")              cluster 7 of the disk, or None: a hole
    image.snapshot(b"one", b"1")
    image.write(7, None)
    image.save(path)
    image.content(0), image.content()   the disk of a snapshot, the active one

QEMU finds no errors, except unusual names or ids.
"""

import struct
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

import qfmt
from qfmt import align_up, ceil_div

Table = Tuple[int, ...]         # host clusters, 0: a hole


@dataclass
class State:
    """A disk: which cluster of data is where, by its number."""
    clusters: Dict[int, int]
    size: int
    id: bytes = b""
    name: bytes = b""
    date: int = 0
    vm_state: bytes = field(default=b"", repr=False)
    tables: List[Optional[Table]] = field(default_factory=list)
    l1_host: int = 0


class Snapshots:
    """An image in the making."""

    def __init__(self, size: int, cluster_bits: int = 12):
        self.cluster_bits, self.unit = cluster_bits, 1 << cluster_bits
        self.data: List[bytes] = [b""]          # number 0 is none
        self.active = State({}, size)
        self.states: List[State] = []
        self.host: Dict[int, bytes] = {}        # host cluster: its bytes
        self.next_host = 1
        self.counts: Dict[int, int] = {}

    # -- contents ----------------------------------------------------------

    def write(self, index: int, data: Optional[bytes]) -> None:
        if data is None:
            self.active.clusters.pop(index, None)
            return
        self.data.append(data.ljust(self.unit, b"\0"))
        self.active.clusters[index] = len(self.data) - 1

    def snapshot(self, name: bytes, ident: bytes, date: int = 1700000000,
                 vm_state: bytes = b"") -> None:
        now = self.active
        self.states.append(State(dict(now.clusters), now.size, ident, name,
                                 date, vm_state))

    def resize(self, size: int) -> None:
        """What is behind the end must not have been written to."""
        self.active.size = size

    def content(self, number: int = -1) -> bytes:
        state = self.states[number] if number >= 0 else self.active
        disk = bytearray(align_up(state.size, self.unit))
        for index, data in state.clusters.items():
            disk[index * self.unit:(index + 1) * self.unit] = self.data[data]
        return bytes(disk[:state.size])

    # -- the file ----------------------------------------------------------

    def _place(self, data: bytes) -> int:
        """Some clusters at the end; returns the first one's number."""
        first = self.next_host
        for at in range(0, max(len(data), 1), self.unit):
            self.host[self.next_host] = data[at:at + self.unit]
            self.next_host += 1
        return first

    def _use(self, host: int, clusters: int = 1) -> None:
        for number in range(host, host + clusters):
            self.counts[number] = self.counts.get(number, 0) + 1

    def _add_vm_state(self, state: State) -> None:
        """Behind the disk, where its last L2 table ends."""
        per_table = self.unit // 8
        first = ceil_div(state.size, self.unit * per_table) * per_table
        for at in range(0, len(state.vm_state), self.unit):
            self.data.append(state.vm_state[at:at + self.unit]
                             .ljust(self.unit, b"\0"))
            state.clusters[first + at // self.unit] = len(self.data) - 1

    def _place_tables(self, states: List[State]) -> None:
        """Data and L2 tables, each once, however many disks share it."""
        per_table = self.unit // 8
        hosts = [0] + [self._place(data) for data in self.data[1:]]
        tables: Dict[Table, int] = {}
        for state in states:
            self._add_vm_state_hosts(state, hosts)
            count = ceil_div(max([ceil_div(state.size, self.unit)]
                                 + [i + 1 for i in state.clusters]),
                             per_table)
            state.tables = [None] * count
            used = {index // per_table for index in state.clusters}
            for number in used:
                table = tuple(hosts[state.clusters.get(index, 0)]
                              for index in range(number * per_table,
                                                 (number + 1) * per_table))
                state.tables[number] = table
                if table not in tables:
                    tables[table] = self._place(b"")
                self._use(tables[table])
                for host in filter(None, table):
                    self._use(host)
        self.table_hosts = tables

    def _add_vm_state_hosts(self, state: State, hosts: List[int]) -> None:
        before = len(self.data)
        self._add_vm_state(state)
        hosts += [self._place(data) for data in self.data[before:]]

    def _copied(self, host: int) -> int:
        return host * self.unit | (qfmt.COPIED if self.counts[host] == 1
                                   else 0)

    def _encode_tables(self, states: List[State]) -> None:
        for table, host in self.table_hosts.items():
            self.host[host] = struct.pack(
                f">{len(table)}Q", *[self._copied(h) if h else 0
                                     for h in table])
        for state in states:
            l1 = struct.pack(f">{len(state.tables)}Q",
                             *[self._copied(self.table_hosts[t]) if t else 0
                               for t in state.tables])
            state.l1_host = self._place(l1)
            self._use(state.l1_host, ceil_div(max(len(l1), 1), self.unit))

    def _snapshot_table(self) -> bytes:
        parts = []
        for s in self.states:
            entry = struct.pack(
                ">QIHHIIQII", s.l1_host * self.unit, len(s.tables),
                len(s.id), len(s.name), s.date, 0, 0, 0, 24)
            entry += struct.pack(">QQQ", len(s.vm_state), s.size,
                                 (1 << 64) - 1)
            entry += s.id + s.name
            parts.append(entry + bytes(-len(entry) % 8))
        return b"".join(parts)

    def _refcounts(self) -> Tuple[int, int]:
        """Returns where the refcount table is, and how long, in clusters."""
        per_block = self.unit // 2
        blocks = 1
        while True:
            reftable = ceil_div(blocks * 8, self.unit)
            end = self.next_host + blocks + reftable
            if blocks * per_block >= end:
                break
            blocks += 1
        first_block = self.next_host
        for host in [0, *range(first_block, end)]:
            self._use(host)
        for number in range(blocks):
            self._place(struct.pack(
                f">{per_block}H",
                *[self.counts.get(h, 0) for h in
                  range(number * per_block, (number + 1) * per_block)]))
        table = struct.pack(f">{blocks}Q",
                            *[(first_block + i) * self.unit
                              for i in range(blocks)])
        return self._place(table), reftable

    def save(self, path: str) -> None:
        states = [*self.states, self.active]
        self._place_tables(states)
        self._encode_tables(states)
        table = self._snapshot_table()
        at = self._place(table) if table else 0
        self._use(at, ceil_div(len(table), self.unit))
        reftable, reftable_clusters = self._refcounts()
        header = struct.pack(
            ">IIQIIQIIQQIIQQQQII", qfmt.MAGIC, 3, 0, 0, self.cluster_bits,
            self.active.size, 0, len(self.active.tables),
            self.active.l1_host * self.unit, reftable * self.unit,
            reftable_clusters, len(self.states), at * self.unit, 0, 0, 0, 4,
            qfmt.V3_HEADER_LENGTH)
        with open(path, "wb") as file:
            file.write(header)
            for number, data in self.host.items():
                if data:
                    file.seek(number * self.unit)
                    file.write(data)
            file.truncate(self.next_host * self.unit)
