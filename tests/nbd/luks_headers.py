#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""LUKS headers with one thing wrong, through a server.

usage: luks_headers.py IMAGE SOCKET LOG DIR SECRET LIMIT

IMAGE is encrypted with LUKS, aes-256 in xts mode, with the passphrase in the
file SECRET in key slot 1, and others in slots 0 and 7; its disk is full of
'Z'.  Each edit is done to a copy in DIR, which the server behind SOCKET must
be serving (dir=) with that passphrase.  It must be refused with one message
(in the server's LOG) that matches, or be served with the content of the sound
image, within LIMIT seconds; then a write may fail, but no more.  QEMU must agree, but for where the edit says that
it does not.
"""

import errno
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from typing import List, NamedTuple, Optional, Tuple

import nbd

import nbdtool
from nbdtool import Mismatch

EXT_LUKS = 0x0537BE77
SLOTS, SLOT_BYTES = 208, 48
ACTIVE, DISABLED = 0x00AC71F3, 0x0000DEAD
MAX = 0xFFFFFFFF

OPENS = None
AUTH = "no key slot of the image opens with the passphrase"


class Edit(NamedTuple):
    """What is written, and what must come of it."""

    name: str
    pokes: List[Tuple[str, int, bytes]]     # in "luks", "image" or "ext"
    message: Optional[str]
    qemu: str = "same"      # it does the "same", "opens", "refuses", "not asked"


def be16(value: int) -> bytes:
    return struct.pack(">H", value)


def be32(value: int) -> bytes:
    return struct.pack(">I", value)


def be64(value: int) -> bytes:
    return struct.pack(">Q", value)


def text(value: bytes) -> bytes:
    return value.ljust(32, b"\0")


def luks(name: str, offset: int, data: bytes, message: Optional[str],
         qemu: str = "same") -> Edit:
    return Edit(name, [("luks", offset, data)], message, qemu)


def slot(number: int, name: str, offset: int, value: int,
         message: Optional[str], qemu: str = "same") -> Edit:
    return luks(f"slot{number}-{name}", SLOTS + number * SLOT_BYTES + offset,
                be32(value), message, qemu)


def all_slots(name: str, offset: int, value: int, but: int,
              message: Optional[str], qemu: str) -> Edit:
    """In the slots that are in use."""
    return Edit(name, [("luks", SLOTS + i * SLOT_BYTES + offset, be32(value))
                       for i in (0, 1, 7) if i != but], message, qemu)


def edits(luks_bytes: int) -> List[Edit]:
    found = [
        luks("magic", 0, b"LUKS\xba\xbf", "there is no LUKS header at"),
        luks("magic-zero", 0, bytes(6), "there is no LUKS header at"),
        luks("version-2", 6, be16(2), "has version 2; qcow2 images use"),
        luks("version-0", 6, be16(0), "has version 0"),
        luks("cipher-unknown", 8, text(b"rot13"), "cipher 'rot13' in mode"),
        luks("cipher-empty", 8, bytes(32), "the cipher ''"),
        luks("cipher-endless", 8, b"a" * 32, "name of its cipher does not e"),
        luks("cipher-control", 8, text(b"a\x1b[2J\nerror: x"),
             r"cipher 'a\\x1b\[2J\\x0aerror: x'"),
        luks("cipher-other", 8, text(b"serpent"), AUTH),
        luks("cipher-cast5", 8, text(b"cast5"), "cast5 has no xts mode"),
        luks("mode-unknown", 40, text(b"gcm-plain64"), "'gcm-plain64': the m"),
        luks("mode-no-iv", 40, text(b"xts"), "mode 'xts'"),
        luks("mode-empty", 40, bytes(32), "mode ''"),
        luks("mode-endless", 40, b"x" * 32, "name of its mode does not end"),
        # Key material has numbers that are the same in both.
        luks("mode-plain", 40, text(b"xts-plain"), OPENS),
        luks("mode-essiv-sha512", 40, text(b"xts-essiv:sha512"),
             "the cipher has no keys as long as that hash"),
        luks("mode-essiv-none", 40, text(b"xts-essiv"), "mode 'xts-essiv'"),
        luks("mode-key-too-long", 40, text(b"cbc-plain64"),
             "has a key of 64 bytes, which .* does not take"),
        luks("hash-unknown", 72, text(b"crc32"), "hash 'crc32'"),
        luks("hash-empty", 72, bytes(32), "hash ''"),
        luks("hash-endless", 72, b"s" * 32, "name of its hash does not end"),
        luks("hash-other", 72, text(b"sha1"), AUTH),
        # Nothing needs them.
        luks("payload-zero", 104, be32(0), OPENS, "refuses"),
        luks("payload-max", 104, be32(MAX), OPENS),
        luks("uuid", 168, b"\xff" * 40, OPENS),
        luks("digest", 112, bytes(20), AUTH),
        luks("digest-salt", 132, bytes(32), AUTH),
        luks("digest-iterations-zero", 164, be32(0),
             "iteration count of 0 for the digest"),
        luks("digest-iterations-max", 164, be32(MAX),
             "iteration counts ask for too much work", "not asked"),
    ]
    found += [luks(f"key-{n}", 108, be32(n), "has a key of")
              for n in (0, 1, 16, 63, 65, 128, 0x80000040, MAX)]
    # A key of half the length, read from the wrong place.
    found += [luks(f"key-{n}", 108, be32(n), AUTH) for n in (32, 48)]
    outside = "slot 1 has its key outside of the encryption header"
    found += [
        slot(1, "disabled", 0, DISABLED, AUTH),
        slot(1, "state", 0, 1, "slot 1 is neither active nor disabled"),
        slot(7, "state", 0, MAX, "slot 7 is neither active nor disabled"),
        slot(2, "active", 0, ACTIVE, "slot 2 has an iteration count of 0"),
        slot(1, "iterations-zero", 4, 0, "slot 1 has an iteration count of"),
        slot(1, "iterations-max", 4, MAX,
             "none of the 2 key slots that were tried, and 1 were not",
             "not asked"),
        slot(1, "salt", 8, 0, AUTH),
        slot(1, "offset-zero", 40, 0, "slot 1 has its key inside the header"),
        slot(1, "offset-one", 40, 1, "slot 1 has its key inside the header"),
        slot(1, "offset-last", 40, (luks_bytes >> 9) - 1, outside),
        slot(1, "offset-end", 40, luks_bytes >> 9, outside),
        slot(1, "offset-4g", 40, 0x800000, outside),
        slot(1, "offset-max", 40, MAX, outside),
        slot(1, "offset-same", 40, 8, "slot 1 has its key where another"),
        slot(1, "stripes-zero", 44, 0, "does not have between 1 and 16000"),
        slot(1, "stripes-one", 44, 1, AUTH, "refuses"),
        slot(1, "stripes-more", 44, 4001, AUTH),
        slot(1, "stripes-most", 44, 16000, AUTH),
        slot(0, "stripes-most", 44, 16000, "1 has its key where another"),
        slot(7, "stripes-most", 44, 16000, "7 has its key outside"),
        slot(1, "stripes-16001", 44, 16001, "between 1 and 16000"),
        slot(1, "stripes-max", 44, MAX, "between 1 and 16000"),
        # 2^32 and 2^63 bytes.
        slot(1, "stripes-4g", 44, 0x4000000, "between 1 and 16000"),
        # What is wrong with a slot that is not in use.
        slot(2, "stripes-zero-unused", 44, 0, OPENS, "refuses"),
        slot(2, "offset-max-unused", 40, MAX, OPENS),
        # Bombs: passed over, whatever comes behind them.
        slot(0, "iterations-max", 4, MAX, OPENS, "not asked"),
        all_slots("bombs", 4, MAX, -1, "none of the 0 key slots that were "
                  "tried, and 3 were not", "not asked"),
        all_slots("bombs-but-one", 4, MAX, 1, OPENS, "not asked"),
        all_slots("all-disabled", 0, DISABLED, -1, "has no active key slot",
                  "same"),
    ]
    found += [
        Edit("ext-gone", [("ext", -8, be32(0x12345678))],
             "has no encryption header"),
        Edit("ext-length", [("ext", -4, be32(8))], "its length is 8, not 16"),
        Edit("ext-unaligned", [("ext", 0, be64(0x40200))],
             "is not a multiple of the cluster size"),
        Edit("ext-zero", [("ext", 0, be64(0))], "there is no LUKS header at"),
        Edit("ext-elsewhere", [("ext", 0, be64(0x10000))],
             "there is no LUKS header at"),
        Edit("ext-behind-the-end", [("ext", 0, be64(1 << 40))],
             "there is no LUKS header at"),
        Edit("ext-max", [("ext", 0, be64((1 << 64) - (1 << 16)))],
             "encryption header|LUKS header|offset"),
        Edit("ext-empty", [("ext", 8, be64(0))], "has no encryption header"),
        Edit("ext-short", [("ext", 8, be64(591))], "has only 591 bytes"),
        Edit("ext-only-header", [("ext", 8, be64(592))],
             "slot 0 has its key outside"),
        # Who writes keeps a list of its clusters.
        Edit("ext-large", [("ext", 8, be64(16 << 20))], OPENS),
        Edit("ext-huge", [("ext", 8, be64(1 << 50))],
             "is said to have 1125899906842624 bytes", "opens"),
        Edit("ext-endless", [("ext", 8, be64((1 << 64) - 1))],
             "is said to have 18446744073709551615 bytes", "opens"),
        Edit("method-none", [("image", 32, be32(0))],
             "has an encryption header, but its encryption method is not"),
        Edit("method-aes", [("image", 32, be32(1))],
             "has an encryption header, but its encryption method is not"),
        Edit("method-3", [("image", 32, be32(3))],
             "unsupported encryption method 3"),
    ]
    return found


def find_extension(path: str) -> int:
    """Where the data of the extension is that names the LUKS header."""
    with open(path, "rb") as file:
        area = file.read(4096)
    version, = struct.unpack_from(">I", area, 4)
    at = struct.unpack_from(">I", area, 100)[0] if version == 3 else 72
    while True:
        kind, length = struct.unpack_from(">II", area, at)
        if kind == EXT_LUKS:
            return at + 8
        if kind == 0:
            raise RuntimeError("the image has no LUKS header")
        at += 8 + (length + 7) // 8 * 8


def find_header(path: str) -> Tuple[int, int]:
    """Offset and length of the LUKS header."""
    with open(path, "rb") as file:
        file.seek(find_extension(path))
        return struct.unpack(">QQ", file.read(16))


def qemu_opens(path: str, secret: str) -> bool:
    done = subprocess.run(
        ["qemu-io", "-r", "--object", f"secret,id=key,file={secret}",
         "-c", "read -q -P 90 0 64k", "--image-opts",
         f"driver=qcow2,encrypt.key-secret=key,file.filename={path}"],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode == 0


class Server:
    """The one behind the socket."""

    def __init__(self, sock: str, log: str):
        self.sock = sock
        self.log = log

    def try_it(self, name: str) -> Tuple[Optional[bytes], List[str]]:
        """What is on the disk, if it is served, and what is said."""
        before = os.path.getsize(self.log)
        content = None
        try:
            handle = nbdtool.connect(self.sock, name)
        except nbd.Error:
            pass
        else:
            content = bytes(handle.pread(65536, 0))
            try:
                handle.pwrite(b"new content" * 100, 65537)
            except nbd.Error as error:
                if error.errnum != errno.EIO:
                    raise
            handle.shutdown()
        with open(self.log, encoding="ascii", errors="strict") as file:
            file.seek(before)
            said = [line.split(f"{name}: ", 1)[1].rstrip() for line in file
                    if "error: qcow2: " in line and f"{name}: " in line]
        return content, said


def check(server: Server, edit: Edit) -> None:
    content, said = server.try_it(edit.name)
    if edit.message is None:
        if content != b"Z" * 65536:
            raise Mismatch(f"not served, or other content: {said}")
        if said:
            print(f"{edit.name}: {said}")
        return
    if content is not None:
        raise Mismatch("served")
    if len(said) != 1:
        raise Mismatch(f"refused with {len(said)} messages: {said}")
    if not re.search(edit.message, said[0]):
        raise Mismatch(f"message {said[0]!r} is not like {edit.message!r}")


def check_qemu(edit: Edit, path: str, secret: str) -> None:
    if edit.qemu == "not asked":
        return
    ours = edit.message is None
    wanted = {"same": ours, "opens": True, "refuses": False}[edit.qemu]
    if qemu_opens(path, secret) != wanted:
        raise Mismatch("QEMU " + ("refuses" if wanted else "opens") +
                       " it, which is not what was expected")


def main(image: str, sock: str, log: str, folder: str, secret: str,
         limit: str) -> int:
    server = Server(sock, log)
    ext = find_extension(image)
    header, luks_bytes = find_header(image)
    base = {"image": 0, "ext": ext, "luks": header}
    failed = 0
    for edit in edits(luks_bytes):
        path = os.path.join(folder, edit.name)
        shutil.copyfile(image, path)
        with open(path, "r+b") as file:
            for where, offset, data in edit.pokes:
                file.seek(base[where] + offset)
                file.write(data)
        start = time.monotonic()
        try:
            check(server, edit)
            if time.monotonic() - start > float(limit):
                raise Mismatch(f"took {time.monotonic() - start:.1f} s")
            check_qemu(edit, path, secret)
        except Mismatch as error:
            print(f"FAIL {edit.name}: {error}", flush=True)
            failed += 1
        os.unlink(path)
    print(f"{failed} of {len(edits(luks_bytes))} edits failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 7:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
