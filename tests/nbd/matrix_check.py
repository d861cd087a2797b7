#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Images of the matrix through a server, against QEMU and the oracle.

usage: matrix_check.py SOCKET DIR NAME...

The server behind SOCKET serves DIR/NAME.qcow2 as export NAME.qcow2.  For each
image: the exact size, every byte against NAME.raw (what qemu-img convert
reads) and against the oracle, random ranges over several connections, the
map against qemu-nbd's, and all of it through QEMU's own client
(qemu_client.py).  Where the maps may differ, and why:

* QEMU rounds the size down to a multiple of 512; the tail is compared with
  the oracle only.
* A data cluster that is a hole of the file, or past its end, is "zero" (2) for
  us, but data (0) for QEMU, which asks the file system only about some images.
  It is verified to be such a hole and to read as zeros.
* The reverse, but for short runs only: there we do not ask.
"""

import os
import random
import subprocess
import sys
from typing import Iterator, List, Tuple

import nbd

import matrix
import nbdtool
import oracle
import qemu_client
from nbdtool import Extents, Mismatch

# Shorter runs than this are not asked about (core/read/extents.c).
LONG_RUN = 1 << 20
HUGE = 1 << 50
# QEMU's client asks for 2 GiB at a time.
HUGE_FOR_QEMU = 1 << 40
WINDOW = 2 << 30


def connect_qemu(path: str, fmt: str) -> nbd.NBD:
    handle = nbd.NBD()
    handle.add_meta_context(nbdtool.CONTEXT)
    handle.connect_systemd_socket_activation(
        ["qemu-nbd", "-r", "-f", fmt, path])
    return handle


def windows(entry, huge: int = HUGE) -> List[Tuple[int, int]]:
    """Parts of the disk to map: all of it, or, where that would take a
    minute, what is around the samples."""
    if entry.size < huge:
        return [(0, entry.size)]
    return [(max(0, at - WINDOW), min(entry.size, at + WINDOW))
            for at, _, _ in entry.samples]


def both(offset: int, ours: Extents, theirs: Extents
         ) -> Iterator[Tuple[int, int, int, int]]:
    """(offset, length, our flags, their flags) as long as both go."""
    one, two = list(ours), list(theirs)
    while one and two:
        length = min(one[0][0], two[0][0])
        yield offset, length, one[0][1], two[0][1]
        offset += length
        for rest in one, two:
            rest[0] = rest[0][0] - length, rest[0][1]
            if rest[0][0] == 0:
                rest.pop(0)


def is_hole(path: str, host: int, length: int) -> bool:
    """Of the host file, or past its end."""
    with open(path, "rb") as file:
        try:
            return os.lseek(file.fileno(), host, os.SEEK_DATA) \
                >= min(host + length, os.path.getsize(path))
        except OSError:             # no data from there on
            return True


def check_zero(image: oracle.Image, path: str, offset: int,
               length: int) -> None:
    """Data clusters which we say read as zeros."""
    end = offset + length
    while offset < end:
        run = image.lookup(offset)
        length = min(run.length, end - offset)
        if run.kind != "data" or not is_hole(path, run.host, length):
            raise Mismatch(f"map: 'zero' at {offset} is not a hole")
        if any(image.read(offset, length)):
            raise Mismatch(f"map: 'zero' at {offset} is not zero")
        offset += length


def length_of(extents: Extents) -> int:
    return sum(length for length, _ in extents)


def check_map(entry, image: oracle.Image, path: str, ours: nbd.NBD,
              theirs: nbd.NBD) -> None:
    for start, end in windows(entry):
        mapped = nbdtool.disk_map(ours, start, end)
        if length_of(mapped) != end - start:
            raise Mismatch("map: the length is wrong")
        for offset, length, mine, other in both(
                start, mapped, image.extents(start, end - start)):
            if mine == 2 and other == 0:
                check_zero(image, path, offset, length)
            elif mine != other:
                raise Mismatch(f"map: {mine} at {offset}+{length}, the "
                               f"oracle says {other}")
        for offset, length, mine, other in both(
                start, mapped, nbdtool.disk_map(
                    theirs, start, min(end, theirs.get_size()))):
            if mine == other or (mine == 2 and other == 0):
                continue            # verified above
            if not (mine == 0 and other == 2 and length < LONG_RUN and
                    not entry.qemu_map):
                raise Mismatch(f"map: {mine} at {offset}+{length}, QEMU "
                               f"says {other}")


def check_rounded(entry, path: str, raw: str) -> None:
    """What QEMU reads of an odd size must be the start of NAME.raw."""
    read = path + ".qemu"
    subprocess.run(["qemu-img", "convert", "-f", entry.format, "-O", "raw",
                    path, read], check=True)
    with open(read, "rb") as short, open(raw, "rb") as whole:
        theirs = short.read()
        if len(theirs) != entry.size // 512 * 512 or \
                whole.read(len(theirs)) != theirs:
            raise Mismatch("NAME.raw is not what QEMU reads")
    os.unlink(read)


def check_sampled(entry, image: oracle.Image, sock: str, name: str) -> None:
    """A disk too large to read all of it."""
    handles = [nbdtool.connect(sock, name) for _ in range(3)]
    rng = random.Random(entry.size)

    def check(offset: int, data: bytes) -> None:
        if data != image.read(offset, len(data)):
            raise Mismatch(f"read of {len(data)} at {offset}")

    for offset, length, byte in entry.samples:
        if handles[0].pread(length, offset) != bytes([byte]) * length:
            raise Mismatch(f"sample at {offset}")
    near = [(max(0, min(offset + rng.randint(-length, length),
                        entry.size - length)), length)
            for offset, length, _ in entry.samples for _ in range(20)]
    nbdtool.read_many(handles, near, check)
    nbdtool.read_many(handles, nbdtool.random_ranges(
        entry.size, 200, rng, entry.cluster_size), check)
    for handle in handles:
        handle.shutdown()


def check_qemu_client(entry, path: str, raw: str, sock: str) -> None:
    uri = f"nbd+unix:///{os.path.basename(path)}?socket={sock}"
    if entry.raw:
        # Where QEMU rounds a size down, what it opens is another disk.
        same = [] if entry.qemu_rounds else ["-F", entry.format, path]
        qemu_client.check(uri, raw, same)
        return
    for start, end in windows(entry, HUGE_FOR_QEMU):
        qemu_client.check_maps(uri, start, end)
    qemu_client.check_samples(uri, entry.samples)


def check_image(name: str, sock: str, directory: str) -> None:
    entry = matrix.ENTRIES[name]
    path = os.path.join(directory, name + ".qcow2")
    raw = os.path.join(directory, name + ".raw")
    export = name + ".qcow2"
    handle = nbdtool.connect(sock, export)
    qemu = connect_qemu(path, entry.format)
    with oracle.Image(path) as image:
        if handle.get_size() != entry.size:
            raise Mismatch(f"size {handle.get_size()}, not {entry.size}")
        if not handle.is_read_only() or not handle.can_multi_conn():
            raise Mismatch("not read-only, or no multi-conn")
        if entry.raw:
            found = oracle.compare(image, raw)
            if found:
                raise Mismatch(f"the oracle differs from QEMU: {found}")
            if entry.qemu_rounds:
                check_rounded(entry, path, raw)
            nbdtool.compare(sock, raw, reads=300, seed=entry.size,
                            name=export, edge=entry.cluster_size)
        else:
            check_sampled(entry, image, sock, export)
        if qemu.get_size() != entry.size // 512 * 512:
            raise Mismatch(f"QEMU says the size is {qemu.get_size()}")
        check_map(entry, image, path, handle, qemu)
    check_qemu_client(entry, path, raw, sock)
    handle.shutdown()
    qemu.shutdown()


def main(sock: str, directory: str, names: List[str]) -> int:
    failed = 0
    for name in names:
        try:
            check_image(name, sock, directory)
            print(f"ok   {name}", flush=True)
        except (Mismatch, nbd.Error) as error:
            print(f"FAIL {name}: {error}", flush=True)
            failed += 1
    print(f"{failed} failed of {len(names)}")
    return 1 if failed or not names else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
