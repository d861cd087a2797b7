# SPDX-License-Identifier: BSD-3-Clause
"""The generator's images against the oracle and QEMU: all must agree with
the model.  Run as `qgen.py selftest`."""

import os
import subprocess
import tempfile
import time
from typing import List

import oracle
import qgen
from matrix import merge, qemu_check, qemu_map


def problems(made: qgen.Generated, directory: str) -> List[str]:
    found: List[str] = []
    qgen.save_all(made, directory)
    path = os.path.join(directory, "image.qcow2")
    raw = os.path.join(directory, "image.raw")
    try:
        with oracle.Image(path) as image:
            found += filter(None, [oracle.compare(image, raw)])
            if image.extents() != made.extents:
                found.append("oracle's extents")
    except (oracle.Corrupt, oracle.Refused) as error:
        found.append(f"oracle: {error}")
    # QEMU counts whole sectors, so it never sees an odd tail.
    sectors = len(made.model) // 512 * 512
    os.truncate(raw, sectors)
    done = subprocess.run(["qemu-img", "compare", "-f", made.format, "-F",
                           "raw", path, raw], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        found.append(f"qemu-img compare: {done.stdout}")
    if made.clean and (code := qemu_check(path)) != 0:
        found.append(f"qemu-img check: exit {code}")
    if sectors and not done.returncode:
        # QEMU may learn from the file system that data reads as zero.
        theirs = merge((length, 0 if flags == 2 else flags)
                       for length, flags in qemu_map(path, made.format))
        ours, left = [], sectors
        for length, flags in made.extents:
            ours.append((min(length, left), flags))
            left -= ours[-1][0]
        if theirs != [extent for extent in ours if extent[0]]:
            found.append("qemu-nbd's map")
    return found


def selftest(first: int, count: int) -> int:
    failed, slow, kinds = 0, 0.0, {}
    for seed in range(first, first + count):
        start = time.monotonic()
        made = qgen.generate(seed)
        slow = max(slow, time.monotonic() - start)
        for kind, number in made.kinds.items():
            kinds[kind] = kinds.get(kind, 0) + number
        with tempfile.TemporaryDirectory() as directory:
            found = problems(made, directory)
        if found:
            failed += 1
            print(f"seed {seed}: {'; '.join(found)}\n  {made.head}")
    print(f"{failed} failed of {count}; slowest {slow * 1000:.0f} ms; "
          f"clusters {kinds}")
    return 1 if failed else 0
