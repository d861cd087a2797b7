#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A slow, simple decoder of qcow and qcow2 images: an independent reference
for tests.

It is written from the format's specification alone and shares no code with
the library under test nor with the image generator.  It reads versions 1, 2
and 3, standard and extended L2 entries, zlib and zstd clusters.

Deviations of real images are accepted as by QEMU: bytes past the end of the
file are zeros (data and tables alike), a compressed cluster may be followed by
garbage or claim more sectors than it has, a deflate stream may be longer than
the cluster, and a zstd cluster may be made of several frames, but must end
with its last one.

The virtual size is the header's, to the byte.  (QEMU rounds it down to a
multiple of 512.)

extents() speaks NBD's base:allocation: 0 for data, also compressed, and 3
(hole, reads zero) for everything else.  That includes zero clusters which
keep their host cluster: qemu-nbd 7.2 reports hole,zero for those too.  Only
the image's own tables are consulted; where QEMU also asks the file system
about preallocated clusters it may say "zero" where this says data.

It does not follow backing files or data files and does not decrypt: such
images raise Refused.  It checks only what it needs to read.

usage: oracle.py info IMAGE
       oracle.py map IMAGE
       oracle.py read IMAGE [OFFSET [LENGTH]]   (to stdout)
       oracle.py compare IMAGE RAW
"""

import ctypes
import json
import os
import struct
import sys
import zlib
from collections import OrderedDict
from typing import Iterator, List, NamedTuple, Tuple, Union

import qfmt
from qfmt import ceil_div

SECTOR = 512


class Refused(Exception):
    """The image cannot be opened (here, or by anyone)."""


class Corrupt(Exception):
    """A guest range whose metadata or compressed data makes no sense."""


class HostFile:
    """The bytes of the image; past its end there are only zeros."""

    def __init__(self, source: Union[str, bytes, bytearray, "os.PathLike"]):
        if isinstance(source, (bytes, bytearray)):
            self._data, self._fd = bytes(source), -1
            self.size = len(self._data)
        else:
            self._data, self._fd = b"", os.open(source, os.O_RDONLY)
            self.size = os.lseek(self._fd, 0, os.SEEK_END)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, offset: int, length: int) -> bytes:
        if offset + length > qfmt.INT64_MAX:
            raise Corrupt(f"host offset {offset:#x} is out of any file")
        inside = max(0, min(length, self.size - offset))
        data = b""
        if inside and self._fd >= 0:
            while len(data) < inside:
                more = os.pread(self._fd, inside - len(data),
                                offset + len(data))
                if not more:
                    break
                data += more
        elif inside:
            data = self._data[offset:offset + inside]
        return data + bytes(length - len(data))


class Zstd:
    """Just enough of libzstd's streaming interface."""

    class Buffer(ctypes.Structure):
        _fields_ = [("ptr", ctypes.c_void_p),
                    ("size", ctypes.c_size_t),
                    ("pos", ctypes.c_size_t)]

    _lib = None

    @classmethod
    def lib(cls):
        if cls._lib is None:
            lib = ctypes.CDLL("libzstd.so.1")
            ref = ctypes.POINTER(cls.Buffer)
            lib.ZSTD_createDStream.restype = ctypes.c_void_p
            lib.ZSTD_freeDStream.argtypes = [ctypes.c_void_p]
            lib.ZSTD_decompressStream.argtypes = [ctypes.c_void_p, ref, ref]
            lib.ZSTD_decompressStream.restype = ctypes.c_size_t
            lib.ZSTD_isError.argtypes = [ctypes.c_size_t]
            cls._lib = lib
        return cls._lib

    @classmethod
    def inflate(cls, packed: bytes, length: int) -> bytes:
        """Unpack frame after frame until LENGTH bytes are there."""
        lib = cls.lib()
        out = ctypes.create_string_buffer(length)
        dst = cls.Buffer(ctypes.addressof(out), length, 0)
        source = ctypes.create_string_buffer(packed, len(packed))
        src = cls.Buffer(ctypes.addressof(source), len(packed), 0)
        stream = lib.ZSTD_createDStream()
        try:
            while True:
                before = src.pos, dst.pos
                left = lib.ZSTD_decompressStream(stream, dst, src)
                if lib.ZSTD_isError(left):
                    raise Corrupt("not a zstd stream")
                if dst.pos == length:
                    break
                if before == (src.pos, dst.pos):
                    raise Corrupt("the zstd stream is shorter than a cluster")
        finally:
            lib.ZSTD_freeDStream(stream)
        if left != 0:
            raise Corrupt("the last zstd frame does not end at the cluster")
        return out.raw


def inflate_raw(packed: bytes, length: int) -> bytes:
    """Unpack LENGTH bytes of a headerless deflate stream."""
    try:
        data = zlib.decompressobj(-15).decompress(packed, length)
    except zlib.error as error:
        raise Corrupt(f"deflate: {error}") from None
    if len(data) != length:
        raise Corrupt("the deflate stream is shorter than a cluster")
    return data


class Run(NamedTuple):
    """LENGTH guest bytes of one kind, from the offset asked for on.

    HOST is where the first of these bytes lies (data), where the packed
    bytes start (compressed, with PACKED of them), or 0."""
    kind: str           # hole, zero, zero-alloc, data, compressed
    length: int
    host: int = 0
    packed: int = 0


class Image:
    """One open image."""

    def __init__(self, source):
        self.file = HostFile(source)
        self._l2_cache: OrderedDict = OrderedDict()
        self._unpacked: OrderedDict = OrderedDict()
        self.header = {}
        self.extensions: List[Tuple[int, bytes]] = []
        self.extended = False
        self.compression = qfmt.ZLIB
        self._parse(qfmt.HEADER)
        if self.header["magic"] != qfmt.MAGIC:
            raise Refused("not a qcow image")
        self.version = self.header["version"]
        if self.version == 1:
            self.header = {}
            self._parse(qfmt.HEADER_V1)
            self._open_v1()
        elif self.version in (2, 3):
            self._open_v2()
        else:
            raise Refused(f"version {self.version}")
        self.cluster_bits = self.header["cluster_bits"]
        self.cluster_size = 1 << self.cluster_bits
        self.size = self.header["size"]
        self._load_l1()

    def close(self) -> None:
        self.file.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    # -- the header --------------------------------------------------------

    def _parse(self, fields) -> None:
        start = self.file.read(0, 512)
        for name, (offset, code) in fields.items():
            self.header[name], = struct.unpack_from(code, start, offset)

    def _open_v1(self) -> None:
        head = self.header
        if not 9 <= head["cluster_bits"] <= 16:
            raise Refused("cluster size")
        if not 6 <= head["l2_bits"] <= 13:
            raise Refused("L2 table size")
        if head["size"] < 2:
            raise Refused("the size must be at least 2 bytes")
        if head["size"] > 1 << 62:
            raise Refused("the image is too large")
        if head["crypt_method"] != 0:
            raise Refused("encrypted")
        if head["backing_offset"] != 0:
            raise Refused("backing file")
        self.l2_bits = head["l2_bits"]

    def _open_v2(self) -> None:
        head = self.header
        bits = head["cluster_bits"]
        if not qfmt.MIN_CLUSTER_BITS <= bits <= qfmt.MAX_CLUSTER_BITS:
            raise Refused("cluster size")
        cluster_size = 1 << bits
        if self.version == 2:
            head.update(incompatible=0, compatible=0, autoclear=0,
                        refcount_order=4, compression_type=0,
                        header_length=qfmt.V2_HEADER_LENGTH)
        elif not (qfmt.V3_HEADER_LENGTH <= head["header_length"]
                  <= cluster_size):
            raise Refused("header length")
        features = head["incompatible"]
        if features & ~qfmt.INCOMPAT_KNOWN:
            raise Refused(f"unknown incompatible features {features:#x}")
        if features & qfmt.INCOMPAT_DATA_FILE:
            raise Refused("external data file")
        if head["backing_offset"] != 0:
            raise Refused("backing file")
        if head["crypt_method"] != 0:
            raise Refused("encrypted")
        if head["refcount_order"] > 6:
            raise Refused("refcount width")
        if head["header_length"] > 104:
            self.compression = head["compression_type"]
        if self.compression not in (qfmt.ZLIB, qfmt.ZSTD):
            raise Refused("compression type")
        if (self.compression != 0) != bool(features
                                           & qfmt.INCOMPAT_COMPRESSION):
            raise Refused("compression type against its feature bit")
        self.extended = bool(features & qfmt.INCOMPAT_EXTL2)
        if self.extended and bits < qfmt.MIN_EXTL2_BITS:
            raise Refused("subclusters under 512 bytes")
        if head["l1_offset"] % cluster_size:
            raise Refused("L1 table offset")
        self.l2_bits = qfmt.l2_bits(bits, self.extended)
        self._read_extensions(cluster_size)

    def _read_extensions(self, cluster_size: int) -> None:
        at = self.header["header_length"]
        while at + 8 <= cluster_size:
            kind, length = struct.unpack(">II", self.file.read(at, 8))
            if kind == qfmt.EXT_END:
                break
            if at + 8 + length > cluster_size:
                raise Refused("header extension too large")
            self.extensions.append((kind, self.file.read(at + 8, length)))
            at += 8 + qfmt.align_up(length, 8)

    def _load_l1(self) -> None:
        self.l1_coverage = 1 << (self.cluster_bits + self.l2_bits)
        needed = ceil_div(self.size, self.l1_coverage)
        if self.version >= 2:
            if self.header["l1_size"] < needed:
                raise Refused("the L1 table is too small")
            if self.header["l1_size"] * 8 > qfmt.MAX_L1_BYTES:
                raise Refused("the L1 table is too large")
        if needed > 1 << 26:
            raise Refused("the image is too large for this decoder")
        try:
            table = self.file.read(self.header["l1_offset"], needed * 8)
        except Corrupt as error:
            raise Refused(f"L1 table: {error}") from None
        self.l1 = struct.unpack(f">{needed}Q", table)

    # -- mapping -----------------------------------------------------------

    def _l2_table(self, l1_index: int):
        """The entries of an L2 table as integers, or None if they are all
        zero.  Extended tables have two integers per entry."""
        entry = self.l1[l1_index]
        if self.version == 1:
            offset, length = entry, 8 << self.l2_bits
        else:
            offset, length = entry & qfmt.OFFSET_MASK, self.cluster_size
            if offset % self.cluster_size:
                raise Corrupt(f"L1 entry {l1_index} is misaligned")
        if offset == 0:
            return None
        if offset not in self._l2_cache:
            table = self.file.read(offset, length)
            self._l2_cache[offset] = (
                struct.unpack(f">{length // 8}Q", table)
                if table.count(0) != length else None)
            if len(self._l2_cache) > 64:
                self._l2_cache.popitem(last=False)
        return self._l2_cache[offset]

    def lookup(self, guest: int) -> Run:
        """What is at this guest offset, at most to the end of its cluster
        (of its subcluster, of the range of its empty L2 table)."""
        l1_index, within = divmod(guest, self.l1_coverage)
        table = self._l2_table(l1_index)
        if table is None:
            return Run("hole", self.l1_coverage - within)
        index, start = divmod(within, self.cluster_size)
        left = self.cluster_size - start
        if self.version == 1:
            return self._entry_v1(table[index], start, left)
        entry = table[2 * index if self.extended else index]
        if entry & qfmt.COMPRESSED:
            bits = qfmt.compressed_offset_bits(self.cluster_bits)
            host = entry & ((1 << bits) - 1)
            sectors = ((entry & (qfmt.COMPRESSED - 1)) >> bits) + 1
            return Run("compressed", left, host,
                       sectors * SECTOR - host % SECTOR)
        if self.extended:
            return self._entry_extended(entry, table[2 * index + 1], start)
        return self._entry_standard(entry, start, left)

    def _entry_v1(self, entry: int, start: int, left: int) -> Run:
        if entry == 0:
            return Run("hole", left)
        if entry & qfmt.V1_COMPRESSED:
            bits = 63 - self.cluster_bits
            return Run("compressed", left, entry & ((1 << bits) - 1),
                       (entry >> bits) & (self.cluster_size - 1))
        if entry % SECTOR:
            raise Corrupt(f"misaligned cluster {entry:#x}")
        return Run("data", left, entry + start)

    def _entry_standard(self, entry: int, start: int, left: int) -> Run:
        host = entry & qfmt.OFFSET_MASK
        if entry & qfmt.ZERO and self.version < 3:
            raise Corrupt("zero cluster in a version 2 image")
        if host % self.cluster_size:
            raise Corrupt(f"misaligned cluster {host:#x}")
        if entry & qfmt.ZERO:
            return Run("zero-alloc" if host else "zero", left)
        if host == 0:
            return Run("hole", left)
        return Run("data", left, host + start)

    def _entry_extended(self, entry: int, bitmap: int, start: int) -> Run:
        zero, alloc = bitmap >> 32, bitmap & 0xFFFFFFFF
        host = entry & qfmt.OFFSET_MASK
        if zero & alloc:
            raise Corrupt("a subcluster both allocated and zero")
        if host == 0 and alloc:
            raise Corrupt("an allocated subcluster without a cluster")
        if host % self.cluster_size:
            raise Corrupt(f"misaligned cluster {host:#x}")
        size = self.cluster_size // 32
        which, inside = divmod(start, size)
        left = size - inside
        if zero >> which & 1:
            return Run("zero-alloc" if host else "zero", left)
        if alloc >> which & 1:
            return Run("data", left, host + start)
        return Run("hole", left)

    # -- reading -----------------------------------------------------------

    def _unpack(self, run: Run) -> bytes:
        key = run.host, run.packed
        if key not in self._unpacked:
            inflate = (Zstd.inflate if self.compression == qfmt.ZSTD
                       else inflate_raw)
            self._unpacked[key] = inflate(
                self.file.read(run.host, run.packed), self.cluster_size)
            if len(self._unpacked) > 8:
                self._unpacked.popitem(last=False)
        return self._unpacked[key]

    def _runs(self, offset: int, length: int) -> Iterator[Tuple[int, Run]]:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError("range outside the disk")
        end = offset + length
        while offset < end:
            run = self.lookup(offset)
            run = run._replace(length=min(run.length, end - offset))
            yield offset, run
            offset += run.length

    def read(self, offset: int, length: int) -> bytes:
        """Guest bytes; raises Corrupt if any of them cannot be had."""
        parts = []
        for at, run in self._runs(offset, length):
            if run.kind == "data":
                parts.append(self.file.read(run.host, run.length))
            elif run.kind == "compressed":
                start = at % self.cluster_size
                parts.append(self._unpack(run)[start:start + run.length])
            else:
                parts.append(bytes(run.length))
        return b"".join(parts)

    def extents(self, offset: int = 0, length: int = -1
                ) -> List[Tuple[int, int]]:
        """Merged (length, flags) that cover the range exactly."""
        if length < 0:
            length = self.size - offset
        merged: List[List[int]] = []
        for _, run in self._runs(offset, length):
            flags = (qfmt.DATA if run.kind in ("data", "compressed")
                     else qfmt.HOLE_ZERO)
            if merged and merged[-1][1] == flags:
                merged[-1][0] += run.length
            else:
                merged.append([run.length, flags])
        return [(run_length, flags) for run_length, flags in merged]

    def kinds(self) -> dict:
        """Guest bytes of each kind, for `info` and for tests that want to
        know that an image exercises something."""
        count: dict = {}
        for _, run in self._runs(0, self.size):
            count[run.kind] = count.get(run.kind, 0) + run.length
        return count


def next_data(fd: int, offset: int, end: int) -> int:
    """The first byte at or after OFFSET that is not in a hole of a file."""
    try:
        return min(end, os.lseek(fd, offset, os.SEEK_DATA))
    except OSError:         # no data any more (or file system cannot tell)
        return end if offset < end else offset


def compare(image: Image, raw_path: str) -> str:
    """Empty if the disk equals the file, else the first difference."""
    chunk = 4 << 20
    fd = os.open(raw_path, os.O_RDONLY)
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        if size != image.size:
            return f"sizes differ: image {image.size}, raw {size}"
        offset = 0
        for length, flags in image.extents():
            end = offset + length
            while offset < end:
                if flags == qfmt.HOLE_ZERO:
                    offset = next_data(fd, offset, end)
                    if offset == end:
                        break
                count = min(chunk, end - offset)
                theirs = os.pread(fd, count, offset)
                ours = (bytes(count) if flags == qfmt.HOLE_ZERO
                        else image.read(offset, count))
                if ours != theirs:
                    first = next(i for i in range(count)
                                 if ours[i:i + 1] != theirs[i:i + 1])
                    return f"first difference at byte {offset + first}"
                offset += count
    finally:
        os.close(fd)
    return ""


def info(image: Image) -> dict:
    keys = ("version", "size", "cluster_size", "compression", "extended")
    return {**{key: getattr(image, key) for key in keys},
            "l2_entries": 1 << image.l2_bits,
            "header": image.header,
            "extensions": [f"{kind:#010x}:{len(data)}"
                           for kind, data in image.extensions],
            "kinds": image.kinds()}


def main(argv: List[str]) -> int:
    if len(argv) < 3 or argv[1] not in ("info", "map", "read", "compare"):
        print(__doc__[__doc__.index("usage:"):], file=sys.stderr, end="")
        return 2
    command, path, rest = argv[1], argv[2], argv[3:]
    try:
        image = Image(path)
        if command == "info":
            print(json.dumps(info(image), indent=2))
        elif command == "map":
            offset = 0
            for length, flags in image.extents():
                print(offset, length, flags)
                offset += length
        elif command == "read":
            offset = int(rest[0], 0) if rest else 0
            end = offset + int(rest[1], 0) if len(rest) > 1 else image.size
            while offset < end:
                data = image.read(offset, min(1 << 20, end - offset))
                sys.stdout.buffer.write(data)
                offset += len(data)
        else:
            difference = compare(image, rest[0])
            if difference:
                print(f"{path}: {difference}", file=sys.stderr)
                return 1
    except (Refused, Corrupt) as error:
        print(f"{path}: {type(error).__name__.lower()}: {error}",
              file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
