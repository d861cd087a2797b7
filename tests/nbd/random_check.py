#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Random legal images (tests/lib/qgen.py) through a server.

usage: random_check.py SOCKET DIR FIRST COUNT

The server behind SOCKET serves the files of DIR.  Each disk must equal the
generator's model, as a whole, by random ranges and in its map; the oracle must
agree, and 7z, if it is installed and supports the image.
"""

import os
import random
import shutil
import subprocess
import sys
from typing import Optional

import nbd

import nbdtool
import oracle
import qfmt
import qgen
from matrix_check import both, check_zero
from nbdtool import Mismatch


def seven_zip(made: qgen.Generated, path: str) -> Optional[bytes]:
    """What 7z makes of it; None if that is not for 7z."""
    head = made.head
    known = head.version in (1, 2, 3) and head.size % 512 == 0 and \
        head.size > 0 and not head.extended and \
        not head.incompatible and head.compression == qfmt.ZLIB
    # It takes no image that ends early, and has its own ideas of headers.
    program = shutil.which("7z") or shutil.which("7zz")
    if not known or not program:
        return None
    done = subprocess.run([program, "x", "-so", "-tqcow", path], check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout if done.returncode == 0 else None


def check_map(handle: nbd.NBD, made: qgen.Generated, image: oracle.Image,
              path: str) -> None:
    mapped = nbdtool.disk_map(handle)
    if sum(length for length, _ in mapped) != len(made.model):
        raise Mismatch("map: the length is wrong")
    for offset, length, ours, models in both(0, mapped, made.extents):
        if ours == 2 and models == 0:
            check_zero(image, path, offset, length)
        elif ours != models:
            raise Mismatch(f"map: {ours} at {offset}+{length}, the model "
                           f"says {models}")


def check_image(sock: str, directory: str, seed: int) -> bool:
    """Returns whether 7z had an opinion."""
    made = qgen.generate(seed, 256 << 10)
    name = f"{seed}.qcow2"
    path, raw = os.path.join(directory, name), os.path.join(directory, "raw")
    made.save(path)
    with open(raw, "wb") as file:
        file.write(made.model)
    nbdtool.compare(sock, raw, reads=60, seed=seed, name=name,
                    edge=1 << made.head.cluster_bits, connections=2)
    handle = nbdtool.connect(sock, name)
    with oracle.Image(path) as image:
        if image.read(0, image.size) != made.model:
            raise Mismatch("the oracle reads something else")
        if made.head.size:
            check_map(handle, made, image, path)
    handle.shutdown()
    fourth = seven_zip(made, path)
    if fourth is not None and fourth != made.model:
        raise Mismatch("7z reads something else")
    os.unlink(path)
    return fourth is not None


def main(sock: str, directory: str, first: str, count: str) -> int:
    opinions = failed = 0
    for seed in range(int(first), int(first) + int(count)):
        try:
            opinions += check_image(sock, directory, seed)
        except (Mismatch, nbd.Error) as error:
            print(f"FAIL seed {seed}: {error}")
            failed += 1
    print(f"{failed} failed of {count}; 7z read {opinions}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
