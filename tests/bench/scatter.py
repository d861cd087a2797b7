# SPDX-License-Identifier: BSD-3-Clause
"""Writes qcow2 images whose clusters lie in random order in the file.

QEMU's tools write in the order of the disk; a disk that was in use for a
while looks like this.  Version 3, clusters of 64 KiB, 16 bit refcounts, one
L2 table: disks up to 512 MiB.
"""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

CLUSTER = 65536
REFCOUNT_TABLE, REFCOUNT_BLOCK, L1, L2, DATA = (
    CLUSTER * n for n in (1, 2, 3, 4, 5))
COPIED, COMPRESSED = 1 << 63, 1 << 62


def _header(size: int) -> bytes:
    return struct.pack(
        ">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 16, size, 0, 1, L1,
        REFCOUNT_TABLE, 1, 0, 0, 0, 0, 0, 4, 104)


def _deflate(data: bytes) -> bytes | None:
    """None if it does not get smaller."""
    c = zlib.compressobj(6, zlib.DEFLATED, -12)
    stream = c.compress(data) + c.flush()
    return stream if len(stream) < len(data) else None


def write(path: Path, raw: Path, compress: bool, seed: int = 1) -> None:
    """The bytes of a raw file as such an image."""
    disk = raw.read_bytes()
    count = len(disk) // CLUSTER
    order = list(range(count))
    random.Random(seed).shuffle(order)
    l2 = [0] * (CLUSTER // 8)
    refcounts = [1] * 5 + [0] * (CLUSTER // 2 - 5)
    end = DATA

    with open(path, "wb") as out:
        for i in order:
            data = disk[i * CLUSTER:(i + 1) * CLUSTER]
            stream = _deflate(data) if compress else None
            if stream is None:
                end += -end % CLUSTER
                l2[i] = end | COPIED
            else:
                sectors = (end % 512 + len(stream) - 1) // 512
                l2[i] = end | COMPRESSED | sectors << 54
            out.seek(end)
            out.write(stream or data)
            last = end + len(stream or data) - 1
            for n in range(end // CLUSTER, last // CLUSTER + 1):
                refcounts[n] += 1
            end = last + 1
        out.truncate(end + -end % CLUSTER)
        for offset, data in (
                (0, _header(len(disk))),
                (REFCOUNT_TABLE, struct.pack(">Q", REFCOUNT_BLOCK)),
                (REFCOUNT_BLOCK, struct.pack(f">{len(refcounts)}H",
                                             *refcounts)),
                (L1, struct.pack(">Q", L2 | COPIED)),
                (L2, struct.pack(f">{len(l2)}Q", *l2))):
            out.seek(offset)
            out.write(data)
