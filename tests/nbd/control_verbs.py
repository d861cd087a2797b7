# SPDX-License-Identifier: BSD-3-Clause
"""control_verbs.py NBDSOCKET CONTROL: snapshots of a disk that is in use.

The disk has 8 MiB; it must have no snapshots, and has none afterwards.
"""

import subprocess
import sys
import threading

import nbd
from qmp_client import QMP

sock, control = sys.argv[1:]
TAKE = "blockdev-snapshot-internal-sync"
DELETE = "blockdev-snapshot-delete-internal-sync"


def connect(export=""):
    handle = nbd.NBD()
    handle.set_export_name(export)
    handle.connect_unix(sock)
    return handle


def exports():
    text = subprocess.run(["nbdinfo", "--list", "--no-content",
                           f"nbd+unix:///?socket={sock}"], check=True,
                          capture_output=True, text=True).stdout
    return {line.split('"')[1] for line in text.splitlines()
            if line.startswith('export="')}


def names():
    return [s["name"] for s in qmp.ok("x-q2-query-snapshots", device="")]


def expect(what, result):
    if not result:
        raise SystemExit(f"{what}: no")


qmp = QMP(control)
listener = QMP(control)
disk = connect()
disk.pwrite(b"1" * 65536, 0)

expect("no arguments", qmp.fails(TAKE) == "Parameter 'device' is missing")
expect("no name", qmp.fails(TAKE, device="") == "Parameter 'name' is missing")
expect("an empty name", "empty" in qmp.fails(TAKE, device="", name=""))
expect("neither name nor id", "must be" in qmp.fails(DELETE, device=""))
expect("a name that is not there",
       "no snapshot" in qmp.fails(DELETE, device="", name="one"))

qmp.ok(TAKE, device="", name="one")
event = listener.read_event()
expect("an event", event["event"] == "X_Q2_SNAPSHOT_CREATED" and
       event["data"] == {"device": "", "name": "one"} and
       event["timestamp"]["seconds"] > 1000000000)
disk.pwrite(b"2" * 65536, 0)
expect("it is listed", names() == ["one"])
expect("it is an export", {"", "snapshot/one"} <= exports())
view = connect("snapshot/one")
expect("its content", view.pread(65536, 0) == b"1" * 65536)
expect("the disk's content", disk.pread(65536, 0) == b"2" * 65536)
expect("the same name again",
       "already" in qmp.fails(TAKE, device="", name="one"))
expect("deleting while it is open",
       "is open; try again when" in qmp.fails(DELETE, device="", name="one"))
expect("it is still there", view.pread(65536, 0) == b"1" * 65536)

qmp.ok(TAKE, device="", name="two, \u00e4 \U0001f600")
disk.pwrite(b"3" * 65536, 1 << 20)
expect("a second one, while a view is open",
       view.pread(65536, 0) == b"1" * 65536)
expect("both are exports", {"snapshot/one", "snapshot/two, \u00e4 \U0001f600"}
       <= exports())
diff = connect("diff/one..two, \u00e4 \U0001f600")
expect("a difference", diff.pread(65536, 0) == b"2" * 65536)
diff.shutdown()
expect("the name of one and the id of another", "no snapshot" in
       qmp.fails(DELETE, device="", name="one", id="2"))
# Somebody who is about to leave, or has left a moment ago, is waited for.
threading.Timer(0.7, view.shutdown).start()
gone = qmp.ok(DELETE, device="", name="one", id="1")
expect("what was deleted is told", gone["name"] == "one" and gone["id"] == "1"
       and gone["nbdkit-qcow2"]["disk-size"] == 8 << 20)
listener.read_event()
event = listener.read_event()
expect("an event of that", event["event"] == "X_Q2_SNAPSHOT_DELETED" and
       event["data"] == {"device": "", "name": "one", "id": "1"})
expect("it is gone", len(names()) == 1 and "snapshot/one" not in exports())
try:
    connect("snapshot/one")
    raise SystemExit("it can still be opened")
except nbd.Error:
    pass

# The server has kept the view, which must not be what the name means now.
qmp.ok(TAKE, device="", name="one")
view = connect("snapshot/one")
expect("a new one of that name", view.pread(65536, 0) == b"2" * 65536)
view.shutdown()
qmp.ok(DELETE, device="", name="one")
disk.pwrite(b"4" * 65536, 0)
qmp.ok(TAKE, device="", name="one")
view = connect("snapshot/one")
expect("and another", view.pread(65536, 0) == b"4" * 65536)
view.shutdown()
qmp.ok(DELETE, device="", name="one")
qmp.ok(DELETE, device="", id="2")
expect("none is left", names() == [])
expect("the disk", disk.pread(65536, 0) == b"4" * 65536 and
       disk.pread(65536, 1 << 20) == b"3" * 65536)
disk.shutdown()

# With nobody connected, too.
qmp.ok(TAKE, device="", name="alone")
view = connect("snapshot/alone")
expect("alone", view.pread(65536, 0) == b"4" * 65536)
view.shutdown()
qmp.ok(DELETE, device="", name="alone")
