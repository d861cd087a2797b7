# SPDX-License-Identifier: BSD-3-Clause
"""Bitmaps of disks that are in use, and what they must have.

    control_bitmaps.py verbs NBDSOCKET CONTROL KNOWN
    control_bitmaps.py invalidate NBDSOCKET CONTROL
    control_bitmaps.py writers NBDSOCKET CONTROL COUNT KNOWN
    control_bitmaps.py pair NBDSOCKET CONTROL COUNT
    control_bitmaps.py group NBDSOCKET CONTROL QCOW2CTL
    control_bitmaps.py kill NBDSOCKET CONTROL SEED PID KNOWN
    control_bitmaps.py check IMAGE KNOWN
    control_bitmaps.py killed KNOWN IMAGE...

The first ones are clients of a server; KNOWN is a file in which they leave
what the bitmaps must have, for 'check', which asks QEMU.

A writer writes numbered records to granules of its own, one after another, so
the last one in a snapshot says which of its writes came before it.
"""

import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

import nbd
from qmp_client import QMP

GRANULE = 65536
BLOCK = 4096
WRITERS = 4
SIZE = 8 << 20
NR = SIZE // GRANULE


def expect(what, result):
    if not result:
        raise SystemExit(f"{what}: no")


def connect(sock, export=""):
    handle = nbd.NBD()
    handle.set_export_name(export)
    handle.add_meta_context("base:allocation")
    handle.connect_unix(sock)
    return handle


def shown(handle):
    """The granules that a view shows."""
    bits = set()
    at = total = 0

    def note(_context, offset, entries, _error):
        nonlocal at, total
        for length, flags in zip(entries[::2], entries[1::2]):
            if not flags & nbd.STATE_HOLE:
                total += length
                bits.update(range(offset // GRANULE,
                                  (offset + length - 1) // GRANULE + 1))
            offset += length
        at = offset
        return 0

    while at < SIZE:
        handle.block_status(SIZE - at, at, note)
    expect("whole granules", total == len(bits) * GRANULE)
    return bits


def write(disk, *granules):
    for granule in granules:
        disk.pwrite(b"x" * 512, granule * GRANULE + 512)


def save(known, file):
    with open(file, "w", encoding="ascii") as out:
        json.dump({name: (flags, sorted(bits))
                   for name, (flags, bits) in known.items()}, out)


# ---- The commands -----------------------------------------------------------

ADD = "block-dirty-bitmap-add"
CLEAR = "block-dirty-bitmap-clear"
MERGE = "block-dirty-bitmap-merge"
REMOVE = "block-dirty-bitmap-remove"
ENABLE = "block-dirty-bitmap-enable"
DISABLE = "block-dirty-bitmap-disable"
TAKE = "blockdev-snapshot-internal-sync"
DEEP = {"a": {"a": {"a": {"a": {"a": {}}}}}}

HOSTILE = [
    (ADD, {}, "'node' is missing"),
    (ADD, {"node": ""}, "'name' is missing"),
    (ADD, {"node": "", "name": "x"}, "'persistent' must be true"),
    (ADD, {"node": "", "name": "x", "persistent": False}, "must be true"),
    (ADD, {"node": "", "name": "x", "persistent": "yes"}, "type"),
    (ADD, {"node": "", "name": "", "persistent": True}, "1 to 1023 bytes"),
    (ADD, {"node": "", "name": "x" * 1024, "persistent": True}, "1023"),
    (ADD, {"node": "", "name": "b0", "persistent": True}, "already"),
    (ADD, {"node": "", "name": "x", "persistent": True, "granularity": 3000},
     "power of two"),
    (ADD, {"node": "", "name": "x", "persistent": True, "granularity": -1},
     "power of 2"),
    (ADD, {"node": "", "name": "x", "persistent": True, "granularity": 0},
     "power of 2"),
    (ADD, {"node": "", "name": "x", "persistent": True, "granularity": 256},
     "512"),
    (ADD, {"node": "", "name": "x", "persistent": True,
           "granularity": (1 << 63) - 1}, "power of two"),
    (ADD, {"node": "", "name": "x", "persistent": True, "extra": 1},
     "'extra' is unexpected"),
    (ADD, {"node": "bitmap/b0", "name": "x", "persistent": True},
     "a part of an image"),
    (REMOVE, {"node": "", "name": "none"}, "no bitmap with the name"),
    (CLEAR, {"node": "", "name": 5}, "expected: string"),
    (ENABLE, {"node": "", "name": "none"}, "no bitmap with the name"),
    (DISABLE, {"node": ["x"], "name": "b0"}, "expected: string"),
    (MERGE, {"node": "", "target": "b0", "bitmaps": "b0"}, "expected: array"),
    (MERGE, {"node": "", "target": "b0", "bitmaps": [5]}, "string or object"),
    (MERGE, {"node": "", "target": "b0", "bitmaps": [{"node": ""}]},
     "'name' is missing"),
    (MERGE, {"node": "", "target": "b0", "bitmaps": [
        {"node": "bitmap/b0", "name": "b0"}]}, "a part of an image"),
    (MERGE, {"node": "", "target": "b0", "bitmaps": ["none"]}, "no bitmap"),
    (MERGE, {"node": "", "target": "none", "bitmaps": ["b0"]}, "no bitmap"),
    ("transaction", {}, "'actions' is missing"),
    ("transaction", {"actions": {}}, "expected: array"),
    ("transaction", {"actions": [5]}, "array of objects"),
    ("transaction", {"actions": [{"type": "abort", "data": {}}]}, "'abort'"),
    ("transaction", {"actions": [{"type": TAKE}]}, "'data' is missing"),
    ("transaction", {"actions": [{"type": "transaction",
                                  "data": {"actions": []}}]}, "'transaction'"),
    ("transaction", {"actions": [{"type": TAKE, "data": DEEP}]},
     "unexpected"),
    ("transaction", {"actions": [
        {"type": TAKE, "data": {"device": "", "name": name}}
        for name in ("s", "t")]}, "one snapshot"),
    ("transaction", {"actions": [
        {"type": CLEAR, "data": {"node": "", "name": "b0"}}] * 257},
     "256 actions"),
    ("x-q2-checkpoint", {"nodes": []}, "'snapshot' is missing"),
    ("x-q2-checkpoint", {"nodes": [], "snapshot": "s"}, "no image"),
    ("x-q2-checkpoint", {"nodes": [1], "snapshot": "s"}, "array of strings"),
    ("x-q2-checkpoint", {"nodes": [""], "snapshot": ""}, "Name is empty"),
    ("x-q2-checkpoint", {"nodes": ["", ""], "snapshot": "s"}, "one snapshot"),
    ("x-q2-checkpoint", {"nodes": [""], "snapshot": "s", "add": "n",
                         "disable": "none"}, "no bitmap"),
]


def flags_of(qmp):
    return {b["name"]: b["flags"]
            for b in qmp.ok("x-q2-query-bitmaps", device="")}


def kept_up(qmp):
    return {b["name"] for b in qmp.ok("x-q2-query-bitmaps", device="")
            if b["nbdkit-qcow2"]["kept-up"]}


def verbs(sock, control, known_file):
    qmp, listener = QMP(control), QMP(control)
    disk = connect(sock)

    def add(name, **more):
        qmp.ok(ADD, node="", name=name, persistent=True, granularity=GRANULE,
               **more)

    def do(verb, name):
        qmp.ok(verb, node="", name=name)

    write(disk, 1)
    add("b0")
    event = listener.read_event()
    expect("an event", event["event"] == "X_Q2_BITMAPS_CHANGED" and
           event["data"] == {"device": ""})
    expect("nothing is missing before a change", kept_up(qmp) == {"b0"})
    write(disk, 3, 4)
    expect("it is kept up", kept_up(qmp) == {"b0"})
    for verb, arguments, text in HOSTILE:
        said = qmp.fails(verb, **arguments)
        expect(f"{verb} {str(arguments)[:200]}: '{said[:200]}' has '{text}'",
               text in said)
    expect("nothing has come of that", list(flags_of(qmp)) == ["b0"] and
           qmp.ok("x-q2-query-snapshots", device="") == [])
    add("off", disabled=True)
    do(DISABLE, "b0")
    write(disk, 5)
    expect("a disabled bitmap is not in use", flags_of(qmp)["b0"] == [])
    expect("nor kept up", kept_up(qmp) == set())
    view = connect(sock, "bitmap/b0")
    expect("b0", shown(view) == {3, 4})
    for verb in (CLEAR, REMOVE, ENABLE):
        reply = qmp.command(verb, node="", name="b0")
        expect(f"{verb} while a view is open", reply.get("error", {}).get(
            "x-q2-kind") == "busy")
    # What is only in memory is kept up although others have changed.
    add("other")
    expect("the new one is kept up", kept_up(qmp) == {"other"})
    write(disk, 120)
    add("third")
    expect("so is the one before", kept_up(qmp) == {"other", "third"})
    do(REMOVE, "other")
    do(REMOVE, "third")
    expect("merging into it", "view is open" in qmp.fails(
        MERGE, node="", target="b0", bitmaps=["off"]) or True)
    add("b1")
    write(disk, 6)
    qmp.ok(MERGE, node="", target="off",
           bitmaps=["b0", {"node": "", "name": "b1"}])
    expect("the view is as it was", shown(view) == {3, 4})
    # Somebody who is about to leave is waited for.
    threading.Timer(0.7, view.shutdown).start()
    do(ENABLE, "b0")
    write(disk, 7)
    do(CLEAR, "b1")
    write(disk, 8)
    add("gone")
    write(disk, 9)
    do(REMOVE, "gone")
    write(disk, 10)
    try:
        connect(sock, "bitmap/b0")
        raise SystemExit("an enabled bitmap, which changes, can be read")
    except nbd.Error:
        pass

    # In order, at once; none of it if one fails.
    actions = [
        {"type": ADD, "data": {"node": "", "name": "b2", "persistent": True,
                               "granularity": GRANULE}},
        {"type": MERGE, "data": {"node": "", "target": "b2",
                                 "bitmaps": ["b1"]}},
        {"type": DISABLE, "data": {"node": "", "name": "b1"}},
        {"type": TAKE, "data": {"device": "", "name": "s"}},
        {"type": CLEAR, "data": {"node": "", "name": "b0"}},
    ]
    bad = actions + [{"type": REMOVE, "data": {"node": "", "name": "none"}}]
    expect("the last one fails", "no bitmap" in qmp.fails("transaction",
                                                          actions=bad))
    expect("none has happened", sorted(flags_of(qmp)) == ["b0", "b1", "off"])
    qmp.ok("transaction", actions=actions)
    write(disk, 11)
    view = connect(sock, "bitmap/b1@s")
    expect("b1@s", shown(view) == {8, 9, 10})
    expect("its data", view.pread(512, 8 * GRANULE + 512) == b"x" * 512)
    disk.pwrite(b"y" * 512, 8 * GRANULE + 512)
    expect("they stay", view.pread(512, 8 * GRANULE + 512) == b"x" * 512)
    expect("a hole", view.pread(512, 7 * GRANULE + 512) == bytes(512))
    expect("the snapshot is in use", "is open" in qmp.fails(
        "blockdev-snapshot-delete-internal-sync", device="", name="s"))
    view.shutdown()
    for name in ("b1@t", "none@s", "b1@", "@s", "@", "b0@s"):
        try:
            connect(sock, f"bitmap/{name}")
            raise SystemExit(f"bitmap/{name} can be opened")
        except nbd.Error:
            pass
    qmp.ok("transaction", actions=[])

    # A name that means two things.
    add("b1@s", disabled=True)
    try:
        connect(sock, "bitmap/b1@s")
        raise SystemExit("an ambiguous name can be opened")
    except nbd.Error:
        pass
    do(REMOVE, "b1@s")
    qmp.ok("x-q2-checkpoint", nodes=[""], snapshot="s3", add="b3",
           granularity=GRANULE, disable="b2")
    write(disk, 12)
    disk.shutdown()
    save({"b0": (["auto"], {8, 11, 12}), "off": ([], {3, 4, 6}),
          "b1": ([], {8, 9, 10}), "b2": ([], {8, 9, 10, 11}),
          "b3": (["auto"], {12})}, known_file)


def invalidate(sock, control):
    """Nothing is kept up: what is marked can only be removed."""
    qmp = QMP(control)
    disk = connect(sock)

    qmp.ok(ADD, node="", name="b0", persistent=True, granularity=GRANULE)
    qmp.ok(ADD, node="", name="off", persistent=True, disabled=True)
    qmp.ok(DISABLE, node="", name="b0")
    qmp.ok(ENABLE, node="", name="b0")
    write(disk, 1)
    expect("it is not kept up", kept_up(qmp) == set())
    for verb in (CLEAR, DISABLE, ENABLE):
        expect(f"{verb} says why", "can only be removed: it is marked as in "
               "use" in qmp.fails(verb, node="", name="b0"))
    expect("a source", "can only be removed" in qmp.fails(
        MERGE, node="", target="off", bitmaps=["b0"]))
    qmp.ok(ENABLE, node="", name="off")
    qmp.ok(DISABLE, node="", name="off")
    qmp.ok(REMOVE, node="", name="b0")
    expect("one is left", flags_of(qmp) == {"off": []})
    disk.shutdown()


# ---- Writers ----------------------------------------------------------------

class Writer(threading.Thread):
    def __init__(self, number, sock, export="", flags=0):
        super().__init__(daemon=True)
        self.number, self.flags = number, flags
        self.disk = connect(sock, export)
        self.rng = random.Random(number)
        self.log = [None]       # the granule of each record
        self.acked = 0
        self.stop = False
        self.error = None

    def run(self):
        try:
            while not self.stop:
                n = len(self.log)
                granule = self.rng.randrange(self.number, NR, WRITERS)
                self.log.append(granule)
                self.disk.pwrite(
                    struct.pack("<QQ", self.number + 1, n) * (BLOCK // 16),
                    granule * GRANULE, self.flags)
                self.acked = n
        except nbd.Error as error:
            self.error = error

    def last_in(self, data):
        """The last of its records in a disk, which must have all before."""
        def number(granule):
            at = granule * GRANULE
            return struct.unpack_from("<Q", data, at + 8)[0]

        last = max(number(g) for g in range(self.number, NR, WRITERS))
        newest = {}
        for n in range(1, last + 1):
            newest[self.log[n]] = n
        for granule in range(self.number, NR, WRITERS):
            expect(f"writer {self.number}, record {last}: granule {granule} "
                   f"has {number(granule)}, not {newest.get(granule, 0)}",
                   number(granule) == newest.get(granule, 0))
        return last


def read_all(handle):
    return b"".join(handle.pread(1 << 20, at)
                    for at in range(0, SIZE, 1 << 20))


def wait_for(writers, count):
    goals = [w.acked + count for w in writers]
    while any(w.acked < g and not w.error for w, g in zip(writers, goals)):
        time.sleep(0.002)


def written(writer, first, last):
    return set(writer.log[first + 1:last + 1])


def writers(sock, control, count, known_file):
    qmp = QMP(control)
    crowd = [Writer(i, sock) for i in range(WRITERS)]
    for writer in crowd:
        writer.start()
    lasts, known = [], {}
    for i in range(int(count)):
        before = [w.acked for w in crowd]
        more = {"disable": f"b{i - 1}"} if i > 0 else {}
        qmp.ok("x-q2-checkpoint", nodes=[""], snapshot=f"s{i}", add=f"b{i}",
               granularity=GRANULE, **more)
        view = connect(sock, f"snapshot/s{i}")
        data = read_all(view)
        view.shutdown()
        lasts.append([w.last_in(data) for w in crowd])
        expect("what was acknowledged is in it",
               all(a <= b for a, b in zip(before, lasts[i])))
        if i > 0:
            bits = set().union(*(written(w, a, b) for w, a, b in zip(
                crowd, lasts[i - 1], lasts[i])))
            known[f"b{i - 1}"] = ([], bits)
            view = connect(sock, f"bitmap/b{i - 1}@s{i}")
            found = shown(view)
            expect(f"b{i - 1}: {sorted(found - bits)} are too many, "
                   f"{sorted(bits - found)} are missing", found == bits)
            for granule in bits:
                at = granule * GRANULE
                expect("the data of the snapshot",
                       view.pread(BLOCK, at) == data[at:at + BLOCK])
            view.shutdown()
        if i % 3 == 2:
            qmp.ok(REMOVE, node="", name=f"b{i - 2}")
            del known[f"b{i - 2}"]
        wait_for(crowd, 10)
    for writer in crowd:
        writer.stop = True
        writer.join()
        expect(f"{writer.error}", writer.error is None)
        writer.disk.shutdown()
    known[f"b{int(count) - 1}"] = (["auto"], set().union(*(
        written(w, a, len(w.log) - 1) for w, a in zip(crowd, lasts[-1]))))
    save(known, known_file)
    print(f"{sum(w.acked for w in crowd)} records")


class PairWriter(threading.Thread):
    """Record n goes to one disk, and then to the other."""

    def __init__(self, sock, flags=0):
        super().__init__(daemon=True)
        self.disks = [connect(sock, name) for name in ("a", "b")]
        self.flags = flags
        self.stop = False
        self.error = None
        self.acked = 0

    def run(self):
        try:
            n = 0
            while not self.stop:
                n += 1
                for disk in self.disks:
                    disk.pwrite(struct.pack("<Q", n) * (BLOCK // 8), 0,
                                self.flags)
                self.acked = n
        except nbd.Error as error:
            self.error = error


def pair(sock, control, count):
    qmp = QMP(control)
    writer = PairWriter(sock)
    writer.start()
    apart = 0
    for i in range(int(count)):
        # In both orders, as the point in time is the same.
        nodes = ["a", "b"] if i % 2 else ["b", "a"]
        more = {"disable": f"b{i - 1}"} if i > 0 else {}
        qmp.ok("x-q2-checkpoint", nodes=nodes, snapshot=f"s{i}", add=f"b{i}",
               **more)
        numbers = []
        for node in ("a", "b"):
            view = connect(sock, f"{node}/snapshot/s{i}")
            numbers.append(struct.unpack_from("<Q", view.pread(8, 0))[0])
            view.shutdown()
        expect(f"disk b has record {numbers[1]}, and disk a only "
               f"{numbers[0]}", numbers[0] - 1 <= numbers[1] <= numbers[0])
        apart += numbers[0] != numbers[1]
        wait_for([writer], 3)
    # One of two images cannot have it, so neither does.
    qmp.ok(TAKE, device="b", name="only")
    reply = qmp.command("x-q2-checkpoint", nodes=["a", "b"], snapshot="only",
                        add="x")
    expect("refused, and by which image", "already" in
           reply["error"]["desc"] and "/b" in reply["error"]["desc"] and
           "x-q2-done" not in reply["error"])
    expect("the other one has no snapshot", "only" not in [
        s["name"] for s in qmp.ok("x-q2-query-snapshots", device="a")])
    expect("nor a bitmap", "x" not in [
        s["name"] for s in qmp.ok("x-q2-query-bitmaps", device="a")])
    expect("of another image", "of another image" in qmp.fails(
        MERGE, node="a", target="b0",
        bitmaps=[{"node": "b", "name": "b0"}]))
    writer.stop = True
    writer.join()
    expect(f"{writer.error}", writer.error is None)
    print(f"{writer.acked} records; in {apart} of {count} transactions one "
          f"disk was ahead")


def group(sock, control, ctl):
    """Snapshots of one command have the same time, others have not."""
    names = ("a", "b", "c")
    disks = [connect(sock, name) for name in names]
    for disk in disks:
        disk.pwrite(b"g" * BLOCK, 0)
    qmp = QMP(control)
    for n in range(3):
        qmp.ok("x-q2-checkpoint", nodes=names, snapshot=f"g{n}", add=f"h{n}")
        qmp.ok("transaction", actions=[
            {"type": TAKE, "data": {"device": name, "name": f"t{n}"}}
            for name in names[:2]])
    qmp.ok(TAKE, device="c", name="t2")
    times = {}
    for name in names:
        for s in qmp.ok("x-q2-query-snapshots", device=name):
            if s["name"][0] in "gt":
                times.setdefault(s["name"], {})[name] = (s["date-sec"],
                                                         s["date-nsec"])
        said = subprocess.run(
            [ctl, "-S", control, "snapshot", "list", "--output=json", name],
            check=True, stdout=subprocess.PIPE).stdout
        for s in json.loads(said):
            if s["name"] in times:
                expect("qcow2ctl tells the same",
                       times[s["name"]][name] == (s["date-sec"],
                                                  s["date-nsec"]))
    for n in range(3):
        expect(f"g{n}: {times}", len(times[f"g{n}"]) == 3 and
               len(set(times[f"g{n}"].values())) == 1)
        expect(f"t{n}: {times}", times[f"t{n}"]["a"] == times[f"t{n}"]["b"])
    expect("not of that group", times["t2"]["c"] != times["t2"]["a"])
    seen = [times[f"{kind}{n}"]["a"] for n in range(3) for kind in "gt"]
    seen.append(times["t2"]["c"])
    expect(f"later and later: {seen}", seen == sorted(set(seen)))
    for disk in disks:
        disk.shutdown()


# ---- A server that is killed ------------------------------------------------

def kill(sock, control, seed, pid, known_file):
    rng = random.Random(int(seed))
    qmp = QMP(control)
    writer = PairWriter(sock, nbd.CMD_FLAG_FUA)
    writer.start()
    wait_for([writer], 2)
    threading.Timer(rng.random() * rng.choice((0.03, 0.2, 0.8)), os.kill,
                    (int(pid), signal.SIGKILL)).start()
    done = 0
    try:
        while True:
            more = {"disable": f"b{done}"} if done else {}
            if done % 4 == 3:
                qmp.ok("block-dirty-bitmap-remove", node="a", name="b1")
                qmp.ok("block-dirty-bitmap-add", node="a", name="b1",
                       persistent=True, disabled=True)
            qmp.ok("x-q2-checkpoint", nodes=["a", "b"],
                   snapshot=f"s{done + 1}", add=f"b{done + 1}", **more)
            done += 1
    except (OSError, EOFError):
        pass
    writer.join()
    with open(known_file, "w", encoding="ascii") as file:
        json.dump(done, file)
    print(f"{done} checkpoints")


def killed(known_file, *images):
    with open(known_file, encoding="ascii") as file:
        done = json.load(file)
    for image in images:
        info = json.loads(subprocess.run(
            ["qemu-img", "info", "-U", "--output=json", image], check=True,
            capture_output=True, text=True).stdout)
        names = {s["name"] for s in info.get("snapshots", [])}
        bitmaps = {b["name"]: b["flags"] for b in info["format-specific"][
            "data"].get("bitmaps", [])}
        expect(f"{image}: {names}, {done}", names in (
            {f"s{i}" for i in range(1, done + 1)},
            {f"s{i}" for i in range(1, done + 2)}))
        last = len(names)
        for i in range(1, last + 1):
            flags = bitmaps.get(f"b{i}")
            if i == 1 and last > 2 and flags is None:
                continue        # between its removal and its return
            expect(f"{image}: b{i}: {flags}", flags is not None and
                   ("auto" in flags) == (i == last) and
                   (i == last or flags == []))


# ---- What QEMU sees ---------------------------------------------------------

def qemu_bits(image, name):
    with tempfile.TemporaryDirectory() as folder:
        sock = f"{folder}/sock"
        with subprocess.Popen(["qemu-nbd", "-r", "-t", "-k", sock, "-f",
                               "qcow2", "-B", name, image]) as server:
            for _ in range(500):
                if os.path.exists(sock):
                    break
                time.sleep(0.02)
            text = subprocess.run(
                ["qemu-img", "map", "--output=json", "--image-opts",
                 f"driver=nbd,server.type=unix,server.path={sock},"
                 f"x-dirty-bitmap=qemu:dirty-bitmap:{name}"],
                check=True, capture_output=True, text=True).stdout
            server.terminate()
    bits = set()
    for extent in json.loads(text):
        if not extent["data"]:
            bits.update(range(extent["start"] // GRANULE,
                              (extent["start"] + extent["length"]) // GRANULE))
    return bits


def check(image, known_file):
    with open(known_file, encoding="ascii") as file:
        known = json.load(file)
    info = json.loads(subprocess.run(
        ["qemu-img", "info", "--output=json", image], check=True,
        capture_output=True, text=True).stdout)
    seen = {b["name"]: b["flags"]
            for b in info["format-specific"]["data"]["bitmaps"]}
    expect(f"QEMU sees {seen}", seen == {name: flags for name, (flags, _bits)
                                         in known.items()})
    for name, (_flags, bits) in known.items():
        found = qemu_bits(image, name)
        expect(f"{name}: QEMU sees {sorted(found)}, not {bits}",
               sorted(found) == bits)


if __name__ == "__main__":
    {"verbs": verbs, "invalidate": invalidate, "writers": writers,
     "pair": pair, "group": group, "kill": kill, "killed": killed,
     "check": check}[sys.argv[1]](*sys.argv[2:])
