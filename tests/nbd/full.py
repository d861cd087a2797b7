#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A client on a host that has no more room.

full.py URI --order ORDER --count N --size N --step N [--flush-every N]
        --out FILE

Writes pieces of SIZE bytes to the disk, each at the start of a STEP of it, in
the given order (forward or random), until a write fails with ENOSPC (or N
have been done).  Then flushes, which must succeed at once.  After that a line for each acknowledged piece is in FILE: its offset, length and byte.
Prints how many there are.
"""

import argparse
import errno
import random

import nbd


def write_all(handle: nbd.NBD, args: argparse.Namespace) -> dict:
    """Returns the byte that each piece has; they are written once."""
    places = list(range(min(args.count, handle.get_size() // args.step)))
    if args.order == "random":
        random.Random(7).shuffle(places)
    done = {}
    for number, place in enumerate(places):
        byte = 1 + number % 251
        try:
            handle.pwrite(bytes([byte]) * args.size, place * args.step)
        except nbd.Error as error:
            if error.errnum != errno.ENOSPC:
                raise
            break
        done[place * args.step] = byte
        if args.flush_every and number % args.flush_every == 0:
            handle.flush()
    return done


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("uri")
    parser.add_argument("--order", default="forward")
    parser.add_argument("--count", type=int, default=1 << 30)
    parser.add_argument("--size", type=int, default=65536)
    parser.add_argument("--step", type=int, default=65536)
    parser.add_argument("--flush-every", type=int, default=0)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    handle = nbd.NBD()
    handle.connect_uri(args.uri)
    done = write_all(handle, args)
    handle.flush()
    with open(args.out, "w", encoding="ascii") as file:
        for offset, byte in sorted(done.items()):
            file.write(f"{offset} {args.size} {byte}\n")
    print(len(done))
    handle.shutdown()


if __name__ == "__main__":
    main()
