# SPDX-License-Identifier: BSD-3-Clause
"""Hostile images: the fault of each, and the expected result.

For an image that must be refused: a word of the message.  For one that opens:
the guest ranges that fail with EIO, and the contents of others: damage in one
place must not affect the rest of the disk.

Most start from victim(): 4 KiB clusters, 4 MiB, two L2 tables; guest
clusters 0..15 and those from 2 MiB on hold data, the rest is a hole.
"""

import struct
import zlib
from typing import Callable, Dict, NamedTuple, Tuple

import qfmt
from build import Build, run
from qpack import skippable, zstd_frame

K, M, G, T = 1 << 10, 1 << 20, 1 << 30, 1 << 40
CLUSTER = 4 * K
HALF = 2 * M                # where the second L2 table begins
V1 = qfmt.HEADER_V1


class Hostile(NamedTuple):
    make: Callable[[Build], None]
    open: str = "ok"            # or "refused"
    message: str = ""           # regex, any case, for a refused one
    eio: Tuple = ()             # (offset, length) that must fail
    reads: Tuple = ()           # (offset, length, byte) that must not;
                                # byte None: whatever QEMU reads
    why: str = ""               # why we differ from QEMU, which then...
    qemu: str = ""              # ...does "ok", "refused", or "hangs"
    format: str = "qcow2"


ENTRIES: Dict[str, Hostile] = {}


def hostile(name: str, **attributes):
    def register(make):
        assert name not in ENTRIES
        ENTRIES[name] = Hostile(make, **attributes)
        return make
    return register


def refused(name: str, message: str, **attributes):
    return hostile(name, open="refused", message=message, **attributes)


def victim(b: Build, **options) -> None:
    b.create(4 * M, **{"cluster_size": CLUSTER, **options})
    b.io("write -P 1 0 64k", f"write -P 2 {HALF} 64k")


def victim_v1(b: Build) -> None:
    b.create(4 * M, fmt="qcow")
    b.io("write -P 1 0 64k", f"write -P 2 {HALF} 64k", fmt="qcow")


# What is left of the victim when guest cluster 0 cannot be read.
FIRST_GONE = {"eio": ((0, CLUSTER), (100, 1), (0, 64 * K)),
              "reads": ((CLUSTER, 15 * CLUSTER, 1), (64 * K, 64 * K, 0),
                        (HALF, 64 * K, 2))}
# The same when its first L2 table cannot be.
TABLE_GONE = {"eio": ((0, CLUSTER), (64 * K, 512), (HALF - 512, 1024)),
              "reads": ((HALF, 64 * K, 2), (3 * M, 64 * K, 0))}
WHOLE = {"reads": ((0, 64 * K, 1), (64 * K, 64 * K, 0), (HALF, 64 * K, 2))}
ALL_ZERO = {"reads": ((0, 64 * K, 0), (HALF, 64 * K, 0))}


# -- the header, field by field --------------------------------------------

def header_fields() -> None:
    """name, field, value, word of the message"""
    cases = (
        ("bad-magic", "magic", 0x514649FA, "not a qcow2|magic"),
        ("bad-version0", "version", 0, "version"),
        ("bad-version4", "version", 4, "version"),
        ("bad-version-max", "version", 0xFFFFFFFF, "version"),
        ("bad-clusterbits0", "cluster_bits", 0, "cluster size"),
        ("bad-clusterbits8", "cluster_bits", 8, "cluster size"),
        ("bad-clusterbits22", "cluster_bits", 22, "cluster size"),
        ("bad-clusterbits64", "cluster_bits", 64, "cluster size"),
        ("bad-clusterbits-max", "cluster_bits", 0xFFFFFFFF, "cluster size"),
        ("bad-size-huge", "size", 1 << 63, "too big|too large|too small"),
        ("bad-size-int64", "size", (1 << 63) - 512,
         "too big|too large|too small"),
        ("bad-size-max", "size", (1 << 64) - 1,
         "too big|too large|too small"),
        ("bad-crypt3", "crypt_method", 3, "encryption"),
        ("bad-crypt-max", "crypt_method", 0xFFFFFFFF, "encryption"),
        ("bad-l1-huge", "l1_size", (32 * M) // 8 + 1, "L1 table too large"),
        ("bad-l1-max", "l1_size", 0xFFFFFFFF, "L1 table too large"),
        ("bad-l1-overflow", "l1_size", 0x20000001, "L1 table too large"),
        ("bad-l1-small", "l1_size", 1, "L1 table is too small"),
        ("bad-l1-none", "l1_size", 0, "L1 table is too small"),
        ("bad-l1-misaligned", "l1_offset", 3 * CLUSTER + 512,
         "L1 table.*offset"),
        ("bad-l1-misaligned1", "l1_offset", 3 * CLUSTER + 1,
         "L1 table.*offset"),
        ("bad-l1-offset-huge", "l1_offset", 1 << 63, "L1 table.*offset"),
        ("bad-l1-offset-max", "l1_offset", (1 << 64) - CLUSTER,
         "L1 table.*offset"),
        ("bad-rt-huge", "reftable_clusters", 8 * M // CLUSTER + 1,
         "reference count table.*large|refcount table.*large"),
        ("bad-rt-max", "reftable_clusters", 0xFFFFFFFF,
         "reference count table.*large|refcount table.*large"),
        ("bad-rt-none", "reftable_clusters", 0,
         "reference count table|refcount table"),
        ("bad-rt-misaligned", "reftable_offset", CLUSTER + 512,
         "(reference count|refcount) table.*offset"),
        ("bad-rt-offset-huge", "reftable_offset", 1 << 63,
         "(reference count|refcount) table.*offset"),
        ("bad-snaps-many", "nb_snapshots", 65537, "snapshot table"),
        ("bad-snaps-max", "nb_snapshots", 0xFFFFFFFF, "snapshot table"),
        ("bad-snaps-misaligned", "snapshots_offset", 512, "snapshot table"),
        ("bad-snaps-offset-huge", "snapshots_offset", 1 << 63,
         "snapshot table"),
        ("bad-incompat5", "incompatible", 1 << 5, "feature"),
        ("bad-incompat63", "incompatible", 1 << 63, "feature"),
        ("bad-incompat-all", "incompatible", (1 << 64) - 1,
         "feature|subcluster|data file|compression"),
        ("bad-raw-nodata", "autoclear", 2, "data file"),
        ("bad-refcountorder7", "refcount_order", 7, "refcount|reference"),
        ("bad-refcountorder-max", "refcount_order", 0xFFFFFFFF,
         "refcount|reference"),
        ("bad-hdrlen0", "header_length", 0, "header.*short"),
        ("bad-hdrlen103", "header_length", 103, "header.*short"),
        ("bad-hdrlen-huge", "header_length", CLUSTER + 8,
         "header.*exceeds|header.*long"),
        ("bad-hdrlen-max", "header_length", 0xFFFFFFFF,
         "header.*exceeds|header.*long"),
        ("bad-comp-nobit", "compression_type", 1, "compression type"),
        ("bad-comp-type2", "compression_type", 2, "compression type"),
        ("bad-comp-bit", "incompatible", qfmt.INCOMPAT_COMPRESSION,
         "compression type"),
        ("bad-extl2-4k", "incompatible", qfmt.INCOMPAT_EXTL2,
         "subcluster|extended L2"),
        ("bad-backing-offset", "backing_offset", CLUSTER + 1, "backing"),
        ("bad-backing-offset-max", "backing_offset", (1 << 64) - 1,
         "backing"),
    )
    for name, field, value, message in cases:
        def make(b, field=field, value=value):
            victim(b)
            b.set(field, value)
        refused(name, message)(make)


header_fields()


def backing(b: Build, offset: int, length: int, name: bytes) -> None:
    victim(b)
    b.poke(offset, name)
    b.set("backing_offset", offset)
    b.set("backing_size", length)


@refused("bad-backing-name", "backing")
def _(b):
    backing(b, 1000, 1024, b"x" * 1024)


@refused("bad-backing-name-past", "backing")
def _(b):
    backing(b, CLUSTER - 10, 20, b"x" * 10)


@refused("bad-backing-name-max", "backing")
def _(b):
    backing(b, 1000, 0xFFFFFFFF, b"x")


@refused("bad-comp-type2-bit", "compression type")
def _(b):
    victim(b)
    b.set("compression_type", 2)
    b.set("incompatible", qfmt.INCOMPAT_COMPRESSION)


@refused("bad-comp-short-header", "compression type")
def _(b):
    # The bit says there is a compression type, the header has no room.
    victim(b, compression_type="zstd")
    b.set_header_length(104)


@refused("bad-l1-end-overflow", "L1 table")
def _(b):
    victim(b, cluster_size=512)
    b.set("l1_offset", (1 << 63) - 512)


# QEMU would need an L1 index beyond an int; the table limit says the same.
@refused("bad-size-2^62", "too big|too large|too small")
def _(b):
    victim(b, cluster_size="2M")
    b.set("size", 1 << 62)


# -- files too short to be anything ----------------------------------------

@refused("empty-file", "qcow2|magic|short|small")
def _(b):
    b.create(1 * M)
    b.truncate(0)


@refused("three-bytes", "qcow2|magic|short|small")
def _(b):
    b.create(1 * M)
    b.truncate(3)


@refused("header-cut", "header|cluster|short|reference count|refcount")
def _(b):
    b.create(1 * M)
    b.truncate(56)


@hostile("header-only", **ALL_ZERO)
def _(b):
    victim(b)
    b.truncate(112)


@hostile("v2-header-only", **ALL_ZERO)
def _(b):
    victim(b, compat="0.10")
    b.truncate(72)


@refused("text-file", "qcow2|magic")
def _(b):
    with open(b.path, "wb") as file:
        file.write(b"this is no image\n" * 1000)


# -- header extensions -----------------------------------------------------

def extensions() -> None:
    """name, type, data, declared length, word of the message"""
    cases = (
        ("bad-ext-huge", 0x12345678, b"x", CLUSTER, "extension too large"),
        ("bad-ext-max", 0x12345678, b"x", 0xFFFFFFFF,
         "extension too large"),
        ("bad-ext-max8", 0x12345678, b"x", 0xFFFFFFF8,
         "extension too large"),
        ("bad-ext-format-long", qfmt.EXT_BACKING_FORMAT, b"x" * 16, None,
         "backing format"),
        ("bad-ext-bitmaps-short", qfmt.EXT_BITMAPS, bytes(16), None,
         "bitmap"),
        ("bad-ext-luks-plain", qfmt.EXT_LUKS, bytes(16), None,
         "encryption|LUKS"),
    )
    for name, kind, data, length, message in cases:
        def make(b, kind=kind, data=data, length=length):
            victim(b)
            b.add_extension(kind, data, length)
        refused(name, message)(make)
    bitmaps = (
        ("bad-bitmaps-none", (0, 0, 0, 0)),
        ("bad-bitmaps-many", (65536, 0, 32, 0)),
        ("bad-bitmaps-reserved", (1, 1, 32, 0)),
        ("bad-bitmaps-dir-huge", (1, 0, 1 << 40, 0)),
        ("bad-bitmaps-dir-max", (1, 0, (1 << 64) - 1, 0)),
        ("bad-bitmaps-misaligned", (1, 0, 32, 512)),
    )
    for name, fields in bitmaps:
        def make(b, fields=fields):
            victim(b)
            b.add_extension(qfmt.EXT_BITMAPS, struct.pack(">IIQQ", *fields))
            b.set_bits("autoclear", qfmt.AUTOCLEAR_BITMAPS)
        refused(name, "bitmap")(make)


extensions()


@hostile("bitmaps-inconsistent", **WHOLE)
def _(b):
    # Nonsense, but the autoclear bit says that nobody vouches for it.
    victim(b)
    b.add_extension(qfmt.EXT_BITMAPS, struct.pack(">IIQQ", 0, 9, 1, 1))


@hostile("bitmaps-garbage-directory", qemu="refused", **WHOLE,
         why="the bitmaps are not needed to read the disk")
def _(b):
    victim(b)
    b.add_extension(qfmt.EXT_BITMAPS, struct.pack(">IIQQ", 1, 0, 32,
                                                  b.get("l1_offset")))
    b.set_bits("autoclear", qfmt.AUTOCLEAR_BITMAPS)


@hostile("bitmaps-huge-table", qemu="refused", **WHOLE,
         why="the bitmaps are not needed to read the disk")
def _(b):
    victim(b)
    at = qfmt.align_up(b.file_size(), CLUSTER)
    b.poke(at, struct.pack(">QIIBBHI", 0, 0x8000000, 0, 1, 9, 4, 0)
           + b"name" + bytes(4064))
    b.add_extension(qfmt.EXT_BITMAPS, struct.pack(">IIQQ", 1, 0, 32, at))
    b.set_bits("autoclear", qfmt.AUTOCLEAR_BITMAPS)


@hostile("ext-duplicates", **WHOLE)
def _(b):
    victim(b)
    for _ in range(3):
        b.add_extension(0x12345678, b"again")
        b.add_extension(qfmt.EXT_BACKING_FORMAT, b"raw")


@refused("bad-incompat-names", "feature")
def _(b):
    # A name for the unknown feature that wants to be printed.
    b.create(4 * M, cluster_size="2k")
    name = b"\x1b[2J%s%n\n" + b"\xff" * 38
    b.add_extension(qfmt.EXT_FEATURES, bytes([0, 9]) + name[:46])
    b.set_bits("incompatible", 1 << 9)


# -- what other layers are for ---------------------------------------------

LAYERS = {"qemu": "ok",
          "why": "nothing is opened because an image names it"}


@refused("backing-file", "backing", **LAYERS)
def _(b):
    base = b.path + ".base"
    with open(base, "wb") as file:
        file.write(b"base" * K * K)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw",
        b.path)


@refused("backing-json", "backing", **LAYERS)
def _(b):
    name = b'json:{"driver":"null-co","size":4194304}'
    backing(b, 1000, len(name), name)


@refused("backing-nbd", "backing", qemu="refused")
def _(b):
    name = b"nbd:unix:/nonexistent-socket"
    backing(b, 1000, len(name), name)


@refused("backing-passwd", "backing", **LAYERS)
def _(b):
    backing(b, 1000, 11, b"/etc/passwd")
    # After the name, as its end also ends the extensions.
    b.add_extension(qfmt.EXT_BACKING_FORMAT, b"raw")


@refused("backing-self", "backing", qemu="hangs",
         why="QEMU opens about a thousand layers first, for minutes")
def _(b):
    name = b.path.encode()
    backing(b, 1000, len(name), name)


@refused("backing-name-odd", "backing", qemu="ok",
         why="for QEMU a name that starts with NUL is none")
def _(b):
    name = b"\0\x1b[2J\n%s%n/../../x"
    backing(b, 1000, len(name), name)


@refused("backing-v1", "backing", format="qcow", **LAYERS)
def _(b):
    base = b.path + ".base"
    with open(base, "wb") as file:
        file.write(b"base" * K * K)
    run("qemu-img", "create", "-q", "-f", "qcow", "-b", base, "-F", "raw",
        b.path)


@refused("data-file", "data file", **LAYERS)
def _(b):
    b.create(1 * M, data_file=b.path + ".data")


@refused("data-file-missing", "data file")
def _(b):
    victim(b)
    b.set_bits("incompatible", qfmt.INCOMPAT_DATA_FILE)
    b.add_extension(qfmt.EXT_DATA_FILE, b"/nonexistent/file")


@refused("data-file-json", "data file")
def _(b):
    victim(b)
    b.set_bits("incompatible", qfmt.INCOMPAT_DATA_FILE)
    b.add_extension(qfmt.EXT_DATA_FILE,
                    b'json:{"driver":"file","filename":"/etc/passwd"}')


@refused("data-file-unnamed", "data file")
def _(b):
    victim(b)
    b.set_bits("incompatible", qfmt.INCOMPAT_DATA_FILE)


# QEMU cannot time sha256 where that is faster than the kernel's tick.
LUKS = ("encrypt.format=luks", "encrypt.iter-time=10",
        "encrypt.hash-alg=sha512")


def encrypted(b: Build, fmt: str, *options: str) -> None:
    command = ["qemu-img", "create", "-q", "-f", fmt, "--object",
               "secret,id=s,data=pass"]
    for option in ("encrypt.key-secret=s", *options):
        command += ["-o", option]
    run(*command, b.path, "1M")


@refused("luks", "LUKS|encrypt")
def _(b):
    encrypted(b, "qcow2", *LUKS)


@refused("luks-iterations", "LUKS|encrypt")
def _(b):
    encrypted(b, "qcow2", *LUKS)
    start = b.read(0, 65536).index(struct.pack(">I", qfmt.EXT_LUKS))
    header = b.peek64(start + 8)
    b.poke(header + 164, b"\xff" * 4)       # digest iterations
    for slot in range(8):
        b.poke(header + 208 + 48 * slot + 4, b"\xff" * 4)


@refused("luks-no-header", "LUKS|encrypt")
def _(b):
    victim(b)
    b.set("crypt_method", 2)


@refused("aes", "AES|encrypt")
def _(b):
    encrypted(b, "qcow2", "encrypt.format=aes")


@refused("aes-v1", "AES|encrypt", format="qcow")
def _(b):
    encrypted(b, "qcow", "encrypt.format=aes")


# -- snapshots: only the active disk is read -------------------------------

SNAPSHOTS = {"why": "the snapshot table is not needed to read the disk"}


def snapshots(b: Build) -> int:
    victim(b)
    b.img("snapshot", "-c", "one", b.path)
    return b.get("snapshots_offset")


@hostile("snap-l1-huge", **WHOLE)
def _(b):
    b.poke(snapshots(b) + 8, struct.pack(">I", 0x10000000))


@hostile("snap-l1-misaligned", **WHOLE)
def _(b):
    b.poke64(snapshots(b), 12345)


@hostile("snap-table-past-eof", **WHOLE)
def _(b):
    victim(b)
    b.set("nb_snapshots", 65536)
    b.set("snapshots_offset", 1 << 40)


@hostile("snap-extra-huge", qemu="refused", **WHOLE, **SNAPSHOTS)
def _(b):
    b.poke(snapshots(b) + 36, struct.pack(">I", 0xFFFFFFFF))


@hostile("snap-table-is-data", qemu="refused", **WHOLE, **SNAPSHOTS)
def _(b):
    victim(b)
    b.set("nb_snapshots", 60000)
    b.set("snapshots_offset", b.peek64(b.l2_offset()) & qfmt.OFFSET_MASK)


# -- L1 entries ------------------------------------------------------------

def l1_entries() -> None:
    """name, first L1 entry (a function of what it was), what is left"""
    gone = {"reads": ((0, 64 * K, 0), (HALF, 64 * K, 2))}
    cases = (
        ("bad-l1-copied-zero", lambda old: 1 << 63, gone),
        ("l1-zero", lambda old: 0, gone),
        ("l1-reserved-bits", lambda old: old | 0x7F000000000001FF, WHOLE),
        ("l1-only-reserved", lambda old: 0x7F000000000001FF, gone),
        ("l1-past-eof", lambda old: 1 << 40, gone),
        ("l1-far", lambda old: qfmt.OFFSET_MASK & -CLUSTER, gone),
        ("l1-unaligned", lambda old: old + 512, TABLE_GONE),
        ("l1-unaligned-past-eof", lambda old: (1 << 40) + 512, TABLE_GONE),
    )
    for name, change, expected in cases:
        def make(b, change=change):
            victim(b)
            at = b.get("l1_offset")
            b.poke64(at, change(b.peek64(at)))
        hostile(name, **expected)(make)


l1_entries()

SECOND_HALF = ((HALF, 64 * K, 2),)


@hostile("bad-l2-is-l1", reads=((0, CLUSTER, None), *SECOND_HALF))
def _(b):
    victim(b)
    at = b.get("l1_offset")
    b.poke64(at, qfmt.COPIED | at)


@hostile("bad-l2-is-header", reads=SECOND_HALF)
def _(b):
    # Offset 0 is "no table", with or without a header there.
    victim(b)
    b.poke64(b.get("l1_offset"), qfmt.COPIED | 0x1FF)


@hostile("bad-l2-is-data", **TABLE_GONE)
def _(b):
    # Entries 0202020202020202: misaligned.
    victim(b)
    b.poke64(b.get("l1_offset"), b.peek64(b.l2_offset(1)))


@hostile("bad-l2-is-data-zero", reads=((0, 64 * K, 0), *SECOND_HALF))
def _(b):
    # Entries 0101010101010101: aligned, and with the zero bit set.
    victim(b)
    b.poke64(b.get("l1_offset"), b.peek64(b.l2_offset()))


@hostile("l2-shared", reads=((0, 64 * K, 1), (HALF, 64 * K, 1)))
def _(b):
    victim(b)
    at = b.get("l1_offset")
    b.poke64(at + 8, b.peek64(at))


# -- L2 entries ------------------------------------------------------------

def l2_entries() -> None:
    """name, L2 entry of guest cluster 0, byte it then reads as (None: must
    fail, "same": as before)"""
    cases = (
        ("l2-reserved-bits", lambda old: old | 0x3F000000000001FE, 1),
        ("l2-only-reserved", lambda old: 0x3F000000000001FE, 0),
        ("l2-not-copied", lambda old: old & ~qfmt.COPIED, 1),
        ("l2-copied-zero", lambda old: qfmt.COPIED, 0),
        ("l2-unaligned", lambda old: old + 512, None),
        ("l2-unaligned-zero", lambda old: old + 512 | 1, None),
        ("l2-past-eof", lambda old: 1 << 40, 0),
        ("l2-far", lambda old: qfmt.OFFSET_MASK & -CLUSTER, 0),
        ("l2-zero-far", lambda old: qfmt.OFFSET_MASK & -CLUSTER | 1, 0),
        ("l2-all-ones", lambda old: (1 << 64) - 1, None),
        ("comp-far", lambda old: qfmt.COMPRESSED | (1 << 58) - 1, None),
        ("comp-all-but", lambda old: (1 << 63) - 1, None),
        ("comp-at-zero", lambda old: qfmt.COMPRESSED, None),
        ("comp-copied", lambda old: old | qfmt.COMPRESSED, None),
        # found by iotest 080: one bit makes data compressed and negative
        ("l2-080", lambda old: 0xBFFFFFFFFFFF0000 & -CLUSTER, 0),
    )
    for name, change, byte in cases:
        def make(b, change=change):
            victim(b)
            at = b.l2_offset()
            b.poke64(at, change(b.peek64(at)))
        if byte is None:
            hostile(name, **FIRST_GONE)(make)
        else:
            hostile(name, reads=((0, CLUSTER, byte),
                                 *FIRST_GONE["reads"]))(make)


l2_entries()


@hostile("v2-zero-bit", **FIRST_GONE)
def _(b):
    victim(b, compat="0.10")
    b.poke64(b.l2_offset(), b.peek64(b.l2_offset()) | qfmt.ZERO)


@hostile("v2-zero-plain", **FIRST_GONE)
def _(b):
    victim(b, compat="0.10")
    b.poke64(b.l2_offset(), qfmt.ZERO)


@hostile("bad-data-is-l2", reads=((0, CLUSTER, None),
                                  *FIRST_GONE["reads"]))
def _(b):
    victim(b)
    b.poke64(b.l2_offset(), qfmt.COPIED | b.l2_offset())


@hostile("bad-data-is-refblock", reads=((0, CLUSTER, None),
                                        *FIRST_GONE["reads"]))
def _(b):
    victim(b)
    refblock = b.peek64(b.get("reftable_offset"))
    b.poke64(b.l2_offset(), qfmt.COPIED | refblock)


@hostile("bad-data-is-l1", reads=((0, CLUSTER, None),
                                  *FIRST_GONE["reads"]))
def _(b):
    victim(b)
    b.poke64(b.l2_offset(), qfmt.COPIED | b.get("l1_offset"))


@hostile("data-shared-copied", reads=((0, 64 * K, 1), (HALF, 4 * K, 1)))
def _(b):
    victim(b)
    b.poke64(b.l2_offset(1), b.peek64(b.l2_offset()))


@hostile("refcounts-garbage", **WHOLE)
def _(b):
    victim(b)
    b.poke64(b.get("reftable_offset"), (1 << 64) - 1)
    b.poke64(b.get("reftable_offset") + 8, 513)


@hostile("refcounts-past-eof", **WHOLE)
def _(b):
    victim(b)
    b.set("reftable_offset", 1 << 50)


@hostile("refcounts-is-header", **WHOLE)
def _(b):
    victim(b)
    b.set("reftable_offset", 0)


# -- compressed clusters ---------------------------------------------------

def deflated(data: bytes, wbits: int = -15) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return packer.compress(data) + packer.flush()


def put_packed(b: Build, blob: bytes, declared: int = -1, index: int = 0,
               start: int = 100) -> None:
    """Guest cluster INDEX becomes compressed: BLOB at the file's end."""
    bits = b.get("cluster_bits")
    at = qfmt.align_up(b.file_size(), 1 << bits) + start
    b.poke(at, blob)
    if declared < 0:
        declared = (at % 512 + max(len(blob), 1) - 1) // 512
    b.poke64(b.l2_offset() + 8 * index, qfmt.COMPRESSED | at
             | declared << qfmt.compressed_offset_bits(bits))


CLUSTER_7 = b"\x07" * CLUSTER
SEVEN = {"reads": ((0, CLUSTER, 7), *FIRST_GONE["reads"])}


def packed() -> None:
    """name, compression, stream for guest cluster 0, declared sectors less
    one (-1: right), readable"""
    good, frame = deflated(CLUSTER_7), zstd_frame(CLUSTER_7)
    noise = bytes(i * i % 251 for i in range(600))
    cases = (
        ("comp-overdeclared", "zlib", good, 15, True),
        ("comp-longer", "zlib", deflated(CLUSTER_7 * 3), -1, True),
        ("comp-trailing", "zlib", good + noise, -1, True),
        ("comp-stored", "zlib", struct.pack("<BHH", 1, CLUSTER,
                                            CLUSTER ^ 0xFFFF) + CLUSTER_7,
         -1, True),
        ("comp-short", "zlib", deflated(CLUSTER_7[:-1]), -1, False),
        ("comp-empty", "zlib", deflated(b""), -1, False),
        ("comp-garbage", "zlib", b"\xff" * 300, -1, False),
        ("comp-zlib-wrapped", "zlib", deflated(CLUSTER_7, 15), -1, False),
        ("comp-gzip", "zlib", deflated(CLUSTER_7, 31), -1, False),
        ("comp-far-match", "zlib", b"\x4b\x84\x22" + b"\xff" * 20, -1,
         False),
        ("comp-zstd-in-zlib", "zlib", frame, -1, False),
        ("comp-underdeclared", "zlib", struct.pack(
            "<BHH", 1, CLUSTER, CLUSTER ^ 0xFFFF) + CLUSTER_7, 1, False),
        ("zstd-good", "zstd", frame, -1, True),
        ("zstd-overdeclared", "zstd", frame, 15, True),
        ("zstd-trailing", "zstd", frame + noise, -1, True),
        ("zstd-frames", "zstd", b"".join(
            zstd_frame(CLUSTER_7[:64]) for _ in range(CLUSTER // 64)), -1,
         True),
        ("zstd-skippable", "zstd", skippable(noise) + frame, -1, True),
        ("zstd-empty-frames", "zstd", zstd_frame(b"") * 200 + frame, -1,
         True),
        ("zstd-skippable-only", "zstd", skippable(noise), -1, False),
        ("zstd-skippable-huge", "zstd",
         struct.pack("<II", 0x184D2A5F, 0xFFFFFFFF), -1, False),
        ("zstd-short", "zstd", zstd_frame(CLUSTER_7[:-1]), -1, False),
        ("zstd-long", "zstd", zstd_frame(CLUSTER_7 + b"\7"), -1, False),
        ("zstd-long-frames", "zstd", zstd_frame(CLUSTER_7[:100])
         + zstd_frame(CLUSTER_7), -1, False),
        ("zstd-garbage", "zstd", b"\xff" * 300, -1, False),
        ("zstd-bad-checksum", "zstd",
         zstd_frame(CLUSTER_7, checksum=True)[:-4] + b"oops", -1, False),
        ("zstd-window-2g", "zstd",
         b"\x28\xb5\x2f\xfd\x00\xa8" + b"\x01\x00\x00", -1, False),
        ("zstd-dictionary", "zstd",
         b"\x28\xb5\x2f\xfd\x23\x39\x30\x00\x00\x04\x01\x00\x00", -1,
         False),
        ("zstd-deflate-in-zstd", "zstd", good, -1, False),
    )
    for name, kind, blob, declared, readable in cases:
        def make(b, kind=kind, blob=blob, declared=declared):
            victim(b, compression_type=kind)
            put_packed(b, blob, declared)
        hostile(name, **(SEVEN if readable else FIRST_GONE))(make)


packed()


@hostile("ctail-max", reads=((0, 2 * M, 7),))
def _(b):
    # One small stream at the end of the file claims 4 MiB of sectors.
    b.create(8 * M, cluster_size="2M")
    b.io("write -c -P 7 0 2M")
    bits = qfmt.compressed_offset_bits(21)
    at = b.l2_offset()
    b.poke64(at, b.peek64(at) | ((1 << 13) - 1) << bits)
    b.truncate((b.peek64(at) & ((1 << bits) - 1)) + 3000)


@hostile("comp-bomb", reads=((0, 2 * M, 7), (33 * T + 5, 4 * M, 7),
                             (64 * T - 1, 1, 7)))
def _(b):
    # 64 TiB of disk in every cluster the same 2 KiB.
    b.create(64 * T, cluster_size="2M")
    b.io("write -c -P 7 0 2M")
    l2 = b.l2_offset()
    b.poke(l2, b.read(l2, 8) * (2 * M // 8))
    l1 = b.get("l1_offset")
    b.poke(l1, b.read(l1, 8) * 128)


@hostile("comp-eof-mid-stream", **FIRST_GONE)
def _(b):
    victim(b)
    noise = bytes(zlib.crc32(bytes([i & 255, i >> 8])) & 255
                  for i in range(CLUSTER))
    put_packed(b, deflated(noise))
    b.truncate(b.file_size() - 700)


# -- extended L2 -----------------------------------------------------------

SUB = 512
EXTENDED_GONE = {"eio": ((0, SUB), (31 * SUB, SUB), (0, 64 * K)),
                 "reads": ((16 * K, 48 * K, 1), (64 * K, 16 * K, 0))}


def extended() -> None:
    """name, descriptor and bitmap of guest cluster 0, what it reads as"""
    low, high = 0xFFFFFFFF, 0xFFFFFFFF << 32
    cases = (
        ("extl2-both", lambda old: old, 1 << 32 | low, None),
        ("extl2-both-last", lambda old: old, 1 << 63 | low, None),
        ("extl2-all-ones", lambda old: old, low | high, None),
        ("extl2-alloc-nowhere", lambda old: 0, 1, None),
        ("extl2-alloc-nowhere-last", lambda old: 0, 1 << 31, None),
        ("extl2-copied-nowhere", lambda old: qfmt.COPIED, 2, None),
        ("extl2-unaligned", lambda old: old + 512, low, None),
        ("extl2-unaligned-zero", lambda old: old + 512, high, None),
        ("extl2-bit0", lambda old: old | 1, low, 1),
        ("extl2-bit0-plain", lambda old: 1, 0, 0),
        ("extl2-reserved", lambda old: old | 0x3F000000000001FF, low, 1),
        ("extl2-past-eof", lambda old: 1 << 40, low, 0),
        ("extl2-zero-past-eof", lambda old: 1 << 40, high, 0),
        ("extl2-comp-garbage", lambda old: qfmt.COMPRESSED | 512, 0, None),
    )
    for name, change, bitmap, byte in cases:
        def make(b, change=change, bitmap=bitmap):
            victim(b, cluster_size="16k", extended_l2="on")
            at = b.l2_offset()
            b.poke64(at, change(b.peek64(at)))
            b.poke64(at + 8, bitmap)
        if byte is None:
            hostile(name, **EXTENDED_GONE)(make)
        else:
            hostile(name, reads=((0, 16 * K, byte),
                                 *EXTENDED_GONE["reads"]))(make)


extended()


@hostile("extl2-comp-bitmap", reads=((0, 16 * K, 9), (16 * K, 48 * K, 1)))
def _(b):
    victim(b, cluster_size="16k", extended_l2="on")
    b.io("discard 0 16k", "write -c -P 9 0 16k")
    b.poke64(b.l2_offset() + 8, (1 << 64) - 1)


# -- sizes that are legal and large ----------------------------------------

@hostile("big-64PiB", reads=((0, 64 * K, 0), ((1 << 56) - 512, 512, 0)))
def _(b):
    b.create(1 << 56, cluster_size="2M")


@hostile("big-l1-past-eof", reads=((0, 64 * K, 0), ((1 << 51) - 512, 512, 0)))
def _(b):
    # The largest L1 table there can be, none of it in the file.
    b.create(1 * M)
    b.set("l1_size", 1 << 22)
    b.set("size", 1 << 51)
    b.set("l1_offset", 1 << 30)


@hostile("big-l1-far", reads=((0, 64 * K, 0),))
def _(b):
    b.create(1 * M)
    b.set("l1_offset", 1 << 62)


# -- version 1 -------------------------------------------------------------

def version1() -> None:
    cases = (
        ("v1-l2bits0", "l2_bits", 0, "L2"),
        ("v1-l2bits5", "l2_bits", 5, "L2"),
        ("v1-l2bits14", "l2_bits", 14, "L2"),
        ("v1-l2bits63", "l2_bits", 63, "L2"),
        ("v1-l2bits-max", "l2_bits", 255, "L2"),
        ("v1-clusterbits8", "cluster_bits", 8, "cluster size"),
        ("v1-clusterbits17", "cluster_bits", 17, "cluster size"),
        ("v1-clusterbits-max", "cluster_bits", 255, "cluster size"),
        ("v1-size0", "size", 0, "small"),
        ("v1-size1", "size", 1, "small"),
        ("v1-size-max", "size", (1 << 64) - 1, "large|big"),
        ("v1-size-int64", "size", (1 << 63) - 1, "large|big"),
        ("v1-crypt2", "crypt_method", 2, "encrypt"),
    )
    for name, field, value, message in cases:
        def make(b, field=field, value=value):
            victim_v1(b)
            b.set(field, value, V1)
        refused(name, message, format="qcow")(make)


version1()


@refused("v1-backing-name", "backing", format="qcow")
def _(b):
    victim_v1(b)
    b.set("backing_offset", 600, V1)
    b.set("backing_size", 1024, V1)


def version1_entries() -> None:
    """name, which table, entry, and what is left"""
    gone = {"reads": ((0, 64 * K, 0), (HALF, 64 * K, 2))}
    cases = (
        ("v1-l1-past-eof", 1, lambda old: 1 << 40, gone),
        ("v1-l1-bit63", 1, lambda old: old | 1 << 63, TABLE_GONE),
        ("v1-l1-max", 1, lambda old: (1 << 64) - 1, TABLE_GONE),
        ("v1-l2-unaligned", 2, lambda old: old + 1, FIRST_GONE),
        ("v1-comp-max", 2, lambda old: (1 << 64) - 1, FIRST_GONE),
        ("v1-comp-garbage", 2, lambda old: 1 << 63 | 4095 << 51 | old,
         FIRST_GONE),
        ("v1-comp-empty", 2, lambda old: 1 << 63 | old, FIRST_GONE),
        ("v1-l2-past-eof", 2, lambda old: 1 << 40, {
            "reads": ((0, CLUSTER, 0), *FIRST_GONE["reads"])}),
    )
    for name, table, change, expected in cases:
        def make(b, table=table, change=change):
            victim_v1(b)
            at = b.get("l1_offset", V1)
            if table == 2:
                at = b.peek64(at)
            b.poke64(at, change(b.peek64(at)))
        hostile(name, format="qcow", **expected)(make)


version1_entries()


@hostile("v1-l1-offset-far", format="qcow", **ALL_ZERO)
def _(b):
    victim_v1(b)
    b.set("l1_offset", 1 << 50, V1)


@hostile("v1-l2-is-header", format="qcow",
         reads=((HALF, 64 * K, 2),))
def _(b):
    victim_v1(b)
    b.poke64(b.get("l1_offset", V1), b.get("l1_offset", V1))
