#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""An NBD client that writes.

writetool.py URI [--raw FILE] OPERATION...

Operations, done in this order over one connection; sizes may end in k, M, G:
  w:OFFSET:LENGTH:BYTE   write
  z:OFFSET:LENGTH        zero, allowed to trim
  Z:OFFSET:LENGTH        zero, keeping the space
  t:OFFSET:LENGTH        trim
  f                      flush
  !ERRNO:OPERATION       the operation must fail with this error
  fua:OPERATION          with that flag; so is fast:OPERATION
  touch:FILE             create it
  wait:FILE              until it exists
  die                    exit without disconnecting
Operations that must succeed are also done to the raw file, where trimmed
bytes, which may have any contents, read as zeros, as whole clusters do.
"""

import argparse
import errno
import os
import signal
import time
from typing import Optional

import nbd

CHUNK = 32 << 20


def number(text: str) -> int:
    units = {"k": 10, "M": 20, "G": 30}
    if text[-1] in units:
        return int(text[:-1]) << units[text[-1]]
    return int(text)


def request(handle: nbd.NBD, kind: str, args: list, flags: int) -> None:
    offset, length = number(args[0]), number(args[1])
    while length > 0:
        count = min(length, CHUNK)
        if kind == "w":
            handle.pwrite(bytes([int(args[2])]) * count, offset, flags)
        elif kind == "t":
            handle.trim(count, offset, flags)
        else:
            hole = 0 if kind == "z" else nbd.CMD_FLAG_NO_HOLE
            handle.zero(count, offset, flags | hole)
        offset += count
        length -= count


def mirror(raw: str, kind: str, args: list) -> None:
    offset, length = number(args[0]), number(args[1])
    byte = int(args[2]) if kind == "w" else 0
    with open(raw, "r+b") as file:
        file.seek(offset)
        while length > 0:
            count = min(length, CHUNK)
            file.write(bytes([byte]) * count)
            length -= count


def operation(handle: nbd.NBD, raw: Optional[str], text: str,
              flags: int = 0) -> None:
    kind, *args = text.split(":")
    if kind.startswith("!"):
        try:
            operation(handle, None, ":".join(args), flags)
        except nbd.Error as error:
            if error.errnum != getattr(errno, kind[1:]):
                raise
        else:
            raise AssertionError(f"{text}: it succeeded")
    elif kind == "fua":
        operation(handle, raw, ":".join(args), flags | nbd.CMD_FLAG_FUA)
    elif kind == "fast":
        operation(handle, raw, ":".join(args), flags | nbd.CMD_FLAG_FAST_ZERO)
    elif kind == "f":
        handle.flush()
    elif kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "touch":
        open(args[0], "w").close()
    elif kind == "wait":
        parent = os.getppid()       # A test that was killed never will.
        while not os.path.exists(args[0]) and os.getppid() == parent:
            time.sleep(0.02)
    else:
        request(handle, kind, args, flags)
        if raw is not None:
            mirror(raw, kind, args)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("uri")
    parser.add_argument("--raw")
    parser.add_argument("operations", nargs="+")
    args = parser.parse_args()
    handle = nbd.NBD()
    handle.set_strict_mode(0)
    handle.connect_uri(args.uri)
    for text in args.operations:
        operation(handle, args.raw, text)
    handle.shutdown()


if __name__ == "__main__":
    main()
