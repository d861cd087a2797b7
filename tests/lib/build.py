# SPDX-License-Identifier: BSD-3-Clause
"""Tools for making one test image: QEMU's programs, pattern data, pokes.

matrix.py and hostile.py describe images as short functions of a Build.
QEMU makes the image; the pokes then change bytes of its header and tables
in place.
"""

import os
import random
import signal
import struct
import subprocess
from typing import Dict, List, Optional

import qfmt


def run(*command: str, text: str = "", ok=(0,)) -> str:
    """Run a program; anything but the expected exit code is an error."""
    done = subprocess.run(command, input=text, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode not in ok:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n"
                           f"{done.stdout[-2000:]}")
    return done.stdout


def text_block(offset: int, length: int) -> bytes:
    """Compressible bytes of which every 64 tell where they belong."""
    filler = "abcdefghijklmnopqrstuvwxyz" * 2
    first = offset & ~63
    lines = "".join(f"{at:011x}{filler}\n"
                    for at in range(first, offset + length, 64))
    return lines.encode()[offset - first:offset - first + length]


def pattern(size: int, unit: int, seed: int) -> bytes:
    """A disk's content: runs of one to three units, each of text, of noise
    that does not compress, of one byte, or of zeros."""
    rng = random.Random(seed)
    parts: List[bytes] = []
    at = 0
    while at < size:
        length = min(unit * rng.randint(1, 3), size - at)
        kind = rng.choice(("text", "text", "noise", "byte", "zero"))
        if kind == "text":
            parts.append(text_block(at, length))
        elif kind == "noise":
            parts.append(rng.randbytes(length))
        else:
            parts.append(bytes([rng.randrange(1, 256) if kind == "byte"
                                else 0]) * length)
        at += length
    return b"".join(parts)


class Build:
    """One image under construction, DIR/NAME.qcow2."""

    def __init__(self, directory: str, name: str):
        self.dir, self.name = directory, name
        self.path = os.path.join(directory, name + ".qcow2")
        self.raw_path = os.path.join(directory, name + ".raw")
        self._temporary: List[str] = []

    def clean(self) -> None:
        for path in self._temporary:
            if os.path.exists(path):
                os.unlink(path)
        self._temporary = []

    # -- QEMU --------------------------------------------------------------

    def temporary(self, suffix: str) -> str:
        path = os.path.join(self.dir, f"{self.name}.{suffix}")
        self._temporary.append(path)
        return path

    def source(self, size: int, unit: int = 65536, seed: int = 1) -> str:
        path = self.temporary(f"source{len(self._temporary)}")
        with open(path, "wb") as file:
            file.write(pattern(size, unit, seed))
        return path

    @staticmethod
    def _options(options: Dict[str, object]) -> List[str]:
        text = ",".join(f"{key}={value}" for key, value in options.items())
        return ["-o", text] if text else []

    def create(self, size, fmt: str = "qcow2", **options) -> None:
        run("qemu-img", "create", "-q", "-f", fmt, *self._options(options),
            self.path, str(size))

    def convert(self, source: str, fmt: str = "qcow2",
                compress: bool = False, **options) -> None:
        # A compressed v1 image is complete, and yet qemu-img exits with 1.
        quirk = (0, 1) if compress and fmt == "qcow" else (0,)
        run("qemu-img", "convert", *(["-c"] if compress else []),
            "-f", "raw", "-O", fmt, *self._options(options), source,
            self.path, ok=quirk)

    def fill(self, source: str, fmt: str = "qcow2") -> None:
        """Copy SOURCE into the image as it is, keeping its clusters."""
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", fmt, source,
            self.path)

    def img(self, *arguments: str) -> str:
        return run("qemu-img", *arguments)

    def io(self, *commands: str, fmt: str = "qcow2") -> None:
        """qemu-io goes on after an error and exits with 0; we do not."""
        said = run("qemu-io", "-f", fmt, self.path,
                   text="\n".join(commands) + "\n")
        if "failed" in said or "rror" in said or "invalid" in said:
            raise RuntimeError(f"{self.name}: qemu-io: {said}")

    def io_killed(self, *commands: str) -> None:
        """The same, ended by SIGKILL before the image could be closed."""
        run("qemu-io", "-f", "qcow2", self.path, ok=(-signal.SIGKILL,),
            text="\n".join([*commands, "sigraise 9"]) + "\n")

    def scatter(self, size: int, unit: int, seed: int = 2,
                fmt: str = "qcow2", share: float = 0.8) -> None:
        """Allocate most units of the disk in random host order."""
        rng = random.Random(seed)
        units = [at for at in range(0, size, unit) if rng.random() < share]
        rng.shuffle(units)
        self.io(*[f"write -q -P {at // unit % 255 + 1} {at} "
                  f"{min(unit, size - at)}" for at in units], fmt=fmt)

    def to_raw(self, fmt: str = "qcow2") -> None:
        run("qemu-img", "convert", "-f", fmt, "-O", "raw", self.path,
            self.raw_path)

    # -- pokes -------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(length)

    def poke(self, offset: int, data: bytes) -> None:
        with open(self.path, "r+b") as file:
            file.seek(offset)
            file.write(data)

    def poke64(self, offset: int, value: int) -> None:
        self.poke(offset, struct.pack(">Q", value))

    def peek64(self, offset: int) -> int:
        return struct.unpack(">Q", self.read(offset, 8))[0]

    def get(self, field: str, fields=None) -> int:
        offset, code = (fields or qfmt.HEADER)[field]
        return struct.unpack(code, self.read(offset,
                                             struct.calcsize(code)))[0]

    def set(self, field: str, value: int, fields=None) -> None:
        offset, code = (fields or qfmt.HEADER)[field]
        self.poke(offset, struct.pack(code, value))

    def set_bits(self, field: str, bits: int) -> None:
        self.set(field, self.get(field) | bits)

    def truncate(self, size: int) -> None:
        os.truncate(self.path, size)

    def file_size(self) -> int:
        return os.path.getsize(self.path)

    def l2_offset(self, l1_index: int = 0) -> int:
        entry = self.peek64(self.get("l1_offset") + 8 * l1_index)
        return entry & qfmt.OFFSET_MASK

    def extensions_end(self) -> int:
        """Where the end marker of the header extensions is."""
        at = self.get("header_length") if self.get("version") == 3 else 72
        while True:
            kind, length = struct.unpack(">II", self.read(at, 8))
            if kind == qfmt.EXT_END:
                return at
            at += 8 + qfmt.align_up(length, 8)

    def add_extension(self, kind: int, data: bytes,
                      length: Optional[int] = None) -> None:
        at = self.extensions_end()
        head = struct.pack(">II", kind, len(data) if length is None
                           else length)
        self.poke(at, head + data.ljust(qfmt.align_up(len(data), 8), b"\0")
                  + bytes(8))

    def set_header_length(self, length: int, fill: int = 0xA5) -> None:
        """Make room for (or remove) fields; extensions move along.  In a
        header as long as its cluster there is no room even for their end
        marker, so then there must be none."""
        unit = 1 << self.get("cluster_bits")
        old = self.get("header_length")
        tail = self.read(old, self.extensions_end() + 8 - old)
        head = self.read(0, min(old, length))
        head += bytes([fill]) * (length - len(head))
        moved = head + tail + bytes(max(0, old - length))
        assert not any(moved[unit:])
        self.poke(0, moved[:unit])
        self.set("header_length", length)
