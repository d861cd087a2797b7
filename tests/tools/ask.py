#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""How a command asks for a passphrase: ask.py PASSPHRASE COMMAND...

On a terminal of its own, where a person types the passphrase, or only ends
the input.  Every wait ends with an error after LIMIT seconds."""

import os
import pty
import select
import sys
import time

LIMIT = 90
PROMPT = b"passphrase: "
CTRL_D = b"\x04"


def typed(keys: bytes) -> "tuple[bytes, int]":
    """All that was shown, and the exit status."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp(sys.argv[2], sys.argv[2:])
    shown = b""
    end = time.monotonic() + LIMIT
    waiting = True
    while time.monotonic() < end:
        if not select.select([fd], [], [], 0.1)[0]:
            continue
        try:
            data = os.read(fd, 65536)
        except OSError:         # it has ended
            break
        shown += data
        if waiting and PROMPT in shown:
            os.write(fd, keys)
            waiting = False
    else:
        sys.exit(f"FAIL: no end after {shown!r}")
    return shown, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    secret = sys.argv[1].encode()
    shown, status = typed(secret + b"\n")
    assert status == 0, (shown, status)
    assert shown.startswith(PROMPT + b"\r\n"), shown
    assert secret not in shown, shown
    shown, status = typed(CTRL_D)
    assert status != 0, shown
    assert shown.startswith(PROMPT + b"\r\n"), shown
    assert b"nothing was typed in" in shown, shown


main()
