# SPDX-License-Identifier: BSD-3-Clause
"""control_alone.py SOCKET CONTROL OLD: commands that need an image for
themselves, beside clients.  The image has a disk of 8 MiB, a snapshot s0 of
it, whose bytes are in the file OLD, and a bitmap b, with a bit for 64 KiB,
that is enabled and empty; what differs is [2M, 2M + 128k)."""

import sys
import threading
import time

import nbd

from qmp_client import QMP

SOCK, CONTROL, OLD = sys.argv[1:4]
MIB = 1 << 20
ALONE = "only possible while no client uses the image"
COMMANDS = (("x-q2-snapshot-apply", {"device": "", "name": "s0"}),
            ("block_resize", {"device": "", "size": MIB, "x-q2-shrink": True}),
            ("x-q2-empty", {"device": ""}))


def connect(export="", meta=False):
    h = nbd.NBD()
    h.set_export_name(export)
    if meta:
        h.add_meta_context("base:allocation")
    h.connect_unix(SOCK)
    return h


def bits():
    """The numbers of the granules that the bitmap has."""
    h = connect("bitmap/b", True)
    found = set()

    def note(context, offset, entries, error):
        for length, flags in zip(entries[::2], entries[1::2]):
            if not flags & nbd.STATE_HOLE:
                found.update(range(offset >> 16, offset + length >> 16))
            offset += length

    h.block_status(h.get_size(), 0, note)
    h.shutdown()
    return found


def refuse(name, arguments, replies):
    qmp = QMP(CONTROL)
    replies.append(qmp.command(name, **arguments))
    qmp.close()


def refused():
    """While a client has a part of the image each command is refused, and says
    why, having waited for a while for clients to leave: so all at once."""
    for export in ("", "snapshot/s0", "bitmap/b", "diff/s0.."):
        replies = []
        h = connect(export)
        before = h.pread(4 * MIB, 0)
        threads = [threading.Thread(target=refuse, args=(*c, replies))
                   for c in COMMANDS]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(replies) == len(COMMANDS)
        for reply in replies:
            assert ALONE in reply["error"]["desc"], reply
            assert reply["error"]["x-q2-kind"] == "busy", reply
        assert h.pread(4 * MIB, 0) == before, export
        h.shutdown()


def next_event(listener, name):
    event = listener.read_event()
    assert event["event"] == name, event
    return event["data"]


def apply_meanwhile(qmp, listener, old):
    """Clients come and go while snapshots are applied: each finds one of the
    two disks, whole, and writes to it."""
    errors, stop = [], threading.Event()

    def guest():
        try:
            while not stop.is_set():
                h = connect()
                disk = h.pread(8 * MIB, 0)
                changed = bytearray(old)
                changed[5 * MIB:5 * MIB + 65536] = b"w" * 65536
                assert disk in (old, bytes(changed)), "neither disk"
                h.pwrite(b"w" * 65536, 5 * MIB)
                h.flush()
                assert h.pread(65536, 5 * MIB) == b"w" * 65536
                h.shutdown()
                time.sleep(0.01)
        except Exception as e:          # pylint: disable=broad-except
            errors.append(repr(e))

    t = threading.Thread(target=guest)
    t.start()
    done = busy = 0
    until = time.time() + 20
    while done < 5 and time.time() < until and not errors:
        reply = qmp.command("x-q2-snapshot-apply", device="", id="1")
        if "return" in reply:
            done += 1
            assert next_event(listener, "X_Q2_SNAPSHOT_APPLIED") == \
                {"device": "", "name": "s0", "id": "1"}
        else:
            busy += 1
            assert ALONE in reply["error"]["desc"], reply
    stop.set()
    t.join()
    assert not errors, errors
    assert done > 0
    print(f"applied {done} times beside a client, refused {busy} times")
    assert qmp.ok("x-q2-snapshot-apply", device="", name="s0")["name"] == "s0"
    next_event(listener, "X_Q2_SNAPSHOT_APPLIED")


def main():
    qmp, listener = QMP(CONTROL), QMP(CONTROL)
    with open(OLD, "rb") as f:
        old = f.read()
    assert "the name or the id" in qmp.fails("x-q2-snapshot-apply", device="")
    # An empty one is the name of no snapshot here, not of any.
    for which in ("name", "id"):
        assert "there is no snapshot" in qmp.fails(
            "x-q2-snapshot-apply", device="", **{which: ""})
    assert "the name or the id" in qmp.fails("x-q2-snapshot-apply", device="",
                                             id="1", name="s0")
    if "quick" not in sys.argv:
        refused()
    reply = qmp.command("x-q2-snapshot-apply", device="", name="s1")
    assert reply["error"]["x-q2-kind"] == "name", reply
    # A bitmap that is kept up in memory when the disk changes under it.
    h = connect()
    h.pwrite(b"x" * 65536, 7 * MIB)
    h.shutdown()
    qmp.ok("x-q2-snapshot-apply", device="", name="s0")
    next_event(listener, "X_Q2_SNAPSHOT_APPLIED")
    assert bits() == {32, 33, 7 * 16}, bits()
    h = connect()
    assert h.pread(8 * MIB, 0) == old
    h.shutdown()
    apply_meanwhile(qmp, listener, old)
    assert bits() == {32, 33, 7 * 16, 5 * 16}, bits()
    h = connect()
    assert h.pread(8 * MIB, 0) == old
    h.shutdown()

    assert "'x-q2-shrink'" in qmp.fails("block_resize", device="", size=MIB,
                                        **{"x-q2-shrink": 1})
    assert "x-q2-shrink" in qmp.fails("block_resize", device="", size=6 * MIB)
    qmp.ok("block_resize", device="", size=6 * MIB + 1,
           **{"x-q2-shrink": True})
    assert next_event(listener, "X_Q2_RESIZED") == \
        {"device": "", "size": 6 * MIB + 512}
    h = connect()
    assert h.get_size() == 6 * MIB + 512
    assert h.pread(6 * MIB, 0) == old[:6 * MIB]
    h.shutdown()
    assert bits() == {32, 33, 5 * 16}, bits()
    # The other way it is what it is without the flag.
    qmp.ok("block_resize", device="", size=7 * MIB, **{"x-q2-shrink": True})
    next_event(listener, "X_Q2_RESIZED")
    # The snapshot is larger: the disk has its size then.
    qmp.ok("x-q2-snapshot-apply", device="", name="s0")
    next_event(listener, "X_Q2_SNAPSHOT_APPLIED")
    h = connect()
    assert h.pread(8 * MIB, 0) == old
    h.shutdown()
    assert bits() >= set(range(7 * 16, 8 * 16)) | {32, 33, 5 * 16}, bits()

    qmp.ok("block-dirty-bitmap-remove", node="", name="b")
    next_event(listener, "X_Q2_BITMAPS_CHANGED")
    qmp.ok("x-q2-empty", device="")
    assert next_event(listener, "X_Q2_EMPTIED") == {"device": ""}
    h = connect()
    assert h.pread(8 * MIB, 0) == bytes(8 * MIB)
    h.pwrite(b"n" * 4096, 0)
    h.shutdown()
    qmp.ok("x-q2-snapshot-apply", device="", name="s0")
    h = connect()
    assert h.pread(8 * MIB, 0) == old
    h.shutdown()


main()
