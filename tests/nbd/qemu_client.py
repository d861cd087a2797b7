#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A disk through QEMU's own NBD client.

usage: qemu_client.py URI RAW [ARGUMENT...]

QEMU's programs use other requests than libnbd's: they ask for the map one
extent at a time, up to other ends, and read in other sizes.  The disk at URI
must be RAW for each of them:

* `qemu-img map` covers it, reports only true zeros, and equals the map of a
  client that asks for all extents at once;
* `qemu-img convert`, which reads the data of the map, finds RAW;
* `qemu-img dd` reads it from end to end, in blocks of an odd size;
* `qemu-io` reads ranges that begin and end anywhere;
* `qemu-img compare` finds no difference to what `qemu-img ARGUMENT...` opens,
  the file itself, if there are such arguments;
* libnbd asks for one extent at a time, too.

As a module: check, and parts of it for disks too large to read all of them.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
from typing import Iterator, List, Sequence, Tuple

import nbd

import nbdtool
from nbdtool import Mismatch

SECTOR = 512
# Shorter runs than this are not asked about (core/read/extents.c), so what
# one client is told of a hole of a file may be less than what another is.
ZERO, HOLE = nbd.STATE_ZERO, nbd.STATE_HOLE
DD_BLOCK = 65537 * 3
READS = 6

Piece = Tuple[int, int, int]            # offset, length, flags


def run(*command: str, status: int = 0) -> str:
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode != status:
        raise Mismatch(f"{' '.join(command)}: status {done.returncode}: "
                       f"{done.stdout.strip()}")
    return done.stdout


# -- Maps --------------------------------------------------------------------

def qemu_map(uri: str, start: int, end: int) -> List[Piece]:
    """As QEMU's client sees it; it counts in sectors, so perhaps to a little
    behind the end."""
    said = run("qemu-img", "map", "--output=json", "-f", "raw",
               f"--start-offset={start}", f"--max-length={end - start}", uri)
    found = []
    at = start
    for extent in json.loads(said):
        if extent["start"] != at:
            raise Mismatch(f"qemu-img map: {extent['start']} comes after {at}")
        at += extent["length"]
        found.append((extent["start"], extent["length"],
                      (ZERO if extent["zero"] else 0) |
                      (0 if extent["data"] else HOLE)))
    if not end <= at < end + SECTOR:
        raise Mismatch(f"qemu-img map: ends at {at}, not at {end}")
    return found


def one_by_one(handle: nbd.NBD, start: int, end: int) -> List[Piece]:
    """As a client of libnbd sees it that wants one extent at a time."""
    found = []
    while start < end:
        count = min(end - start, 0xFFFFFFFF // 4096 * 4096)
        told = nbdtool.block_status(handle, count, start,
                                    nbd.CMD_FLAG_REQ_ONE)
        if len(told) != 1 or not 0 < told[0][0] <= count:
            raise Mismatch(f"one extent of {count} at {start}: {told}")
        found.append((start, *told[0]))
        start += told[0][0]
    return found


def overlapping(pieces: Sequence[Piece], whole: Sequence[Piece]
                ) -> Iterator[Tuple[int, int, int, int]]:
    """(offset, length, flags of one, flags of the other), in order."""
    index = 0
    for offset, length, flags in pieces:
        end = offset + length
        while offset < end and index < len(whole):
            at, size, other = whole[index]
            to = min(end, at + size)
            if to > offset:
                yield offset, to - offset, flags, other
                offset = to
            if at + size <= end:
                index += 1


def check_map(what: str, pieces: Sequence[Piece], whole: Sequence[Piece],
              truth: bytes) -> None:
    """Against what was told when all was asked for at once."""
    for offset, length, flags, other in overlapping(pieces, whole):
        if flags & ZERO and truth and truth.count(
                0, offset, offset + length) != length:
            raise Mismatch(f"{what}: 'zero' at {offset}+{length} is a lie")
        # QEMU has no smaller unit; holes of files are asked for, or not.
        if flags != other and length >= SECTOR and \
                {flags, other} != {0, ZERO}:
            raise Mismatch(f"{what}: {flags} at {offset}+{length}, but "
                           f"{other} for who asks for all at once")


def full_map(handle: nbd.NBD, start: int, end: int) -> List[Piece]:
    found = []
    for length, flags in nbdtool.disk_map(handle, start, end):
        found.append((start, length, flags))
        start += length
    return found


def check_maps(uri: str, start: int = 0, end: int = -1, truth: bytes = b""
               ) -> None:
    handle = nbdtool.connect(uri)
    end = handle.get_size() if end < 0 else end
    whole = full_map(handle, start, end)
    check_map("one at a time", one_by_one(handle, start, end), whole, truth)
    check_map("qemu-img map", qemu_map(uri, start, end), whole, truth)
    handle.shutdown()


# -- Bytes -------------------------------------------------------------------

def same(what: str, found: bytes, truth: bytes) -> None:
    """QEMU rounds sizes up to sectors."""
    if len(found) != -(-len(truth) // SECTOR) * SECTOR:
        raise Mismatch(f"{what}: {len(found)} bytes, not {len(truth)}")
    if found[:len(truth)] != truth or any(found[len(truth):]):
        where = next((i for i, (a, b) in enumerate(zip(found, truth))
                      if a != b), len(truth))
        raise Mismatch(f"{what}: other bytes at {where}")


def read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def check_copies(uri: str, truth: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        copy = os.path.join(directory, "copy")
        run("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, copy)
        same("qemu-img convert", read_file(copy), truth)
        os.unlink(copy)
        run("qemu-img", "dd", "-f", "raw", "-O", "raw", f"bs={DD_BLOCK}",
            f"if={uri}", f"of={copy}")
        same("qemu-img dd", read_file(copy), truth)


def check_reads(uri: str, truth: bytes) -> None:
    rng = random.Random(len(truth))
    ranges = nbdtool.random_ranges(len(truth), READS, rng, 65536, 1500)
    commands = [part for offset, length in ranges
                for part in ("-c", f"read -v {offset} {length}")]
    said = run("qemu-io", "-r", "-f", "raw", *commands, uri)
    found = b"".join(
        bytes.fromhex(line.group(1)) for line in re.finditer(
            r"^[0-9a-f]+:  ((?:[0-9a-f]{2} )+)", said, re.MULTILINE))
    if found != b"".join(truth[at:at + length] for at, length in ranges):
        raise Mismatch(f"qemu-io: other bytes in {ranges}")


def check_samples(uri: str, samples: Sequence[Tuple[int, int, int]]) -> None:
    """(offset, length, byte)"""
    commands = [part for offset, length, byte in samples
                for part in ("-c", f"read -P {byte} {offset} {length}")]
    said = run("qemu-io", "-r", "-f", "raw", *commands, uri)
    if "failed" in said:
        raise Mismatch(f"qemu-io: {said.strip()}")


def check_file(uri: str, arguments: Sequence[str]) -> None:
    """The same as what is opened by these arguments of qemu-img."""
    if "--image-opts" in arguments:
        server = nbd_options(uri)
        run("qemu-img", "compare", *arguments[:-1], server, arguments[-1])
    else:
        run("qemu-img", "compare", "-f", "raw", *arguments[:-1], uri,
            arguments[-1])


def nbd_options(uri: str) -> str:
    found = re.fullmatch(r"nbd\+unix:///(.*)\?socket=(.*)", uri)
    if found is None or found.group(1):
        raise Mismatch(f"{uri}: only the default export")
    return f"driver=raw,file.driver=nbd,file.path={found.group(2)}"


def check(uri: str, path: str, arguments: Sequence[str] = ()) -> None:
    truth = read_file(path)
    check_maps(uri, truth=truth)
    check_copies(uri, truth)
    if truth:
        check_reads(uri, truth)
    if arguments:
        check_file(uri, arguments)


def main(argv: List[str]) -> int:
    if len(argv) < 3:
        print(__doc__[__doc__.index("usage:"):], file=sys.stderr, end="")
        return 2
    try:
        check(argv[1], argv[2], argv[3:])
    except (Mismatch, nbd.Error) as error:
        print(f"FAIL {argv[1]}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
