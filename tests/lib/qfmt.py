# SPDX-License-Identifier: BSD-3-Clause
"""Numbers of the qcow and qcow2 formats, shared by the test libraries.

Only facts live here: offsets, bits, limits, and the geometry that follows
from a cluster size.  Nothing in this file decodes or encodes an image, so
that the decoder (oracle.py) and the writer (qgen.py) stay two independent
readings of the specification.
"""

MAGIC = 0x514649FB          # "QFI" 0xfb

# Byte offset and struct code of each header field, versions 2 and 3.
HEADER = {
    "magic": (0, ">I"),
    "version": (4, ">I"),
    "backing_offset": (8, ">Q"),
    "backing_size": (16, ">I"),
    "cluster_bits": (20, ">I"),
    "size": (24, ">Q"),
    "crypt_method": (32, ">I"),
    "l1_size": (36, ">I"),
    "l1_offset": (40, ">Q"),
    "reftable_offset": (48, ">Q"),
    "reftable_clusters": (56, ">I"),
    "nb_snapshots": (60, ">I"),
    "snapshots_offset": (64, ">Q"),
    # from here on, version 3 only
    "incompatible": (72, ">Q"),
    "compatible": (80, ">Q"),
    "autoclear": (88, ">Q"),
    "refcount_order": (96, ">I"),
    "header_length": (100, ">I"),
    "compression_type": (104, ">B"),
}

# The same for version 1, which has another layout and no feature bits.
HEADER_V1 = {
    "magic": (0, ">I"),
    "version": (4, ">I"),
    "backing_offset": (8, ">Q"),
    "backing_size": (16, ">I"),
    "mtime": (20, ">I"),
    "size": (24, ">Q"),
    "cluster_bits": (32, ">B"),
    "l2_bits": (33, ">B"),
    "crypt_method": (36, ">I"),
    "l1_offset": (40, ">Q"),
}

V1_HEADER_LENGTH = 48
V2_HEADER_LENGTH = 72
V3_HEADER_LENGTH = 104

INCOMPAT_DIRTY = 1 << 0
INCOMPAT_CORRUPT = 1 << 1
INCOMPAT_DATA_FILE = 1 << 2
INCOMPAT_COMPRESSION = 1 << 3
INCOMPAT_EXTL2 = 1 << 4
INCOMPAT_KNOWN = 0x1F
COMPAT_LAZY = 1 << 0
AUTOCLEAR_BITMAPS = 1 << 0
AUTOCLEAR_RAW = 1 << 1

EXT_END = 0x00000000
EXT_BACKING_FORMAT = 0xE2792ACA
EXT_FEATURES = 0x6803F857
EXT_BITMAPS = 0x23852875
EXT_LUKS = 0x0537BE77
EXT_DATA_FILE = 0x44415441

COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO = 1 << 0
OFFSET_MASK = 0x00FFFFFFFFFFFE00
REFTABLE_MASK = 0xFFFFFFFFFFFFFE00
V1_COMPRESSED = 1 << 63

ZLIB, ZSTD = 0, 1

MIN_CLUSTER_BITS, MAX_CLUSTER_BITS = 9, 21
MIN_EXTL2_BITS = 14
MAX_L1_BYTES = 32 << 20
MAX_REFTABLE_BYTES = 8 << 20
MAX_SNAPSHOTS = 65536
INT64_MAX = (1 << 63) - 1

# What NBD's base:allocation says of a run.
DATA, HOLE_ZERO = 0, 3


def compressed_offset_bits(cluster_bits: int) -> int:
    """How many low bits of a compressed entry hold the byte offset."""
    return 62 - (cluster_bits - 8)


def l2_bits(cluster_bits: int, extended: bool) -> int:
    """log2 of the number of guest clusters that one L2 table maps."""
    return cluster_bits - (4 if extended else 3)


def ceil_div(number: int, unit: int) -> int:
    return -(-number // unit)


def align_up(number: int, unit: int) -> int:
    return ceil_div(number, unit) * unit
