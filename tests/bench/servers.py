# SPDX-License-Identifier: BSD-3-Clause
"""The servers that are compared, and what the kernel says about them.

A Recipe says how a server is started and which form of the disk it serves
(the raw file or the qcow2 image holding the same bytes).  A Server is one
running process made from a recipe; it is a context manager, so that no
process outlives the sample it was started for.

CPU time is read from the process's own CPU clock: nanoseconds, user and
system, of every thread it ever had.  The 10 ms ticks of /proc/PID/stat are
too coarse, and the schedstat files forget threads that ended.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from root import Root
from web import WebServer, listening

START_TIMEOUT = 30


@dataclass(frozen=True)
class Tools:
    """The programs under test."""

    nbdkit: str = "nbdkit"
    qemu_nbd: str = "qemu-nbd"
    filter_so: str | None = None
    zlib_so: str | None = None          # the same without libdeflate
    before_so: str | None = None        # of an older state, to compare with
    root: Root | None = None            # where nbdkit and qemu-nbd run

    def command(self, argv: list[str]) -> list[str]:
        return self.root.command(argv) if self.root else argv

    def has_filter(self, name: str) -> bool:
        """True if this nbdkit can load the filter."""
        run = subprocess.run(
            self.command([self.nbdkit, f"--filter={name}", "--dump-plugin",
                          "null"]),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, check=False)
        return run.returncode == 0


@dataclass(frozen=True)
class Below:
    """nbdkit filters to put between the file and what reads the format.

    For nbdkit they go below the filter under test; for qemu-nbd they run in
    a second server that it reads the image from."""

    filters: tuple[str, ...] = ()
    params: tuple[str, ...] = ()


@dataclass(frozen=True)
class Needs:
    """What an image needs besides its own file."""

    passphrase: str = ""
    backing: tuple[Path, ...] = ()      # from the top down

    def filter_params(self) -> list[str]:
        secret = [f"qcow2-passphrase={self.passphrase}"] \
            if self.passphrase else []
        return secret + [f"qcow2-backing={path}" for path in self.backing]

    def qemu_image(self, image: object) -> list[str]:
        """The image as QEMU's programs take it.  They follow the names of
        backing files by themselves."""
        if not self.passphrase:
            return ["-f", "qcow2", str(image)]
        return [*self.qemu_secret(), "--image-opts",
                f"driver=qcow2,encrypt.key-secret=s0,file.filename={image}"]

    def qemu_secret(self) -> list[str]:
        return ["--object", f"secret,id=s0,data={self.passphrase}"] \
            if self.passphrase else []


NOTHING = Needs()


@dataclass(frozen=True)
class Recipe:
    name: str
    form: str                           # which file it serves, see Disk
    about: str
    filters: tuple[str, ...] = ()       # see OURS
    qemu_args: tuple[str, ...] | None = None
    web: bool = False                   # over HTTP instead of from the file

    def available(self, tools: Tools) -> bool:
        if OURS in self.filters:
            return tools.filter_so is not None
        if OURS_ZLIB in self.filters:
            return tools.zlib_so is not None
        if BEFORE in self.filters:
            return tools.before_so is not None
        if self.name == "qcow2dec":
            return tools.has_filter("qcow2dec")
        return True


# Stand for the built filter, the one built without libdeflate, and the one
# built from an older state.
OURS = "@OURS@"
OURS_ZLIB = "@OURS_ZLIB@"
BEFORE = "@BEFORE@"

RECIPES = {r.name: r for r in (
    Recipe("raw", "raw", "nbdkit file on the equal raw disk"),
    Recipe("nofilter", "raw", "the same below a do-nothing filter",
           ("nofilter",)),
    Recipe("ours", "qcow2", "nbdkit --filter=qcow2 file", (OURS,)),
    Recipe("before", "qcow2", "the same, built from an older state",
           (BEFORE,)),
    Recipe("ours-zlib", "qcow2", "the same, built without libdeflate",
           (OURS_ZLIB,)),
    Recipe("ours-flat", "flat", "ours, on the layer that has the data",
           (OURS,)),
    Recipe("curl", "qcow2", "nbdkit --filter=qcow2 curl, from nginx",
           (OURS,), web=True),
    Recipe("curl-retry", "qcow2", "nbdkit --filter=qcow2 --filter=retry "
           "curl, from nginx", (OURS, "retry"), web=True),
    Recipe("qemu", "qcow2", "qemu-nbd -t -e 16 --cache=writeback",
           qemu_args=()),
    Recipe("qemu-uring", "qcow2", "the same with --aio=io_uring",
           qemu_args=("--aio=io_uring",)),
    Recipe("qemu-unmap", "qcow2", "qemu-nbd with --discard=unmap",
           qemu_args=("--discard=unmap",)),
    Recipe("qcow2dec", "qcow2", "nbdkit --filter=qcow2dec file",
           ("qcow2dec",)),
)}


def _nbdkit_argv(tools: Tools, sock: str, source: Sequence[str],
                 filters: Sequence[str], params: Sequence[str],
                 readonly: bool) -> list[str]:
    argv = [tools.nbdkit, "-f", "--exit-with-parent", "-U", sock]
    if readonly:
        argv.append("-r")
    built = {OURS: tools.filter_so, OURS_ZLIB: tools.zlib_so,
             BEFORE: tools.before_so}
    for name in filters:
        argv.append(f"--filter={built.get(name, name)}")
    return tools.command(argv + [*source, *params])


def _qemu_argv(tools: Tools, sock: str, image: Sequence[str],
               args: Sequence[str], readonly: bool, local: bool) \
        -> list[str]:
    argv = [tools.qemu_nbd, "-t", "-e", "16", "-k", sock]
    if readonly:
        argv.append("-r")
    if local:
        # Both are about files; an NBD source knows neither.
        argv += ["--cache=writeback", *args]
    return tools.command([*argv, *image])


class Server:
    """One server process on a Unix socket of its own."""

    def __init__(self, tools: Tools, recipe: Recipe, image: Path, *,
                 readonly: bool = True, below: Below = Below(),
                 needs: Needs = NOTHING) -> None:
        self.recipe = recipe
        self._dir = tempfile.TemporaryDirectory(prefix="bench")
        self.socket = os.path.join(self._dir.name, "s")
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self._inner: Server | WebServer | None = None
        self._log = open(os.path.join(self._dir.name, "log"), "w+b")
        if recipe.qemu_args is None:
            source = ["file", str(image)]
            if recipe.web:
                self._inner = WebServer(image.parent)
                source = ["curl", f"http://localhost/{image.name}",
                          f"unix-socket-path={self._inner.socket}"]
            if OURS in recipe.filters or BEFORE in recipe.filters:
                source += needs.filter_params()
            self._argv = _nbdkit_argv(
                tools, self.socket, source, recipe.filters + below.filters,
                below.params, readonly)
        elif not below.filters:
            self._argv = _qemu_argv(tools, self.socket,
                                    needs.qemu_image(image),
                                    recipe.qemu_args, readonly, True)
        else:
            inner = Recipe("below", "qcow2", "", below.filters)
            self._inner = Server(tools, inner, image, readonly=readonly,
                                 below=Below(params=below.params))
            self._argv = _qemu_argv(tools, self.socket,
                                    ["-f", "qcow2", self._inner.uri],
                                    recipe.qemu_args, readonly, False)
        self._process: subprocess.Popen[bytes] | None = None
        self.start_seconds = 0.0        # from exec to a listening socket

    def __enter__(self) -> Server:
        if self._inner:
            self._inner.__enter__()
        begin = time.monotonic()
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.DEVNULL, stdout=self._log,
            stderr=self._log)
        try:
            self._wait_for_socket(begin)
        except BaseException:
            self.__exit__()             # its own message, if it died
            raise
        return self

    def _wait_for_socket(self, begin: float) -> None:
        assert self._process
        while not listening(self.socket):
            if self._process.poll() is not None \
               or time.monotonic() > begin + START_TIMEOUT:
                raise RuntimeError(f"{' '.join(self._argv)}: did not start")
            time.sleep(0.0002)
        self.start_seconds = time.monotonic() - begin

    def __exit__(self, *_: object) -> None:
        died = self._stop()
        messages = self.messages()
        if self._inner:
            self._inner.__exit__()
        self._log.close()
        self._dir.cleanup()
        if died is not None:
            # Even if its client was content.
            raise RuntimeError(f"{self._argv[0]} ended by itself, "
                               f"status {died}: {messages}")

    def _stop(self) -> int | None:
        """Returns the status of a process that had ended before."""
        if self._process is None:
            return None
        died = self._process.poll()
        if died is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return died

    def messages(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def cpu_seconds(self) -> float:
        # How Linux numbers the scheduler's CPU clock of a process; it is
        # what clock_getcpuclockid(3) computes.
        return time.clock_gettime((~self.pid << 3) | 2)

    def _status_kib(self, key: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1])
        raise RuntimeError(f"no {key} in /proc/{self.pid}/status")

    def peak_mib(self) -> float:
        return self._status_kib("VmHWM") / 1024

    def resident_mib(self) -> float:
        return self._status_kib("VmRSS") / 1024

    def disk_read_mib(self) -> float:
        """What it had to fetch from the disk so far."""
        try:
            text = Path(f"/proc/{self.pid}/io").read_text()
        except PermissionError:
            return 0.0
        return int(text.split("read_bytes:")[1].split()[0]) / 2**20


class Meter:
    """What a server spends from now on."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cpu = server.cpu_seconds()
        self._disk = server.disk_read_mib()

    def cpu(self) -> float:
        return self._server.cpu_seconds() - self._cpu

    def common(self) -> dict[str, float]:
        """For every sample: its peak memory, and in disk_mib the reads
        that the page cache did not answer."""
        return {"peak": self._server.peak_mib(),
                "disk_mib": self._server.disk_read_mib() - self._disk}
