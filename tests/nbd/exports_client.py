#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Exports: their list, and connections to several of them.

exports_client.py list SOCKET          lines of JSON: [name, description]
exports_client.py content SOCKET NAME  the disk, to stdout
exports_client.py sizes SOCKET         every export that is listed is opened:
                                       lines of JSON: [name, size]
exports_client.py orders SOCKET EXPECT [NAME=RAW]...
      connections to these exports come and go in every order, between them
      the list; what is read must be as in RAW, and EXPECT in the list
"""

import itertools
import json
import sys
from typing import Dict, List, Tuple

import nbd
from nbdtool import CONTEXT, Mismatch, Raw, connect


def listing(socket: str) -> List[Tuple[str, str]]:
    handle = nbd.NBD()
    handle.set_opt_mode(True)
    handle.connect_unix(socket)
    found: List[Tuple[str, str]] = []
    handle.opt_list(lambda name, text: found.append((name, text)) or 0)
    handle.opt_abort()
    return found


def description(socket: str, name: str) -> str:
    """As an export tells it when it is opened."""
    handle = nbd.NBD()
    handle.set_opt_mode(True)
    handle.set_full_info(True)
    handle.connect_unix(socket)
    handle.set_export_name(name)
    handle.opt_info()
    text = handle.get_export_description()
    handle.opt_abort()
    return text


def content(handle: nbd.NBD) -> bytes:
    size = handle.get_size()
    return b"".join(bytes(handle.pread(min(1 << 20, size - at), at))
                    for at in range(0, size, 1 << 20))


def check(handle: nbd.NBD, raw: Raw) -> None:
    if handle.get_size() != raw.size:
        raise Mismatch(f"size {handle.get_size()}, not {raw.size}")
    raw.check(0, content(handle))


def orders(socket: str, expected: str, raws: Dict[str, Raw]) -> None:
    """Each name is opened and closed once; all orders in which that can
    be, as far as what is open at the same time goes."""
    names = list(raws)
    for opening in itertools.permutations(names):
        for closing in itertools.permutations(names):
            one_order(socket, expected, raws, opening, closing)


def one_order(socket, expected, raws, opening, closing) -> None:
    """Close as soon as what is to be closed next is open."""
    handles: Dict[str, nbd.NBD] = {}
    waiting = list(closing)
    for step, name in enumerate(opening):
        handles[name] = connect(socket, name)
        check(handles[name], raws[name])
        if step == 1 and expected not in dict(listing(socket)):
            raise Mismatch(f"{expected} is not listed")
        while waiting and waiting[0] in handles:
            gone = waiting.pop(0)
            check(handles[gone], raws[gone])
            handles.pop(gone).shutdown()


def main() -> int:
    command, socket, *args = sys.argv[1:]
    if command == "list":
        for name, text in listing(socket):
            print(json.dumps([name, text]))
    elif command == "content":
        handle = connect(socket, args[0])
        sys.stdout.buffer.write(content(handle))
        handle.shutdown()
    elif command == "sizes":
        for name, _ in listing(socket):
            handle = connect(socket, name)
            assert handle.can_meta_context(CONTEXT)
            print(json.dumps([name, handle.get_size()]))
            handle.shutdown()
    elif command == "orders":
        orders(socket, args[0], {name: Raw(path) for name, path in
                                 (word.split("=") for word in args[1:])})
    else:
        raise SystemExit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
