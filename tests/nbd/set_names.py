#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Change the names of other files in the header of an image to any bytes.

  set_names.py IMAGE [--backing NAME] [--format NAME] [--data-file NAME]

Names may have Python's escapes, as in 'a\\x00b'; qemu-img does not write such.
Other names do not change; an empty --format removes it.  Versions 2 and 3.
"""

import argparse
import struct

import qfmt

END = 0
FORMAT = 0xE2792ACA
DATA_FILE = 0x44415441


def unescape(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


def read_extensions(area: bytes, start: int) -> list:
    found = []
    while True:
        kind, length = struct.unpack_from(">II", area, start)
        if kind == END:
            return found
        found.append((kind, area[start + 8:start + 8 + length]))
        start += 8 + qfmt.align_up(length, 8)


def pack(extensions: list) -> bytes:
    out = b""
    for kind, data in extensions:
        out += struct.pack(">II", kind, len(data))
        out += data.ljust(qfmt.align_up(len(data), 8), b"\0")
    return out + struct.pack(">II", END, 0)


def replace(extensions: list, kind: int, data: bytes) -> list:
    rest = [item for item in extensions if item[0] != kind]
    return rest + ([(kind, data)] if data else [])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("image")
    parser.add_argument("--backing", type=unescape)
    parser.add_argument("--format", type=unescape)
    parser.add_argument("--data-file", type=unescape)
    args = parser.parse_args()
    with open(args.image, "r+b") as file:
        area = file.read(1 << 21)
        version, offset, size, bits = struct.unpack_from(">IQII", area, 4)
        start = struct.unpack_from(">I", area, 100)[0] if version == 3 else 72
        extensions = read_extensions(area, start)
        backing = area[offset:offset + size] if args.backing is None \
            else args.backing
        if args.format is not None:
            extensions = replace(extensions, FORMAT, args.format)
        if args.data_file is not None:
            extensions = replace(extensions, DATA_FILE, args.data_file)
        names = area[:start] + pack(extensions)
        offset = len(names) if backing else 0
        names += backing
        assert len(names) <= 1 << bits, "no room in the first cluster"
        header = bytearray(names.ljust(1 << bits, b"\0"))
        struct.pack_into(">QI", header, 8, offset, len(backing))
        file.seek(0)
        file.write(header)


if __name__ == "__main__":
    main()
