# SPDX-License-Identifier: BSD-3-Clause
"""Servers of another release: they run in a root of it, by chroot.

The bench itself, its clients and the files it makes stay outside; what both
have to see is mounted in the root at the same path, in a mount namespace of
the bench's own, so that nothing is left mounted.  chroot(8) becomes the
program it starts: process ids and costs are the server's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

_INSIDE = "NBDKIT_QCOW2_BENCH_NAMESPACE"


def enter_namespace() -> None:
    """Start this program again where mounts are its own."""
    if os.environ.get(_INSIDE) != "1":
        os.environ[_INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--mount", sys.executable,
                              *sys.argv])


class Root:
    def __init__(self, path: Path, shared: list[Path]) -> None:
        """In the namespace.  Everything in 'shared' is seen in the root."""
        self.path = path.resolve()
        for outside in (Path("/proc"), Path("/dev"),
                        Path(tempfile.gettempdir()), *shared):
            outside = outside.resolve()
            inside = self.path / outside.relative_to("/")
            inside.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--rbind", str(outside), str(inside)],
                           check=True)

    def command(self, argv: list[str]) -> list[str]:
        return ["chroot", str(self.path), *argv]

    def inner(self, path: Path | str) -> str:
        """A file of the root, as programs in it call it."""
        return "/" + str(Path(path).resolve().relative_to(self.path))
