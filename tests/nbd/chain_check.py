#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A chain of images (tests/lib/chains.py) through a server, against QEMU.

usage: chain_check.py URI DIR

The disk at URI must be DIR/truth.raw, in whole and by random ranges.  Zeros in
the server's map must be zeros, and zeros in DIR/truth.json, QEMU's map, must
be in the server's map, too, except short holes of a file, about which it does
not ask.  QEMU's own client must see the same (qemu_client.py), and no
difference to what DIR/args-qemu opens.
"""

import json
import os
import sys
from typing import Iterator, List, Tuple

import nbd

import nbdtool
import qemu_client
from nbdtool import Mismatch

# Shorter runs than this are not asked about (core/read/extents.c).
LONG_RUN = 1 << 20


def theirs(path: str) -> List[Tuple[int, bool, bool]]:
    """(length, zero, whether a file has a place for it)"""
    with open(path, encoding="ascii") as file:
        return [(e["length"], e["zero"], "offset" in e)
                for e in json.load(file)]


def pieces(ours: nbdtool.Extents, other: List[Tuple[int, bool, bool]]
           ) -> Iterator[Tuple[int, int, int, bool, bool]]:
    """(offset, length, our flags, their zero, their place) as long as both
    go."""
    one, two, offset = list(ours), list(other), 0
    while one and two:
        length = min(one[0][0], two[0][0])
        yield offset, length, one[0][1], two[0][1], two[0][2]
        offset += length
        one[0] = one[0][0] - length, one[0][1]
        two[0] = two[0][0] - length, *two[0][1:]
        one, two = one[one[0][0] == 0:], two[two[0][0] == 0:]


def check_map(handle: nbd.NBD, directory: str) -> None:
    with open(os.path.join(directory, "truth.raw"), "rb") as file:
        truth = file.read()
    mapped = nbdtool.disk_map(handle)
    if sum(length for length, _ in mapped) != len(truth):
        raise Mismatch("map: the length is wrong")
    for offset, length, mine, zero, placed in pieces(
            mapped, theirs(os.path.join(directory, "truth.json"))):
        if mine not in (0, nbd.STATE_ZERO, nbd.STATE_ZERO | nbd.STATE_HOLE):
            raise Mismatch(f"map: {mine} at {offset}+{length}")
        if mine & nbd.STATE_ZERO and any(truth[offset:offset + length]):
            raise Mismatch(f"map: 'zero' at {offset}+{length} is a lie")
        if zero and not mine and not (placed and length < LONG_RUN):
            raise Mismatch(f"map: QEMU knows that {offset}+{length} is zero")


def main(uri: str, directory: str) -> int:
    try:
        nbdtool.compare(uri, os.path.join(directory, "truth.raw"), reads=60)
        handle = nbdtool.connect(uri)
        check_map(handle, directory)
        handle.shutdown()
        with open(os.path.join(directory, "args-qemu"), encoding="ascii") \
                as file:
            qemu_client.check(uri, os.path.join(directory, "truth.raw"),
                              file.read().splitlines())
    except (Mismatch, nbd.Error) as error:
        print(f"FAIL {directory}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
