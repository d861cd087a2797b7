#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What scripts/serve does on a terminal: terminal.py SERVE FOLDER.

Every wait ends with an error after LIMIT seconds; before ^C worked a server
with a client that stays did not end at all."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from typing import List

import nbd

LIMIT = 90
CTRL_C = b"\x03"


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *command: str):
        self.said = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # Whoever runs the tests may do so in the background.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execvp(command[0], command)

    def _read(self) -> bool:
        if not select.select([self.fd], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:         # nobody has the other end any more
            data = b""
        self.said += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)

    def expect(self, pattern: str) -> "re.Match[str]":
        end = time.monotonic() + LIMIT
        more = True
        while True:
            found = re.search(pattern, self.said)
            if found:
                return found
            if not more or time.monotonic() > end:
                sys.exit(f"FAIL: no '{pattern}' in:\n{self.said}")
            more = self._read()

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def end(self) -> int:
        """Its exit status, once it has ended."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            self._read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while self._read() and time.monotonic() < end:
                    pass
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        sys.exit(f"FAIL: it does not end; it said:\n{self.said}")


def gone(uri: str) -> None:
    path = uri.split("socket=")[1]
    if os.path.exists(path) or os.path.exists(os.path.dirname(path)):
        sys.exit(f"FAIL: {path} is left behind")


def check(what: str, good: bool, terminal: Terminal) -> None:
    if not good:
        sys.exit(f"FAIL: {what}; it said:\n{terminal.said}")
    print(f"ok: {what}")


def serve(*arguments: str) -> "tuple[Terminal, str]":
    terminal = Terminal(sys.argv[1], *arguments)
    uri = terminal.expect(r"\n  (nbd\+unix:\S+)\n")[1]
    terminal.expect("nbdfuse")
    return terminal, uri


def client(uri: str) -> nbd.NBD:
    handle = nbd.NBD()
    handle.connect_uri(uri)
    return handle


def nobody_connected() -> None:
    terminal, uri = serve("a.qcow2")
    terminal.type(CTRL_C)
    check("^C ends it", terminal.end() == 0, terminal)
    gone(uri)
    check("it waited for nobody", "waiting" not in terminal.said, terminal)


def reader_stays() -> None:
    terminal, uri = serve("a.qcow2")
    handle = client(uri)
    terminal.type(CTRL_C)
    check("^C ends it though a client stays", terminal.end() == 0, terminal)
    check("it says what it waits for", "waiting for connected clients" in
          terminal.said, terminal)
    gone(uri)
    del handle


def writer_stays() -> None:
    terminal, uri = serve("--writable", "b.qcow2")
    handle = client(uri)
    handle.pwrite(b"w" * 65536, 1 << 20)        # acknowledged, not flushed
    terminal.type(CTRL_C)
    check("^C ends it though a writer stays", terminal.end() == 0, terminal)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c",
                    "read -P 119 1M 64k", "b.qcow2"], check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run(["qemu-img", "check", "-q", "b.qcow2"], check=True)
    print("ok: what was acknowledged is in the image, which is clean")
    del handle


def folder_writer_stays() -> None:
    """Nobody can flush for it, so it is up to the second ^C."""
    terminal, uri = serve("--writable", "images")
    handle = client(uri.replace("///?", "///a.qcow2?"))
    terminal.type(CTRL_C)
    terminal.expect(r"\^C again")
    terminal.type(CTRL_C)
    check("the second ^C ends it", terminal.end() == 0, terminal)
    del handle


def passphrase() -> None:
    secret = "secret,id=s,data=geheim x"
    options = "driver=qcow2,file.filename=c.qcow2,encrypt.key-secret=s"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "--object",
                    secret, "-o", "encrypt.format=aes,encrypt.key-secret=s",
                    "c.qcow2", "1M"], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["qemu-io", "--object", secret, "--image-opts", "-c",
                    "write -q -P 67 0 64k", options], check=True,
                   stderr=subprocess.DEVNULL)
    terminal = Terminal(sys.argv[1], "c.qcow2", "qcow2-passphrase=-")
    terminal.expect("qcow2-passphrase: ")
    terminal.type(b"geheim x\n")
    uri = terminal.expect(r"\n  (nbd\+unix:\S+)\n")[1]
    check("it does not show the passphrase", "geheim" not in terminal.said,
          terminal)
    handle = client(uri)
    check("the passphrase opens the image",
          handle.pread(65536, 0) == b"C" * 65536, terminal)
    handle.shutdown()
    terminal.type(CTRL_C)
    check("and ^C ends it", terminal.end() == 0, terminal)


def main(scenarios: List[str]) -> None:
    os.chdir(sys.argv[2])
    for scenario in scenarios or ["nobody_connected", "reader_stays",
                                  "writer_stays", "folder_writer_stays",
                                  "passphrase"]:
        globals()[scenario]()


if __name__ == "__main__":
    main(sys.argv[3:])
