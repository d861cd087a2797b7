# SPDX-License-Identifier: BSD-3-Clause
"""The disks for reading, each as a raw file and as a qcow2 image.

They are made once, by QEMU's own tools, into the work directory and kept
there.  A disk appears under its final name only when it is complete and
qemu-img has checked it (and, where there is a raw twin, compared the two).
LAYOUT is part of every name: raise it when a disk changes, and the old ones
are left alone and no longer used.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import scatter
from clients import Load
from servers import NOTHING, RECIPES, Needs, Server, Tools

LAYOUT = 1
CLUSTER = 64 << 10
GIB = 1 << 30
TIB = 1 << 40

SPARSE_RUNS = 8192                  # of 2 clusters: 16384 clusters and,
SPARSE_SPAN = 2 * CLUSTER           # with the holes between, as many extents
SPARSE_SLOT = TIB // SPARSE_RUNS


# Of every encrypted image here: nothing in them is secret.
SECRET = Needs(passphrase="bench")

SNAPSHOTS = 1000
LAYERS = 8                          # of the chain, with the one at the bottom


@dataclass(frozen=True)
class Disk:
    """A disk in its forms; what a disk does not have is None."""

    name: str
    qcow2: Path
    raw: Path | None = None
    offsets: Path | None = None         # where it has data, for nbdload
    span: int = 0                       # how much at each of them
    needs: Needs = NOTHING              # of the qcow2 form
    flat: Path | None = None            # of a chain: the layer with the data

    def form(self, form: str) -> Path | None:
        return {"raw": self.raw, "qcow2": self.qcow2, "flat": self.flat}[form]

    def needed(self, form: str) -> Needs:
        return self.needs if form == "qcow2" else NOTHING

    def files(self) -> list[Path]:
        return [p for p in (self.qcow2, self.raw, *self.needs.backing)
                if p is not None]


def luks_options(needs: Needs) -> list[str]:
    """Of qemu-img, for a new encrypted image: AES-256-XTS, which is the
    default, and as few rounds as it allows for the key, which is needed once
    only."""
    return [*needs.qemu_secret(), "-o", "encrypt.format=luks,"
            "encrypt.key-secret=s0,encrypt.iter-time=10"]


def make_luks(argv: Sequence[str]) -> None:
    """qemu-img now and then fails to find out how fast this CPU is ("Unable
    to get accurate CPU usage")."""
    for tries in range(100):
        run = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True)
        if run.returncode == 0:
            return
        if "CPU usage" not in run.stderr or tries == 99:
            raise RuntimeError(run.stderr.strip())


def _tool(*argv: object) -> None:
    subprocess.run([str(a) for a in argv], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _sync(path: Path) -> None:
    """So that writeback does not go on during the measurements."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def warm(path: Path) -> None:
    """Read what the file has (not its holes) into the page cache."""
    buf = bytearray(4 << 20)
    with open(path, "rb", buffering=0) as f:
        end = os.fstat(f.fileno()).st_size
        pos = 0
        while pos < end:
            try:
                pos = os.lseek(f.fileno(), pos, os.SEEK_DATA)
                hole = os.lseek(f.fileno(), pos, os.SEEK_HOLE)
            except OSError:             # ENXIO: only a hole is left
                return
            os.lseek(f.fileno(), pos, os.SEEK_SET)
            while pos < hole:
                want = min(len(buf), hole - pos)
                pos += f.readinto(memoryview(buf)[:want]) or want


class Images:
    """The disks by name, made when they are first asked for."""

    def __init__(self, workdir: Path, tools: Tools, load: Load,
                 say: Callable[[str], None]) -> None:
        self._dir = workdir
        self._tools = tools
        self._load = load
        self._say = say
        self._made: dict[str, Disk] = {}
        self._makers: dict[str, Callable[[str], Disk]] = {
            "full": self._full, "sparse": self._sparse,
            "frag": self._fragmented, "zlib": self._compressed,
            "zstd": self._compressed, "empty1g": self._empty,
            "empty64t": self._empty,
            "plain256": self._quarter, "zlib256": self._quarter,
            "zstd256": self._quarter, "scattered256": self._scattered,
            "zscattered256": self._scattered,
            "luks": self._encrypted, "chain": self._chain,
            "snapshots": self._snapshots,
        }

    def get(self, name: str) -> Disk:
        if name not in self._made:
            self._made[name] = self._makers[name](name)
        return self._made[name]

    # The disks.

    def _full(self, name: str) -> Disk:
        """2 GiB, every byte allocated, in order."""
        raw = self._file("full.raw", lambda p: self._write_raw(
            p, 2 * GIB, "--block", "1M", "--ops", 2 * GIB >> 20))
        return Disk(name, self._converted("full.qcow2", raw), raw)

    def _sparse(self, name: str) -> Disk:
        """1 TiB with 8192 runs of 2 clusters, one at a random place in
        each 128 MiB; the first at 0, so that there are exactly 16384
        extents."""
        rng = random.Random(1)
        inside = (SPARSE_SLOT - SPARSE_SPAN) // CLUSTER
        runs = [SPARSE_SLOT * i + rng.randrange(1, inside) * CLUSTER
                for i in range(SPARSE_RUNS)]
        runs[0] = 0
        offsets = self._file("sparse.offsets", lambda p: p.write_text(
            "".join(f"{n}\n" for n in runs)))
        where = ("--offsets", offsets, "--span", SPARSE_SPAN, "--block",
                 CLUSTER, "--ops", SPARSE_RUNS * 2)
        raw = self._file("sparse.raw", lambda p: self._write_raw(
            p, TIB, *where))
        qcow2 = self._file("sparse.qcow2", lambda p: self._write_qcow2(
            p, TIB, *where, twin=raw))
        return Disk(name, qcow2, raw, offsets, SPARSE_SPAN)

    def _fragmented(self, name: str) -> Disk:
        """16 GiB, every second cluster allocated: 262144 extents.  Only
        4 KiB of each is written; QEMU leaves the rest to fallocate."""
        def make(path: Path) -> None:
            runs = range(0, 16 * GIB, 2 * CLUSTER)
            offsets = path.with_suffix(".offsets")
            offsets.write_text("".join(f"{n}\n" for n in runs))
            self._write_qcow2(path, 16 * GIB, "--offsets", offsets,
                              "--span", 4096, "--block", 4096, "--depth", 4,
                              "--ops", len(runs))
            offsets.unlink()
        return Disk(name, self._file("frag.qcow2", make))

    def _compressed(self, name: str) -> Disk:
        """2 GiB of this system's own files, compressed by qemu-img."""
        raw = self._file("usr.raw", _fill_with_files)
        return Disk(name, self._converted(
            f"usr.{name}.qcow2", raw, "-c", "-o",
            f"compression_type={name}"), raw)

    def _quarter_raw(self) -> Path:
        return self._file("usr256.raw",
                          lambda p: _fill_with_files(p, GIB // 4))

    def _quarter(self, name: str) -> Disk:
        """256 MiB of this system's own files, for slow hosts."""
        raw = self._quarter_raw()
        kind = name.removesuffix("256")
        options = () if kind == "plain" else (
            "-c", "-o", f"compression_type={kind}")
        return Disk(name, self._converted(f"usr256.{kind}.qcow2", raw,
                                          *options), raw)

    def _scattered(self, name: str) -> Disk:
        """The same, with the clusters in random order in the file."""
        raw = self._quarter_raw()
        return Disk(name, self._file(f"{name}.qcow2", lambda p: scatter.write(
            p, raw, compress=name.startswith("z"))), raw)

    def _encrypted(self, name: str) -> Disk:
        """The same as "full", encrypted."""
        raw = self.get("full").raw
        assert raw

        def make(path: Path) -> None:
            make_luks(["qemu-img", "convert", "-f", "raw", "-O", "qcow2",
                       *luks_options(SECRET), str(raw), str(path)])
            self._compare(path, raw, SECRET)
        return Disk(name, self._file("luks.qcow2", make, SECRET), raw,
                    needs=SECRET)

    def _chain(self, name: str) -> Disk:
        """The image of "full" with seven layers on top of it, each of which
        has a cluster of its own in each 128 MiB, with the same bytes: so
        it has tables to look into."""
        full = self.get("full")
        layers = [full.qcow2]
        for i in range(1, LAYERS):
            def make(path: Path, number: int = i) -> None:
                _tool("qemu-img", "create", "-q", "-f", "qcow2", "-b",
                      layers[-1].name, "-F", "qcow2", path)
                offsets = path.with_suffix(".offsets")
                offsets.write_text("".join(
                    f"{n + number * CLUSTER}\n"
                    for n in range(0, 2 * GIB, GIB // 8)))
                self._write(path, "qemu", "--offsets", offsets, "--block",
                            CLUSTER, "--ops", 16)
                offsets.unlink()
                self._compare(path, full.raw)
            layers.append(self._file(f"chain{i}.qcow2", make))
        layers.reverse()
        return Disk(name, layers[0], full.raw, flat=full.qcow2,
                    needs=Needs(backing=tuple(layers[1:])))

    def _snapshots(self, name: str) -> Disk:
        """1 GiB with 1000 snapshots, the names as long as virsh's."""
        def make(path: Path) -> None:
            _tool("qemu-img", "create", "-q", "-f", "qcow2", path, GIB)
            for i in range(SNAPSHOTS):
                if i % 100 == 0:
                    self._write(path, "qemu", "--start", i * CLUSTER,
                                "--block", CLUSTER, "--ops", 1)
                _tool("qemu-img", "snapshot", "-c",
                      f"nightly-backup-{i:04}", path)
        return Disk(name, self._file("snapshots.qcow2", make))

    def _empty(self, name: str) -> Disk:
        size = {"empty1g": "1G", "empty64t": "64T"}[name]
        return Disk(name, self._file(f"{name}.qcow2", lambda p: _tool(
            "qemu-img", "create", "-q", "-f", "qcow2", p, size)))

    # How they are made.

    def _file(self, name: str, make: Callable[[Path], object],
              needs: Needs = NOTHING) -> Path:
        path = self._dir / f"v{LAYOUT}-{name}"
        if not path.exists():
            self._say(f"making {path}")
            part = path.with_name("part-" + path.name)
            part.unlink(missing_ok=True)
            make(part)
            _sync(part)
            if path.suffix == ".qcow2":
                _tool("qemu-img", "check", "-q", *needs.qemu_image(part))
            part.rename(path)
        return path

    def _converted(self, name: str, raw: Path, *options: str) -> Path:
        def make(path: Path) -> None:
            _tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2",
                  *options, raw, path)
            self._compare(path, raw)
        return self._file(name, make)

    def _compare(self, qcow2: Path, raw: Path | None,
                 needs: Needs = NOTHING) -> None:
        if needs is NOTHING:
            _tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw",
                  qcow2, raw)
        else:
            _tool("qemu-img", "compare", "-q", *needs.qemu_image(qcow2),
                  f"driver=raw,file.filename={raw}")

    def _write_raw(self, path: Path, size: int, *args: object) -> None:
        path.touch()
        os.truncate(path, size)
        self._write(path, "raw", *args)

    def _write_qcow2(self, path: Path, size: int, *args: object,
                     twin: Path | None = None) -> None:
        _tool("qemu-img", "create", "-q", "-f", "qcow2", path, size)
        self._write(path, "qemu", *args)
        if twin:
            self._compare(path, twin)

    def _write(self, path: Path, recipe: str, *args: object) -> None:
        with Server(self._tools, RECIPES[recipe], path,
                    readonly=False) as server:
            self._load(server.uri, "--mode", "write", "--pattern", "seq",
                       "--flush", *args)


def _regular_files(top: str) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            try:
                st = os.lstat(path)
            except OSError:
                continue
            # Each hard link once, as on a disk.
            if os.path.isfile(path) and not os.path.islink(path) \
               and (st.st_dev, st.st_ino) not in seen:
                seen.add((st.st_dev, st.st_ino))
                yield path


def _fill_with_files(path: Path, size: int = 2 * GIB) -> None:
    """Files of /usr one after the other, each from a 4 KiB boundary as a
    filesystem would have them; over again if they do not suffice."""
    with open(path, "wb") as out:
        while out.tell() < size:
            before = out.tell()
            for name in _regular_files("/usr"):
                try:
                    with open(name, "rb") as f:
                        shutil.copyfileobj(f, out, 1 << 20)
                except OSError:
                    continue
                out.write(bytes(-out.tell() % 4096))
                if out.tell() >= size:
                    break
            if out.tell() == before:
                raise RuntimeError("no readable files in /usr")
        out.truncate(size)
