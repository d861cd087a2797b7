# SPDX-License-Identifier: BSD-3-Clause
"""The programs that put load on a server: nbdload, nbdcopy, nbdinfo."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

CLIENT_TIMEOUT = 900


class WrongData(Exception):
    """A server answered with other bytes than the disk has."""


def build_nbdload(source: Path, workdir: Path) -> Path:
    """Compile the load generator, unless that was done already."""
    program = workdir / "nbdload"
    if not program.exists() \
       or program.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-o", str(program), str(source),
                        "-lnbd", "-lpthread"], check=True)
    return program


class Load:
    """Runs nbdload; its options are passed as they are."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def __call__(self, uri: str, *args: object) -> dict[str, float]:
        run = subprocess.run(
            [str(self._program), "--uri", uri, *map(str, args)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, check=False,
            timeout=CLIENT_TIMEOUT)
        if run.returncode != 0:
            message = run.stderr.strip()
            raise (WrongData if "wrong data" in message
                   else RuntimeError)(message)
        return json.loads(run.stdout)


def _timed(argv: list[str]) -> tuple[float, bytes]:
    begin = time.monotonic()
    run = subprocess.run(argv, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, check=True,
                         timeout=CLIENT_TIMEOUT)
    return time.monotonic() - begin, run.stdout


def copy_to_null(uri: str, connections: int,
                 request_size: int | None = None) -> float:
    """Seconds nbdcopy takes to read the whole disk."""
    size = [f"--request-size={request_size}"] if request_size else []
    return _timed(["nbdcopy", f"--connections={connections}", *size, uri,
                   "null:"])[0]


def check_copy(uri: str, raw: Path) -> None:
    """The whole disk, as nbdcopy gets it, has the bytes of the file."""
    with subprocess.Popen(["nbdcopy", uri, "-"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE) as copy:
        compare = subprocess.run(
            ["cmp", "-", str(raw)], stdin=copy.stdout, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=CLIENT_TIMEOUT)
    if compare.returncode != 0:
        raise WrongData(compare.stdout.strip())


def map_extents(uri: str) -> tuple[float, int]:
    """Seconds nbdinfo --map takes, and the number of extents it lists."""
    seconds, out = _timed(["nbdinfo", "--map", uri])
    return seconds, out.count(b"\n")
