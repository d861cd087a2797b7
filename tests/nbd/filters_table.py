#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The tables of docs/FILTERS.md, from what filters_matrix.py tries.

usage: filters_table.py write PAGE
       filters_table.py check PAGE
       filters_table.py found PAGE NBDKIT RESULTS...
       filters_table.py traps FILTER FOLDER NBDKIT-COMMAND...

"write" puts the tables into the page, between its marks; "check" fails if it
has others.  "found" compares the page with RESULTS, files of what
filters_matrix.py has printed: each result must be that of the page, and each
filter that is installed must have one on both sides.  "traps" tries each of
TRAPS: what does not work has to go wrong as the page says.
"""

import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from typing import Callable, Dict, List, NamedTuple, Tuple

import nbd
from filters_matrix import (ABOVE, BELOW, CASES, LATER, Case, in_partition,
                            installed_filters, result_of)

K = 1024
M = 1024 * K
PLACES = ("filters", "traps")


class Trap(NamedTuple):
    filters: str                # as they stand in the command line
    task: str
    what: str                   # what happens
    why: str
    attempt: Callable[["Server"], str]
    mended: bool = False        # later releases of nbdkit may do it


# ---- Trying what does not work -----------------------------------------------

class Server:
    """One server for one trap, with its files in a folder of its own."""

    def __init__(self, folder: str, filter_path: str,
                 command: List[str]) -> None:
        self.folder, self.filter, self.command = folder, filter_path, command
        self.image = os.path.join(folder, "image.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", self.image,
                        "8M"], check=True)

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def start(self, filters: str, *words: str) -> None:
        names = [self.filter if name == "qcow2" else name
                 for name in re.findall("--filter=([a-z0-9]+)", filters)]
        with open(self.path("log"), "wb") as log:
            # pylint: disable=consider-using-with
            self.process = subprocess.Popen(
                [*self.command, "-f", "-P", self.path("pid"), "-U",
                 self.path("sock"), *(f"--filter={name}" for name in names),
                 *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(1200):
            if os.path.exists(self.path("pid")):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"no server: {self.log()}")

    def connect(self) -> nbd.NBD:
        handle = nbd.NBD()
        handle.connect_unix(self.path("sock"))
        return handle

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    def log(self) -> str:
        with open(self.path("log"), encoding="utf-8", errors="replace") as log:
            return log.read()


def new_clusters(server: Server) -> str:
    """A write that needs room in the image."""
    handle = server.connect()
    try:
        handle.pwrite(b"x" * 64 * K, 0)
        handle.flush()
    except nbd.Error as error:
        if handle.pread(K, 0) != bytes(K):
            return "the disk has changed"
        return f"writes that need room fail with {error.errno}"
    finally:
        handle.shutdown()
        server.stop()
    return "works"


def grow_in_tar(server: Server) -> str:
    archive = server.path("archive.tar")
    with tarfile.open(archive, "w") as file:
        file.add(server.image, "disk.qcow2")
    server.start("--filter=qcow2 --filter=tar", "file", archive,
                 "tar-entry=disk.qcow2")
    return new_clusters(server)


def grow_over_cow(server: Server) -> str:
    server.start("--filter=qcow2 --filter=cow", "file", server.image)
    return new_clusters(server)


def log_twice(server: Server) -> str:
    server.start("--filter=log --filter=qcow2 --filter=log", "file",
                 server.image, "logfile=" + server.path("requests"))
    handle = server.connect()
    size = handle.get_size()
    handle.shutdown()
    if size != 8 * M:
        return "the size is wrong"
    return "nbdkit crashes when it ends" if server.stop() < 0 else "works"


def stop_with_delay(server: Server) -> str:
    server.start("--filter=qcow2 --filter=delay", "file", server.image,
                 "delay-write=50ms")
    handle = server.connect()
    handle.pwrite(b"x" * 64 * K, 0)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(1)
    del handle                  # It leaves, as if killed.
    server.stop()
    lost = "THE LAST COMMIT HAS FAILED" in server.log()
    read = subprocess.run(
        ["qemu-io", "-r", "-f", "qcow2", "-c", "read -P 120 0 64k",
         server.image], stdout=subprocess.PIPE, check=False, text=True).stdout
    if lost and "verification failed" in read:
        return "what was not flushed is lost, and the log says so"
    return "works" if not lost else "the log is wrong"


def partition_below(server: Server) -> str:
    raw = server.path("disk.raw")
    with open(raw, "wb") as file:
        file.write(in_partition(b"data" * M))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw,
                    server.image], check=True)
    server.start("--filter=qcow2 --filter=partition", "file", server.image,
                 "partition=1")
    try:
        server.connect().shutdown()
    except nbd.Error:
        server.stop()
        return "clients are refused" if "partition table" in server.log() \
            else "the log is wrong"
    server.stop()
    return "works"


TRAPS: List[Trap] = [
    Trap("--filter=qcow2 --filter=tar", "new clusters in the image",
         "writes that need room fail with ENOSPC",
         "an image in an archive has the size it had; so has one in a "
         "partition (`offset`, `partition`)", grow_in_tar),
    Trap("--filter=qcow2 --filter=cow", "new clusters in the image",
         "writes that need room fail with ENOSPC",
         "the file would grow, and what is in the cow filter would not be in "
         "it; `--filter=cow --filter=qcow2` has room", grow_over_cow),
    Trap("--filter=qcow2 --filter=partition", "a partition of the disk",
         "clients are refused",
         "below, the filter looks for partitions in the image file; "
         "`--filter=partition --filter=qcow2` has those of the disk",
         partition_below),
    Trap("--filter=qcow2 --filter=delay", "nbdkit is stopped while a client "
         "has not flushed", "what was not flushed is lost, and the log says "
         "so", "filters that sleep (`delay`, `rate`) fail all writes from "
         "then on, also that of the last commit", stop_with_delay),
    Trap("--filter=log --filter=qcow2 --filter=log", "one filter in two "
         "places", "nbdkit crashes when it ends",
         "nbdkit loads a filter once, and its two places have one log file, "
         "which is closed twice", log_twice, True),
]


def run_traps(filter_path: str, folder: str, command: List[str]) -> int:
    failed = 0
    for number, trap in enumerate(TRAPS):
        place = os.path.join(folder, f"trap-{number}")
        os.mkdir(place)
        server = Server(place, filter_path, command)
        found = trap.attempt(server)
        print(f"trap {trap.filters}: {found}", flush=True)
        if found != trap.what and not (trap.mended and found == "works"):
            failed += 1
            print(f"FAIL: not: {trap.what}\n{server.log()}")
    print(f"{len(TRAPS)} traps, {failed} failed")
    return 1 if failed else 0


# ---- The page ----------------------------------------------------------------

def filters_table() -> str:
    sides: Dict[str, Dict[str, Case]] = {}
    for case in CASES:
        sides.setdefault(case.name, {})[case.side] = case
    lines = ["| filter | above, `--filter=NAME --filter=qcow2` | below, "
             "`--filter=qcow2 --filter=NAME` | in the manual |",
             "|---|---|---|---|"]
    for name in sorted(sides):
        cells = [result_of(sides[name][side]) for side in (ABOVE, BELOW)]
        manual = any(case.manual for case in sides[name].values())
        shown = name + (" (later)" if name in LATER else "")
        lines.append(f"| {shown} | {cells[0]} | {cells[1]} | "
                     f"{'yes' if manual else ''} |")
    return "\n".join(lines)


def traps_table() -> str:
    lines = ["| filters | for | what happens | why |", "|---|---|---|---|"]
    lines += [f"| `{trap.filters}` | {trap.task} | {trap.what} | {trap.why} |"
              for trap in TRAPS]
    return "\n".join(lines)


def tables() -> Dict[str, str]:
    return dict(zip(PLACES, (filters_table(), traps_table())))


def read_page(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def marks(name: str) -> Tuple[str, str]:
    return f"<!-- made: {name} -->\n", f"<!-- end: {name} -->\n"


def part(text: str, name: str) -> str:
    begin, end = marks(name)
    if begin not in text or end not in text:
        raise SystemExit(f"the page has no marks for {name}")
    return text.split(begin, 1)[1].split(end, 1)[0]


def write_page(path: str) -> int:
    text = read_page(path)
    for name, table in tables().items():
        begin, end = marks(name)
        text = text.replace(begin + part(text, name) + end,
                            f"{begin}\n{table}\n\n{end}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return 0


def check_page(path: str) -> int:
    bad = 0
    text = read_page(path)
    for name, table in tables().items():
        have = part(text, name).strip().splitlines()
        want = table.splitlines()
        for line in [l for l in have if l not in want]:
            print(f"{path} has: {line}")
            bad = 1
        for line in [l for l in want if l not in have]:
            print(f"{path} does not have: {line}")
            bad = 1
        if not bad and have != want:
            print(f"{path}: another order")
            bad = 1
    if bad:
        print("tests/nbd/filters_table.py write " + path)
    return bad


def page_cells(path: str) -> Dict[Tuple[str, str], str]:
    found = {}
    for line in part(read_page(path), "filters").splitlines()[3:]:
        if line.startswith("|"):
            name, above, below = [cell.strip() for cell in
                                  line.strip("|").split("|")][:3]
            name = name.split(" ")[0]
            found[ABOVE, name], found[BELOW, name] = above, below
    return found


def compare_found(path: str, nbdkit: str, results: List[str]) -> int:
    """The page, against what the servers did."""
    cells = page_cells(path)
    seen: Dict[Tuple[str, str], str] = {}
    for name in results:
        for line in read_page(name).splitlines():
            match = re.fullmatch("(above|below) ([a-z0-9-]+): (.*)", line)
            if match:
                seen[match[1], match[2]] = match[3]
    bad = 0
    for (side, name), result in sorted(seen.items()):
        if result.startswith("skipped"):
            continue
        if cells.get((side, name)) != result:
            print(f"{name} {side}: {result}; the page says: "
                  f"{cells.get((side, name))}")
            bad = 1
    for name in sorted(installed_filters(nbdkit)):
        for side in (ABOVE, BELOW):
            if (side, name) not in seen:
                print(f"{name} {side}: not tried")
                bad = 1
    print(f"{len(seen)} results compared with the page")
    return bad


def main() -> int:
    words = sys.argv[1:]
    if len(words) == 2 and words[0] == "write":
        return write_page(words[1])
    if len(words) == 2 and words[0] == "check":
        return check_page(words[1])
    if len(words) > 3 and words[0] == "found":
        return compare_found(words[1], words[2], words[3:])
    if len(words) > 3 and words[0] == "traps":
        return run_traps(words[1], words[2], words[3:])
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main())
