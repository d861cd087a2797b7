#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Tries the equivalents of docs/nbdkit-qcow2-migrating.pod.

usage: migrating.py try PAGE FILTER QCOW2CTL FOLDER [TEXT | EVERY]
       migrating.py options PAGE

"try" runs each pair of commands, or those that have TEXT in them, or one of
EVERY, side by side, each in a copy of FOLDER/fixtures, and compares the
results.  The first
command of a pair is QEMU's, those after it are ours.

  =for beside MODE...     both are servers; "/run/disk" and "/etc/psk" in a
                          command become paths of its own
    read                  the disk and its map are the same
    write                 and after the same writes, in the image file, too
    trim, zeros           and after trims, and zeros that are sent as data
    whole                 new compressed clusters, written as a whole; only
                          ours takes parts, and the same cluster again
    depth, bitmap         a metadata context of QEMU's says the same as our
                          exports
    once                  both end after the last client
    fork, tls, export=NAME, unchanged
                          how a server starts, how a client connects, and
                          that the image file stays as it is
  =for same FILE MODE...  both make or change that file; the two must be
                          equal, as images
    output, info          and so must be what they print

"options" wants each option that qemu-nbd and qemu-img of this machine print in
their help to have an item in the page.
"""

import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any, Dict, List, NamedTuple, Set

import nbd
from nbdtool import disk_map, merge

SIDES = ("theirs", "ours")
K = 1024
# What may differ between two images that are equal; what only one release of
# QEMU prints, or only we do.
PRIVATE = {"filename", "actual-size", "date-sec", "date-nsec", "children",
           "full-backing-filename", "image-end-offset", "dirty-flag",
           "fragmented-clusters", "icount", "compressed", "nbdkit-qcow2"}


class Wrong(Exception):
    """The two differ."""


class Pair(NamedTuple):
    line: int
    kind: str
    modes: List[str]
    commands: List[str]


def read_pairs(page: str) -> List[Pair]:
    with open(page, encoding="utf-8") as file:
        lines = file.read().splitlines()
    found = []
    for i, line in enumerate(lines):
        words = line.split()
        if words[:2] not in (["=for", "beside"], ["=for", "same"]):
            continue
        end = i + 2
        while end < len(lines) and lines[end].startswith(" "):
            end += 1
        commands: List[str] = []
        more = False
        for text in lines[i + 2:end]:
            if more:
                commands[-1] += "\n" + text[1:]
            else:
                commands.append(text[1:])
            more = text.endswith("\\")
        if len(commands) < 2:
            raise SystemExit(f"line {i + 1}: no two commands")
        found.append(Pair(i + 1, words[1], words[2:], commands))
    return found


class Bench:
    """A folder for each side, the programs, and what has been started."""

    def __init__(self, folder: str, filter_path: str, ctl: str) -> None:
        self.folder = folder
        self.running: List["subprocess.Popen[bytes]"] = []
        self.bin = os.path.join(folder, "bin")
        os.makedirs(self.bin, exist_ok=True)
        self.pids = os.path.join(folder, "pids")
        os.makedirs(self.pids, exist_ok=True)
        program = shutil.which(os.environ.get("NBDKIT", "nbdkit"))
        self.write("nbdkit", f"""#!/bin/bash
args=()
[[ " $* " == *" -P "* ]] || args+=(-P {shlex.quote(self.pids)}/$$)
for arg; do
    args+=("${{arg/#--filter=qcow2/--filter={filter_path}}}")
done
exec {program} "${{args[@]}}"
""")
        self.write("qcow2ctl", f'#!/bin/bash\nexec {ctl} "$@"\n')
        self.env = dict(os.environ, PATH=self.bin + ":" + os.environ["PATH"])

    def write(self, name: str, text: str) -> None:
        path = os.path.join(self.bin, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(path, 0o755)

    def side(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def renew(self) -> None:
        for side in SIDES:
            shutil.rmtree(self.side(side), ignore_errors=True)
            shutil.copytree(os.path.join(self.folder, "fixtures"),
                            self.side(side))

    def localize(self, text: str, side: str) -> str:
        return text.replace("/run/disk", self.side(side) + "/disk").replace(
            "/etc/psk", self.side(side) + "/psk")

    def stop(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.terminate()
            process.wait()
        self.running.clear()
        for name in os.listdir(self.pids):
            end_by_file(os.path.join(self.pids, name))


def end_by_file(path: str) -> None:
    """End the process whose number is in a file, and wait for it."""
    try:
        with open(path, encoding="ascii") as file:
            pid = int(file.read())
        os.unlink(path)
        os.kill(pid, signal.SIGTERM)
        for _ in range(400):
            with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
                if " Z " in stat.read():
                    break
            time.sleep(0.02)
    except (ValueError, ProcessLookupError, FileNotFoundError):
        pass


# ---- Servers side by side ----------------------------------------------------

def free_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


class Server:
    """One of the two."""

    def __init__(self, bench: Bench, side: str, command: str,
                 modes: List[str]) -> None:
        self.bench, self.side, self.modes = bench, side, modes
        self.port = free_port()
        self.by_port = "10810" in command
        self.socket = bench.side(side) + "/disk.sock"
        command = bench.localize(command, side).replace("10810", self.port)
        if side == "theirs" and "once" not in modes:
            command = command.replace("qemu-nbd", "qemu-nbd -t -e 8", 1)
        elif side == "ours" and "fork" not in modes:
            command = command.replace("nbdkit", "nbdkit -f", 1)
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            ["bash", "-c", "exec " + command], cwd=bench.side(side),
            env=bench.env, stdin=subprocess.DEVNULL)
        bench.running.append(self.process)
        self.wait()

    def wait(self) -> None:
        last = ""
        for _ in range(600):
            try:
                if "once" in self.modes:
                    # To connect would be the last client.
                    if os.path.exists(self.socket):
                        time.sleep(0.1)
                        return
                else:
                    self.connect().shutdown()
                    return
            except nbd.Error as error:
                last = str(error)
            if self.process.poll() not in (None, 0):
                raise Wrong(f"{self.side}: the server has ended")
            time.sleep(0.05)
        raise Wrong(f"{self.side}: no server: {last}")

    def connect(self, name: str = "", context: str = "") -> nbd.NBD:
        handle = nbd.NBD()
        handle.set_strict_mode(0)
        handle.add_meta_context(context or "base:allocation")
        for mode in self.modes:
            if mode.startswith("export="):
                name = mode.split("=")[1]
        if "tls" in self.modes:
            handle.set_tls(nbd.TLS_REQUIRE)
            handle.set_tls_username("alice")
            handle.set_tls_psk_file(self.bench.side(self.side)
                                    + "/psk/keys.psk")
        handle.set_export_name(name)
        if self.by_port:
            handle.connect_tcp("127.0.0.1", self.port)
        else:
            handle.connect_unix(self.socket)
        return handle


def extents(handle: nbd.NBD, context: str) -> List[Any]:
    """The map of any metadata context, merged."""
    found: List[Any] = []
    end = handle.get_size()
    start = 0

    def take(name, _offset, entries, _error):
        if name == context:
            found.extend(zip(entries[0::2], entries[1::2]))
        return 0

    while start < end:
        handle.block_status(end - start, start, take)
        start = sum(length for length, _ in found)
    return merge(found)


def contents(server: Server) -> bytes:
    handle = server.connect()
    data = bytes(handle.pread(handle.get_size(), 0))
    handle.shutdown()
    return data


def same(what: str, theirs: Any, ours: Any) -> None:
    if theirs != ours:
        shown = [repr(value) if len(repr(value)) < 2000 else "..."
                 for value in (theirs, ours)]
        raise Wrong(f"{what} differs:\n  {shown[0]}\n  {shown[1]}")


def same_disk(servers: List[Server]) -> None:
    handles = [server.connect() for server in servers]
    same("the size", *(h.get_size() for h in handles))
    same("reading only", *(h.is_read_only() for h in handles))
    same("the map", *(disk_map(h) for h in handles))
    for handle in handles:
        handle.shutdown()
    same("the disk", *(contents(server) for server in servers))


def change(servers: List[Server], modes: List[str]) -> None:
    """The same writes to both."""
    for server in servers:
        handle = server.connect()
        size = handle.get_size()
        if handle.is_read_only():
            raise Wrong(f"{server.side}: cannot be written to")
        rng = random.Random(1)
        if "trim" in modes:
            handle.trim(256 * K, 0)
            handle.pwrite(b"x", size - 1)
        elif "whole" in modes:
            # Compresses well, and each cluster once.
            for offset in range(0, 512 * K, 64 * K):
                handle.pwrite(b"%08d" % offset * (8 * K), offset)
        else:
            for offset, length in ((100, 300), (60 * K, 9000),
                                   (size - 5000, 4000)):
                handle.pwrite(rng.randbytes(length), offset)
            if handle.can_zero():
                handle.zero(8 * K, 16 * K, nbd.CMD_FLAG_NO_HOLE)
            else:
                handle.pwrite(bytes(8 * K), 16 * K)
        if "zeros" in modes:
            handle.pwrite(bytes(128 * K), 128 * K)
        handle.flush()
        handle.shutdown()


def differ_as_said(servers: List[Server]) -> None:
    """Of compressed clusters, what the page says is different."""
    for server in servers:
        handle = server.connect()
        for what, length in (("again", 64 * K), ("in part", 4 * K)):
            data = bytes(handle.pread(length, 0))
            try:
                handle.pwrite(data, 0)
                works = True
            except nbd.Error:
                works = False
            same(f"{server.side}: written {what}", server.side == "ours",
                 works)
        handle.shutdown()


def same_depth(servers: List[Server]) -> None:
    theirs = servers[0].connect(context="qemu:allocation-depth")
    depth = [[length, number] for length, number in
             extents(theirs, "qemu:allocation-depth")]
    theirs.shutdown()
    size = sum(length for length, _ in depth)
    units = [0] * (size // 512)
    for layer in (2, 1):
        handle = servers[1].connect(f"layer/{layer - 1}")
        start = 0
        for length, flags in extents(handle, "base:allocation"):
            if not flags & nbd.STATE_HOLE:
                units[start // 512:(start + length) // 512] = (
                    [layer] * (length // 512))
            start += length
        handle.shutdown()
    flat = [number for length, number in depth for _ in range(length // 512)]
    same("the depth", flat, units)
    same("a test of depths", True, {0, 1, 2} <= set(units))


def same_bitmap(servers: List[Server]) -> None:
    name = "qemu:dirty-bitmap:changed"
    theirs = servers[0].connect(context=name)
    dirty = [(length, bool(flags)) for length, flags in extents(theirs, name)]
    theirs.shutdown()
    handle = servers[1].connect("bitmap/changed")
    marked = [(length, not flags & nbd.STATE_HOLE) for length, flags in
              extents(handle, "base:allocation")]
    handle.shutdown()
    same("the bitmap", merge(dirty), merge(marked))
    same("a test of bitmaps", True, len(dirty) > 1)


def same_end(servers: List[Server]) -> None:
    for server in servers:
        server.connect().shutdown()
        try:
            server.process.wait(30)
        except subprocess.TimeoutExpired:
            raise Wrong(f"{server.side}: it stays") from None


def image_of(command: str) -> str:
    names = re.findall(r"[a-z]+\.(?:qcow2|raw)\b", command)
    return "overlay.qcow2" if "overlay.qcow2" in names else names[0]


def beside(bench: Bench, pair: Pair) -> None:
    modes = pair.modes
    if "whole" in modes:
        for side in SIDES:
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2",
                            "new.qcow2", "4M"], cwd=bench.side(side),
                           check=True)
    servers = [Server(bench, side, command, modes)
               for side, command in zip(SIDES, pair.commands)]
    if "depth" in modes:
        same_depth(servers)
    elif "bitmap" in modes:
        same_bitmap(servers)
    elif "once" in modes:
        same_end(servers)
    else:
        same_disk(servers)
        if {"write", "trim", "whole"} & set(modes):
            before = contents(servers[0])
            change(servers, modes)
            same("nothing but the image", False,
                 before == contents(servers[0]))
            same_disk(servers)
        if "whole" in modes:
            differ_as_said(servers)
    if "fork" in modes:
        for server in servers:
            if server.process.wait(30) != 0:
                raise Wrong(f"{server.side}: does not go into the background")
            if not os.path.exists(bench.side(server.side) + "/disk.pid"):
                raise Wrong(f"{server.side}: no pid file")
    bench.stop()
    for side in SIDES:
        end_by_file(bench.side(side) + "/disk.pid")
    same_files(bench, image_of(pair.commands[1]), modes)


# ---- Files -------------------------------------------------------------------

def qemu_img(bench: Bench, side: str, *args: str) -> Any:
    out = subprocess.run(["qemu-img", *args], cwd=bench.side(side),
                         stdout=subprocess.PIPE, check=False).stdout
    return json.loads(out)


def public(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: public(inner) for key, inner in value.items()
                if key not in PRIVATE}
    if isinstance(value, list):
        return [public(inner) for inner in value]
    return value


def same_files(bench: Bench, name: str, modes: List[str]) -> None:
    paths = [os.path.join(bench.side(side), name) for side in SIDES]
    for path in paths:
        if not os.path.exists(path):
            raise Wrong(f"there is no {path}")
    if name == "luks.qcow2":
        return              # The servers have been compared.
    if "unchanged" in modes:
        for path in paths:
            subprocess.run(["cmp", path, os.path.join(
                bench.folder, "fixtures", name)], check=True)
    if not name.endswith(".qcow2"):
        if subprocess.run(["cmp", *paths], check=False).returncode:
            raise Wrong(f"{name} differs")
        return
    same("the image", *(public(qemu_img(
        bench, side, "info", "--output=json", name)) for side in SIDES))
    checks = [qemu_img(bench, side, "check", "--output=json", name)
              for side in SIDES]
    for check in checks:
        same("errors", (None, None), (check.get("corruptions"),
                                      check.get("leaks")))
    same("being compressed", *(bool(check.get("compressed-clusters"))
                               for check in checks))
    if subprocess.run(["qemu-img", "compare", "-q", *paths], check=False).returncode:
        raise Wrong(f"the disk of {name} differs")


def pair_of_files(bench: Bench, pair: Pair) -> None:
    printed, codes = [], []
    for side, commands in zip(SIDES, (pair.commands[:1], pair.commands[1:])):
        script = "set -e\n" + bench.localize("\n".join(commands), side)
        path = os.path.join(bench.folder, side + ".out")
        with open(path, "wb") as out:       # Servers stay, and would keep pipes.
            codes.append(subprocess.run(
                ["bash", "-c", script], cwd=bench.side(side), env=bench.env,
                stdin=subprocess.DEVNULL, stdout=out, check=False).returncode)
        with open(path, encoding="utf-8") as result:
            printed.append(result.read())
    bench.stop()
    same("the exit status", *codes)
    same("success", 0, codes[0])
    if {"output", "info"} & set(pair.modes):
        same("the output", *(public(json.loads(text)) if text else text
                             for text in printed))
    same_files(bench, pair.modes[0], pair.modes)


def run_pairs(page: str, filter_path: str, ctl: str, folder: str,
              which: str = "1") -> int:
    bench = Bench(folder, filter_path, ctl)
    failed = 0
    pairs = read_pairs(page)
    if which.isdigit():
        pairs = pairs[::int(which)]
    else:
        pairs = [pair for pair in pairs
                 if any(which in command for command in pair.commands)]
    for pair in pairs:
        begin = time.monotonic()
        bench.renew()
        try:
            (beside if pair.kind == "beside" else pair_of_files)(bench, pair)
        except (Wrong, nbd.Error) as error:
            failed += 1
            print(f"FAIL: line {pair.line}: {error}")
            print("    " + "\n    ".join(pair.commands))
        else:
            print(f"ok: line {pair.line}: {time.monotonic() - begin:.1f} s")
        finally:
            bench.stop()
    print(f"{len(pairs)} pairs, {failed} failed")
    return 1 if failed or not pairs else 0


# ---- Options -----------------------------------------------------------------

def output_of(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, check=True,
                          text=True).stdout


def items_by_section(page: str) -> Dict[str, Set[str]]:
    """The options in =item lines, by section; "nbd" and "*" are sums."""
    found: Dict[str, Set[str]] = {"nbd": set(), "*": set()}
    part, section = "", ""
    with open(page, encoding="utf-8") as file:
        for line in file:
            if line.startswith("=head1 "):
                part = line[7:].strip()
            elif line.startswith("=head2 "):
                section = line[7:].strip()
                if section == "Options of several commands":
                    section = "*"
            elif line.startswith("=item "):
                options = re.findall(r"B<(--?[A-Za-z][a-z-]*)", line)
                key = "nbd" if part == "QEMU-NBD" else section
                found.setdefault(key, set()).update(options)
    return found


def options_of_img(command: str) -> Set[str]:
    """QEMU 11 has a help for each command, 7.2 one line for each."""
    general = output_of("qemu-img", "--help")
    match = re.search(rf"^  {command} ([\[(].*)$", general, re.MULTILINE)
    if match:
        return set(re.findall(r"(?<![\w-])--?[A-Za-z][a-z-]*",
                              match.group(1)))
    return set(re.findall(r"(?:^  |^  -\w, ?|, )(--?[A-Za-z][a-z-]*)",
                          output_of("qemu-img", command, "--help"),
                          re.MULTILINE))


def check_options(page: str) -> int:
    items = items_by_section(page)
    missing = []
    printed = re.findall(r"^ {2,6}(?:(-\w), )?(--[a-z-]+)",
                         output_of("qemu-nbd", "--help"), re.MULTILINE)
    wanted = {option for pair in printed for option in pair if option}
    missing += [f"qemu-nbd {option}" for option in sorted(wanted - items["nbd"])]
    number = len(wanted)
    commands = re.findall(r"^  ([a-z]+)(?: -| [\[(])",
                          output_of("qemu-img", "--help"), re.MULTILINE)
    for command in commands:
        if command not in items and command not in ("info", "map"):
            items.setdefault(command, set())
        options = options_of_img(command)
        number += len(options)
        missing += [f"qemu-img {command} {option}" for option in
                    sorted(options - items.get(command, set()) - items["*"])]
    print(f"{len(commands)} commands, {number} options")
    for option in missing:
        print(f"the page does not have: {option}")
    if len(wanted) < 30 or len(commands) < 15 or number < 120:
        print("too little was found in the help")
        return 1
    return 1 if missing else 0


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] == "options":
        return check_options(sys.argv[2])
    if len(sys.argv) in (6, 7) and sys.argv[1] == "try":
        return run_pairs(*sys.argv[2:])
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main())
