#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Damaged copies of sound images through a server.

usage: damage_check.py truncate SOCKET DIR
       damage_check.py bitflip SOCKET DIR FIRST COUNT

The server behind SOCKET serves the files of DIR.  With any damage, each read
returns data or EIO, the file does not change, and our data is the oracle's, if
that can read it.

truncate cuts each image at every 512 bytes.  Then QEMU reads it as well: a
disk that it can read in full must read the same here; one that it cannot must
fail here, in opening or in some read.
bitflip flips bits of metadata; COUNT seeds from FIRST on.
"""

import errno
import os
import random
import subprocess
import sys
from typing import Dict, List, Optional

import nbd

import hostile
import nbdtool
import oracle
from build import Build
from nbdtool import Mismatch

K, M = 1 << 10, 1 << 20
CHUNK = 64 * K
MOST = 2 * M            # of a disk that is read; a flip may make it huge


def small_images(directory: str) -> Dict[str, bytes]:
    """Small images which hold all kinds of clusters, by name."""
    found = {}

    def add(name: str, fmt: str = "qcow2", size: int = 256 * K,
            more: tuple = (), **options) -> None:
        build = Build(directory, name)
        build.create(size, fmt=fmt, **options)
        build.io("write -q -P 1 0 20k", "write -q -P 2 60k 9k",
                 "write -q -P 3 200k 30k", *more, fmt=fmt)
        with open(build.path, "rb") as file:
            found[name] = file.read()
        os.unlink(build.path)

    packed = ("write -q -c -P 4 128k 4k", "write -q -c -P 5 132k 4k")
    zeros = ("write -q -z 32k 8k", "write -q -z 200k 4k", "discard 16k 4k")
    add("plain", more=packed + zeros, cluster_size=4 * K)
    add("sectors", more=zeros, cluster_size=512, size=512 * K)
    add("zstd", more=packed + zeros, cluster_size=4 * K,
        compression_type="zstd")
    add("v2", more=packed, cluster_size=4 * K, compat="0.10",
        refcount_bits=16)
    add("extl2", more=("write -q -c -P 4 128k 16k", *zeros),
        cluster_size=16 * K, extended_l2="on")
    add("v1", fmt="qcow")
    return found


def read_all(handle: nbd.NBD) -> List[Optional[bytes]]:
    """The disk in pieces, None for those that are EIO."""
    pieces: List[Optional[bytes]] = []
    for offset in range(0, min(handle.get_size(), MOST), CHUNK):
        length = min(CHUNK, handle.get_size() - offset)
        try:
            pieces.append(bytes(handle.pread(length, offset)))
        except nbd.Error as error:
            if error.errnum != errno.EIO:
                raise
            pieces.append(None)
    return pieces


def map_some(handle: nbd.NBD, rng: random.Random) -> None:
    """Extents here and there: any answer but a crash will do."""
    size = handle.get_size()
    for offset in [0] + [rng.randrange(size) for _ in range(3)]:
        try:
            nbdtool.block_status(handle, min(size - offset, 1 << 30),
                                 offset)
        except nbd.Error as error:
            if error.errnum != errno.EIO:
                raise


def serve(sock: str, directory: str, name: str, image: bytes
          ) -> Optional[List[Optional[bytes]]]:
    """What the server makes of an image; None if it refuses it."""
    path = os.path.join(directory, name)
    with open(path, "wb") as file:
        file.write(image)
    try:
        handle = nbdtool.connect(sock, name)
    except nbd.Error:
        return None
    pieces = read_all(handle)
    if handle.get_size():
        map_some(handle, random.Random(name))
    handle.shutdown()
    with open(path, "rb") as file:
        if file.read() != image:
            raise Mismatch("the image was written to")
    return pieces


def check_oracle(image: bytes, pieces: List[Optional[bytes]]) -> int:
    """Returns how many pieces both could read."""
    equal = 0
    try:
        decoder = oracle.Image(image)
    except oracle.Refused:
        return 0
    for index, data in enumerate(pieces):
        try:
            wanted = decoder.read(index * CHUNK, len(data or b""))
        except (oracle.Corrupt, ValueError):
            continue
        if data is not None:
            equal += 1
            if data != wanted:
                raise Mismatch(f"the oracle differs at {index * CHUNK}")
    return equal


def check_qemu(path: str, fmt: str, raw: str,
               pieces: Optional[List[Optional[bytes]]]) -> None:
    done = subprocess.run(
        ["qemu-img", "convert", "-f", fmt, "-O", "raw", path, raw],
        check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    failed = pieces is None or None in pieces
    if (done.returncode != 0) != failed:
        raise Mismatch("only we fail" if failed else "only QEMU fails")
    if not failed:
        with open(raw, "rb") as file:
            if file.read() != b"".join(pieces):
                raise Mismatch("QEMU reads something else")


def truncate(sock: str, directory: str) -> str:
    refused = errors = whole = 0
    raw = os.path.join(directory, "raw")
    for base, image in small_images(directory).items():
        for length in range(0, len(image), 512):
            name = f"{base}-{length}"
            path = os.path.join(directory, name)
            cut = hostile.truncate(image, length)
            try:
                pieces = serve(sock, directory, name, cut)
                if pieces is not None:
                    check_oracle(cut, pieces)
                check_qemu(path, "qcow" if base == "v1" else "qcow2", raw,
                           pieces)
            except (Mismatch, nbd.Error) as error:
                raise Mismatch(f"{name}: {error}") from None
            refused += pieces is None
            errors += pieces is not None and None in pieces
            whole += pieces is not None and None not in pieces
            os.unlink(path)
    if min(refused, errors, whole) == 0:
        raise Mismatch("something that must happen never did")
    return f"{refused} refused, {errors} with errors, {whole} whole"


def bitflip(sock: str, directory: str, first: int, count: int) -> str:
    refused = served = failed = equal = 0
    images = list(small_images(directory).items())
    for seed in range(first, first + count):
        base, image = images[seed % len(images)]
        name = f"{base}-{seed}"
        flipped = hostile.bitflip(image, seed)
        try:
            pieces = serve(sock, directory, name, flipped)
            if pieces is not None:
                equal += check_oracle(flipped, pieces)
        except (Mismatch, nbd.Error) as error:
            raise Mismatch(f"{name}: {error}") from None
        refused += pieces is None
        served += pieces is not None
        failed += (pieces or []).count(None)
        os.unlink(os.path.join(directory, name))
    if min(refused, served, failed, equal) == 0:
        raise Mismatch("something that must happen never did")
    return (f"{refused} refused, {served} served, {failed} pieces failed, "
            f"{equal} equal to the oracle's")


def main(arguments: List[str]) -> int:
    mode, sock, directory = arguments[:3]
    try:
        if mode == "truncate":
            print(truncate(sock, directory))
        else:
            print(bitflip(sock, directory, int(arguments[3]),
                          int(arguments[4])))
    except Mismatch as error:
        print(f"damage_check: {mode}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
