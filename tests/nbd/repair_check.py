#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Images that were not closed cleanly, repaired by us and checked by QEMU.

usage: repair_check.py PROGRAM DIR [SEED]

PROGRAM is tests/unit/repair-file.  QEMU makes images of all kinds; each gets
every damage that a repair can undo and the dirty bit, and is repaired.  Then
'qemu-img check' must find no errors, the disk and all snapshots must read as
before, and a second scan must find nothing to do.
"""

import hashlib
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
from typing import Callable, Dict, List, Tuple

import qfmt
from build import run

COPIED = 1 << 63
OFFSET = 0x00FFFFFFFFFFFE00


def qemu_io(path: str, *commands: str) -> None:
    run("qemu-io", "-f", "qcow2", *[a for c in commands for a in ("-c", c)],
        path)


def kill_writer(path: str, *commands: str) -> None:
    """Like qemu_io, but the program is killed when it is done."""
    args = [a for c in commands + ("flush", f"sigraise {signal.SIGKILL:d}")
            for a in ("-c", c)]
    done = subprocess.run(["qemu-io", "-f", "qcow2", *args, path],
                          stdout=subprocess.DEVNULL, check=False)
    if done.returncode != -signal.SIGKILL:
        raise RuntimeError(f"qemu-io was not killed: {done.returncode}")


# -- images -----------------------------------------------------------------

WRITES = ("write -P 1 0 1M", "write -P 2 1100k 200k", "write -P 3 3M 64k",
          "write -z 128k 64k", "write -z -u 256k 64k", "discard 512k 128k")


def create(path: str, options: str = "", size: str = "8M") -> None:
    run("qemu-img", "create", "-q", "-f", "qcow2",
        *(("-o", options) if options else ()), path, size)


def filled(options: str, *more: str, size: str = "8M"
           ) -> Callable[[str], None]:
    def make(path: str) -> None:
        create(path, options, size)
        qemu_io(path, *WRITES, *more)
    return make


def snapshots(options: str, count: int, *more: str
              ) -> Callable[[str], None]:
    def make(path: str) -> None:
        create(path, options)
        qemu_io(path, *WRITES, "write -b -P 9 0 256k", *more)
        run("qemu-img", "snapshot", "-c", "one", path)
        qemu_io(path, "write -P 4 64k 300k", "discard 3M 1M")
        run("qemu-img", "snapshot", "-c", "two", path)
        qemu_io(path, "write -P 5 0 64k", "write -z 6M 128k")
        for n in range(3, count + 1):
            run("qemu-img", "snapshot", "-c", str(n), path)
        run("qemu-img", "snapshot", "-d", "one", path)
    return make


def bitmaps(path: str) -> None:
    create(path, "cluster_size=4k")
    run("qemu-img", "bitmap", "--add", "-g", "512", path, "fine")
    run("qemu-img", "bitmap", "--add", "-g", "64k", path, "coarse")
    qemu_io(path, *WRITES)
    run("qemu-img", "bitmap", "--disable", path, "coarse")


def lazy(path: str) -> None:
    create(path, "lazy_refcounts=on")
    qemu_io(path, *WRITES[:2])
    kill_writer(path, "write -P 6 2M 900k", "write -P 7 4M 64k")


def lazy_big(path: str) -> None:
    """Refcount blocks and a larger table that were never written."""
    create(path, "lazy_refcounts=on,cluster_size=512", "24M")
    kill_writer(path, "write -P 6 0 20M")


IMAGES: Dict[str, Callable[[str], None]] = {
    "plain": filled("", "write -c -P 7 5M 64k", "write -c -P 8 6M 1M"),
    "tiny-clusters": filled("cluster_size=512", "write -P 8 0 12M",
                            size="16M"),
    "huge-clusters": filled("cluster_size=2M", "write -P 8 20M 1M",
                            size="32M"),
    "1-bit": filled("refcount_bits=1"),
    "2-bit": filled("refcount_bits=2,cluster_size=1k"),
    "8-bit": snapshots("refcount_bits=8", 2),
    "64-bit": snapshots("refcount_bits=64,cluster_size=512", 2,
                        "write -c -P 7 5M 64k"),
    "extended": filled("extended_l2=on,cluster_size=16k",
                       "write -P 8 5M 3k", "write -z 5M 1k",
                       "write -c -P 7 6M 16k"),
    "zstd": filled("compression_type=zstd", "write -c -P 7 5M 1M"),
    "prealloc": filled("preallocation=metadata"),
    # More users than fit into four bits.
    "snapshots": snapshots("cluster_size=4k", 20, "write -c -P 7 5M 64k",
                           "write -c -P 8 6M 2M"),
    "bitmaps": bitmaps,
    "lazy": lazy,
    "lazy-big": lazy_big,
    "empty": create,
}


# -- damage -----------------------------------------------------------------

class File:
    """An image whose bytes are changed in memory."""

    def __init__(self, path: str):
        self.path = path
        with open(path, "rb") as f:
            self.b = bytearray(f.read())
        self.cluster = 1 << self.get("cluster_bits")

    def get(self, name: str) -> int:
        offset, code = qfmt.HEADER[name]
        return struct.unpack_from(code, self.b, offset)[0]

    def set(self, name: str, value: int) -> None:
        offset, code = qfmt.HEADER[name]
        struct.pack_into(code, self.b, offset, value)

    def word(self, offset: int) -> int:
        chunk = bytes(self.b[offset:offset + 8])
        return struct.unpack(">Q", chunk.ljust(8, b"\0"))[0]

    def save(self) -> None:
        with open(self.path, "wb") as f:
            f.write(self.b)

    def table(self) -> range:
        start = self.get("reftable_offset")
        return range(start, start + self.get("reftable_clusters") *
                     self.cluster, 8)

    def blocks(self) -> List[int]:
        """Offsets of entries of the refcount table that are in use."""
        return [at for at in self.table() if self.word(at)]

    def entries(self) -> List[int]:
        """Offsets of all entries of the active tables that point to
        something, but not to compressed data."""
        extended = self.get("incompatible") & qfmt.INCOMPAT_EXTL2
        found = []
        start = self.get("l1_offset")
        for at in range(start, start + 8 * self.get("l1_size"), 8):
            l2 = self.word(at) & OFFSET
            if l2:
                found.append(at)
                found += [e for e in range(l2, l2 + self.cluster,
                                           16 if extended else 8)
                          if self.word(e) & OFFSET
                          and not self.word(e) & 1 << 62]
        return found


def flip_refcounts(f: File, rng: random.Random) -> None:
    for _ in range(20):
        block = f.word(rng.choice(f.blocks()))
        f.b[block + rng.randrange(f.cluster)] ^= 1 << rng.randrange(8)


def fill_block(f: File, rng: random.Random) -> None:
    block = f.word(rng.choice(f.blocks()))
    f.b[block:block + f.cluster] = rng.randbytes(f.cluster)


def zero_block(f: File, rng: random.Random) -> None:
    block = f.word(rng.choice(f.blocks()))
    f.b[block:block + f.cluster] = bytes(f.cluster)


def lose_block(f: File, rng: random.Random) -> None:
    at = rng.choice(f.blocks())
    f.b[at:at + 8] = bytes(8)


def lose_all_blocks(f: File, _rng: random.Random) -> None:
    for at in f.blocks():
        f.b[at:at + 8] = bytes(8)


def cut_table(f: File, _rng: random.Random) -> None:
    f.set("reftable_clusters", 1)
    lose_all_blocks(f, _rng)


def flip_flags(f: File, rng: random.Random) -> None:
    entries = f.entries()
    for at in rng.sample(entries, min(50, len(entries))):
        f.b[at] ^= 0x80


def nothing(_f: File, _rng: random.Random) -> None:
    pass


DAMAGES = (nothing, flip_refcounts, fill_block, zero_block, lose_block,
           lose_all_blocks, cut_table, flip_flags)


# -- judging ----------------------------------------------------------------

def content(path: str) -> Dict[str, str]:
    """What the disk and each snapshot read as."""
    listing = run("qemu-img", "snapshot", "-l", path).splitlines()[2:]
    names = [""] + [line.split()[1] for line in listing]
    if len(names) > 4:
        names = names[:3] + names[-1:]
    result = {}
    for name in names:
        raw = path + ".raw"
        run("qemu-img", "convert", "-O", "raw",
            *(("-l", f"snapshot.name={name}") if name else ()), path, raw)
        with open(raw, "rb") as f:
            result[name] = hashlib.sha256(f.read()).hexdigest()
        os.unlink(raw)
    return result


def judge(program: str, path: str, before: Dict[str, str], what: str) -> str:
    """Repair, and say what our program has found."""
    found = run(program, path)
    check = subprocess.run(["qemu-img", "check", path], text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           check=False)
    if check.returncode != 0:
        raise SystemExit(f"{what}: {found}qemu-img check: exit "
                         f"{check.returncode}\n{check.stdout[:2000]}")
    again = run(program, "-n", path)
    if "are right" not in again:
        raise SystemExit(f"{what}: {found}a second scan: {again}")
    f = File(path)
    if f.get("incompatible") & qfmt.INCOMPAT_DIRTY:
        raise SystemExit(f"{what}: it is still dirty")
    if content(path) != before:
        raise SystemExit(f"{what}: the content has changed")
    return found


def check_image(program: str, directory: str, name: str,
                rng: random.Random) -> Tuple[int, int]:
    original = os.path.join(directory, name + ".original")
    path = os.path.join(directory, name + ".qcow2")
    IMAGES[name](original)
    shutil.copy(original, path)
    before = content(path)      # QEMU may repair what it reads
    done = repaired = 0
    for damage in DAMAGES:
        shutil.copy(original, path)
        f = File(path)
        damage(f, rng)
        f.set("incompatible", f.get("incompatible") | qfmt.INCOMPAT_DIRTY)
        f.save()
        found = judge(program, path, before, f"{name}, {damage.__name__}")
        done += 1
        repaired += "are right" not in found
    os.unlink(path)
    os.unlink(original)
    return done, repaired


def main() -> None:
    program, directory = sys.argv[1:3]
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    rng = random.Random(seed)
    total = total_repaired = 0
    for name in IMAGES:
        done, repaired = check_image(program, directory, name, rng)
        total += done
        total_repaired += repaired
    print(f"{total} images, {total_repaired} of them needed repair")
    # Each damage but the first must have been damage nearly everywhere.
    if total_repaired < total * 3 // 4:
        raise SystemExit("too few needed repair: the test tests nothing")


if __name__ == "__main__":
    main()
