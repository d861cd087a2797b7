# SPDX-License-Identifier: BSD-3-Clause
"""control_jobs.py SOCKET CONTROL: snapshots that are taken and deleted as
jobs.  Writes of the plugin take a while, so there is time to cancel them; the
disk has many tables, all of them of the disk alone."""

import json
import sys
import threading
import time

import nbd

from qmp_client import QMP

SOCK, CONTROL = sys.argv[1:3]
TAKE = "blockdev-snapshot-internal-sync"
DELETE = "blockdev-snapshot-delete-internal-sync"


def names(qmp):
    return [s["name"] for s in qmp.ok("x-q2-query-snapshots", device="")]


def look(qmp, ident):
    return [j for j in qmp.ok("query-jobs") if j["id"] == ident][0]


def wait(qmp, ident):
    """Returns the job, and how far it was seen to be."""
    seen = set()
    while True:
        job = look(qmp, ident)
        seen.add(job["current-progress"])
        if job["status"] == "concluded":
            qmp.ok("job-dismiss", id=ident)
            return job, seen
        time.sleep(0.002)


def until_begun(qmp, ident):
    while True:
        job = look(qmp, ident)
        assert job["status"] != "concluded", job
        if job["current-progress"] > 0:
            return
        time.sleep(0.001)


def statuses(listener, ident):
    """Of a job that has been dismissed."""
    found = []
    while not found or found[-1] != "null":
        event = listener.read_event()
        if event["event"] == "JOB_STATUS_CHANGE" and \
                event["data"]["id"] == ident:
            found.append(event["data"]["status"])
    return found


def take_and_delete(qmp, listener):
    assert qmp.ok(TAKE, device="", name="a", **{"job-id": "t1"}) == \
        {"id": "t1"}
    # Others go on, and the name of a job is its own.
    assert "already in use" in qmp.fails(TAKE, device="", name="b",
                                         **{"job-id": "t1"})
    qmp.ok("x-q2-flush", device="")
    job, seen = wait(qmp, "t1")
    assert "error" not in job and job["type"] == TAKE, job
    assert len(seen) > 2, f"no progress is shown: {seen}"
    assert statuses(listener, "t1") == \
        ["created", "running", "concluded", "null"]
    assert names(qmp) == ["a"]
    qmp.ok(TAKE, device="", name="a", **{"job-id": "t2"})
    job, _ = wait(qmp, "t2")
    assert "already" in job["error"] or "exists" in job["error"], job
    assert statuses(listener, "t2") == \
        ["created", "running", "aborting", "concluded", "null"]
    qmp.ok(DELETE, device="", name="a", **{"job-id": "d1"})
    job, _ = wait(qmp, "d1")
    assert "error" not in job, job
    assert names(qmp) == []
    qmp.ok(DELETE, device="", name="a", **{"job-id": "d2"})
    job, _ = wait(qmp, "d2")
    assert "no snapshot" in job["error"], job


def cancel_taking(qmp, listener, disk):
    """It is undone, while a client writes."""
    stop = threading.Event()
    errors = []

    def write():
        try:
            h = nbd.NBD()
            h.connect_unix(SOCK)
            n = 0
            while not stop.is_set():
                at = n * 40961 % (len(disk) // 512) * 512
                data = bytes([n % 251 + 1]) * 512
                h.pwrite(data, at)
                disk[at:at + 512] = data
                n += 1
            h.shutdown()
        except Exception as e:          # pylint: disable=broad-except
            errors.append(repr(e))

    t = threading.Thread(target=write)
    t.start()
    for i in range(3):
        ident = f"c{i}"
        qmp.ok(TAKE, device="", name="c", **{"job-id": ident})
        until_begun(qmp, ident)
        qmp.ok("job-cancel", id=ident)
        job, _ = wait(qmp, ident)
        assert "cancelled" in job["error"], job
        assert statuses(listener, ident) == \
            ["created", "running", "aborting", "concluded", "null"]
        assert names(qmp) == []
    stop.set()
    t.join()
    assert not errors, errors
    h = nbd.NBD()
    h.connect_unix(SOCK)
    assert h.pread(len(disk), 0) == disk
    h.shutdown()


def cancel_deleting(qmp):
    """When it has begun it is too late."""
    qmp.ok(TAKE, device="", name="d")
    qmp.ok(DELETE, device="", name="d", **{"job-id": "d3"})
    until_begun(qmp, "d3")
    assert "cannot be undone" in qmp.fails("job-cancel", id="d3")
    job, _ = wait(qmp, "d3")
    assert "error" not in job, job
    assert names(qmp) == []


def groups(qmp):
    """A transaction, a checkpoint, and what cannot be a job."""
    qmp.ok("x-q2-checkpoint", nodes=[""], snapshot="k1", add="b1",
           **{"job-id": "k1"})
    job, _ = wait(qmp, "k1")
    assert "error" not in job, job
    qmp.ok("transaction", actions=[
        {"type": "block-dirty-bitmap-remove",
         "data": {"node": "", "name": "b1"}},
        {"type": TAKE, "data": {"device": "", "name": "k2"}}],
        **{"job-id": "k2"})
    job, _ = wait(qmp, "k2")
    assert "error" not in job, job
    assert names(qmp) == ["k1", "k2"]
    # A job is in the way of another one that needs the image for itself.
    qmp.ok("x-q2-snapshot-apply", device="", name="k1", **{"job-id": "k3"})
    job, _ = wait(qmp, "k3")
    assert "error" not in job, job
    assert "unexpected" in qmp.fails("block-dirty-bitmap-add", node="",
                                     name="x", persistent=True,
                                     **{"job-id": "k4"})
    assert "unexpected" in qmp.fails("transaction", actions=[
        {"type": TAKE, "data": {"device": "", "name": "k5", "job-id": "x"}}])
    assert "expected: string" in qmp.fails(TAKE, device="", name="x",
                                           **{"job-id": 5})
    assert "Invalid job ID" in qmp.fails(TAKE, device="", name="x",
                                         **{"job-id": "1"})
    qmp.ok(TAKE, name="x", **{"job-id": "k6"})
    job, _ = wait(qmp, "k6")
    assert "'device' is missing" in job["error"], job
    qmp.ok(DELETE, device="", name="k1")
    qmp.ok(DELETE, device="", name="k2")


def main():
    qmp, listener = QMP(CONTROL), QMP(CONTROL)
    # Who is connected keeps the image open.
    h = nbd.NBD()
    h.connect_unix(SOCK)
    disk = bytearray(h.pread(h.get_size(), 0))
    take_and_delete(qmp, listener)
    cancel_taking(qmp, listener, disk)
    cancel_deleting(qmp)
    h.shutdown()
    groups(qmp)
    assert json.dumps(qmp.ok("query-jobs")) == "[]"


main()
