# SPDX-License-Identifier: BSD-3-Clause
"""What qcow2ctl check --dry-run says is what --repair then does.

usage: dry_run.py QCOW2CTL DIR SEED COUNT [NAME...]

Of each image COUNT copies are damaged at random, as by
tests/nbd/check_flips.py; some are cut off.  For each repair a dry run is
compared with the repair of a copy: what is repaired, what stays, whether
refcounts are written anew, and where, and whether it fails.  The image
that in_parts makes needs more memory than the least that can be given.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from typing import Any, Callable, Dict, List, Optional, Tuple

from build import run
from check_flips import ANYWHERE, MAKERS, put
from repair_check import File


def scattered(path: str, count: int, apart: int) -> None:
    """Clusters far from each other, none of which has a refcount block."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o",
        "cluster_size=512,preallocation=metadata", path, str(count * 512))
    f = File(path)
    l1 = f.get("l1_offset")
    entries = [at for at in f.entries()
               if not l1 <= at < l1 + 8 * f.get("l1_size")]
    for number, at in enumerate(entries, 1):
        put(f, at, (128 << 20) + number * apart | 1 << 63)
    f.save()
    os.truncate(path, (129 << 20) + count * apart)


def nothing(_f: File, _rng: random.Random) -> None:
    """A sound image, or what the maker has left."""


def cut(f: File, rng: random.Random) -> None:
    """The end of the file is missing."""
    del f.b[max(f.cluster, rng.randrange(len(f.b))):]


def lengthen(f: File, rng: random.Random) -> None:
    """As a device, or a server, has room behind the image."""
    f.b += bytes(rng.randrange(1, 40) * f.cluster)


DAMAGES: Tuple[Callable[[File, random.Random], None], ...] = (
    nothing, cut, cut, lengthen, lengthen, lengthen, *ANYWHERE)
REPAIRS = ("leaks", "all", "rebuild")


class Outcome:
    """Of a repair, or what a dry run says of it."""

    def __init__(self, fixed: int, left: int, place: Optional[int]):
        self.fixed, self.left, self.place = fixed, left, place

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and vars(self) == vars(other)

    def __repr__(self) -> str:
        place = "" if self.place is None else f", rebuilt at {self.place}"
        return f"{self.fixed} repaired, {self.left} left{place}"


def left(found: Dict[str, Any]) -> int:
    return sum(int(found.get(key, 0))
               for key in ("corruptions", "leaks", "check-errors"))


class Program:
    def __init__(self, ctl: str):
        self.ctl = ctl

    def run(self, path: str, *options: str) -> Tuple[str, str]:
        done = subprocess.run([self.ctl, "check", *options, path], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              check=False)
        if done.returncode not in (0, 1, 2, 3, 4, 63):
            raise SystemExit(f"{path}: {options}: exit {done.returncode}: "
                             f"{done.stderr}")
        return done.stdout, done.stderr

    def json(self, path: str, *options: str) -> Optional[Dict[str, Any]]:
        text, _ = self.run(path, *options, "--output", "json")
        return json.loads(text) if text else None

    def cannot_tell(self, path: str, *options: str) -> bool:
        found = self.json(path, "--dry-run", *options)
        text, _ = self.run(path, "--dry-run", *options)
        return found is not None and "cannot-tell" in found["nbdkit-qcow2"] \
            and "What the repair would do cannot be told: " in text

    def foretell(self, path: str, *options: str) -> Optional[Outcome]:
        found = self.json(path, "--dry-run", *options)
        text, said = self.run(path, "--dry-run", *options)
        if found is None or "The repair would fail" in text + said:
            return None
        more = found["nbdkit-qcow2"]
        place = re.search("would be written anew, from offset ([0-9]+)", text)
        numbers = re.search("would see to ([0-9]+) of these, ([0-9]+) would",
                            text)
        if numbers is None or numbers.groups() != (
                str(more["would-repair"]), str(more["would-stay"])):
            raise SystemExit(f"{path}: two things are said: {text[-1000:]} "
                             f"{json.dumps(found)[-1000:]}")
        return Outcome(more["would-repair"], more["would-stay"],
                       int(place.group(1)) if place else None)

    def repair(self, path: str, before: Dict[str, Any],
               *options: str) -> Optional[Outcome]:
        found = self.json(path, *options)
        if found is None:
            return None
        place = None
        if found["nbdkit-qcow2"]["rebuilt"]:
            with open(path, "rb") as image:
                place = int.from_bytes(image.read(56)[48:], "big")
        errors = before["check-errors"] - found["check-errors"]
        return Outcome(found.get("corruptions-fixed", 0) +
                       found.get("leaks-fixed", 0) + errors,
                       left(found), place)


def copy(path: str, to: str) -> None:
    run("cp", "--sparse=always", path, to)


def compare(program: Program, path: str, what: str, *options: str) -> bool:
    """Returns whether refcounts were written anew."""
    other = path + ".copy"
    before = program.json(path)
    if before is None:
        return False
    copy(path, other)
    written = os.stat(path).st_mtime_ns
    said = program.foretell(path, *options)
    if os.stat(path).st_mtime_ns != written:
        raise SystemExit(f"{what}: {' '.join(options)}: a dry run writes")
    done = program.repair(other, before, *options)
    os.unlink(other)
    if said != done:
        if os.environ.get("KEEP"):
            copy(path, os.environ["KEEP"])
        raise SystemExit(f"{what}: {' '.join(options)}: a dry run says "
                         f"{said}, and what it does is {done}")
    return done is not None and done.place is not None


def try_one(program: Program, path: str, what: str,
            rng: random.Random) -> int:
    f = File(path)
    for damage in rng.choices(DAMAGES, k=rng.randrange(1, 4)):
        what += f" {damage.__name__}"
        damage(f, rng)
    f.save()
    return sum(compare(program, path, what, "--repair", repair)
               for repair in REPAIRS)


def in_parts(program: Program, path: str) -> int:
    """Less memory than that takes, and enough."""
    scattered(path, 8192, 1 << 20)
    found = program.json(path, "--memory", "1M")
    if found is None or found["nbdkit-qcow2"]["parts"] < 2:
        raise SystemExit(f"scattered: it is checked at once: {found}")
    return sum(compare(program, path, "scattered", "--repair", repair, *memory)
               for repair in REPAIRS for memory in (("--memory", "1M"), ()))


def too_much(program: Program, path: str) -> None:
    """What the repair writes takes more memory than a dry run has."""
    scattered(path, 128 << 10, 128 << 10)
    if not program.cannot_tell(path, "--repair", "all", "--memory", "1M"):
        raise SystemExit("a dry run without memory claims to know")
    os.unlink(path)


def main() -> None:
    program, directory = Program(sys.argv[1]), sys.argv[2]
    seed, count = int(sys.argv[3]), int(sys.argv[4])
    path = os.path.join(directory, "dry.qcow2")
    names: List[str] = sys.argv[5:] or list(MAKERS)
    rebuilt = in_parts(program, path)
    too_much(program, path)
    for name in names:
        original = os.path.join(directory, name + ".original")
        MAKERS[name](original)
        for i in range(count):
            shutil.copy(original, path)
            rebuilt += try_one(program, path, f"{name}, {seed}, {i}:",
                               random.Random(f"{seed} {name} {i}"))
        os.unlink(original)
    print(f"refcounts were written anew {rebuilt} times")
    if rebuilt == 0:
        raise SystemExit("never: the test tests nothing")


if __name__ == "__main__":
    main()
