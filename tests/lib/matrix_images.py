# SPDX-License-Identifier: BSD-3-Clause
"""The images of the matrix: how QEMU makes each, and its known attributes.

Each image is a function of a Build, registered under a name with
attributes (see Entry).  Data comes from build.pattern(), in which every 64
bytes of text tell their own offset, so that a misplaced cluster shows.
"""

import os
import struct
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import qfmt
from build import Build

K, M, G, T = 1 << 10, 1 << 20, 1 << 30, 1 << 40
P = 1 << 50


class Entry(NamedTuple):
    make: Callable[[Build], None]
    version: int = 3
    cluster_size: int = 64 * K
    size: int = 0               # virtual size, exactly as in the header
    raw: bool = True            # small enough for NAME.raw
    compression: str = ""       # "zlib" or "zstd" if it has such clusters
    extended_l2: bool = False
    samples: Tuple = ()         # (offset, length, byte) known without .raw
    check: Optional[int] = 0    # exit code of qemu-img check, None: no check
    qemu_map: bool = True       # False: qemu-nbd asks the file system too
                                # and may say "zero" where this is data
    tags: Tuple = ()

    @property
    def qemu_rounds(self) -> bool:
        """QEMU serves less than the header says: it counts sectors."""
        return self.size % 512 != 0

    @property
    def format(self) -> str:
        return "qcow" if self.version == 1 else "qcow2"


ENTRIES: Dict[str, Entry] = {}


def image(name: str, **attributes):
    def register(make):
        ENTRIES[name] = Entry(make, **attributes)
        return make
    return register


def size_name(number: int) -> str:
    for unit, letter in ((T, "T"), (M, "M"), (K, "k")):
        if number % unit == 0:
            return f"{number // unit}{letter}"
    return str(number)


def disk_size(cluster_size: int) -> int:
    return max(512 * K, 6 * cluster_size)


# -- versions, cluster sizes, refcount widths ------------------------------

def cluster_sizes() -> None:
    """Every cluster size: clusters in random host order, then real data
    written over them, with zeros here and there."""
    for bits in range(9, 22):
        unit = 1 << bits
        size = disk_size(unit)
        for version, compat in ((3, "1.1"), (2, "0.10")):
            if version == 2 and unit not in (512, 64 * K, 2 * M):
                continue

            def make(b, unit=unit, size=size, compat=compat):
                b.create(size, cluster_size=unit, compat=compat)
                b.scatter(size, unit)
                b.fill(b.source(size, unit, seed=unit))
            prefix = "v2-" if version == 2 else ""
            image(f"{prefix}cs-{size_name(unit)}", version=version,
                  cluster_size=unit, size=size, tags=("quick",)
                  if unit in (512, 64 * K, 2 * M) else ())(make)


def refcount_widths() -> None:
    for order in range(7):
        def make(b, bits=1 << order):
            b.create(1 * M, refcount_bits=bits, cluster_size=4 * K)
            b.scatter(1 * M, 4 * K)
            b.fill(b.source(1 * M, 4 * K, seed=bits))
        image(f"rb-{1 << order}", cluster_size=4 * K, size=1 * M)(make)


def compressed() -> None:
    for kind in ("zlib", "zstd"):
        for bits in range(9, 22):
            unit = 1 << bits

            def make(b, unit=unit, kind=kind):
                b.convert(b.source(disk_size(unit), unit, seed=unit + 1),
                          compress=True, cluster_size=unit,
                          compression_type=kind)
            image(f"{kind}-{size_name(unit)}", cluster_size=unit,
                  size=disk_size(unit), compression=kind)(make)


cluster_sizes()
refcount_widths()
compressed()


@image("v1-plain", version=1, cluster_size=4 * K, size=2 * M)
def _(b):
    b.convert(b.source(2 * M, 4 * K), fmt="qcow")


@image("v1-compressed", version=1, cluster_size=4 * K, size=2 * M,
       compression="zlib", check=None)
def _(b):
    b.convert(b.source(2 * M, 4 * K), fmt="qcow", compress=True)


@image("v1-scattered", version=1, cluster_size=4 * K, size=2 * M)
def _(b):
    b.create(2 * M, fmt="qcow")
    b.scatter(2 * M, 4 * K, fmt="qcow", share=0.5)
    b.io("write -P 7 1000 3000", "write -P 8 100k 512", fmt="qcow")


@image("v1-half-cluster", version=1, cluster_size=4 * K, size=1 * M)
def _(b):
    # No copy-on-write in v1: the rest of each cluster is a hole of the file.
    b.create(1 * M, fmt="qcow")
    b.io("write -P 1 0 512", "write -P 2 9k 1k", "write -P 3 1020k 1k",
         fmt="qcow")


@image("v2-plain", version=2, size=2 * M)
def _(b):
    b.convert(b.source(2 * M), compat="0.10")


@image("v2-compressed", version=2, size=2 * M, compression="zlib")
def _(b):
    b.convert(b.source(2 * M), compress=True, compat="0.10")


@image("v3-plain", size=2 * M)
def _(b):
    b.convert(b.source(2 * M))


@image("v3-many-l2", cluster_size=512, size=8 * M)
def _(b):
    b.convert(b.source(8 * M, 8 * K), cluster_size=512)


@image("v3-rewritten-compressed", size=2 * M, compression="zlib")
def _(b):
    b.convert(b.source(2 * M), compress=True)
    b.io("write -P 1 0 4k", "write -P 2 700k 300k", "write -z 1M 64k",
         "discard 1088k 128k", "write -c -P 3 1088k 64k")


# -- extended L2 -----------------------------------------------------------

def subclusters(b: Build, unit: int, size: int) -> None:
    """Every state a subcluster can be in, through QEMU's own writes."""
    sub = unit // 32
    b.io(f"write -P 1 0 {unit}",                        # whole cluster
         f"write -P 2 {unit + sub} {sub}",              # one of 32
         f"write -P 3 {unit + 5 * sub + 100} {3 * sub}",
         f"write -z {unit + sub * 20} {4 * sub}",       # zero, space kept
         f"write -z {2 * unit + 3 * sub} {2 * sub}",    # zero, no space
         f"write -zu 0 {sub}",
         f"discard {3 * unit} {unit}",
         f"write -c -P 4 {3 * unit} {unit}",            # compressed
         f"write -P 5 {4 * unit} {unit}", f"discard {4 * unit} {unit}",
         f"write -P 6 {5 * unit - sub} {sub}",
         *[f"write -P {10 + i} {5 * unit + 2 * i * sub} {sub}"
           for i in range(16)],                         # every other one
         f"write -P 7 {size - sub} {sub}")


def extended() -> None:
    for unit, kind in ((16 * K, "zlib"), (64 * K, "zlib"), (2 * M, "zlib"),
                       (64 * K, "zstd")):
        size = 8 * unit

        def make(b, unit=unit, size=size, kind=kind):
            b.create(size, extended_l2="on", cluster_size=unit,
                     compression_type=kind)
            subclusters(b, unit, size)
        name = f"extl2-{size_name(unit)}" + ("-zstd" if kind == "zstd"
                                             else "")
        image(name, cluster_size=unit, size=size, extended_l2=True,
              compression=kind)(make)


extended()


@image("extl2-scattered", cluster_size=16 * K, size=1 * M, extended_l2=True)
def _(b):
    b.create(1 * M, extended_l2="on", cluster_size="16k")
    b.scatter(1 * M, 512, share=0.4)


@image("extl2-many-l2", cluster_size=16 * K, size=64 * M, extended_l2=True)
def _(b):
    b.create(64 * M, extended_l2="on", cluster_size="16k")
    b.io(*[f"write -q -P {i + 1} {i * 1111 * K} 33k" for i in range(57)])


@image("extl2-convert", size=2 * M, extended_l2=True)
def _(b):
    b.convert(b.source(2 * M, 2 * K), extended_l2="on")


# -- preallocation ---------------------------------------------------------

def preallocated() -> None:
    for mode in ("off", "metadata", "falloc", "full"):
        for ext in ("off", "on"):
            def make(b, mode=mode, ext=ext):
                b.create(4 * M, preallocation=mode, extended_l2=ext)
                b.io("write -P 1 100k 100k", "write -P 2 3M 1",
                     "write -z 2M 128k")
            # There QEMU finds out that only metadata was preallocated and
            # asks the file system which clusters are holes.
            asks = mode == "metadata"
            image(f"prealloc-{mode}" + ("-extl2" if ext == "on" else ""),
                  size=4 * M, extended_l2=ext == "on",
                  qemu_map=not asks)(make)


preallocated()


# -- zero clusters and discards --------------------------------------------

@image("zero-plain", size=2 * M)
def _(b):
    b.create(2 * M)
    b.io("write -z 0 256k", "write -P 1 512k 128k", "write -zu 512k 64k",
         "write -z 1M 1M")


@image("zero-alloc", size=2 * M)
def _(b):
    b.create(2 * M)
    b.io("write -P 1 0 1M", "write -z 128k 256k", "write -P 2 130k 4k")


@image("zero-whole-disk", size=64 * M)
def _(b):
    b.create(64 * M)
    b.io("write -P 1 32M 64k", "write -z 0 64M")


@image("discard", size=2 * M)
def _(b):
    b.create(2 * M)
    b.io("write -P 1 0 2M", "discard 256k 512k", "discard 1M 64k",
         "write -P 2 300k 10k")


@image("v2-discard", version=2, size=2 * M)
def _(b):
    b.create(2 * M, compat="0.10")
    b.io("write -P 1 0 2M", "discard 256k 512k", "write -z 1M 64k")


@image("empty", size=2 * M)
def _(b):
    b.create(2 * M)


# -- snapshots, bitmaps, refcount modes ------------------------------------

@image("snapshots", size=4 * M)
def _(b):
    b.create(4 * M)
    b.io("write -P 1 0 1M")
    b.img("snapshot", "-c", "one", b.path)
    b.io("write -P 2 512k 1M", "write -z 0 64k")
    b.img("snapshot", "-c", "two", b.path)
    b.io("discard 64k 64k", "write -P 3 3M 100k")


@image("snapshots-shrunk", size=512 * K)
def _(b):
    b.create(1 * M)
    b.io("write -P 1 0 1M")
    b.img("snapshot", "-c", "one", b.path)
    b.img("resize", "-q", b.path, "3M")
    b.io("write -P 2 1M 2M")
    b.img("snapshot", "-c", "two", b.path)
    b.img("resize", "-q", "--shrink", b.path, "512k")


@image("snapshot-reverted", size=2 * M)
def _(b):
    b.create(2 * M)
    b.io("write -P 1 0 1M")
    b.img("snapshot", "-c", "one", b.path)
    b.io("write -P 2 0 2M")
    b.img("snapshot", "-a", "one", b.path)


@image("vmstate", size=2 * M)
def _(b):
    b.create(2 * M)
    b.io("write -P 1 0 1M", "write -b -P 9 0 300k")
    b.img("snapshot", "-c", "one", b.path)
    b.io("write -P 2 512k 64k")


def bitmaps(b: Build, *options: str) -> None:
    b.create(4 * M)
    b.img("bitmap", "--add", "-g", "512", *options, b.path, "fine")
    b.img("bitmap", "--add", "-g", "64k", *options, b.path, "middle")
    b.io("write -P 1 100k 300k", "write -P 2 3M 1M")
    b.img("bitmap", "--add", "-g", "2M", *options, b.path, "coarse")


@image("bitmaps", size=4 * M)
def _(b):
    bitmaps(b)


@image("bitmaps-disabled", size=4 * M)
def _(b):
    bitmaps(b, "--disable")


@image("bitmaps-in-use", size=4 * M)
def _(b):
    bitmaps(b)
    b.io_killed("write -P 3 1M 64k", "flush")


@image("lazy-refcounts", size=2 * M)
def _(b):
    b.create(2 * M, lazy_refcounts="on")
    b.io("write -P 1 64k 1M")


@image("dirty", size=2 * M, check=None)
def _(b):
    b.create(2 * M, lazy_refcounts="on")
    b.io_killed("write -P 1 64k 1M", "flush")
    assert b.get("incompatible") & qfmt.INCOMPAT_DIRTY


@image("corrupt-bit", size=2 * M, check=None)
def _(b):
    b.convert(b.source(2 * M))
    b.set_bits("incompatible", qfmt.INCOMPAT_CORRUPT)


# -- headers ---------------------------------------------------------------

@image("compat-bits", size=2 * M)
def _(b):
    b.convert(b.source(2 * M))
    b.set_bits("compatible", 0xA5A5A5A5DEADBEE0)


@image("autoclear-bits", size=2 * M, check=None)
def _(b):
    b.convert(b.source(2 * M))
    b.set_bits("autoclear", 0x8000000000000F04)


@image("unknown-extensions", size=2 * M)
def _(b):
    b.convert(b.source(2 * M))
    b.add_extension(0x12345678, b"not known to anyone")
    b.add_extension(0xDEADBEEF, b"")
    b.add_extension(0x80000001, bytes(range(256)))


@image("v2-unknown-extension", version=2, size=2 * M)
def _(b):
    b.convert(b.source(2 * M), compat="0.10")
    b.add_extension(0x12345678, b"odd")


@image("hdr104", size=2 * M, compression="zlib")
def _(b):
    b.convert(b.source(2 * M), compress=True)
    b.set_header_length(104)


@image("hdr128", size=2 * M)
def _(b):
    b.convert(b.source(2 * M))
    b.set_header_length(128)


@image("hdr-fills-cluster", cluster_size=512, size=1 * M)
def _(b):
    b.convert(b.source(1 * M, 4 * K), cluster_size=512)
    b.set_header_length(512)


# -- sizes -----------------------------------------------------------------

def odd_sizes() -> None:
    """The header is poked to a size QEMU itself would never write.  What
    the disk then holds is known: the start of the disk before the poke."""
    for size in (1, 511, 513, 65535, 65537, 1 * M - 1, 1 * M + 64 * K + 777):
        for kind in ("plain", "zlib", "extl2", "v1"):
            if kind != "plain" and size != 1 * M + 64 * K + 777:
                continue
            if kind == "v1" and size < 2:
                continue

            def make(b, size=size, kind=kind):
                fmt = "qcow" if kind == "v1" else "qcow2"
                options = {"extended_l2": "on"} if kind == "extl2" else {}
                source = b.source(qfmt.align_up(size, 512), 512, seed=size)
                with open(source, "r+b") as file:   # the tail must show
                    file.seek(max(0, size - 700))
                    file.write(b"\xee" * (size - file.tell() + 100))
                os.truncate(source, qfmt.align_up(size, 512))
                b.convert(source, fmt=fmt, compress=kind == "zlib",
                          **options)
                os.rename(source, b.raw_path)
                os.truncate(b.raw_path, size)
                b.set("size", size,
                      qfmt.HEADER_V1 if kind == "v1" else None)
            image(f"odd-{kind}-{size}" if kind != "plain"
                  else f"odd-{size}", size=size,
                  version=1 if kind == "v1" else 3,
                  cluster_size=4 * K if kind == "v1" else 64 * K,
                  extended_l2=kind == "extl2",
                  compression="zlib" if kind == "zlib" else "")(make)


odd_sizes()


@image("size-0", size=0)
def _(b):
    b.create(0)


@image("v2-size-0", version=2, size=0)
def _(b):
    b.create(0, compat="0.10")


@image("size-512", size=512)
def _(b):
    b.create(512)
    b.io("write -P 1 0 512")


@image("l1-larger", cluster_size=512, size=1 * M + 1536)
def _(b):
    # A disk cut short in the header: tables go on past its end.
    b.convert(b.source(4 * M, 4 * K), cluster_size=512)
    b.set("size", 1 * M + 1536)


HUGE_64T = ((0, 64 * K, 1), (1 * G + 4 * K, 1 * K, 2), (5 * T, 128 * K, 3),
            (64 * T - 64 * K, 64 * K, 4), (33 * T, 64 * K, 0))


@image("huge-64T", size=64 * T, raw=False, samples=HUGE_64T)
def _(b):
    b.create("64T")
    b.io(*[f"write -P {byte} {at} {length}" for at, length, byte in HUGE_64T
           if byte], f"write -z {33 * T} 64k")


HUGE_1P = ((0, 64 * K, 1), (512 * T + 12345 * 512, 64 * K, 2),
           (777 * T, 2 * M, 3), (1 * P - 2 * M, 2 * M, 4),
           (300 * T, 2 * M, 0))


@image("huge-1P", cluster_size=2 * M, size=1 * P, raw=False,
       samples=HUGE_1P)
def _(b):
    b.create(P, cluster_size="2M")
    b.io(*[f"write -P {byte} {at} {length}" for at, length, byte in HUGE_1P
           if byte])


@image("huge-1P-extl2", cluster_size=2 * M, size=1 * P, raw=False,
       extended_l2=True, samples=HUGE_1P, qemu_map=False,
       tags=("slow-qemu-map",))
def _(b):
    b.create(P, cluster_size="2M", extended_l2="on")
    b.io(*[f"write -P {byte} {at} {length}" for at, length, byte in HUGE_1P
           if byte])


# -- files that end early --------------------------------------------------

@image("eof-mid-cluster", size=1 * M, check=None, qemu_map=False)
def _(b):
    b.create(1 * M)
    b.io("write -P 1 0 64k", "write -P 2 512k 64k")
    b.truncate(b.file_size() - 64 * K + 12345)


@image("eof-before-data", size=1 * M, check=None)
def _(b):
    b.create(1 * M)
    b.io("write -P 1 0 64k", "write -P 2 512k 192k")
    b.truncate(b.file_size() - 2 * 64 * K)


@image("eof-mid-compressed", size=1 * M, compression="zlib", check=None)
def _(b):
    # The last stream is whole, the padding of its last sector is gone.
    b.create(1 * M)
    b.io("write -c -P 1 0 64k", "write -c -P 2 64k 64k")
    l2_entry = b.peek64(b.l2_offset() + 8)
    bits = qfmt.compressed_offset_bits(16)
    start = l2_entry & ((1 << bits) - 1)
    whole = b.read(start, 512).rstrip(b"\0")
    b.truncate(start + len(whole) + 1)


def move_l2_to_end(b: Build) -> int:
    """Put a copy of the first L2 table at the end of the file."""
    unit = 1 << b.get("cluster_bits")
    at = qfmt.align_up(b.file_size(), unit)
    b.poke(at, b.read(b.l2_offset(), unit))
    b.poke64(b.get("l1_offset"), qfmt.COPIED | at)
    return at


@image("eof-mid-l2", cluster_size=4 * K, size=2 * M, check=None)
def _(b):
    b.convert(b.source(2 * M, 4 * K), cluster_size="4k")
    b.truncate(move_l2_to_end(b) + 1004)


@image("eof-before-l2", cluster_size=4 * K, size=4 * M, check=None)
def _(b):
    b.convert(b.source(4 * M, 4 * K), cluster_size="4k")
    b.truncate(move_l2_to_end(b))


@image("eof-before-l1", size=1 * M, check=None)
def _(b):
    b.convert(b.source(1 * M))
    b.set("l1_offset", qfmt.align_up(b.file_size(), 64 * K) + 64 * K)


@image("v1-eof-mid-cluster", version=1, cluster_size=4 * K, size=1 * M)
def _(b):
    b.create(1 * M, fmt="qcow")
    b.io("write -P 1 0 4k", "write -P 2 512k 4k", fmt="qcow")
    b.truncate(b.file_size() - 1500)


# -- all at once -----------------------------------------------------------

@image("mix", cluster_size=8 * K, size=2 * M + 333, compression="zstd",
       check=None)
def _(b):
    size = 2 * M + 333
    b.create(qfmt.align_up(size, 512), cluster_size="8k", refcount_bits=8,
             compression_type="zstd", lazy_refcounts="on")
    b.fill(b.source(1 * M, 4 * K))
    b.img("bitmap", "--add", "-g", "512", b.path, "bits")
    b.img("snapshot", "-c", "one", b.path)
    b.io(*[f"write -c -P {i + 1} {1 * M + i * 8 * K} 8k" for i in range(64)],
         "write -z 40k 80k", "write -zu 200k 33k", "discard 300k 100k",
         "write -P 200 333k 5000", f"write -P 201 {2 * M} 512")
    b.img("snapshot", "-c", "two", b.path)
    b.io_killed("write -P 202 700k 100k", "write -P 203 8k 1k", "flush")
    b.add_extension(0x12345678, b"hello")
    b.set_header_length(136)
    b.set_bits("compatible", 1 << 40)
    b.set_bits("autoclear", 1 << 41)
    b.set_bits("incompatible", qfmt.INCOMPAT_CORRUPT)
    b.to_raw()
    os.truncate(b.raw_path, 2 * M)
    with open(b.raw_path, "ab") as file:
        file.write(b"\xc9" * 333)
    b.set("size", size)


@image("mix-extl2", cluster_size=32 * K, size=4 * M, extended_l2=True,
       compression="zlib")
def _(b):
    b.create(4 * M, cluster_size="32k", extended_l2="on", refcount_bits=32)
    subclusters(b, 32 * K, 4 * M)
    b.img("snapshot", "-c", "one", b.path)
    subclusters(b, 32 * K, 2 * M)
    b.io("discard 160k 32k", "write -P 99 33k 1k", "write -z 1M 100k")
    b.img("bitmap", "--add", b.path, "bits")
    b.add_extension(0x87654321, struct.pack(">Q", 42))


def names() -> List[str]:
    return list(ENTRIES)
