#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Damaged images, checked and repaired by us and judged by QEMU.

usage: check_compare.py PROGRAM DIR [SEED [NAME... | --few]]

PROGRAM is tests/unit/check-file.  QEMU makes images of all kinds; each is
damaged in many ways.  For damage of refcounts and flags our check must find
what 'qemu-img check' finds: each refcount that is wrong, and as many
corruptions and leaks.  Our repair must leave an image in which QEMU finds
nothing, and disk and snapshots as they were; a repair of leaks must not leave
any.  For damage that no repair can undo we must find a corruption where QEMU
does, must not touch the disk, and must not lower a refcount.

Where we differ on purpose:
* A refcount block or a bitmap that QEMU can do nothing about ends its check.
* QEMU counts an entry of a table that a snapshot shares once for each.
* QEMU goes on counting through tables that overlap, and what it counts then
  may be garbage; so numbers are only compared where nothing overlaps.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from typing import Any, Callable, Dict, List, Set, Tuple

import qfmt
from repair_check import DAMAGES, IMAGES, OFFSET, File, content

REFCOUNT = 7                    # enum qcow2_finding_kind
CORRUPTION, LEAK = 0, 1         # enum qcow2_severity
COPIED = 1 << 63
REFCOUNT_LINE = re.compile(r"^(?:ERROR|Leaked) cluster (\d+) refcount=(\d+) "
                           r"reference=(\d+)", re.M)

Differences = Set[Tuple[int, int, int]]


def ours(program: str, path: str, repair: str = "") -> Dict[str, Any]:
    done = subprocess.run([program, *(("-r", repair) if repair else ()),
                           path], text=True, stdout=subprocess.PIPE,
                          check=False)
    result: Dict[str, Any] = json.loads(done.stdout)
    return result


def our_differences(result: Dict[str, Any], cluster: int) -> Differences:
    """Each refcount that is wrong, inside of the file."""
    return {(f["offset"] // cluster, f["actual"], f["expected"])
            for f in result["findings"]
            if f["kind"] == REFCOUNT and f["severity"] in (CORRUPTION, LEAK)}


def qemu(path: str) -> Tuple[int, str, Dict[str, Any]]:
    text = subprocess.run(["qemu-img", "check", path], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False)
    out = subprocess.run(["qemu-img", "check", "--output=json", path],
                         text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, check=False)
    return (text.returncode, text.stdout,
            json.loads(out.stdout) if out.stdout else {})


# -- damage that no repair can undo -------------------------------------------

def data_entries(f: File) -> List[int]:
    l1 = f.get("l1_offset")
    last = l1 + 8 * f.get("l1_size")
    return [at for at in f.entries() if not l1 <= at < last]


def put(f: File, at: int, value: int) -> None:
    f.b[at:at + 8] = value.to_bytes(8, "big")


def misalign_data(f: File, rng: random.Random) -> None:
    at = rng.choice(data_entries(f))
    put(f, at, f.word(at) | 512)


def misalign_l2(f: File, _rng: random.Random) -> None:
    at = f.entries()[0]
    put(f, at, f.word(at) | 512)


def data_past_end(f: File, rng: random.Random) -> None:
    at = rng.choice(data_entries(f))
    put(f, at, len(f.b) + 64 * f.cluster & OFFSET | COPIED)


def data_on_header(f: File, rng: random.Random) -> None:
    """The first cluster, which QEMU counts twice then."""
    at = rng.choice(data_entries(f))
    put(f, at, f.word(f.entries()[0]) & OFFSET | COPIED)


def reserved_l1(f: File, _rng: random.Random) -> None:
    at = f.entries()[0]
    put(f, at, f.word(at) | 1 << 57)


def reserved_l2(f: File, rng: random.Random) -> None:
    at = rng.choice(data_entries(f))
    put(f, at, f.word(at) | 1 << 57 | 4)


def bad_snapshot_l1(f: File, _rng: random.Random) -> None:
    if f.get("nb_snapshots"):
        at = f.get("snapshots_offset")
        put(f, at, f.word(at) + 8)
    else:
        reserved_l1(f, _rng)


def cut_snapshots(f: File, _rng: random.Random) -> None:
    if f.get("nb_snapshots"):
        f.set("nb_snapshots", f.get("nb_snapshots") + 20)
    else:
        reserved_l1(f, _rng)


def swap_flag_of_l1(f: File, _rng: random.Random) -> None:
    """Harmless, but next to something that is not."""
    at = f.entries()[0]
    put(f, at, f.word(at) ^ COPIED)
    reserved_l1(f, _rng)


HOPELESS = (misalign_data, misalign_l2, data_past_end, data_on_header,
            reserved_l1, reserved_l2, bad_snapshot_l1, cut_snapshots,
            swap_flag_of_l1)


# -- damage of the refcount structure, which a repair makes anew -------------

def misalign_block(f: File, rng: random.Random) -> None:
    at = rng.choice(f.blocks())
    put(f, at, f.word(at) | 512 if f.cluster > 512 else len(f.b) * 2)


def block_past_end(f: File, rng: random.Random) -> None:
    put(f, rng.choice(f.blocks()), len(f.b) + 16 * f.cluster)


def block_on_l2(f: File, rng: random.Random) -> None:
    # On an L1 table, or on an L2 table that could be a block with refcounts
    # of 64 bits, nobody knows which of the two is wrong.
    if not f.entries() or (f.get("version") > 2 and
                            f.get("refcount_order") == 6):
        misalign_block(f, rng)
    else:
        put(f, f.blocks()[0], f.word(f.entries()[0]) & OFFSET)


def block_twice(f: File, _rng: random.Random) -> None:
    table = f.table()
    put(f, table[len(table) - 1], f.word(f.blocks()[0]))


def table_past_end(f: File, _rng: random.Random) -> None:
    f.set("reftable_offset", len(f.b) + 16 * f.cluster)


def no_table(f: File, _rng: random.Random) -> None:
    f.set("reftable_clusters", 0)


def misalign_table(f: File, _rng: random.Random) -> None:
    f.set("reftable_offset", f.get("reftable_offset") + 8)


def corrupt_mark(f: File, _rng: random.Random) -> None:
    if f.get("version") > 2:
        f.set("incompatible", f.get("incompatible") | 2)


STRUCTURE = (misalign_block, block_past_end, block_on_l2, block_twice,
             table_past_end, no_table, misalign_table, corrupt_mark)


# -- judging ------------------------------------------------------------------

class Judge:
    def __init__(self, program: str, path: str, before: Dict[str, str],
                 what: str):
        self.program, self.path = program, path
        self.before, self.what = before, what
        self.cluster = File(path).cluster

    def fail(self, text: str) -> None:
        raise SystemExit(f"{self.what}: {text}")

    def same_refcounts(self, found: Dict[str, Any], text: str) -> None:
        theirs = {(int(n), int(have), int(want))
                  for n, have, want in REFCOUNT_LINE.findall(text)}
        mine = our_differences(found, self.cluster)
        if mine != theirs:
            self.fail(f"refcounts: only we: {sorted(mine - theirs)[:5]}, only "
                      f"QEMU: {sorted(theirs - mine)[:5]}\n{text[:1000]}")

    def same_figures(self, found: Dict[str, Any], theirs: Dict[str, Any]
                     ) -> None:
        for key in ("corruptions", "leaks", "check-errors",
                    "total-clusters", "allocated-clusters",
                    "compressed-clusters", "image-end-offset"):
            if found[key] != theirs.get(key, 0):
                self.fail(f"{key}: we {found[key]}, QEMU {theirs.get(key)}: "
                          f"{found['findings'][:5]}")

    def clean(self, kind: str) -> None:
        status, text, _ = qemu(self.path)
        if status != 0:
            self.fail(f"after -r {kind}: qemu-img check: exit {status}\n"
                      f"{text[:2000]}")
        if content(self.path) != self.before:
            self.fail(f"after -r {kind}: the content has changed")
        again = ours(self.program, self.path)
        if again["findings"]:
            self.fail(f"after -r {kind}: {again['findings'][:5]}")

    def repaired(self) -> None:
        ours(self.program, self.path, "all")
        self.clean("all")


def judge_refcounts(j: Judge) -> bool:
    status, text, theirs = qemu(j.path)
    found = ours(j.program, j.path)
    j.same_refcounts(found, text)
    j.same_figures(found, theirs)
    if (status == 0) != (found["corruptions"] + found["leaks"] == 0):
        j.fail(f"QEMU's exit status is {status}: {found}")
    if status == 3:             # nothing but leaks
        ours(j.program, j.path, "leaks")
        j.clean("leaks")
    elif status != 0:
        shutil.copy(j.path, j.path + ".leaks")
        leaks = Judge(j.program, j.path + ".leaks", j.before, j.what)
        after = ours(j.program, leaks.path, "leaks")
        if after["leaks"] or found["corruptions"] < after["corruptions"] - \
                len(found["findings"]):
            j.fail(f"leaks are left: {after}")
        os.unlink(leaks.path)
    j.repaired()
    return status != 0


def judge_structure(j: Judge) -> bool:
    found = ours(j.program, j.path)
    damaged = found["corruptions"] > 0
    status, _, _ = qemu(j.path)
    if damaged != (status != 0):
        j.fail(f"QEMU's exit status is {status}: {found}")
    j.repaired()
    if File(j.path).get("version") > 2 and \
            File(j.path).get("incompatible") & 3:
        j.fail("it is still marked")
    return damaged


def refcounts(f: File) -> bytes:
    return b"".join(bytes(f.b[f.word(at):f.word(at) + f.cluster])
                    for at in f.blocks())


def judge_hopeless(j: Judge) -> bool:
    """Nothing is made worse: all refcounts were right."""
    before = File(j.path)
    status, text, _ = qemu(j.path)
    found = ours(j.program, j.path)
    if found["corruptions"] == 0 or status == 0:
        j.fail(f"QEMU's exit status is {status}: {found}\n{text[:500]}")
    for kind in ("leaks", "all"):
        after = ours(j.program, j.path, kind)
        if after["corruptions"] == 0:
            j.fail(f"-r {kind} claims that it is clean")
        if after["incomplete"] and \
                refcounts(File(j.path)) != refcounts(before):
            j.fail(f"-r {kind} has lowered refcounts")
    return True


# One for each thing that a check has code of its own for.
FEW = ["extended", "snapshots", "bitmaps", "1-bit"]

Judgement = Callable[[Judge], bool]


def check_image(program: str, directory: str, name: str,
                rng: random.Random) -> Tuple[int, int]:
    original = os.path.join(directory, name + ".original")
    path = os.path.join(directory, name + ".qcow2")
    IMAGES[name](original)
    if File(original).get("incompatible") & qfmt.INCOMPAT_DIRTY:
        subprocess.run(["qemu-img", "check", "-q", "-r", "all", original],
                       stdout=subprocess.DEVNULL, check=False)
    shutil.copy(original, path)
    before = content(path)
    todo: List[Tuple[Callable[[File, random.Random], None], Judgement]] = []
    todo += [(d, judge_refcounts) for d in DAMAGES]
    todo += [(d, judge_structure) for d in STRUCTURE]
    if data_entries(File(original)):
        todo += [(d, judge_hopeless) for d in HOPELESS
                 if File(original).cluster > 512
                 or not d.__name__.startswith("misalign")]
    damaged = 0
    for damage, judgement in todo:
        shutil.copy(original, path)
        f = File(path)
        damage(f, rng)
        f.save()
        damaged += judgement(Judge(program, path, before,
                                   f"{name}, {damage.__name__}"))
    os.unlink(path)
    os.unlink(original)
    return len(todo), damaged


def main() -> None:
    program, directory = sys.argv[1:3]
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    names = sys.argv[4:] or list(IMAGES)
    if names == ["--few"]:
        names = FEW
    rng = random.Random(seed)
    total = damaged = 0
    for name in names:
        done, found = check_image(program, directory, name, rng)
        total += done
        damaged += found
    print(f"{total} images, {damaged} of them damaged")
    if damaged < total * 3 // 4:
        raise SystemExit("too few were damaged: the test tests nothing")


if __name__ == "__main__":
    main()
