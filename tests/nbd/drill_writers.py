# SPDX-License-Identifier: BSD-3-Clause
"""Clients that write while a drill goes on, and what they know.

A Writer has one request at a time, so each state of what it owns is a prefix
of its history.  A random one owns a part of one disk.  A chain owns a part of
each disk: record n goes to a disk only after another one has acknowledged
record n - 1, so that a state of all disks which is no prefix is one that no
moment has had.

What can be asked: 'prefix', is this the state of one moment; 'survived', could
a crash have left this.
"""

import struct
import threading

import nbd

SECTOR = 512
RECORD = 4096


class Wrong(Exception):
    """What must not be."""


class Op:
    """A request.  'data' is what is there afterwards; None as long as only
    the server knows that."""

    def __init__(self, disk, offset, count, data):
        self.disk, self.offset, self.count = disk, offset, count
        self.data, self.is_trim = data, data is None

    def __str__(self):
        return f"{self.count} bytes at {self.offset} of disk {self.disk}"


class Part:
    """What a writer owns of a disk, and its bytes after some operation."""

    def __init__(self, start, contents):
        self.start, self.bytes = start, bytearray(contents)

    def end(self):
        return self.start + len(self.bytes)

    def copy(self):
        return Part(self.start, self.bytes)

    def of(self, disk):
        return memoryview(disk)[self.start:self.end()]

    def apply(self, op):
        at = op.offset - self.start
        self.bytes[at:at + op.count] = op.data


class Writer(threading.Thread):
    """'connect' makes a connection to a disk; 'parts' is disk -> Part."""

    def __init__(self, number, rng, connect, parts, pause):
        super().__init__(daemon=True)
        self.number, self.rng, self.pause = number, rng, pause
        self.disks = sorted(parts)
        self.handles = {disk: connect(disk) for disk in self.disks}
        self.base = parts       # after 'applied' operations
        self.applied = 0
        self.ops = []
        self.acked = 0
        self.durable = 0        # so many have survived whatever happens
        self.stopping = threading.Event()
        self.moved = threading.Condition()
        self.error = None
        self.at = 0

    # ---- Writing

    def choose(self, n):
        """An operation, its flags, and the function that sends it."""
        raise NotImplementedError

    def tag(self, n):
        return struct.pack("<QQ", self.number + 1, n + 1)

    def run(self):
        try:
            while not self.stopping.wait(self.pause * self.rng.random()):
                self.step()
            for handle in self.handles.values():
                handle.shutdown()
        except nbd.Error as error:
            self.error = error
        except Wrong as error:
            self.error = error
        with self.moved:
            self.moved.notify_all()

    def step(self):
        op, send = self.choose(len(self.ops))
        handle = self.handles[op.disk]
        self.ops.append(op)
        send(handle)
        if op.data is None:
            op.data = handle.pread(op.count, op.offset)
        with self.moved:
            self.acked += 1
            self.moved.notify_all()
        if self.rng.random() < 0.04:
            self.flush()

    def flush(self):
        before = self.acked
        for handle in self.handles.values():
            handle.flush()
        self.durable = max(self.durable, before)

    def wait(self, count):
        """Until so many are acknowledged, or it has ended."""
        with self.moved:
            self.moved.wait_for(lambda: self.acked >= count or
                                not self.is_alive() or self.error, 60)

    def stop(self):
        self.stopping.set()
        self.join(60)
        if self.is_alive():
            raise Wrong(f"writer {self.number} hangs")

    # ---- Judging

    def advance(self, count):
        while self.applied < count:
            op = self.ops[self.applied]
            self.base[op.disk].apply(op)
            self.applied += 1

    def prefix(self, disks, first, last):
        """These disks are as after 'first' to 'last' of its operations, the
        same number on all of them: which."""
        self.wait(last)
        state = {disk: part.copy() for disk, part in self.base.items()}
        for op in self.ops[self.applied:first]:
            state[op.disk].apply(op)
        # Of others nothing is known.
        state = {disk: part for disk, part in state.items() if disk in disks}
        for n in range(first, last + 1):
            if all(part.of(disks[disk]) == part.bytes
                   for disk, part in state.items()):
                return n
            if n == last or self.ops[n].disk not in state:
                continue
            if self.ops[n].data is None:
                if self.half(state, disks, self.ops[n]):
                    return n + 1
            else:
                state[self.ops[n].disk].apply(self.ops[n])
        raise Wrong(f"writer {self.number}, operations {first} to {last}, "
                    f"after the last: {self.differences(state, disks)}")

    def half(self, state, disks, op):
        """A trim that the server did not live to answer: each sector is as
        it was, or zeros."""
        part = state[op.disk]
        found = part.of(disks[op.disk])
        for at in range(op.offset - part.start,
                        op.offset - part.start + op.count, SECTOR):
            if not any(found[at:at + SECTOR]):
                part.bytes[at:at + SECTOR] = bytes(SECTOR)
        return all(p.of(disks[d]) == p.bytes for d, p in state.items())

    def differences(self, state, disks):
        """The first one of each disk."""
        found = []
        for disk, part in state.items():
            now = part.of(disks[disk])
            for at in range(0, len(part.bytes), SECTOR):
                if now[at:at + SECTOR] != part.bytes[at:at + SECTOR]:
                    found.append(
                        f"disk {disk} at {part.start + at}: "
                        f"{bytes(now[at:at + 16]).hex()}, not "
                        f"{bytes(part.bytes[at:at + 16]).hex()}")
                    break
        return "; ".join(found)

    def survived(self, disks):
        """A crash of the server has left this."""
        self.advance(min(self.durable, self.acked))
        allowed = {}
        for op in self.ops[self.applied:]:
            part = self.base[op.disk]
            for at in range(0, op.count, SECTOR):
                where = op.offset + at - part.start
                said = allowed.setdefault(
                    (op.disk, where),
                    {bytes(part.bytes[where:where + SECTOR])})
                said.add(bytes(SECTOR) if op.data is None
                         else bytes(op.data[at:at + SECTOR]))
        for disk, part in self.base.items():
            now = part.of(disks[disk])
            if now == part.bytes:
                continue
            for at in range(0, len(part.bytes), SECTOR):
                sector = now[at:at + SECTOR]
                if sector == part.bytes[at:at + SECTOR]:
                    continue
                if bytes(sector) not in allowed.get((disk, at), ()):
                    raise Wrong(
                        f"writer {self.number}, disk {disk}: at "
                        f"{part.start + at} a crash has left "
                        f"{bytes(sector[:16]).hex()}, of {self.acked} "
                        f"operations, {self.applied} of them durable")

    def has_written(self, disk):
        return any(op is None or (op.disk == disk and not op.is_trim)
                   for op in self.ops[:self.acked])

    def touched(self, disk, first, last):
        return [(op.offset, op.count) for op in self.ops[first:last]
                if op.disk == disk]


class RandomWriter(Writer):
    def choose(self, n):
        rng = self.rng
        disk = self.disks[0]
        part = self.base[disk]
        space = len(part.bytes) // SECTOR
        count = min(rng.choice((1, 1, 8, 8, 64, 128, 128, 700)), space)
        if rng.random() < 0.6 or self.at + count > space:
            self.at = rng.randrange(space - count + 1)
        offset, count = part.start + self.at * SECTOR, count * SECTOR
        self.at += count // SECTOR
        flags = nbd.CMD_FLAG_FUA if rng.random() < 0.1 else 0
        kind = rng.random()
        if kind < 0.7:
            data = self.tag(n) * (count // 16)
            return Op(disk, offset, count, data), \
                lambda h: h.pwrite(data, offset, flags)
        if kind < 0.85:
            if rng.random() < 0.5:
                flags |= nbd.CMD_FLAG_NO_HOLE
            return Op(disk, offset, count, bytes(count)), \
                lambda h: h.zero(count, offset, flags)
        return Op(disk, offset, count, None), \
            lambda h: h.trim(count, offset, flags)


class Chain(Writer):
    """Records, on another disk each time.  With 'fua' what is acknowledged
    is durable."""

    def __init__(self, *args, fua):
        super().__init__(*args)
        self.fua = fua
        self.last_disk = None

    def choose(self, n):
        rng = self.rng
        others = [d for d in self.disks if d != self.last_disk]
        disk = rng.choice(others or self.disks)
        self.last_disk = disk
        part = self.base[disk]
        offset = part.start + RECORD * rng.randrange(
            len(part.bytes) // RECORD)
        data = self.tag(n) * (RECORD // 16)
        flags = nbd.CMD_FLAG_FUA if self.fua else 0
        return Op(disk, offset, RECORD, data), \
            lambda h: h.pwrite(data, offset, flags)

    def survived(self, disks):
        if not self.fua:
            return super().survived(disks)
        # One write may have been on its way.
        return self.prefix(disks, self.acked, len(self.ops))
