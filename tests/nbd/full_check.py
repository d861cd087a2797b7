#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""full_check.py URI FILE: the pieces listed in FILE by full.py are there."""

import sys

import nbd


def main() -> None:
    handle = nbd.NBD()
    handle.connect_uri(sys.argv[1])
    lost = total = 0
    with open(sys.argv[2], encoding="ascii") as file:
        for line in file:
            offset, size, byte = map(int, line.split())
            total += 1
            lost += handle.pread(size, offset) != bytes([byte]) * size
    if lost:
        sys.exit(f"{lost} of {total} acknowledged and flushed writes are lost")


if __name__ == "__main__":
    main()
