# SPDX-License-Identifier: BSD-3-Clause
"""The server is killed while a command changes an image that it has for
itself.

    control_alone_kill.py run SOCKET CONTROL SEED PID VERB FOLDER
    control_alone_kill.py judge FOLDER RAW BITS

"run" writes to the disk, and keeps what it is then in FOLDER/written; begins
the command and kills the server.  "judge" looks at what is left: RAW is the
disk, and BITS what "qcow2ctl --output json map --bitmap" says, or "none".
FOLDER/first is the disk when the bitmap began, FOLDER/target the snapshot."""

import json
import os
import random
import signal
import sys
import threading
import time

import nbd

from qmp_client import QMP

MIB = 1 << 20
GRANULE = 65536
SMALL = 5 * MIB
COMMANDS = {
    "apply": ("x-q2-snapshot-apply", {"device": "", "name": "s0"}),
    "shrink": ("block_resize",
               {"device": "", "size": SMALL, "x-q2-shrink": True}),
    "empty": ("x-q2-empty", {"device": ""}),
}


def load(folder, name):
    with open(os.path.join(folder, name), "rb") as f:
        return f.read()


def run(sock, control, seed, pid, verb, folder):
    rng = random.Random(int(seed))
    disk = bytearray(load(folder, "first"))
    h = nbd.NBD()
    h.connect_unix(sock)
    for _ in range(8):
        at = rng.randrange(len(disk) // 4096) * 4096
        data = rng.randbytes(min(rng.choice([4096, 65536]), len(disk) - at))
        h.pwrite(data, at)
        disk[at:at + len(data)] = data
    h.flush()
    h.shutdown()
    with open(os.path.join(folder, "written"), "wb") as f:
        f.write(disk)
    qmp = QMP(control)
    name, arguments = COMMANDS[verb]
    done = []

    def send():
        try:
            done.append(qmp.command(name, **arguments))
        except (EOFError, OSError):
            pass

    t = threading.Thread(target=send)
    t.start()
    time.sleep(rng.random() ** 2 * 0.4)
    os.kill(int(pid), signal.SIGKILL)
    t.join()
    for reply in done:
        assert "return" in reply, reply
    with open(os.path.join(folder, "known"), "w", encoding="ascii") as f:
        json.dump({"verb": verb, "done": bool(done)}, f)


def marked(path):
    with open(path, encoding="utf-8") as f:
        found = set()
        for e in json.load(f):
            if e["present"]:
                found.update(range(e["start"] // GRANULE,
                                   -(-(e["start"] + e["length"]) // GRANULE)))
        return found


def judge(folder, raw, bits):
    with open(os.path.join(folder, "known"), encoding="ascii") as f:
        known = json.load(f)
    written, first = load(folder, "written"), load(folder, "first")
    new = {"apply": load(folder, "target"), "shrink": written[:SMALL],
           "empty": bytes(len(first))}[known["verb"]]
    disk = load("", raw)
    assert disk in (written, new), "neither the old disk nor the new one"
    assert disk == new or not known["done"], "the old one, although it was done"
    if bits != "none":
        lost = {g for g in range(-(-len(disk) // GRANULE))
                if disk[g * GRANULE:(g + 1) * GRANULE] !=
                first[g * GRANULE:(g + 1) * GRANULE][:len(disk) - g * GRANULE]
                } - marked(bits)
        assert not lost, f"the bitmap lacks {sorted(lost)}"
    print("new" if disk == new else "old")


{"run": run, "judge": judge}[sys.argv[1]](*sys.argv[2:])
