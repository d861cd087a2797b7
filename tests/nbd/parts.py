#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Several clients write to parts of the same sectors at once.

usage: parts.py URI RAW ROUNDS

Each connection has its own part of each of SECTORS sectors.  In each round all
of them write to theirs, in different orders, many at a time, and then read
them back.  RAW is the expected disk, before and after.
"""

import random
import sys
from typing import List

import nbd

CLIENTS = 4
SECTORS = 24
SECTOR = 512
# Where the parts begin, and the last one ends.
EDGES = (1, 130, 300, 470, 511)


class Client:
    """One connection, and its parts."""

    def __init__(self, uri: str, number: int):
        self.handle = nbd.NBD()
        self.handle.connect_uri(uri)
        self.start, self.end = EDGES[number], EDGES[number + 1]
        self.number = number
        self.rng = random.Random(number)
        self.cookies: List[int] = []

    def write(self, disk: bytearray) -> None:
        for sector in self.rng.sample(range(SECTORS), SECTORS):
            data = self.rng.randbytes(self.end - self.start)
            at = sector * SECTOR + self.start
            disk[at:at + len(data)] = data
            self.cookies.append(self.handle.aio_pwrite(
                nbd.Buffer.from_bytearray(bytearray(data)), at))

    def finish(self) -> None:
        for cookie in self.cookies:
            while not self.handle.aio_command_completed(cookie):
                self.handle.poll(-1)
        self.cookies = []

    def check(self, disk: bytearray) -> None:
        for sector in range(SECTORS):
            at = sector * SECTOR + self.start
            end = at + self.end - self.start
            if self.handle.pread(end - at, at) != disk[at:end]:
                raise SystemExit(f"parts: client {self.number} has lost what "
                                 f"it has written at {at}")


def main(uri: str, raw: str, rounds: str) -> None:
    with open(raw, "rb") as file:
        disk = bytearray(file.read())
    clients = [Client(uri, number) for number in range(CLIENTS)]
    for _ in range(int(rounds)):
        for client in clients:
            client.write(disk)
        for client in clients:
            client.finish()
        for client in clients:
            client.check(disk)
    for client in clients:
        client.handle.shutdown()
    with open(raw, "wb") as file:
        file.write(disk)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    main(*sys.argv[1:])
