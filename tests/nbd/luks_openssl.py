#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Decrypt sectors of an image with openssl and compare them with the disk.

usage: luks_openssl.py IMAGE DATA RAW MODE KEY

DATA is the file with the clusters, IMAGE itself unless it has a data file; RAW
is the expected disk; KEY is in hexadecimal.  MODE is "legacy", or LUKS's:
cbc-plain64, cbc-essiv:sha256, ctr-plain64, ecb or xts-plain64, and the cipher
AES with the length of the key.

Sectors from all over the disk, of clusters that are neither zero nor
compressed.  openssl has no tool for xts: that is put together from ecb.
"""

import hashlib
import os
import random
import struct
import subprocess
import sys
from typing import Iterator, Tuple

SECTOR = 512
MOST = 24


def openssl(cipher: str, key: bytes, data: bytes, iv: bytes = b"",
            decrypt: bool = True) -> bytes:
    command = ["openssl", "enc", "-d" if decrypt else "-e", "-" + cipher,
               "-nopad", "-K", key.hex()]
    if iv:
        command += ["-iv", iv.hex()]
    return subprocess.run(command, input=data, check=True,
                          stdout=subprocess.PIPE).stdout


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b))


def xts(key: bytes, data: bytes, iv: bytes) -> bytes:
    half = len(key) // 2
    name = f"aes-{half * 8}-ecb"
    number = int.from_bytes(
        openssl(name, key[half:], iv, decrypt=False), "little")
    tweaks = b""
    for _ in range(len(data) // 16):
        tweaks += number.to_bytes(16, "little")
        number <<= 1
        if number >> 128:
            number = (number & ((1 << 128) - 1)) ^ 0x87
    return xor(openssl(name, key[:half], xor(data, tweaks)), tweaks)


def decrypt(mode: str, key: bytes, data: bytes, number: int) -> bytes:
    iv = struct.pack("<QQ", number, 0)
    kind = f"aes-{len(key) * 8}-"
    if mode == "legacy":
        return openssl("aes-128-cbc", key, data, iv)
    if mode == "xts-plain64":
        return xts(key, data, iv)
    if mode == "cbc-essiv:sha256":
        iv = openssl("aes-256-ecb", hashlib.sha256(key).digest(), iv,
                     decrypt=False)
    return openssl(kind + mode[:3], key, data, iv if mode != "ecb" else b"")


def clusters(path: str) -> Iterator[Tuple[int, int, int]]:
    """Guest offset, host offset and length of each, where neither zero nor
    compressed; of images without extended L2 entries."""
    with open(path, "rb") as file:
        header = file.read(104)
        version, = struct.unpack_from(">I", header, 4)
        bits, size = struct.unpack_from(">IQ", header, 20)
        if version == 1:
            raise RuntimeError("version 1")
        entries, l1_offset = struct.unpack_from(">IQ", header, 36)
        cluster, mask = 1 << bits, (1 << 56) - 512
        file.seek(l1_offset)
        l1 = struct.unpack(f">{entries}Q", file.read(entries * 8))
        for i, l1e in enumerate(l1):
            if l1e & mask == 0:
                continue
            file.seek(l1e & mask)
            l2 = struct.unpack(f">{cluster // 8}Q", file.read(cluster))
            for j, l2e in enumerate(l2):
                at = (i * (cluster // 8) + j) * cluster
                # COPIED: data at offset 0 of a data file is a cluster, too.
                if at < size and l2e >> 63 and not l2e & (1 << 62 | 1):
                    yield at, l2e & mask, min(cluster, size - at)


def main(image: str, data: str, raw: str, mode: str, key: str) -> int:
    sectors = [(guest + at, host + at) for guest, host, length
               in clusters(image) for at in range(0, length, SECTOR)]
    assert len(sectors) > MOST, "the image has too little on it"
    moved = [s for s in sectors if s[0] != s[1]]
    assert moved or data != image, "numbers of guest and host are the same"
    with open(data, "rb") as file, open(raw, "rb") as disk:
        for guest, host in random.Random(1).sample(sectors, MOST):
            file.seek(host)
            disk.seek(guest)
            number = (guest if mode == "legacy" else host) // SECTOR
            found = decrypt(mode, bytes.fromhex(key),
                            file.read(SECTOR).ljust(SECTOR, b"\0"), number)
            if found != disk.read(SECTOR):
                print(f"luks_openssl: {os.path.basename(image)}: {mode}: "
                      f"the sector at {guest} of the disk, {host} of the "
                      f"file, is {found[:16].hex()}...", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 6:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
