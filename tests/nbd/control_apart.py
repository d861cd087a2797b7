# SPDX-License-Identifier: BSD-3-Clause
"""control_apart.py WHAT SOCKET CONTROL TRIGGER|PID [PERCENT]: a snapshot, s0, that is
applied slowly, and what happens meanwhile.  The first half of its progress is
before the switch, the rest after it."""

import os
import signal
import sys
import threading
import time

import nbd

from qmp_client import QMP

WHAT, SOCK, CONTROL, ARGUMENT, *PERCENT = sys.argv[1:]
APPLY = "x-q2-snapshot-apply"
JOB = {"job-id": "j"}


def look(qmp):
    return [j for j in qmp.ok("query-jobs") if j["id"] == "j"][0]


def begin(qmp, percent):
    """Returns when more than that is done."""
    assert qmp.ok(APPLY, device="", name="s0", **JOB) == {"id": "j"}
    while True:
        job = look(qmp)
        assert job["status"] != "concluded", job
        if job["current-progress"] > percent:
            return
        time.sleep(0.001)


def wait(qmp):
    while True:
        job = look(qmp)
        if job["status"] == "concluded":
            return job
        time.sleep(0.01)


def applied(listener):
    """Whether that was told, before the job was said to have concluded."""
    found = False
    while True:
        event = listener.read_event()
        found |= event["event"] == "X_Q2_SNAPSHOT_APPLIED"
        if event["event"] == "JOB_STATUS_CHANGE" and \
                event["data"]["status"] == "concluded":
            return found


def others(qmp, listener):
    """They are told that the image is busy, each at once: who waited would
    fill the places of the socket."""
    begin(qmp, 0)
    for name, arguments in (
            ("x-q2-query-snapshots", {"device": ""}),
            ("x-q2-query-bitmaps", {"device": ""}),
            ("x-q2-flush", {"device": ""}),
            (APPLY, {"device": "", "name": "s0"}),
            ("block_resize", {"device": "", "size": 8 << 20}),
            ("block-dirty-bitmap-add", {"node": "", "name": "b",
                                        "persistent": True}),
            ("x-q2-check", {"node": ""})):
        other = QMP(CONTROL)
        reply = other.command(name, **arguments)
        assert "for itself" in reply["error"]["desc"], reply
        assert reply["error"]["x-q2-kind"] == "busy", reply
        other.close()
        assert look(qmp)["status"] == "running"
    qmp.ok("job-cancel", id="j")
    assert "was cancelled" in wait(qmp)["error"]
    assert not applied(listener)


def cancel(qmp, listener):
    """Before the switch.  Nothing is left of it."""
    begin(qmp, 10)
    qmp.ok("job-cancel", id="j")
    assert "as before" in wait(qmp)["error"]
    assert not applied(listener)


def late(qmp, listener):
    """After the switch it is too late, and that is said."""
    begin(qmp, 60)
    assert "cannot be undone" in qmp.fails("job-cancel", id="j")
    assert "error" not in wait(qmp)
    assert applied(listener)


def fails(qmp, listener):
    """After the switch: the disk is the snapshot's all the same."""
    begin(qmp, 60)
    with open(ARGUMENT, "w", encoding="ascii"):
        pass
    job = wait(qmp)
    assert "the snapshot is applied, but" in job["error"], job
    assert applied(listener)
    # Also in the log, where it is read if nobody looks at the job.
    os.unlink(ARGUMENT)
    h = nbd.NBD()
    h.connect_unix(SOCK)
    assert h.pread(4 << 20, 0) == b"\5" * (4 << 20)
    h.shutdown()


def stop(qmp, _):
    """A client waits for the image, and nbdkit waits for the client."""
    def choose():
        try:
            h.opt_go()
            h.shutdown()
        except nbd.Error:
            pass                # the server may end first

    begin(qmp, int(PERCENT[0]))
    h = nbd.NBD()
    h.set_opt_mode(True)
    h.connect_unix(SOCK)        # from here on nbdkit waits for it
    client = threading.Thread(target=choose)
    client.start()
    time.sleep(0.5)             # nothing tells when it waits for the image
    assert client.is_alive()
    os.kill(int(ARGUMENT), signal.SIGTERM)
    client.join()


def main():
    qmp, listener = QMP(CONTROL), QMP(CONTROL)
    {"others": others, "cancel": cancel, "late": late, "fails": fails,
     "stop": stop}[WHAT](qmp, listener)


main()
