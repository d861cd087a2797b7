#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A long way to a server: a TCP relay with a delay and a bandwidth.

usage: lag.py ADDRESS PORT COUNTERS --delay MS [--rate MBIT]

Listens on a port of 127.0.0.1, which it prints.  What comes in leaves DELAY
later in either direction, so a round trip takes twice that; all connections
share a link of RATE in each direction.  COUNTERS is a file of three numbers
(64 bits, this machine's order): bytes to the client, bytes to the server,
connections.

A window of 4 MiB is on the way at most, for each connection and direction.
Setting up TCP takes no time (TLS does), and nothing is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import mmap
import os
import struct
from collections.abc import Awaitable

PIECE = 128 << 10
WINDOW = 4 << 20


class Counters:
    """In a file that others map or read at any time."""

    def __init__(self, path: str) -> None:
        with open(path, "w+b") as file:
            file.write(bytes(24))
            file.flush()
            self._map = mmap.mmap(file.fileno(), 24)
        self._numbers = [0, 0, 0]

    def add(self, which: int, number: int) -> None:
        self._numbers[which] += number
        struct.pack_into("=3Q", self._map, 0, *self._numbers)


class Link:
    """One direction: when it is free again for the next bytes."""

    def __init__(self, delay: float, rate: float) -> None:
        self.delay, self.rate = delay, rate
        self._free = 0.0

    def arrival(self, length: int) -> float:
        """When bytes that are sent now have arrived."""
        now = asyncio.get_running_loop().time()
        if not self.rate:
            return now + self.delay
        self._free = max(now, self._free) + length / self.rate
        return self._free + self.delay


class Pump:
    """One direction of a connection."""

    def __init__(self, reader: asyncio.StreamReader,
                 writer: asyncio.StreamWriter, link: Link,
                 counters: Counters, which: int) -> None:
        self.reader, self.writer, self.link = reader, writer, link
        self.counters, self.which = counters, which
        self.queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self.on_the_way = 0
        self.room = asyncio.Event()
        self.room.set()

    async def take(self) -> None:
        while True:
            data = await self.reader.read(PIECE)
            self.on_the_way += len(data)
            self.queue.put_nowait((self.link.arrival(len(data)), data))
            if not data:
                return
            if self.on_the_way >= WINDOW:
                self.room.clear()
                await self.room.wait()

    async def give(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await self.queue.get()
            wait = due - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            if not data:
                self.writer.write_eof()
                return
            self.writer.write(data)
            self.counters.add(self.which, len(data))
            await self.writer.drain()
            self.on_the_way -= len(data)
            if self.on_the_way < WINDOW:
                self.room.set()


class Relay:
    """Accepts clients, and connects each to the server."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.counters = Counters(args.counters)
        rate = args.rate * 1e6 / 8
        self.links = [Link(args.delay / 1000, rate) for _ in range(2)]

    async def connection(self, reader: asyncio.StreamReader,
                         writer: asyncio.StreamWriter) -> None:
        self.counters.add(2, 1)
        there: asyncio.StreamWriter | None = None
        work: list[asyncio.Task[None]] = []
        try:
            back, there = await asyncio.open_connection(
                self.args.address, self.args.port)
            pumps = [Pump(back, writer, self.links[0], self.counters, 0),
                     Pump(reader, there, self.links[1], self.counters, 1)]
            steps: list[Awaitable[None]] = [
                step for pump in pumps for step in (pump.take(), pump.give())]
            work = [asyncio.ensure_future(step) for step in steps]
            await asyncio.gather(*work)
        except OSError:                 # One of the two hangs up.
            pass
        finally:
            for task in work:
                task.cancel()
            for end in (writer, there):
                if end is not None:
                    end.close()

    async def run(self) -> None:
        server = await asyncio.start_server(self.connection, "127.0.0.1", 0,
                                            limit=2 * PIECE)
        print(server.sockets[0].getsockname()[1], flush=True)
        async with server:
            await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="a TCP relay with a delay and a bandwidth")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("counters")
    parser.add_argument("--delay", type=float, required=True,
                        help="in each direction, in milliseconds")
    parser.add_argument("--rate", type=float, default=0,
                        help="in megabits per second; default: no limit")
    args = parser.parse_args()
    os.umask(0o022)
    asyncio.run(Relay(args).run())


if __name__ == "__main__":
    main()
