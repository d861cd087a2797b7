#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A client that leaves in mid-copy: leave.py URI.

It asks for much at once, takes the first bytes of what comes, and goes
without a word, on several connections at a time."""

import socket
import sys
import threading

import nbd

REQUESTS = 24
LENGTH = 2 << 20


def leave(uri: str) -> None:
    handle = nbd.NBD()
    handle.connect_uri(uri)
    buffers = [nbd.Buffer(LENGTH) for _ in range(REQUESTS)]
    for i, buffer in enumerate(buffers):
        handle.aio_pread(buffer, (i * LENGTH) % (32 << 20))
    # Requests go out, and the first answers begin to come in.
    while handle.aio_in_flight() and handle.poll(100) > 0:
        if handle.aio_peek_command_completed() > 0:
            break
    sock = socket.socket(fileno=handle.aio_get_fd())
    sock.shutdown(socket.SHUT_RDWR)
    sock.detach()


def main() -> None:
    threads = [threading.Thread(target=leave, args=(sys.argv[1],))
               for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
