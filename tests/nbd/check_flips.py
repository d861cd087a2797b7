#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Random damage of refcounts and of all other tables, checked and repaired.

usage: check_flips.py PROGRAM DIR SEED COUNT [NAME...]

PROGRAM is tests/unit/check-file.  Of COUNT images for each NAME half get
damage of the refcount structure and of nothing else, at random: pointers of
the refcount table, its place and size in the header, refcounts.  QEMU and we
must agree whether they are sound, have leaks, or are corrupt; after our
repair, with plenty of memory or with little, and after a rebuild, QEMU must
find nothing, and disk and snapshots must read as before.

The other half gets damage anywhere.  However little memory there is, a check
must find the same, each fault once, and a rebuild must change neither the
disk nor any table: no byte of the file, but for 12 of the header, COPIED
flags, and refcounts.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from typing import Any, Callable, Dict, Iterator, List, Tuple

import qfmt
from repair_check import IMAGES, OFFSET, File, content, create, qemu_io
from build import run

PAST_END = 2                    # enum qcow2_finding_kind
MEMORY = (24 << 10, 32 << 10, 48 << 10, 96 << 10, 200 << 10)
FIGURES = ("corruptions", "leaks", "warnings", "check-errors", "incomplete",
           "total-clusters", "allocated-clusters", "compressed-clusters",
           "image-end-offset", "refcounts-unusable")


def fragmented(path: str) -> None:
    """Many clusters, snapshots and bitmaps, in no order."""
    create(path, "cluster_size=512", "8M")
    run("qemu-img", "bitmap", "--add", "-g", "512", path, "fine")
    rng = random.Random(1)
    qemu_io(path, "write -c -P 7 7M 64k")
    for name in ("one", "two", "three"):
        qemu_io(path, *(f"write -P {rng.randrange(256)} "
                        f"{rng.randrange(6 << 10)}k {rng.randrange(1, 600)}k"
                        for _ in range(8)))
        run("qemu-img", "snapshot", "-c", name, path)
    qemu_io(path, "write -P 9 1M 1M", "discard 3M 1M")
    run("qemu-img", "bitmap", "--add", "-g", "1k", path, "coarse")
    qemu_io(path, "write -P 10 0 700k")
    # Of neighbours one is the snapshot's, and one is not.
    qemu_io(path, *(f"write -q -P 11 {at}k 512" for at in range(4096)))


MAKERS: Dict[str, Callable[[str], None]] = dict(IMAGES, fragmented=fragmented)


def ours(program: str, path: str, *options: str) -> Dict[str, Any]:
    done = subprocess.run([program, *options, path], text=True,
                          stdout=subprocess.PIPE, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{path}: {options}: exit {done.returncode}")
    result: Dict[str, Any] = json.loads(done.stdout)
    return result


def kind(found: Dict[str, Any]) -> int:
    """The exit status of qemu-img."""
    return 2 if found["corruptions"] else 3 if found["leaks"] else 0


def qemu(path: str) -> Tuple[int, str]:
    done = subprocess.run(["qemu-img", "check", path], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False)
    return done.returncode, done.stdout


# -- damage -----------------------------------------------------------------

def put(f: File, at: int, value: int) -> None:
    if at + 8 <= len(f.b):
        f.b[at:at + 8] = (value & (1 << 64) - 1).to_bytes(8, "big")


def somewhere(f: File, rng: random.Random) -> int:
    return rng.randrange(len(f.b) // f.cluster) * f.cluster


def some_pointer(f: File, rng: random.Random) -> int:
    """Where a refcount block could be said to be."""
    return rng.choice((
        0, somewhere(f, rng), len(f.b) + rng.randrange(64) * f.cluster,
        f.word(rng.choice(f.blocks())) if f.blocks() else 0,
        f.word(rng.choice(f.entries())) & OFFSET if f.entries() else 0,
        f.get("reftable_offset"), f.get("l1_offset"), rng.getrandbits(55),
        1 << rng.randrange(64)))


def change_pointer(f: File, rng: random.Random) -> None:
    if len(f.table()) > 0:
        put(f, rng.choice(f.table()[:8]), some_pointer(f, rng))


def flip_pointer(f: File, rng: random.Random) -> None:
    if f.blocks():
        at = rng.choice(f.blocks())
        put(f, at, f.word(at) ^ 1 << rng.randrange(9, 40))


def move_table(f: File, rng: random.Random) -> None:
    f.set("reftable_offset",
          rng.choice((somewhere(f, rng), len(f.b) + 3 * f.cluster,
                      f.get("reftable_offset") ^ 1 << rng.randrange(3, 40))))


def resize_table(f: File, rng: random.Random) -> None:
    f.set("reftable_clusters", rng.choice(
        (0, 1, f.get("reftable_clusters") + rng.randrange(1, 20))))


def change_refcounts(f: File, rng: random.Random) -> None:
    for _ in range(rng.randrange(1, 30)):
        block = f.word(rng.choice(f.blocks())) & OFFSET if f.blocks() else 0
        if block and block + f.cluster <= len(f.b):
            f.b[block + rng.randrange(f.cluster)] ^= 1 << rng.randrange(8)


def change_entry(f: File, rng: random.Random) -> None:
    """Of an L1 or L2 table: any bit."""
    if f.entries():
        at = rng.choice(f.entries())
        put(f, at, f.word(at) ^ 1 << rng.randrange(64))


def share_entry(f: File, rng: random.Random) -> None:
    if f.entries():
        put(f, rng.choice(f.entries()),
            f.word(rng.choice(f.entries())) if rng.random() < .5
            else somewhere(f, rng) | 1 << 63)


def damage_list(f: File, rng: random.Random) -> None:
    """The snapshot table, or the bitmap directory."""
    at = f.get("snapshots_offset") if rng.random() < .5 else 0
    if at == 0:
        extension = bytes(f.b).find(b"\x23\x85\x28\x75", 72, 4096)
        if extension < 0:
            return
        at = f.word(extension + 24)
    if at + 256 <= len(f.b):
        f.b[at + rng.randrange(256)] ^= 1 << rng.randrange(8)


# In this order, so that nothing but refcounts is damaged.
STRUCTURE = (change_refcounts, change_pointer, flip_pointer, resize_table,
             move_table)
ANYWHERE = STRUCTURE + (change_entry, change_entry, share_entry, share_entry,
                        damage_list)


# -- judging ----------------------------------------------------------------

def changed_bytes(old: bytes, new: bytes) -> Iterator[int]:
    for start in range(0, len(old), 512):
        if old[start:start + 512] != new[start:start + 512]:
            yield from (i for i in range(start, min(start + 512, len(old)))
                        if old[i] != new[i])


class Image:
    def __init__(self, program: str, path: str, what: str):
        self.program, self.path, self.what = program, path, what
        self.copy = path + ".copy"

    def fail(self, text: str) -> None:
        if os.environ.get("KEEP"):
            shutil.copy(self.path, os.environ["KEEP"])
        raise SystemExit(f"{self.what}: {text}")

    def sorted(self, found: Dict[str, Any]) -> List[str]:
        return sorted(json.dumps(f, sort_keys=True)
                      for f in found["findings"])

    def parts(self) -> int:
        """Returns in how many parts it was checked at most."""
        whole = ours(self.program, self.path)
        most = 1
        for memory in MEMORY:
            found = ours(self.program, self.path, "-m", str(memory))
            if "failed" in found or "error" in found:
                continue
            most = max(most, found["windows"])
            a, b = self.sorted(whole), self.sorted(found)
            if a != b:
                self.fail(f"{found['windows']} parts: only then: "
                          f"{[x for x in b if x not in a][:3]}, only at once: "
                          f"{[x for x in a if x not in b][:3]} {len(a)} "
                          f"{len(b)}")
            for name in FIGURES:
                if whole[name] != found[name]:
                    self.fail(f"{found['windows']} parts: {name}: "
                              f"{whole[name]} at once, {found[name]}")
        return most

    def repaired(self, before: Dict[str, str], *options: str) -> None:
        shutil.copy(self.path, self.copy)
        found = ours(self.program, self.copy, *options)
        if "failed" in found and "-m" in options:
            return
        status, text = qemu(self.copy)
        if status != 0:
            self.fail(f"after {options}: qemu-img check: exit {status}\n"
                      f"{text[:1000]}\n{found}")
        if content(self.copy) != before:
            self.fail(f"after {options}: the content has changed")
        if kind(ours(self.program, self.copy)) != 0:
            self.fail(f"after {options}: we are not content")

    def untouched(self, *options: str) -> None:
        """A rebuild keeps every byte that is no refcount and no flag."""
        shutil.copy(self.path, self.copy)
        old = File(self.copy)
        found = ours(self.program, self.copy, "-r", "rebuild", *options)
        if "failed" in found or "error" in found:
            return
        new = File(self.copy)
        blocks = set()
        end = len(old.b)
        if new.get("reftable_offset") == old.get("reftable_offset"):
            for at in old.blocks():
                blocks.add(old.word(at) // old.cluster)
        else:                   # what is new is behind all that is in use
            end = min(end, new.get("reftable_offset"))
        for i in changed_bytes(old.b[:end], new.b[:end]):
            if not 48 <= i < 60 and \
                    not 72 <= i < 80 and i // old.cluster not in blocks and \
                    not (i % 8 == 0 and old.b[i] ^ new.b[i] == 0x80):
                self.fail(f"a rebuild has changed the byte at {i:#x}")
        # Entries name places past the end, where nothing new may be put.
        cut_off = any(f["kind"] == PAST_END for f in found["findings"])
        if found["refcounts-unusable"] and not cut_off:
            self.fail(f"it is not rebuilt: {found['findings'][:5]}")


def try_structure(image: Image, before: Dict[str, str],
                  rng: random.Random) -> bool:
    f = File(image.path)
    for damage in sorted(rng.choices(STRUCTURE, k=rng.randrange(1, 4)),
                         key=STRUCTURE.index):
        image.what += f" {damage.__name__}"
        damage(f, rng)
    f.save()
    status, text = qemu(image.path)
    found = ours(image.program, image.path)
    # What QEMU does not open has no exit status of a check.
    if "corruptions" in found and status != 1 and kind(found) != status:
        image.fail(f"QEMU says {status}, we {kind(found)}:\n{text[:1000]}\n"
                   f"{found}")
    if "error" in found:
        image.fail(found["error"])
    image.repaired(before, "-r", "all")
    image.repaired(before, "-r", "rebuild")
    memory = str(rng.choice(MEMORY))
    image.repaired(before, "-r", rng.choice(("all", "rebuild")), "-m", memory)
    return status != 0


def try_anywhere(image: Image, rng: random.Random) -> int:
    f = File(image.path)
    for damage in rng.choices(ANYWHERE, k=rng.randrange(1, 12)):
        image.what += f" {damage.__name__}"
        damage(f, rng)
    f.save()
    if "error" in ours(image.program, image.path):
        return 1
    parts = image.parts()
    image.untouched()
    image.untouched("-m", str(rng.choice(MEMORY)))
    return parts


def main() -> None:
    program, directory = sys.argv[1:3]
    seed, count = int(sys.argv[3]), int(sys.argv[4])
    path = os.path.join(directory, "flips.qcow2")
    damaged = parts = 0
    for name in sys.argv[5:] or list(MAKERS):
        original = os.path.join(directory, name + ".original")
        MAKERS[name](original)
        if File(original).get("incompatible") & qfmt.INCOMPAT_DIRTY:
            subprocess.run(["qemu-img", "check", "-q", "-r", "all", original],
                           stdout=subprocess.DEVNULL, check=False)
        before = content(original)
        for i in range(count):
            shutil.copy(original, path)
            rng = random.Random(f"{seed} {name} {i}")
            image = Image(program, path, f"{name}, {seed}, {i}:")
            if i % 2:
                parts += try_anywhere(image, rng) > 1
            else:
                damaged += try_structure(image, before, rng)
        os.unlink(original)
    print(f"{damaged} images were damaged, {parts} checked in parts")
    if damaged == 0 or ("fragmented" in sys.argv[5:] and parts == 0):
        raise SystemExit("too few: the test tests nothing")


if __name__ == "__main__":
    main()
