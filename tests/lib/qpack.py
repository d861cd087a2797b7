# SPDX-License-Identifier: BSD-3-Clause
"""Compresses one cluster in all forms that a reader must accept.

Deflate streams use any window, level and strategy, may be flushed in the
middle and may go on after the cluster's last byte.  A zstd cluster is one
or more frames, with or without checksum and content size, with empty and
skippable frames before and between them.
"""

import ctypes
import random
import struct
import zlib
from typing import List

STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY,
              zlib.Z_RLE, zlib.Z_FIXED)


def deflate(rng: random.Random, data: bytes) -> bytes:
    packer = zlib.compressobj(
        rng.choice((0, 1, 6, 9)) if rng.random() < 0.3 else 6, zlib.DEFLATED,
        -rng.choice((9, 10, 11, 12, 13, 14, 15, 15)), rng.randint(1, 9),
        rng.choice(STRATEGIES) if rng.random() < 0.3 else 0)
    if rng.random() < 0.1:              # longer than the cluster
        data += bytes(rng.randrange(1, 300))
    parts: List[bytes] = []
    if rng.random() < 0.2:
        cut = rng.randrange(len(data))
        parts += [packer.compress(data[:cut]),
                  packer.flush(rng.choice((zlib.Z_SYNC_FLUSH,
                                           zlib.Z_FULL_FLUSH)))]
        data = data[cut:]
    parts += [packer.compress(data), packer.flush()]
    return b"".join(parts)


class _Zstd:
    WINDOW_LOG, LEVEL, CONTENT_SIZE, CHECKSUM = 101, 100, 200, 201
    lib = None

    @classmethod
    def open(cls):
        if cls.lib is None:
            lib = ctypes.CDLL("libzstd.so.1")
            size = ctypes.c_size_t
            lib.ZSTD_createCCtx.restype = ctypes.c_void_p
            lib.ZSTD_freeCCtx.argtypes = [ctypes.c_void_p]
            lib.ZSTD_CCtx_setParameter.argtypes = [
                ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
            lib.ZSTD_CCtx_setParameter.restype = size
            lib.ZSTD_compressBound.argtypes = [size]
            lib.ZSTD_compressBound.restype = size
            lib.ZSTD_compress2.argtypes = [
                ctypes.c_void_p, ctypes.c_char_p, size, ctypes.c_char_p,
                size]
            lib.ZSTD_compress2.restype = size
            lib.ZSTD_isError.argtypes = [size]
            cls.lib = lib
        return cls.lib


def zstd_frame(data: bytes, level: int = 3, checksum: bool = False,
               content_size: bool = True, window_log: int = 0) -> bytes:
    lib = _Zstd.open()
    context = lib.ZSTD_createCCtx()
    try:
        for key, value in ((_Zstd.LEVEL, level),
                           (_Zstd.CHECKSUM, checksum),
                           (_Zstd.CONTENT_SIZE, content_size),
                           (_Zstd.WINDOW_LOG, window_log)):
            lib.ZSTD_CCtx_setParameter(context, key, int(value))
        bound = lib.ZSTD_compressBound(len(data))
        out = ctypes.create_string_buffer(bound)
        length = lib.ZSTD_compress2(context, out, bound, data, len(data))
        if lib.ZSTD_isError(length):
            raise RuntimeError("zstd")
        return out.raw[:length]
    finally:
        lib.ZSTD_freeCCtx(context)


def skippable(data: bytes, which: int = 0) -> bytes:
    """A frame that holds nothing a decoder should look at."""
    return struct.pack("<II", 0x184D2A50 + which, len(data)) + data


def zstd(rng: random.Random, data: bytes) -> bytes:
    parts: List[bytes] = []
    frames = rng.choice((1, 1, 1, 2, 3))
    cuts = sorted(rng.randrange(1, len(data)) for _ in range(frames - 1))
    for start, end in zip([0, *cuts], [*cuts, len(data)]):
        if rng.random() < 0.1:
            parts.append(skippable(rng.randbytes(rng.randrange(20)),
                                   rng.randrange(16)))
        if rng.random() < 0.05:
            parts.append(zstd_frame(b""))
        parts.append(zstd_frame(
            data[start:end], rng.choice((-5, 1, 3, 9)), rng.random() < 0.3,
            rng.random() < 0.7, rng.choice((0, 0, 10, 15, 20))))
    return b"".join(parts)
