#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Hostile images through a server: they must be refused, or served except for
the damage.

usage: hostile_check.py SOCKET LOG DIR [NAME...]

Makes DIR/NAME.qcow2, which the server behind SOCKET must be serving (dir=),
and compares with what tests/lib/hostile.py expects: a message of the server
(its LOG) that matches, or EIO for the ranges listed and for them only.
Where the oracle can read what we can, the bytes must be equal.
"""

import errno
import hashlib
import os
import random
import re
import sys
from typing import List, Optional

import nbd

import hostile
import nbdtool
import oracle
from nbdtool import Mismatch


def digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def read(handle: nbd.NBD, offset: int, length: int) -> Optional[bytes]:
    """None if that was EIO; other errors are raised."""
    try:
        return bytes(handle.pread(length, offset))
    except nbd.Error as error:
        if error.errnum != errno.EIO:
            raise
        return None


def check_refused(sock: str, log: str, name: str, message: str) -> None:
    before = os.path.getsize(log)
    try:
        handle = nbdtool.connect(sock, name)
    except nbd.Error:
        pass
    else:
        size = handle.get_size()
        handle.shutdown()
        raise Mismatch(f"served, as a disk of {size} bytes")
    with open(log, encoding="utf-8", errors="strict") as file:
        file.seek(before)
        said = [line.split(f"{name}: ", 1)[1] for line in file
                if "error: qcow2: " in line and f"{name}: " in line]
    if len(said) != 1:
        raise Mismatch(f"refused with {len(said)} messages: {said}")
    if not re.search(message, said[0], re.IGNORECASE):
        raise Mismatch(f"message {said[0]!r} is not like {message!r}")


def check_against_oracle(handle: nbd.NBD, path: str) -> None:
    rng = random.Random(path)
    with oracle.Image(path) as image:
        for offset, length in nbdtool.random_ranges(
                min(handle.get_size(), image.size, 64 << 20), 100, rng,
                image.cluster_size, 40000):
            data = read(handle, offset, length)
            try:
                wanted = image.read(offset, length)
            except oracle.Corrupt:
                continue
            if data is not None and data != wanted:
                raise Mismatch(f"the oracle reads {offset}+{length} "
                               "differently")


def check_served(sock: str, path: str, name: str, entry) -> None:
    handle = nbdtool.connect(sock, name)
    for offset, length in entry.eio:
        if read(handle, offset, length) is not None:
            raise Mismatch(f"could read {length} at {offset}")
    for offset, length, byte in entry.reads:
        data = read(handle, offset, length)
        if data is None:
            raise Mismatch(f"EIO for {length} at {offset}")
        if byte is not None and data != bytes([byte]) * length:
            raise Mismatch(f"other bytes than {byte} at {offset}")
    for offset in (0, handle.get_size() // 2):
        try:
            nbdtool.block_status(
                handle, min(handle.get_size() - offset, 1 << 30), offset)
        except nbd.Error as error:
            if error.errnum != errno.EIO:
                raise
    try:
        check_against_oracle(handle, path)
    except oracle.Refused:
        pass
    handle.shutdown()


def main(sock: str, log: str, directory: str, names: List[str]) -> int:
    failed = 0
    for name in names or hostile.ENTRIES:
        entry = hostile.ENTRIES[name]
        path = hostile.make(name, directory)
        before = digest(path)
        try:
            if entry.open == "refused":
                check_refused(sock, log, os.path.basename(path),
                              entry.message)
            else:
                check_served(sock, path, os.path.basename(path), entry)
            if digest(path) != before:
                raise Mismatch("the image was written to")
            print(f"ok   {name}", flush=True)
        except (Mismatch, nbd.Error) as error:
            print(f"FAIL {name}: {error}", flush=True)
            failed += 1
    print(f"{failed} failed of {len(names or hostile.ENTRIES)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
