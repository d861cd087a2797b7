#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Searches the files of an image for plain bytes of its disk.

usage: plaintext.py RAW FILE...

Looks for each 32 bytes of RAW, at a multiple of 32, which are not zeros, at
multiples of 32 in the files: data is moved and encrypted in whole sectors, so
it keeps that alignment.  Exit status 1 if there are any.
"""

import mmap
import os
import sys
from typing import Dict

PIECE = 32
ZERO = bytes(PIECE)


def pieces(path: str) -> Dict[bytes, int]:
    """The pieces of a file, each with a place where it is."""
    if os.path.getsize(path) == 0:
        return {}
    with open(path, "rb") as file, \
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        found = {content[at:at + PIECE]: at
                 for at in range(0, len(content), PIECE)}
    found.pop(ZERO, None)
    return found


def main(raw: str, *files: str) -> int:
    disk = pieces(raw)
    failed = 0
    for path in files:
        there = pieces(path)
        for piece in disk.keys() & there.keys():
            print(f"plaintext: byte {disk[piece]} of the disk and 31 more "
                  f"are at {there[piece]} of {path}: {piece.hex()}",
                  file=sys.stderr)
            failed = 1
            break
    return failed


if __name__ == "__main__":
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
