#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A client of a server whose host fails in one part of the file.

  remote_client.py broken URI RAW IMAGE TRIGGER START END
      While the file TRIGGER exists, the host fails reads that touch [START,
      END) of the image file.  Reads of clusters that need none of these bytes
      must succeed, whatever is read ahead around them, the others may fail,
      and at first have to, with EIO; and without TRIGGER everything must be
      read.
  remote_client.py blocked URI RAW IMAGE TRIGGER START END
      The same with a host that does not answer these until TRIGGER is removed:
      reads that need nothing near them must not wait.
  remote_client.py where IMAGE KIND PLACE
      print the range START END of one structure of the image: the
      PLACE-th of that KIND (data, compressed, table)
"""

import errno
import os
import random
import sys
import time
from typing import Dict, List, Set, Tuple

import nbd

from nbdtool import Raw, connect
from remote_images import Image


class Backend:
    def __init__(self, arguments: List[str]):
        self.uri, raw, image, self.trigger = arguments[:4]
        self.raw = Raw(raw)
        self.image = Image(image)
        self.start, self.end = map(int, arguments[4:])
        self.needs = self.needed()

    def needed(self) -> Dict[int, bool]:
        """Of each allocated cluster: does reading it need the range?"""
        entries = self.image.cluster // 8
        needs: Dict[int, bool] = {}
        tables: Set[int] = set()
        for item in self.image.ranges():
            touches = (item.host_off < self.end and
                       item.host_off + item.length > self.start)
            if item.kind != "table":
                needs[item.guest_off] = (
                    touches or item.guest_off // self.image.cluster // entries
                    in tables)
            elif touches:
                tables.add(item.guest_off // self.image.cluster // entries)
        return needs

    def break_it(self) -> None:
        open(self.trigger, "w").close()

    def read(self, handle: nbd.NBD, guest_off: int, length: int) -> bool:
        try:
            data = bytes(handle.pread(length, guest_off))
        except nbd.Error as error:
            assert error.errnum == errno.EIO, error
            return False
        self.raw.check(guest_off, data)
        return True


def read_all(backend: Backend, handle: nbd.NBD, order: List[int],
             length: int) -> Tuple[int, int]:
    good = bad = 0
    for guest_off in order:
        ok = backend.read(handle, guest_off, length)
        if not ok and not backend.needs[guest_off]:
            raise SystemExit(f"cluster {guest_off:#x} could not be read, "
                             "but does not need the broken bytes")
        good, bad = good + ok, bad + (not ok)
    return good, bad


def broken(backend: Backend) -> None:
    cluster = backend.image.cluster
    order = sorted(backend.needs)
    order = order[::len(order) // 100 + 1]
    mixed = order[:]
    random.Random(1).shuffle(mixed)
    for round_ in range(2):
        for what, todo, length in (("in order", order, cluster),
                                   ("at random", mixed, cluster),
                                   ("small", order, 4096)):
            backend.break_it()
            handle = connect(backend.uri)
            good, bad = read_all(backend, handle, todo, length)
            print(f"{what}: {good} good, {bad} bad")
            # Later on they may be known from when they could be read.
            assert good and (bad or what != "in order" or round_)
            os.unlink(backend.trigger)
            for guest_off in todo:
                assert backend.read(handle, guest_off, cluster), hex(guest_off)
            handle.shutdown()


def blocked(backend: Backend) -> None:
    cluster = backend.image.cluster
    handle = connect(backend.uri)
    # One request below brings up to 1 MiB, and who needs a part of it waits
    # for the rest.
    far = sorted(item.guest_off for item in backend.image.ranges()
                 if item.kind != "table" and
                 (item.host_off + item.length <= backend.start - (1 << 20) or
                  item.host_off >= backend.end + (1 << 20)))
    backend.break_it()
    began = time.monotonic()
    # In order, so that what is read ahead runs into the range, and stays.
    for guest_off in far:
        assert backend.read(handle, guest_off, cluster)
    took = time.monotonic() - began
    print(f"{len(far)} reads beside a blocked one: {took:.2f} s")
    assert took < 8, took
    os.unlink(backend.trigger)
    for guest_off in backend.needs:
        assert backend.read(handle, guest_off, cluster), hex(guest_off)
    handle.shutdown()


def main(arguments: List[str]) -> int:
    if arguments[0] == "where":
        found = [item for item in Image(arguments[1]).ranges()
                 if item.kind == arguments[2]]
        item = found[int(arguments[3])]
        print(item.host_off, item.host_off + item.length)
    else:
        {"broken": broken, "blocked": blocked}[arguments[0]](
            Backend(arguments[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
