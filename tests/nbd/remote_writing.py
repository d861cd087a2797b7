# SPDX-License-Identifier: BSD-3-Clause
"""A client that reads in sequence, and writes now and then.

usage: remote_writing.py URI RAW LOG COMMAND...
commands: read FROM TO; write OFFSET LENGTH; mixed FROM TO SEED

All of them use one connection, since an image that was written to is opened
anew after the last client has left.  For each one a line says how many reads
it took, as the log filter has them in LOG.

RAW is what the disk has; what is written is written there, too, and all that
is read must be the same.  'mixed' reads 64 KiB at a time, and after most reads
writes somewhere around the place where it is: what it has read, what it is
going to read, and what is being read ahead, in any alignment; it also zeroes
and trims whole clusters."""

import random
import sys

import nbd

from nbdtool import connect

STEP = 65536
AROUND = 3 << 20


class Disk:
    def __init__(self, uri, path):
        self.handle = connect(uri)
        self.raw = open(path, "r+b", buffering=0)

    def read(self, offset, length):
        self.raw.seek(offset)
        want = self.raw.read(length)
        got = bytes(self.handle.pread(length, offset))
        if got != want:
            at = next(i for i in range(length) if got[i] != want[i])
            sys.exit(f"wrong data at {offset + at}")

    def write(self, offset, data, fua=False):
        self.handle.pwrite(data, offset, nbd.CMD_FLAG_FUA if fua else 0)
        self.keep(offset, data)

    def zero(self, offset, length):
        self.handle.zero(length, offset)
        self.keep(offset, bytes(length))

    def keep(self, offset, data):
        self.raw.seek(offset)
        self.raw.write(data)


def mixed(disk, start, end, rng):
    for offset in range(start, end, STEP):
        disk.read(offset, STEP)
        low, high = max(start, offset - AROUND), min(end, offset + AROUND)
        what = rng.randrange(8)
        if what < 5:
            length = rng.choice((1, 100, 512, 5000, STEP))
            at = rng.randrange(low, high - length + 1)
            disk.write(at, rng.randbytes(length), fua=what == 4)
            disk.read(max(start, at - 3000), 4096)
        elif what == 5:
            disk.zero(rng.randrange(low // STEP, high // STEP) * STEP, STEP)
        elif what == 6:
            disk.handle.flush()


def write(disk, offset, length):
    rng = random.Random(offset)
    end = offset + length
    for at in range(offset, end, 1 << 20):
        disk.write(at, rng.randbytes(min(1 << 20, end - at)))
    disk.handle.flush()


def read(disk, start, end):
    for offset in range(start, end, STEP):
        disk.read(offset, STEP)


def reads_in(log):
    with open(log, encoding="ascii") as f:
        return sum(" Read id=" in line for line in f)


def main(uri, path, log, *args):
    disk = Disk(uri, path)
    args = list(args)
    while args:
        command = args.pop(0)
        before = reads_in(log)
        if command == "mixed":
            start, end, seed = (int(args.pop(0)) for _ in range(3))
            mixed(disk, start, end, random.Random(seed))
            read(disk, start, end)
        else:
            do = {"read": read, "write": write}[command]
            do(disk, int(args.pop(0)), int(args.pop(0)))
        print(reads_in(log) - before)
    disk.handle.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
