# SPDX-License-Identifier: BSD-3-Clause
"""control_resize.py SOCKET CONTROL FOLDER SECONDS: clients write to a disk,
each where no other does, while it becomes larger again and again.  The disk as
it must be goes to FOLDER/expected."""

import os
import random
import sys
import threading
import time

import nbd

from qmp_client import QMP

BLOCK = 4096
STEP = 3 << 20


class Crowd:
    def __init__(self, sock, control, folder, seconds):
        self.sock, self.control = sock, control
        self.file = os.open(f"{folder}/expected", os.O_RDWR | os.O_CREAT)
        self.until = time.time() + seconds
        self.errors = []
        self.writes = 0

    def connect(self):
        h = nbd.NBD()
        h.connect_unix(self.sock)
        return h

    def write_some(self, h, rng, start, end):
        """Write in that range, which is nobody else's, and read it."""
        at = rng.randrange(start // BLOCK, end // BLOCK) * BLOCK
        n = min(rng.choice([1, 1, 2, 16]) * BLOCK, end - at)
        data = rng.randbytes(n)
        if rng.random() < 0.2:
            data = bytes(n)
            h.zero(n, at)
        else:
            h.pwrite(data, at)
        os.pwrite(self.file, data, at)
        assert h.pread(n, at) == data, hex(at)
        self.writes += 1

    def writer(self, number, start, end):
        h = self.connect()
        size = h.get_size()
        rng = random.Random(number)
        while time.time() < self.until:
            self.write_some(h, rng, start, end)
            assert h.get_size() == size
            if rng.random() < 0.05:
                h.flush()
        h.shutdown()

    def guard(self, function, *args):
        try:
            function(*args)
        except Exception as e:          # pylint: disable=broad-except
            self.errors.append(repr(e))
            self.until = 0

    def grow(self, qmp, size):
        rng = random.Random(size)
        qmp.ok("block_resize", device="", size=size + STEP)
        h = self.connect()
        assert h.get_size() == size + STEP, (h.get_size(), size)
        os.ftruncate(self.file, size + STEP)
        assert h.pread(STEP, size) == bytes(STEP)
        for _ in range(8):
            self.write_some(h, rng, size, size + STEP)
        h.shutdown()
        return size + STEP

    def run(self):
        qmp = QMP(self.control)
        listener = QMP(self.control)
        h = self.connect()
        first = size = h.get_size()
        half = first // 2 // BLOCK * BLOCK
        threads = [
            threading.Thread(target=self.guard, args=(self.writer, *a))
            for a in ((1, 0, half), (2, half, first // BLOCK * BLOCK))]
        for t in threads:
            t.start()
        times = 0
        while time.time() < self.until or times < 3:
            size = self.grow(qmp, size)
            times += 1
            event = listener.read_event()
            assert event["event"] == "X_Q2_RESIZED", event
            assert event["data"] == {"device": "", "size": size}, event
        for t in threads:
            t.join()
        # Who was connected from the beginning is told no other size.
        assert h.get_size() == first
        try:
            h.pread(512, first)
            raise SystemExit("a client has read past the size that it knows")
        except nbd.Error:
            pass
        h.shutdown()
        if self.errors:
            raise SystemExit(f"writers: {self.errors}")
        print(f"grown {times} times beside {self.writes} writes")


Crowd(*sys.argv[1:4], float(sys.argv[4])).run()
