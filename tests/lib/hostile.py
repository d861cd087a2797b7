#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Hostile images, and damage for a fuzz loop.

usage: hostile.py list [--json]      names, or names with expectations
       hostile.py make NAME... DIR   DIR/NAME.qcow2 ("all": every one)
       hostile.py selftest [NAME...] the expectations against QEMU

hostile_images.py has the images.  What is expected of each:
  open     "refused", with `message` (a regex, any case) in the error, or "ok"
  eio      [offset, length] ranges whose read must fail, and only they
  reads    [offset, length, byte] that must read as that byte; null: must be
           read, as what QEMU makes of it
  why      where QEMU decides otherwise on opening, the reason we do not
"""

import json
import os
import random
import struct
import subprocess
import sys
import tempfile
from typing import List, Sequence, Tuple

import oracle
import qfmt
from build import Build
from hostile_images import ENTRIES, Hostile


# -- damage ----------------------------------------------------------------

def truncate(image: bytes, length: int) -> bytes:
    return image[:length]


def metadata(image: bytes) -> List[Tuple[int, int]]:
    """(offset, length) of the header, the L1 table, every L2 table it
    names, and the first refcount table and block of a sound image.  (A
    sound one may end early: what is not there is zero.)"""
    def word(offset: int, code: str = ">Q") -> int:
        length = struct.calcsize(code)
        return struct.unpack(code, image[offset:offset + length]
                             .ljust(length, b"\0"))[0]
    version = word(4, ">I")
    fields = qfmt.HEADER_V1 if version == 1 else qfmt.HEADER

    def get(name: str) -> int:
        return word(*fields[name])
    unit = 1 << get("cluster_bits")
    l1 = get("l1_offset")
    if version == 1:
        regions = [(0, 48)]
        table = 8 << get("l2_bits")
        entries = qfmt.ceil_div(get("size"), unit * table // 8)
    else:
        regions = [(0, 256), (get("reftable_offset"), 64)]
        entries, table = get("l1_size"), unit
        regions.append((word(get("reftable_offset")), unit))
    regions.append((l1, entries * 8))
    for index in range(entries):
        if offset := word(l1 + 8 * index) & qfmt.OFFSET_MASK:
            regions.append((offset, table))
    return [(at, min(length, len(image) - at)) for at, length in regions
            if length and at < len(image)]


def bitflip(image: bytes, seed: int,
            regions: Sequence[Tuple[int, int]] = (),
            most: int = 8) -> bytes:
    """A copy with one to MOST bits flipped in the metadata (or in the
    regions given).  Every region is as likely as every other, so that a
    header is hit as often as a table a thousand times its size."""
    rng = random.Random(f"bitflip {seed}")
    regions = regions or metadata(image)
    damaged = bytearray(image)
    for _ in range(rng.randint(1, most)):
        start, length = rng.choice(regions)
        damaged[start + rng.randrange(length)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


# -- images ----------------------------------------------------------------

def expectations(name: str) -> dict:
    return {"name": name, **{key: value for key, value
                             in ENTRIES[name]._asdict().items()
                             if key != "make"}}


def make(name: str, directory: str) -> str:
    """Build one image; returns its path.  Helper files stay beside it."""
    build = Build(directory, name)
    if os.path.exists(build.path):
        os.unlink(build.path)
    try:
        ENTRIES[name].make(build)
    finally:
        build.clean()
    return build.path


# -- the expectations against QEMU and the oracle --------------------------

def qemu_io(path: str, fmt: str, *commands: str) -> Tuple[int, str]:
    arguments = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(["qemu-io", "-r", "-f", fmt, *arguments, path],
                          check=False, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, errors="replace",
                          timeout=60)
    return done.returncode, done.stdout


def qemu_opens(path: str, fmt: str) -> bool:
    info = subprocess.run(["qemu-img", "info", "-f", fmt, path],
                          check=False, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0
    said = qemu_io(path, fmt, "length")
    # An encrypted image has an info, but opens only with a key.
    return info and said[0] == 0


def qemu_problems(entry: Hostile, path: str) -> List[str]:
    found = []
    if entry.qemu == "hangs":
        return found
    opens = qemu_opens(path, entry.format)
    if opens != ((entry.qemu or entry.open) == "ok"):
        found.append(f"QEMU {'opens' if opens else 'refuses'} it")
    if bool(entry.why) != (entry.qemu not in ("", entry.open)):
        found.append("why and qemu do not fit")
    if entry.open == "ok" and opens:
        for offset, length in entry.eio:
            code, said = qemu_io(path, entry.format,
                                 f"read {offset} {length}")
            if code == 0 or "Input/output error" not in said:
                found.append(f"QEMU reads {offset}+{length}: {said}")
        for offset, length, byte in entry.reads:
            flag = "" if byte is None else f"-P {byte} "
            code, said = qemu_io(path, entry.format,
                                 f"read {flag}{offset} {length}")
            if code != 0:
                found.append(f"QEMU at {offset}+{length}: {said}")
    return found


def oracle_problems(entry: Hostile, path: str) -> List[str]:
    found = []
    try:
        image = oracle.Image(path)
    except oracle.Refused as error:
        return [] if entry.open == "refused" else [f"oracle: {error}"]
    # It checks only what it needs, so it need not refuse all others do.
    if entry.open == "ok":
        for offset, length in entry.eio:
            try:
                image.read(offset, length)
                found.append(f"the oracle reads {offset}+{length}")
            except oracle.Corrupt:
                pass
        for offset, length, byte in entry.reads:
            try:
                data = image.read(offset, length)
                if byte is not None and data != bytes([byte]) * length:
                    found.append(f"oracle: other bytes at {offset}")
            except oracle.Corrupt as error:
                found.append(f"oracle at {offset}+{length}: {error}")
    image.close()
    return found


def selftest(wanted: List[str]) -> int:
    failed = 0
    for name in wanted or ENTRIES:
        entry = ENTRIES[name]
        with tempfile.TemporaryDirectory() as directory:
            path = make(name, directory)
            found = qemu_problems(entry, path) + oracle_problems(entry, path)
        if entry.open == "refused" and not entry.message:
            found.append("no message expected")
        if entry.open == "ok" and not entry.eio and not entry.reads:
            found.append("nothing expected")
        print(f"{'FAIL' if found else 'ok':4} {name}"
              + "".join(f"\n     {text.strip()}" for text in found))
        failed += bool(found)
    print(f"{failed} failed of {len(wanted or ENTRIES)}")
    return 1 if failed else 0


def main(argv: List[str]) -> int:
    if argv[1:2] == ["list"]:
        if "--json" in argv:
            print(json.dumps([expectations(name) for name in ENTRIES],
                             indent=1))
        else:
            print("\n".join(ENTRIES))
        return 0
    if argv[1:2] == ["make"] and len(argv) >= 4:
        os.makedirs(argv[-1], exist_ok=True)
        for name in argv[2:-1] if argv[2] != "all" else ENTRIES:
            make(name, argv[-1])
        return 0
    if argv[1:2] == ["selftest"]:
        return selftest(argv[2:])
    print(__doc__[__doc__.index("usage:"):__doc__.index("\nhostile_images")],
          file=sys.stderr, end="")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
