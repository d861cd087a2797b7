# SPDX-License-Identifier: BSD-3-Clause
"""control_fuzz.py SOCKET CONTROL SEED COUNT: random commands, and what must
come of them.

Commands that make sense are carried out here, too, on the disk, its snapshots
and bitmaps in memory, and both are compared now and then.  What makes no
sense is refused and changes nothing.  Messages with a few bytes changed are
answered, or the connection is ended; they are of commands that only look, so
whatever they have become is known to change nothing.  Clients write in between.
"""

import json
import random
import sys
import time

import nbd

from qmp_client import QMP

SOCK, CONTROL, SEED, COUNT = sys.argv[1:3] + [int(a) for a in sys.argv[3:5]]
GRANULE = 65536
LARGEST = 32 * GRANULE
EACH = 60                       # steps between two comparisons
TAKE = "blockdev-snapshot-internal-sync"
DELETE = "blockdev-snapshot-delete-internal-sync"
NAMES = ["a", "b", "c", "longer" * 20, "\u00e4\u20ac", "-", "1", "a b"]
LOOKING = ["query-version", "query-commands", "query-jobs",
           "x-q2-query-images", "x-q2-query-stats", "x-q2-query-snapshots",
           "x-q2-query-bitmaps"]
# Ends all brackets, and a string in them, that a message may have begun.
END = b"\n" + b"}]" * 40 + b'\n"' + b"}]" * 40 + \
    b'\n{"execute":"query-version","id":"after"}\n'
rng = random.Random(SEED)


def connect(export=""):
    h = nbd.NBD()
    h.set_export_name(export)
    if export.startswith("bitmap/"):
        h.add_meta_context("base:allocation")
    h.connect_unix(SOCK)
    return h


class Bitmap:
    def __init__(self, enabled):
        self.enabled = enabled
        self.bits = set()
        self.exact = True       # no more than that is marked


class Model:
    """The image of "", by what the commands say that they do."""

    def __init__(self, size):
        self.disk = bytearray(size)
        self.snapshots = {}
        self.bitmaps = {}

    def mark(self, granules):
        for b in self.bitmaps.values():
            if b.enabled:
                b.bits |= granules

    def resize(self, size):
        """As with QEMU, what is added has no bits."""
        self.disk = self.disk[:size] + bytes(max(0, size - len(self.disk)))
        for b in self.bitmaps.values():
            b.bits = {g for g in b.bits if g * GRANULE < size}

    def become(self, disk):
        """The disk is that one; enabled bitmaps record what differs."""
        old, self.disk = self.disk, bytearray(disk)
        for b in self.bitmaps.values():
            b.bits = {g for g in b.bits if g * GRANULE < len(disk)}
        self.mark({at // GRANULE for at in range(0, len(disk), GRANULE)
                   if old[at:at + GRANULE] != disk[at:at + GRANULE]})
        for b in self.bitmaps.values():         # clusters with the same bytes
            b.exact &= not b.enabled


def read_all(export):
    h = connect(export)
    size = h.get_size()
    data = h.pread(size, 0) if size else b""
    h.shutdown()
    return data


def read_bits(name):
    h = connect("bitmap/" + name)
    found = set()

    def note(context, offset, entries, error):
        nonlocal end
        for length, flags in zip(entries[::2], entries[1::2]):
            if not flags & nbd.STATE_HOLE:
                found.update(range(offset // GRANULE,
                                   -(-(offset + length) // GRANULE)))
            offset += length
        end = offset

    end = 0
    while end < h.get_size():
        h.block_status(h.get_size() - end, end, note)
    h.shutdown()
    return found


def compare(qmp, m):
    names = [s["name"] for s in qmp.ok("x-q2-query-snapshots", device="")]
    assert names == list(m.snapshots), (names, list(m.snapshots))
    seen = {b["name"]: b for b in qmp.ok("x-q2-query-bitmaps", device="")}
    assert set(seen) == set(m.bitmaps), (seen, m.bitmaps.keys())
    assert read_all("") == m.disk, "the disk differs"
    for name, disk in m.snapshots.items():
        assert read_all("snapshot/" + name) == disk, f"{name} differs"
    for name, b in m.bitmaps.items():
        enabled = "auto" in seen[name]["flags"]
        assert enabled == b.enabled, (name, seen[name])
        if not enabled:
            bits = read_bits(name)
            assert bits >= b.bits, (name, sorted(b.bits - bits))
            assert bits == b.bits or not b.exact, (name, sorted(bits - b.bits))


def write(m):
    h = connect()
    sectors = len(m.disk) // 512
    nr = rng.randrange(1, min(4, sectors + 1))
    length = nr * 512
    at = rng.randrange(sectors - nr + 1) * 512
    data = bytes([rng.randrange(256)]) * length
    h.pwrite(data, at)
    m.disk[at:at + length] = data
    m.mark(set(range(at // GRANULE, (at + length - 1) // GRANULE + 1)))
    if rng.random() < 0.5:
        h.flush()
    h.shutdown()


# ---- Commands that make sense, mostly -----------------------------------------

def succeeds(qmp, name, arguments, may_be_job=False):
    """Whether it does."""
    if not may_be_job or rng.random() < 0.7:
        return "return" in qmp.command(name, **arguments)
    qmp.ok(name, **arguments, **{"job-id": "j"})
    while True:
        job = qmp.ok("query-jobs")[0]
        if job["status"] == "concluded":
            qmp.ok("job-dismiss", id="j")
            return "error" not in job
        time.sleep(0.001)


def expect(result, wanted, what):
    assert result == wanted, f"{what}: {'done' if result else 'refused'}"
    return result


def take(qmp, m):
    name = rng.choice(NAMES)
    if expect(succeeds(qmp, TAKE, {"device": "", "name": name}, True),
              name not in m.snapshots, f"take {name}"):
        m.snapshots[name] = bytes(m.disk)


def delete(qmp, m):
    name = rng.choice(NAMES)
    if expect(succeeds(qmp, DELETE, {"device": "", "name": name}, True),
              name in m.snapshots, f"delete {name}"):
        del m.snapshots[name]


def apply(qmp, m):
    name = rng.choice(NAMES)
    if expect(succeeds(qmp, "x-q2-snapshot-apply",
                       {"device": "", "name": name}, True),
              name in m.snapshots, f"apply {name}"):
        m.become(m.snapshots[name])


def resize(qmp, m):
    size = rng.randrange(2, LARGEST // 512) * 512
    shrink = rng.random() < 0.5
    if expect(succeeds(qmp, "block_resize",
                       {"device": "", "size": size, "x-q2-shrink": shrink}),
              size >= len(m.disk) or shrink, f"resize {size}"):
        m.resize(size)


def add(qmp, m):
    name, enabled = rng.choice(NAMES), rng.random() < 0.6
    if expect(succeeds(qmp, "block-dirty-bitmap-add",
                       {"node": "", "name": name, "persistent": True,
                        "disabled": not enabled, "granularity": GRANULE}),
              name not in m.bitmaps, f"add {name}"):
        m.bitmaps[name] = Bitmap(enabled)


def change_bitmap(qmp, m):
    verb, name = rng.choice(["remove", "clear", "enable", "disable"]), \
        rng.choice(NAMES)
    if not expect(succeeds(qmp, "block-dirty-bitmap-" + verb,
                           {"node": "", "name": name}),
                  name in m.bitmaps, f"{verb} {name}"):
        return
    if verb == "remove":
        del m.bitmaps[name]
    elif verb == "clear":
        m.bitmaps[name].bits = set()
        m.bitmaps[name].exact = True
    else:
        m.bitmaps[name].enabled = verb == "enable"


def merge(qmp, m):
    target, *sources = rng.sample(NAMES, rng.randrange(2, 4))
    if expect(succeeds(qmp, "block-dirty-bitmap-merge",
                       {"node": "", "target": target, "bitmaps": sources}),
              all(n in m.bitmaps for n in [target] + sources),
              f"merge {target} {sources}"):
        for n in sources:
            m.bitmaps[target].bits |= m.bitmaps[n].bits
            m.bitmaps[target].exact &= m.bitmaps[n].exact


def checkpoint(qmp, m):
    name, new, old = (rng.choice(NAMES) for _ in range(3))
    if expect(succeeds(qmp, "x-q2-checkpoint",
                       {"nodes": [""], "snapshot": name, "add": new,
                        "granularity": GRANULE, "disable": old}, True),
              name not in m.snapshots and old in m.bitmaps and
              new not in m.bitmaps, f"checkpoint {name} {new} {old}"):
        m.snapshots[name] = bytes(m.disk)
        m.bitmaps[new] = Bitmap(True)
        m.bitmaps[old].enabled = False


def look(qmp, _):
    qmp.ok("x-q2-check", node="", **{"job-id": "k"})
    while qmp.ok("query-jobs")[0]["status"] != "concluded":
        time.sleep(0.001)
    result = qmp.ok("x-q2-query-check", id="k")
    assert result["check-errors"] == 0 and "corruptions" not in result, result
    assert result.get("leaks", 0) == 0, result
    qmp.ok("job-dismiss", id="k")


# ---- What makes no sense ------------------------------------------------------

def odd():
    return rng.choice([
        None, -1, 1 << 62, 1.5, True, "", "x" * rng.choice([300, 1100, 40000]),
        "\u0000", "\ufffe", [], [[[]]], {"a": 1}, ["a", 1], "none", "/", "../x",
        "snapshot/a", "bitmap/a", '}{][\\"', '"}]'])


def look_oddly(qmp, _):
    """What is wrong is said, and else it is only looked."""
    name = rng.choice(LOOKING + ["x-q2-flush", "x-q2-query-check"])
    reply = qmp.command(name, **{
        rng.choice(["device", "id", "node"]): odd()})
    assert ("error" in reply) != ("return" in reply), reply


def nonsense(qmp, _):
    """An export that there is not, so it cannot be done; or an argument that is
    too many.  All else is whatever comes."""
    name = rng.choice([c["name"] for c in qmp.ok("query-commands")])
    if name in ("qmp_capabilities", "transaction"):
        return
    arguments = {key: odd() for key in rng.sample(
        ["device", "node", "name", "id", "size", "nodes", "actions", "add",
         "granularity", "bitmaps", "target", "persistent", "job-id", "repair",
         "max-findings", "x-q2-shrink", "disable", "snapshot"],
        rng.randrange(6))}
    for key in ("device", "node"):
        if key in arguments or rng.random() < 0.5:
            arguments[key] = "snapshot/" + rng.choice(NAMES)
        else:
            arguments["more"] = odd()
    if "nodes" in arguments:
        arguments["nodes"] = ["snapshot/none"]
    arguments.pop("job-id", None)
    reply = qmp.command(name, **arguments)
    assert "error" in reply, (name, arguments, reply)
    assert reply["error"]["desc"].isprintable(), reply


def transaction(qmp, m):
    """One of its actions cannot be done, so none is."""
    actions = [
        {"type": TAKE, "data": {"device": "", "name": "t" + str(len(m.disk))}},
        {"type": "block-dirty-bitmap-add",
         "data": {"node": "", "name": "t", "persistent": True}},
        {"type": rng.choice(["block-dirty-bitmap-remove", TAKE, "none",
                             "block-dirty-bitmap-add"]),
         "data": rng.choice([{"node": "", "name": "none"}, {}, {"device": ""},
                             {"device": 1, "name": odd()}])}]
    rng.shuffle(actions)
    reply = qmp.command("transaction", actions=actions)
    assert "error" in reply, (actions, reply)


class Bytes:
    """A connection for what is not well-formed, opened again when it ends."""

    def __init__(self):
        self.qmp = None

    def send(self, _, __):
        if self.qmp is None:
            self.qmp = QMP(CONTROL, timeout=60)
        name, ident = rng.choice(LOOKING), odd()
        message = {"execute": name, "id": ident}
        if name not in LOOKING[:4]:
            message["arguments"] = {"device": ""}
        text = bytearray(json.dumps(message).encode())
        changes = rng.randrange(4)
        for _ in range(changes):
            at = rng.randrange(len(text))
            how = rng.randrange(4)
            if how == 0:
                text[at] ^= 1 << rng.randrange(8)
            elif how == 1:
                del text[at:at + rng.randrange(1, 9)]
            elif how == 2:
                text[at:at] = rng.choice([b"{", b"}", b"[", b'"', b"\\", b"\n",
                                          b"\x00", b"\xff", b"{" * 20])
            else:
                text[at:at] = text[:at]
            if not text:
                return
        try:
            self.qmp.send(bytes(text) + END)
            reply = self.qmp.read()
            assert changes or ident == "\u0000" or \
                ("return" in reply and reply["id"] == ident), \
                (message, reply)
            while reply.get("id") != "after":
                reply = self.qmp.read()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            self.qmp.close()
            self.qmp = None


def main():
    h = connect()
    m = Model(h.get_size())
    h.shutdown()
    assert read_all("") == m.disk
    qmp, bad = QMP(CONTROL), Bytes()
    steps = [take] * 3 + [delete] * 2 + [apply] * 2 + [resize, add, add] + \
        [change_bitmap] * 3 + [merge, checkpoint, look, transaction] + \
        [look_oddly] * 2 + [nonsense] * 6 + [bad.send] * 6
    for i in range(COUNT):
        step = rng.choice(steps + [None] * 8)
        try:
            if step is None:
                write(m)
            else:
                step(qmp, m)
            qmp.events.clear()
            if i % EACH == EACH - 1:
                compare(qmp, m)
        except Exception:
            print(f"seed {SEED}, step {i}: {step}", flush=True)
            raise
    for name, b in m.bitmaps.items():
        qmp.ok("block-dirty-bitmap-disable", node="", name=name)
        b.enabled = False
    compare(qmp, m)


main()
