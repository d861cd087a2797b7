#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Every filter of nbdkit above and below ours.

usage: filters_matrix.py above|below FILTER FOLDER EVERY NBDKIT-COMMAND...
       filters_matrix.py known NBDKIT PAGE [FILTERDIR]

The first serves an image with each filter in turn (or with one of EVERY), and
reads it, maps it, writes to it if that makes sense, and reads it again from a
new server.  CASES has what is expected.

"known" fails if a filter that is installed is not in CASES, or if one that is
more than transparent is not in the man page's section on other filters.
"""

import bz2
import gzip
import lzma
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import nbd
from build import pattern
from nbdtool import disk_map

K = 1024
M = 1024 * K
SIZE = 2 * M
ROOM = 2 * M            # In the file, behind the image.
ABOVE, BELOW = "above", "below"


class Case(NamedTuple):
    side: str
    name: str
    args: str = ""
    content: str = "plain"      # or what the bytes are wrapped in
    # kept; lost: they last until the server ends; no: the export is read-only;
    # fail: a write gets an error, and the disk stays readable
    writes: str = "kept"
    map: str = "same"           # data: all of it is data; or any
    log: str = ""               # is in the log
    opens: bool = True          # clients can
    ends: bool = False          # the server ends with the last client
    options: str = ""           # of nbdkit
    manual: bool = False        # the man page has to name it


def both(*words: str, **more) -> List[Case]:
    return [Case(ABOVE, *words, **more), Case(BELOW, *words, **more)]


def inside(name: str, args: str, writes: str, **more) -> List[Case]:
    """The filter finds a part of what it is given; so it says what is a hole
    of that, or not."""
    return [Case(ABOVE, name, args, name, writes, "any", **more),
            Case(BELOW, name, args, name, writes, "same", **more)]


# DIR is the folder, SIZE the size of what the filter has below it, and LAST
# its last byte.
CASES: List[Case] = [
    *both("blocksize", "minblock=512 maxdata=64k"),
    *both("blocksize-policy", "blocksize-minimum=512 "
          "blocksize-preferred=4k blocksize-maximum=1M"),
    # What it says of holes is what was there before it was written to.
    Case(ABOVE, "cache", "cache-on-read=true", map="data", manual=True),
    Case(BELOW, "cache", "cache-on-read=true", manual=True),
    *both("cacheextents"),
    Case(ABOVE, "checkwrite", writes="fail", manual=True),
    Case(BELOW, "checkwrite", writes="fail", manual=True),
    *both("cow", writes="lost", manual=True),
    *both("ddrescue", "ddrescue-mapfile=DIR/rescued", writes="no", map="any",
          manual=True),
    *both("delay", "delay-read=1ms", manual=True),
    *both("error", "error-rate=0"),
    *both("exitlast", ends=True, manual=True),
    *both("exitwhen", "exit-when-file-created=DIR/never", manual=True),
    *both("exportname", "exportname-list=empty"),
    # What it says of holes is where they are in the file system.
    Case(ABOVE, "ext2", "ext2file=/inner", "ext2", map="data", manual=True),
    Case(BELOW, "ext2", "ext2file=/inner", "ext2", manual=True),
    Case(ABOVE, "extentlist", "extentlist=DIR/extents", map="data"),
    Case(BELOW, "extentlist", "extentlist=DIR/extents"),
    *both("fua", "fuamode=emulate"),
    *inside("gzip", "", "no"),
    *both("ip", "allow=any"),
    *both("limit", "limit=3", manual=True),
    *both("log", "logfile=DIR/requests"),
    *inside("luks", "passphrase=secret", "kept"),
    *both("multi-conn", "multi-conn-mode=emulate"),
    *both("nocache"),
    Case(ABOVE, "noextents", map="data"),
    Case(BELOW, "noextents"),
    *both("nofilter"),
    *both("noparallel"),
    *both("nozero"),
    *inside("offset", "offset=1M range=SIZE", "kept", manual=True),
    *inside("partition", "partition=1", "kept", manual=True),
    *both("pause", "pause-control=DIR/pause"),
    Case(ABOVE, "protect", "protect=0-511"),
    # The tables of the image.
    Case(BELOW, "protect", "protect=512-327679", writes="fail", manual=True),
    *both("rate", "rate=1G", manual=True),
    *both("readahead"),
    *both("retry", writes="no", manual=True,
          log="is served read-only: .*retry filter"),
    Case(ABOVE, "retry-request"),
    Case(BELOW, "retry-request", writes="no", manual=True),
    *both("scan"),
    *both("stats", "statsfile=DIR/statistics"),
    *inside("swab", "swab-bits=16", "kept"),
    *inside("tar", "tar-entry=inner", "kept", manual=True),
    Case(ABOVE, "tls-fallback", options="--tls=on --tls-psk=DIR/keys.psk"),
    Case(BELOW, "tls-fallback", options="--tls=on --tls-psk=DIR/keys.psk",
         opens=False, log="not a qcow2 image", manual=True),
    *both("truncate", "round-up=64k", map="any"),
    *inside("xz", "", "no"),
    # Of LATER.
    *inside("bzip2", "", "no"),
    *both("count"),
    *both("evil", "evil-probability=0"),
    *inside("indexed-gzip", "gzip-index-path=DIR/index", "no"),
    # It refuses bytes after the end, and the disk has whole sectors.
    Case(ABOVE, "lzip", "", "lzip", opens=False, log="invalid member size"),
    Case(BELOW, "lzip", "", "lzip", "no"),
    *both("map", "map=0-LAST:0"),
    *both("openonce"),
    *inside("qcow2dec", "", "no"),
    *both("readonly", writes="no", manual=True),
    *both("rotational"),
    *both("spinning", "min-seek-time=0 half-seek-time=0 max-seek-time=0"),
    *both("time-limit", "time-limit=60"),
    *inside("xor", "xor=0x55 xorlen=1", "kept"),
]

# Of later releases of nbdkit than Debian 12's.
LATER = {"bzip2", "count", "evil", "indexed-gzip", "lzip", "map", "openonce",
         "qcow2dec", "readonly", "rotational", "spinning", "time-limit", "xor"}


def result_of(case: Case) -> str:
    """In words, what has been found if a run of the case succeeds."""
    if not case.opens:
        return "clients are refused"
    text = {"kept": "works", "lost": "works, writes are not kept",
            "no": "clients can only read", "fail": "reads, and writes fail"
            }[case.writes]
    if case.map == "data":
        text += "; no holes are seen"
    if case.ends:
        text += "; nbdkit ends with the last client"
    return text


# ---- What the filters have to find -------------------------------------------

def wrap_tar(source: str, path: str) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(source, "inner")


def wrap_ext2(source: str, path: str) -> None:
    folder = path + ".d"
    os.mkdir(folder)
    os.link(source, folder + "/inner")
    size = (os.path.getsize(source) + 2 * M) // K
    subprocess.run(["mkfs.ext2", "-q", "-F", "-d", folder, path, str(size)],
                   check=True, stdout=subprocess.DEVNULL)
    # It keeps holes, but the filter would have to fill them.


def wrap_luks(source: str, path: str) -> None:
    for _ in range(100):        # It may not get to measure its speed.
        done = subprocess.run(
            ["qemu-img", "convert", "-f", "raw", "-O", "luks", "--object",
             "secret,id=s,data=secret", "-o", "key-secret=s,iter-time=10",
             source, path], check=False, stderr=subprocess.DEVNULL)
        if done.returncode == 0:
            return
    raise SystemExit("qemu-img makes no LUKS container")


def by_bytes(change: Callable[[bytes], bytes]) -> Callable[[str, str], None]:
    def wrap(source: str, path: str) -> None:
        with open(source, "rb") as file, open(path, "wb") as out:
            out.write(change(file.read()))
    return wrap


def whole_sectors(data: bytes) -> bytes:
    """gzip in whole sectors, by a file name of the right length: the disk of
    an image has no odd bytes, and this filter does not accept padding."""
    packed = gzip.compress(data, 1)
    name = b"n" * (-(len(packed) + 1) % 512) + b"\0"
    return packed[:3] + b"\x08" + packed[4:10] + name + packed[10:]


def by_program(*words: str) -> Callable[[str, str], None]:
    def wrap(source: str, path: str) -> None:
        if words[-1] == "-c":
            with open(path, "wb") as out:
                subprocess.run([*words, source], check=True, stdout=out)
        else:
            subprocess.run([*words, source, path], check=True)
    return wrap


def in_partition(data: bytes) -> bytes:
    mbr = bytearray(M)
    mbr[446:462] = struct.pack("<B3sB3sII", 0, b"\0" * 3, 0x83, b"\0" * 3,
                               M // 512, len(data) // 512)
    mbr[510:512] = b"\x55\xaa"
    return bytes(mbr) + data + b"end" * 1024


def swapped(data: bytes) -> bytes:
    result = bytearray(data)
    result[0::2], result[1::2] = data[1::2], data[0::2]
    return bytes(result)


NEEDS = {"ext2": "mkfs.ext2", "lzip": "lzip"}
WRAPPERS: Dict[str, Callable[[str, str], None]] = {
    "plain": by_bytes(lambda data: data),
    "offset": by_bytes(lambda data: b"x" * M + data + b"y" * 1000),
    "partition": by_bytes(in_partition),
    "bzip2": by_bytes(lambda data: bz2.compress(data, 1)),
    "indexed-gzip": by_bytes(whole_sectors),
    "lzip": by_program("lzip", "-1", "-c"),
    "qcow2dec": by_program("qemu-img", "convert", "-f", "raw", "-O", "qcow2"),
    "xor": by_bytes(lambda data: bytes(byte ^ 0x55 for byte in data)),
    "gzip": by_bytes(lambda data: gzip.compress(data, 1)),
    "xz": by_bytes(lambda data: lzma.compress(data, preset=0)),
    "swab": by_bytes(swapped),
    "tar": wrap_tar,
    "ext2": wrap_ext2,
    "luks": wrap_luks,
}


def make_image(raw: str, image: str) -> None:
    """With room behind it, since most hosts cannot grow.  Small clusters, so
    that it matters what is a hole of the file: the filter asks for this where
    there is as much data as one L2 table maps."""
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o",
                    "cluster_size=512", raw, image], check=True)
    size = -(-os.path.getsize(image) // (64 * K)) * 64 * K
    os.truncate(image, size + ROOM)


def installed_filters(nbdkit: str, folder: str = "") -> Set[str]:
    config = subprocess.run([nbdkit, "--dump-config"], check=True, text=True,
                            stdout=subprocess.PIPE).stdout
    folder = folder or re.findall("^filterdir=(.*)$", config, re.MULTILINE)[0]
    return {match.group(1) for match in
            (re.fullmatch(r"nbdkit-(.*)-filter\.so", name)
             for name in os.listdir(folder)) if match} - {"qcow2"}


# ---- One case ----------------------------------------------------------------

class Wrong(Exception):
    """Not as expected."""


class Run:
    """A case, its files, and its server."""

    def __init__(self, case: Case, folder: str, filter_path: str,
                 command: List[str]) -> None:
        self.case, self.folder = case, folder
        self.filter, self.command = filter_path, command
        self.disk = os.path.join(folder, "disk.raw")
        self.file = os.path.join(folder, "file")
        self.log = os.path.join(folder, "nbdkit.log")
        self.make_files()
        self.model = bytearray(self.read_file(self.disk))
        self.server: Optional["subprocess.Popen[bytes]"] = None

    @staticmethod
    def read_file(path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def make_files(self) -> None:
        """Above ours the disk is wrapped, below the image file."""
        image = os.path.join(self.folder, "image")
        wrap = WRAPPERS[self.case.content]
        if self.case.side == BELOW:
            make_image(self.disk, image)
            self.size = os.path.getsize(image)
            wrap(image, self.file)
        else:
            inner = os.path.join(self.folder, "wrapped")
            wrap(self.disk, inner)
            self.size = SIZE
            make_image(inner, self.file)
        size = self.size
        for name, text in (("extents", f"0 {size}\n"),
                           ("keys.psk", "alice:" + "5" * 64 + "\n"),
                           ("rescued", f"0x0 +\n0x0 {size:#x} +\n")):
            with open(os.path.join(self.folder, name), "w",
                      encoding="ascii") as out:
                out.write(text)

    def words(self, text: str) -> List[str]:
        return text.replace("DIR", self.folder).replace(
            "SIZE", str(self.size)).replace(
                "LAST", str(self.size - 1)).split()

    def start(self) -> None:
        case = self.case
        pid = os.path.join(self.folder, "pid")
        self.socket = os.path.join(self.folder, "sock")
        for path in (pid, self.socket):
            if os.path.exists(path):
                os.unlink(path)
        filters = [f"--filter={case.name}", f"--filter={self.filter}"]
        if case.side == BELOW:
            filters.reverse()
        with open(self.log, "wb") as log:
            # pylint: disable=consider-using-with
            self.server = subprocess.Popen(
                [*self.command, "-f", "-P", pid, "-U", self.socket,
                 *self.words(case.options), *filters, "file", self.file,
                 *self.words(case.args)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(1200):
            if os.path.exists(pid) and os.path.getsize(pid):
                return
            if self.server.poll() is not None:
                break
            time.sleep(0.02)
        raise Wrong("the server does not start")

    def stop(self) -> None:
        if self.server is None:
            return
        if not self.case.ends:
            self.server.send_signal(signal.SIGTERM)
        try:
            status = self.server.wait(240)
        except subprocess.TimeoutExpired:
            self.server.kill()
            status = -1
        self.server = None
        text = self.read_file(self.log).decode(errors="replace")
        if status != 0 or re.search("Sanitizer|runtime error:", text):
            raise Wrong(f"the server ended with status {status}")
        if "after the end of its connection" in text:
            raise Wrong("the last request was refused")
        if self.case.log and not re.search(self.case.log, text):
            raise Wrong(f"no '{self.case.log}' in the log")

    def connect(self) -> nbd.NBD:
        handle = nbd.NBD()
        handle.set_strict_mode(0)
        handle.add_meta_context("base:allocation")
        if self.case.options:
            handle.set_tls(nbd.TLS_REQUIRE)
            handle.set_tls_username("alice")
            handle.set_tls_psk_file(self.folder + "/keys.psk")
        handle.connect_unix(self.socket)
        return handle

    def compare(self, handle: nbd.NBD, model: Sequence[int]) -> None:
        size = handle.get_size()
        if size != len(model):
            raise Wrong(f"the size is {size}, not {len(model)}")
        for offset in range(0, size, 256 * K):
            length = min(256 * K, size - offset)
            if handle.pread(length, offset) != model[offset:offset + length]:
                raise Wrong(f"other bytes at {offset}")

    def compare_map(self, handle: nbd.NBD,
                    expected: List[Tuple[int, int]]) -> None:
        found = disk_map(handle)
        if self.case.map == "data":
            expected = [(len(self.model), 0)]
        if self.case.map != "any" and found != expected:
            raise Wrong(f"the map is {found}, not {expected}")

    def compare_zeros(self, handle: nbd.NBD) -> None:
        """Whoever copies the disk leaves out what is said to be zeros."""
        offset = 0
        for length, flags in disk_map(handle):
            if flags & nbd.STATE_ZERO and any(
                    self.model[offset:offset + length]):
                raise Wrong(f"data at {offset} ({length} bytes) is said to be "
                            "zeros")
            offset += length

    def write(self, handle: nbd.NBD) -> None:
        """On clusters that are data, and on one that is a hole."""
        model = self.model
        for offset, length, byte in ((64 * K, 512, 1), (M + 4096, 200 * K, 2),
                                     (SIZE - 64 * K, 64 * K, 3)):
            data = bytes([byte]) * length
            handle.pwrite(data, offset)
            model[offset:offset + length] = data
        if handle.can_zero():
            handle.zero(64 * K, 128 * K)
            model[128 * K:192 * K] = bytes(64 * K)
        if handle.can_trim():
            handle.trim(64 * K, SIZE - 64 * K)
        # What a trim leaves is anything.
        handle.pwrite(b"4" * 64 * K, SIZE - 64 * K)
        model[SIZE - 64 * K:] = b"4" * 64 * K
        self.compare_zeros(handle)
        handle.flush()
        self.compare_zeros(handle)

    def write_fails(self, handle: nbd.NBD) -> None:
        try:
            handle.pwrite(b"5" * 64 * K, M)
            handle.flush()
        except nbd.Error:
            if handle.pread(M, 0) != self.model[:M]:
                raise Wrong("a failed write destroys others") from None
            return
        raise Wrong("a write succeeds")

    def client(self, expected_map: List[Tuple[int, int]]) -> None:
        case = self.case
        handle = self.connect()
        self.compare(handle, self.model)
        self.compare_map(handle, expected_map)
        if handle.is_read_only() != (case.writes == "no"):
            raise Wrong("reading only is "
                        + ("all" if handle.is_read_only() else "not all"))
        original = bytes(self.model)
        if case.writes in ("kept", "lost"):
            self.write(handle)
            self.compare(handle, self.model)
        elif case.writes == "fail":
            self.write_fails(handle)
        handle.shutdown()
        if case.writes == "lost":
            self.model[:] = original

    def again(self) -> None:
        """What a new server has; and the image is sound."""
        self.start()
        handle = self.connect()
        self.compare(handle, self.model)
        handle.shutdown()
        self.stop()
        if self.case.side == ABOVE or self.case.content == "plain":
            subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2",
                            self.file], check=True)

    def run(self, expected_map: List[Tuple[int, int]]) -> str:
        case = self.case
        self.start()
        if not case.opens:
            try:
                self.connect()
            except nbd.Error:
                self.stop()
                return result_of(case)
            raise Wrong("a client can open it")
        self.client(expected_map)
        self.stop()
        if case.writes in ("kept", "lost"):
            self.again()
        return result_of(case)


def raw_disk() -> bytes:
    disk = bytearray(pattern(SIZE, 65536, 5))
    disk[64 * K:256 * K] = b"data" * (48 * K)
    disk[M:M + 128 * K] = bytes(128 * K)
    disk[-64 * K:] = bytes(64 * K)
    return bytes(disk)


def reference_map(folder: str, filter_path: str, command: List[str]
                  ) -> List[Tuple[int, int]]:
    run = Run(Case(BELOW, "nofilter"), folder, filter_path, command)
    run.start()
    handle = run.connect()
    found = disk_map(handle)
    handle.shutdown()
    run.stop()
    return found


def run_cases(side: str, filter_path: str, folder: str, every: int,
              command: List[str]) -> int:
    failed, tried = 0, 0
    disk = raw_disk()
    expected: List[Tuple[int, int]] = []
    cases = [case for case in CASES if case.side == side][::every]
    installed = installed_filters(command[-1])
    for number, case in enumerate(cases):
        if case.name not in installed:
            continue
        program = NEEDS.get(case.name, "qemu-img")
        if not shutil.which(program):
            print(f"{side} {case.name}: skipped, no {program}")
            continue
        tried += 1
        place = os.path.join(folder, f"{side}-{number}")
        os.mkdir(place)
        with open(place + "/disk.raw", "wb") as out:
            out.write(disk)
        if not expected:
            expected = reference_map(place, filter_path, command)
        run = None
        try:
            run = Run(case, place, filter_path, command)
            print(f"{side} {case.name}: {run.run(expected)}", flush=True)
        except (Wrong, nbd.Error, subprocess.CalledProcessError) as error:
            failed += 1
            print(f"FAIL: {side} {case.name}: {error}")
            if run is not None:
                print(run.read_file(run.log).decode(errors="replace"))
                if run.server is not None:
                    run.server.kill()
                    run.server.wait()
    print(f"{side}: {tried} filters, {failed} failed")
    return 1 if failed or not tried else 0


# ---- Is the list whole? ------------------------------------------------------

def check_known(nbdkit: str, page: str, folder: str = "") -> int:
    installed = installed_filters(nbdkit, folder)
    bad = 0
    version = re.search(r"\d+\.\d+", subprocess.run(
        [nbdkit, "--version"], check=True, text=True,
        stdout=subprocess.PIPE).stdout)
    if version and version[0] == "1.32":
        for name in sorted({case.name for case in CASES} - LATER - installed):
            print(f"{name} is not in this release")
            bad = 1
    for side in (ABOVE, BELOW):
        for name in sorted(installed - {case.name for case in CASES
                                        if case.side == side}):
            print(f"filters_matrix.py has no case for {name} {side}")
            bad = 1
    with open(page, encoding="utf-8") as file:
        text = file.read().split("=head2 Other filters", 1)[1]
    text = re.split("^=head1", text, flags=re.MULTILINE)[0]
    for name in sorted({case.name for case in CASES if case.manual}):
        if f"nbdkit-{name}-filter" not in text:
            print(f"the man page does not say what is special about {name}")
            bad = 1
    print(f"{len(installed)} filters")
    return bad


def main() -> int:
    if len(sys.argv) in (4, 5) and sys.argv[1] == "known":
        return check_known(*sys.argv[2:])
    if len(sys.argv) < 6 or sys.argv[1] not in (ABOVE, BELOW):
        print(__doc__)
        return 2
    return run_cases(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]),
                     sys.argv[5:])


if __name__ == "__main__":
    sys.exit(main())
