#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Clients that want much at once.

budget_client.py exports SOCKET N NAME   connections to N exports, all open at
                                         the same time; %d in NAME is 0 to N-1,
                                         %e one more.  Prints how many of them
                                         could be opened
budget_client.py lists SOCKET N          N clients ask for the list at once.
                                         Prints how long they were
"""

import sys
import threading
from typing import List

import nbd


def exports(socket: str, count: int, name: str) -> None:
    handles = []
    for i in range(count):
        handle = nbd.NBD()
        handle.set_export_name(name.replace("%d", str(i))
                               .replace("%e", str(i + 1)))
        try:
            handle.connect_unix(socket)
        except nbd.Error as error:
            print(error, file=sys.stderr)
            continue
        handle.pread(512, 0)
        handles.append(handle)
    print(len(handles))
    for handle in handles:
        handle.shutdown()


def lists(socket: str, count: int) -> None:
    lengths: List[int] = []

    def one() -> None:
        found: List[str] = []
        handle = nbd.NBD()
        handle.set_opt_mode(True)
        handle.connect_unix(socket)
        handle.opt_list(lambda name, _: found.append(name) or 0)
        handle.opt_abort()
        lengths.append(len(found))

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(lengths) != count:
        sys.exit(f"{count - len(lengths)} of {count} clients got no list")
    print(min(lengths))


def main() -> None:
    command, socket, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if command == "exports":
        exports(socket, count, sys.argv[4])
    else:
        lists(socket, count)


if __name__ == "__main__":
    main()
