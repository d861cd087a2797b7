#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Empty images with LUKS encryption, from a cache.

QEMU takes two seconds to make one, mostly for measuring its speed; under load
it even fails.  So the first of each kind is kept in the build's folder
tests/luks, and copied from then on.

usage: luks.py FILE SIZE OPTIONS
OPTIONS are those of qemu-img create, without encryption; prints the
passphrase, which differs between OPTIONS.
"""

import os
import shutil
import subprocess
import sys
import tempfile

SMALL = 1 << 20
TRIES = 100


def passphrase(options: str) -> str:
    return "secret of " + options.replace(",", " ")


def secret(options: str, name: str = "luks") -> str:
    """For --object."""
    return f"secret,id={name},data={passphrase(options)}"


def cache() -> str:
    folder = os.path.join(os.environ.get("top_builddir", "."), "tests",
                          "luks")
    os.makedirs(folder, exist_ok=True)
    return folder


def make(path: str, options: str) -> None:
    encrypt = "encrypt.format=luks,encrypt.key-secret=luks," \
        "encrypt.iter-time=10"
    for _ in range(TRIES):
        done = subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "--object",
             secret(options), "-o", f"{encrypt},{options}", path,
             str(SMALL)], check=False, stderr=subprocess.PIPE, text=True)
        if done.returncode == 0:
            return
        if "accurate CPU usage" not in done.stderr:
            raise RuntimeError(done.stderr)
    raise RuntimeError("qemu-img cannot measure how fast it is")


def create(path: str, size: int, options: str) -> str:
    """An empty image of that size at 'path'; returns the passphrase."""
    kept = os.path.join(cache(), options.replace("/", "_") + ".qcow2")
    if not os.path.exists(kept):
        # Tests run side by side.
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            made = os.path.join(folder, "made")
            make(made, options)
            os.rename(made, kept)
    shutil.copyfile(kept, path)
    shrink = ["--shrink"] if size < SMALL else []
    subprocess.run(["qemu-img", "resize", "-q", *shrink, "--object",
                    secret(options), "--image-opts",
                    f"driver=qcow2,file.filename={path},"
                    "encrypt.key-secret=luks", str(size)], check=True)
    return passphrase(options)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        print(__doc__[__doc__.index("usage:"):], file=sys.stderr, end="")
        sys.exit(2)
    print(create(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
