#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The matrix of real images: every kind that QEMU's programs can make.

usage: matrix.py list [--json]          names, or names with attributes
       matrix.py make NAME... DIR       DIR/NAME.qcow2 and DIR/NAME.raw
       matrix.py make all DIR
       matrix.py selftest [NAME...]     the oracle against QEMU on each

NAME.raw is the disk's exact content.  It is what `qemu-img convert -O raw`
reads, except where QEMU rounds the size down (attribute qemu_rounds): there
it has the odd tail too.  Images with raw=false have none, but `samples`.
matrix_images.py says how each image is made.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Iterable, List, Tuple

import oracle
from build import Build
from matrix_images import ENTRIES, Entry


def attributes(name: str) -> dict:
    entry = ENTRIES[name]
    return {**{key: value for key, value in entry._asdict().items()
               if key != "make"},
            "name": name, "qemu_rounds": entry.qemu_rounds,
            "format": entry.format}


def make(name: str, directory: str) -> Tuple[str, str]:
    """Build one image; returns the paths of image and raw ("" if none)."""
    entry = ENTRIES[name]
    build = Build(directory, name)
    for path in (build.path, build.raw_path):
        if os.path.exists(path):
            os.unlink(path)
    try:
        entry.make(build)
    finally:
        build.clean()
    if entry.raw and not os.path.exists(build.raw_path):
        build.to_raw(entry.format)
    return build.path, build.raw_path if entry.raw else ""


def qemu_map(path: str, fmt: str) -> List[Tuple[int, int]]:
    """What qemu-nbd and nbdinfo say, merged: [(length, flags)]."""
    said = subprocess.run(
        ["nbdinfo", "--map", "--json", "--",
         "[", "qemu-nbd", "-r", "-f", fmt, path, "]"],
        check=True, stdout=subprocess.PIPE, text=True).stdout
    return merge((extent["length"], extent["type"])
                 for extent in (json.loads(said) if said.strip() else []))


def merge(extents: Iterable[Tuple[int, int]]) -> List[Tuple[int, int]]:
    merged: List[Tuple[int, int]] = []
    for length, flags in extents:
        if merged and merged[-1][1] == flags:
            merged[-1] = merged[-1][0] + length, flags
        else:
            merged.append((length, flags))
    return merged


def qemu_check(path: str) -> int:
    return subprocess.run(["qemu-img", "check", "-q", path], check=False,
                          stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode


def problems(entry: Entry, path: str, raw: str) -> List[str]:
    """Everything on which the oracle, QEMU and the attributes disagree."""
    found = []
    with oracle.Image(path) as image:
        facts = (("version", image.version), ("size", image.size),
                 ("cluster_size", image.cluster_size),
                 ("extended_l2", image.extended))
        for key, value in facts:
            if getattr(entry, key) != value:
                found.append(f"{key} is {value}")
        if raw:
            found += filter(None, [oracle.compare(image, raw)])
            kinds = image.kinds()
            if ("compressed" in kinds) != bool(entry.compression):
                found.append(f"compression attribute, kinds {kinds}")
        for offset, length, byte in entry.samples:
            if image.read(offset, length) != bytes([byte]) * length:
                found.append(f"sample at {offset}")
        if "slow-qemu-map" not in entry.tags:
            ours = image.extents(0, image.size // 512 * 512)
            theirs = qemu_map(path, entry.format)
            if not entry.qemu_map:
                theirs = merge((length, 0 if flags == 2 else flags)
                               for length, flags in theirs)
            if ours != theirs:
                found.append(f"map: oracle {ours[:8]} qemu {theirs[:8]}")
    if entry.check is not None and entry.version > 1:
        code = qemu_check(path)
        if code != entry.check:
            found.append(f"qemu-img check exits with {code}")
    return found


def selftest(wanted: List[str]) -> int:
    failed = 0
    for name in wanted or ENTRIES:
        with tempfile.TemporaryDirectory() as directory:
            start = time.monotonic()
            path, raw = make(name, directory)
            took = time.monotonic() - start
            found = problems(ENTRIES[name], path, raw)
            total = time.monotonic() - start
        print(f"{'FAIL' if found else 'ok':4} {took:5.2f}s {total:5.2f}s "
              + name + "".join(f"\n     {text}" for text in found))
        failed += bool(found)
    print(f"{failed} failed of {len(wanted or ENTRIES)}")
    return 1 if failed else 0


def main(argv: List[str]) -> int:
    if argv[1:2] == ["list"]:
        if "--json" in argv:
            print(json.dumps([attributes(name) for name in ENTRIES],
                             indent=1))
        else:
            print("\n".join(ENTRIES))
        return 0
    if argv[1:2] == ["make"] and len(argv) >= 4:
        os.makedirs(argv[-1], exist_ok=True)
        wanted = argv[2:-1] if argv[2] != "all" else list(ENTRIES)
        unknown = [name for name in wanted if name not in ENTRIES]
        if unknown:
            print(f"no such image: {' '.join(unknown)}", file=sys.stderr)
            return 2
        for name in wanted:
            make(name, argv[-1])
        return 0
    if argv[1:2] == ["selftest"]:
        return selftest(argv[2:])
    print(__doc__[__doc__.index("usage:"):], file=sys.stderr, end="")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
